# SPDX-License-Identifier: Apache-2.0
"""Clients that register and read without a pause."""

import concurrent.futures
import contextlib

import servers
from conftest import new_uuid


class Traffic:
    """Threads that register and read without a pause."""

    def __init__(self, client, session, occurrence):
        self.client, self.session, self.occurrence = client, session, occurrence
        self.statuses = []
        self.stopped = False
        self.runs = []

    def run(self):
        while not self.stopped:
            one = self.client.post(f"/v1/sessions/{self.session}/register",
                                   json={"patient_id": new_uuid()})
            other = self.client.post("/api/v1/event-registrations", json={
                "occurrenceId": self.occurrence, "externalUserId": new_uuid()})
            self.statuses += [one.status_code, other.status_code]
            if other.status_code == 201:
                self.statuses.append(
                    self.client.get(other.headers["Location"]).status_code)

    @contextlib.contextmanager
    def running(self, threads=6):
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            self.runs = [pool.submit(self.run) for _ in range(threads)]
            try:
                self.wait_for_more()
                yield
                self.wait_for_more()
            finally:
                self.stopped = True
            self.raise_failures()

    def raise_failures(self):
        for run in self.runs:
            if self.stopped or run.done():
                run.result()

    def wait_for_more(self, count=100):
        count += len(self.statuses)

        def has_more():
            self.raise_failures()
            return len(self.statuses) >= count
        servers.wait_until(has_more, 60, "too few requests")
