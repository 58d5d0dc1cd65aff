# SPDX-License-Identifier: Apache-2.0
"""httpd restarts, or its child processes end, during registrations.

Requests of a child process share batches. The process has to answer all of them before it ends,
and each confirmation has to be a row.
"""

import contextlib
import http.client
import itertools
import json
import os
import signal
import threading
import time

import pytest

import servers
from faults import MODULES, MOUNTS, children, database
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures

CLIENTS = 64

# Slots for child processes of former generations.
CHILDREN = """
ServerLimit 16
StartServers 2
MaxRequestWorkers 1024
MinSpareThreads 1
"""


class Load:
    """Clients that register one patient after another until the block ends.

    Each reuses its connection. If that is closed before an answer arrives, it repeats the
    request on a new connection: httpd may close an idle connection.
    `answers` has the status for each patient, None without answer; `repeated` the patients
    whose request was sent twice.
    """

    def __init__(self, httpd, session):
        self.port = httpd.port
        self.path = f"/v1/sessions/{session}/register"
        self.answers = {}
        self.repeated = set()
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.register, args=[number])
                        for number in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def register(self, number):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        for count in itertools.count():
            patient = f"{number} {count}"
            self.answers[patient] = None
            try:
                self.answers[patient] = self.send(connection, patient)
            except ConnectionRefusedError:
                break   # httpd has been stopped.
            except (OSError, http.client.HTTPException):
                connection.close()
            if self.ended.is_set():
                break
        connection.close()

    def send(self, connection, patient):
        was_kept = connection.sock is not None
        try:
            return self.send_once(connection, patient)
        except (ConnectionResetError, BrokenPipeError):
            if not was_kept:
                raise
            self.repeated.add(patient)
            connection.close()
            return self.send_once(connection, patient)

    def send_once(self, connection, patient):
        connection.request("POST", self.path, json.dumps({"patient_id": patient}),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def waiting(self):
        """The patients whose requests are in progress."""
        return {patient for patient, status in self.answers.copy().items() if status is None}

    def check(self, patients):
        """Each 201 is a row; each row was a 201, or its request was not answered."""
        confirmed = {patient for patient, status in self.answers.items() if status == 201}
        assert confirmed - patients == set()
        assert patients - confirmed - self.waiting() - self.repeated == set()


@pytest.fixture
def start(start_httpd, postgres_to_break):
    """start(): an httpd with two child processes, whose database is the breakable one."""
    return lambda more="": start_httpd(
        MOUNTS + database(postgres_to_break.dsn(), timeout=10) + CHILDREN + more,
        modules=MODULES)


@contextlib.contextmanager
def all_clients_waiting(load, postgres, session):
    """Makes all clients wait for a lock; their patients."""
    with postgres.locked(session):
        time.sleep(0.3)
        waiting = load.waiting()
        assert len(waiting) == CLIENTS
        yield waiting


def test_graceful_restart_fails_no_request(start, postgres_to_break):
    httpd = start()
    session = postgres_to_break.live_session()
    with Load(httpd, session) as load:
        for _ in range(2):
            time.sleep(0.3)
            before = children(httpd.pid())
            with all_clients_waiting(load, postgres_to_break, session) as waiting:
                httpd.graceful()
            servers.wait_until(lambda: not set(before) & set(children(httpd.pid())), 10,
                               "the children did not end")
            assert not waiting & load.repeated
    assert set(load.answers.values()) == {201}
    assert postgres_to_break.patients(session) == set(load.answers)


def test_recycled_child_processes_fail_no_request(start, postgres_to_break):
    httpd = start("MaxConnectionsPerChild 100\nMaxKeepAliveRequests 10\n")
    session = postgres_to_break.live_session()
    seen = set()

    def have_ended():
        running = set(children(httpd.pid()))
        seen.update(running)
        return len(seen - running) >= 3

    with Load(httpd, session) as load:
        servers.wait_until(have_ended, 20, "the children did not end")
    assert set(load.answers.values()) == {201}
    assert postgres_to_break.patients(session) == set(load.answers)


def test_graceful_stop_answers_requests_in_progress(start, postgres_to_break):
    httpd = start()
    session = postgres_to_break.live_session()
    with Load(httpd, session) as load:
        time.sleep(0.3)
        with all_clients_waiting(load, postgres_to_break, session) as waiting:
            os.kill(httpd.pid(), signal.SIGWINCH)
            time.sleep(0.3)
        servers.wait_until(lambda: httpd.pid() is None, 10, "httpd did not stop")
    assert not waiting & load.repeated
    assert {load.answers[patient] for patient in waiting} == {201}
    load.check(postgres_to_break.patients(session))


def test_control_killed_child_process_fails_requests(start, postgres_to_break, expect_log):
    """Shows that the checks above detect it. Confirmed registrations are still not lost."""
    expect_log("AH00052: child pid .* exit signal Killed")
    httpd = start()
    session = postgres_to_break.live_session()
    with Load(httpd, session) as load:
        time.sleep(0.3)
        with all_clients_waiting(load, postgres_to_break, session) as waiting:
            os.kill(children(httpd.pid())[0], signal.SIGKILL)
        time.sleep(0.3)
    assert waiting & load.repeated
    load.check(postgres_to_break.patients(session))
    # Negative control: a lost registration is found.
    postgres_to_break.query("SELECT cancel_live_registration(id) FROM live_registrations"
                            " WHERE session_id = %s AND patient_id = '0 0'", session)
    with pytest.raises(AssertionError):
        load.check(postgres_to_break.patients(session))
