# SPDX-License-Identifier: Apache-2.0
"""httpd restarts, or its child processes end, while registrations are under way.

The requests that a child has taken are carried to the database by its threads together. It
may not end before they have been answered, and what a client was told has to be true.
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

# Room for the children of former generations.
CHILDREN = """
ServerLimit 16
StartServers 2
MaxRequestWorkers 1024
MinSpareThreads 1
"""


class Load:
    """Clients that register one patient after the other as long as the block lasts.

    Each keeps its connection. When it finds that closed before it gets an answer, it asks
    once more on a new one, as clients do: httpd may close a connection that is not in use.
    `answers` has what each patient's request was answered, and None if it was not;
    `asked_again` for whom there was a second request.
    """

    def __init__(self, httpd, session):
        self.port = httpd.port
        self.path = f"/v1/sessions/{session}/register"
        self.answers = {}
        self.asked_again = set()
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
                self.answers[patient] = self.ask(connection, patient)
            except ConnectionRefusedError:
                break   # httpd has been stopped.
            except (OSError, http.client.HTTPException):
                connection.close()
            if self.ended.is_set():
                break
        connection.close()

    def ask(self, connection, patient):
        was_kept = connection.sock is not None
        try:
            return self.ask_once(connection, patient)
        except (ConnectionResetError, BrokenPipeError):
            if not was_kept:
                raise
            self.asked_again.add(patient)
            connection.close()
            return self.ask_once(connection, patient)

    def ask_once(self, connection, patient):
        connection.request("POST", self.path, json.dumps({"patient_id": patient}),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def waiting(self):
        """Whose request is under way."""
        return {patient for patient, status in self.answers.copy().items() if status is None}

    def check(self, patients):
        """Every 201 is a row, and every row is a 201 or was not answered."""
        confirmed = {patient for patient, status in self.answers.items() if status == 201}
        assert confirmed - patients == set()
        assert patients - confirmed - self.waiting() - self.asked_again == set()


@pytest.fixture
def start(start_httpd, postgres_to_break):
    """start(): an httpd with two child processes, whose database is the breakable one."""
    return lambda more="": start_httpd(
        MOUNTS + database(postgres_to_break.dsn(), timeout=10) + CHILDREN + more,
        modules=MODULES)


@contextlib.contextmanager
def all_waiting(load, postgres, session):
    """Every client waits to be registered; the patients."""
    with postgres.locked(session):
        time.sleep(0.3)
        waiting = load.waiting()
        assert len(waiting) == CLIENTS
        yield waiting


def test_a_graceful_restart_fails_no_request(start, postgres_to_break):
    httpd = start()
    session = postgres_to_break.live_session()
    with Load(httpd, session) as load:
        for _ in range(2):
            time.sleep(0.3)
            before = children(httpd.pid())
            with all_waiting(load, postgres_to_break, session) as waiting:
                httpd.graceful()
            servers.wait_until(lambda: not set(before) & set(children(httpd.pid())), 10,
                               "the children did not end")
            assert not waiting & load.asked_again
    assert set(load.answers.values()) == {201}
    assert postgres_to_break.patients(session) == set(load.answers)


def test_children_that_end_by_and_by_fail_no_request(start, postgres_to_break):
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


def test_a_graceful_stop_answers_what_is_under_way(start, postgres_to_break):
    httpd = start()
    session = postgres_to_break.live_session()
    with Load(httpd, session) as load:
        time.sleep(0.3)
        with all_waiting(load, postgres_to_break, session) as waiting:
            os.kill(httpd.pid(), signal.SIGWINCH)
            time.sleep(0.3)
        servers.wait_until(lambda: httpd.pid() is None, 10, "httpd did not stop")
    assert not waiting & load.asked_again
    assert {load.answers[patient] for patient in waiting} == {201}
    load.check(postgres_to_break.patients(session))


def test_control_a_child_that_is_killed_fails_requests(start, postgres_to_break, expect_log):
    """So the checks above would notice it. What was confirmed is safe all the same."""
    expect_log("AH00052: child pid .* exit signal Killed")
    httpd = start()
    session = postgres_to_break.live_session()
    with Load(httpd, session) as load:
        time.sleep(0.3)
        with all_waiting(load, postgres_to_break, session) as waiting:
            os.kill(children(httpd.pid())[0], signal.SIGKILL)
        time.sleep(0.3)
    assert waiting & load.asked_again
    load.check(postgres_to_break.patients(session))
    # The control of that: one that is lost is found.
    postgres_to_break.query("SELECT cancel_live_registration(id) FROM live_registrations"
                            " WHERE session_id = %s AND patient_id = '0 0'", session)
    with pytest.raises(AssertionError):
        load.check(postgres_to_break.patients(session))
