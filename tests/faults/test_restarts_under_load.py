# SPDX-License-Identifier: Apache-2.0
"""httpd restarts, reloads another configuration, recycles or loses child processes, during
requests of all APIs.

A graceful restart fails no request. No confirmed change is lost in any case, and no database
connection remains open.
"""

import os
import signal
import time

import pytest

import servers
from conftest import new_uuid
from faults import MODULES, MOUNTS, Meanwhile, children, database
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures
from workload import KeptCaller, Load, Rooms

# Slots for child processes of former generations.
CHILDREN = """
ServerLimit 16
StartServers 2
MaxRequestWorkers 1024
MinSpareThreads 1
MaxSpareThreads 1024
"""

CONNECTIONS = 6   # of each child


def site(postgres, more=""):
    return CHILDREN + MOUNTS + database(postgres.dsn(), most=CONNECTIONS, timeout=10) + more


@pytest.fixture
def load(start_httpd, postgres_to_break):
    """load(): a Load on an httpd with two child processes; `more` configures httpd."""
    def make(more="", **options):
        httpd = start_httpd(site(postgres_to_break, more), modules=MODULES)
        return RestartedLoad(KeptCaller(httpd, **options), Rooms(postgres_to_break, 600))
    return make


class RestartedLoad(Load):
    """A Load whose clients may have to repeat a request. If their first request was executed,
    the answer to the second is 404 or 412 and says nothing about it."""

    def is_confirmed(self, name, answer):
        if answer.status_code in (404, 412) and answer.again:
            self.unknown.add(name)
            return False
        return super().is_confirmed(name, answer)


def wait_until_ended(httpd, before):
    servers.wait_until(lambda: not set(before) & set(children(httpd.pid())), 20,
                       "the children did not end")


def restart(load, change="", how=servers.Httpd.graceful):
    """Restarts httpd with that configuration; returns when the old child processes ended."""
    httpd, postgres = load.one.httpd, load.rooms.postgres
    load.wait_for_more()
    time.sleep(0.5)
    before, connections = children(httpd.pid()), postgres.backends()
    httpd.site = site(postgres, change)
    how(httpd)
    wait_until_ended(httpd, before)
    load.wait_for_more()
    return connections


def check_no_failures(load):
    load.check()
    assert (load.unknown, load.lost) == (set(), [])


def check_connections(postgres, ended=(), most=2 * CONNECTIONS):
    """Checks that no connection of ended child processes remains."""
    servers.wait_until(lambda: not postgres.backends() & set(ended)
                       and len(postgres.backends()) <= most, 5, "a connection was left")


def check_stopped(load):
    load.one.httpd.stop()
    check_connections(load.rooms.postgres, most=0)


# --- Graceful --------------------------------------------------------------------------------

def test_graceful_restarts_fail_no_request(load, postgres_to_break):
    with load() as load:
        for _ in range(4):
            check_connections(postgres_to_break, restart(load))
    check_no_failures(load)
    check_stopped(load)


SECOND_MOUNT = """
<Location "/second/sessions">
    RegistrationAPI live
    Require all granted
</Location>
"""


class Visitor(Meanwhile):
    """A client that registers at the second mount."""

    def __init__(self, one, session):
        self.one = one
        self.session = session
        self.answers = {}   # by patient

    def go_on(self):
        while not self.ended.is_set():
            patient = new_uuid()
            answer = self.one.post(f"/second/sessions/{self.session}/register",
                                   json={"patient_id": patient})
            self.answers[patient] = answer.status_code

    def flips(self):
        """The sequence of statuses, without repetitions."""
        answers = list(self.answers.values())
        return [answer for answer, before in zip(answers, [None, *answers])
                if answer != before]


def test_reload_with_other_configuration_fails_no_request(load, postgres_to_break):
    """Each changes batch size or connections, and adds or removes a mount, whose clients see
    nothing but that."""
    changes = [SECOND_MOUNT + "RegistrationBatchSize 1\n",
               "RegistrationBatchSize 7\nRegistrationConnections 1\nRegistrationTimeout 9\n",
               SECOND_MOUNT + "DBDKeep 4\nDBDMax 4\n",
               "RegistrationBatchSize 64\nRegistrationMaxBody 9999\n"]
    session = postgres_to_break.live_session()
    with load() as load, Visitor(KeptCaller(load.one.httpd), session) as visitor:
        for change in changes:
            check_connections(postgres_to_break, restart(load, change))
            time.sleep(0.3)
    check_no_failures(load)
    assert visitor.flips() == [404, 201, 404, 201, 404]
    assert postgres_to_break.patients(session) == {
        patient for patient, status in visitor.answers.items() if status == 201}
    check_stopped(load)


def test_recycled_child_processes_fail_no_request(load, postgres_to_break):
    with load("MaxConnectionsPerChild 40\nMaxKeepAliveRequests 20\n") as load:
        seen = set()

        def have_ended():
            running = set(children(load.one.httpd.pid()))
            seen.update(running)
            return len(seen - running) >= 6
        servers.wait_until(have_ended, 30, "the children did not end")
    check_no_failures(load)
    running = len(children(load.one.httpd.pid()))
    check_connections(postgres_to_break, most=running * CONNECTIONS)
    check_stopped(load)


# --- Not graceful ----------------------------------------------------------------------------

def kill_a_child(load):
    """Kills a child process while all clients wait. PostgreSQL still executes the calls that
    it received."""
    load.wait_for_more()
    time.sleep(0.5)
    with load.rooms.locked():
        time.sleep(0.5)
        victim = children(load.one.httpd.pid())[0]
        os.kill(victim, signal.SIGKILL)
    wait_until_ended(load.one.httpd, [victim])
    load.wait_for_more()


def test_killed_child_process_loses_no_confirmed_change(load, postgres_to_break, expect_log):
    """Clients with an Idempotency-Key repeat their requests, and none is refused as a duplicate
    of its own."""
    expect_log("AH00052: child pid .* exit signal Killed")
    with load(with_keys=True) as load:
        for _ in range(3):
            kill_a_child(load)
    load.check()
    check_connections(postgres_to_break)
    check_stopped(load)


# --- Controls --------------------------------------------------------------------------------

def test_control_without_key_repeated_requests_are_duplicates(load, expect_log):
    expect_log("AH00052: child pid .* exit signal Killed")
    with load() as load:
        end = time.monotonic() + 30
        while not load.refused and time.monotonic() < end:
            kill_a_child(load)
    assert {status for _, status, _ in load.refused} <= {409, 422}
    with pytest.raises(AssertionError):
        check_no_failures(load)


def test_control_remaining_connection_is_detected(load, postgres_to_break):
    with load() as load:
        load.wait_for_more()
        connections = postgres_to_break.backends()
        with load.rooms.locked():
            time.sleep(0.5)
            load.one.httpd.graceful()
            with pytest.raises(servers.ServerError):
                check_connections(postgres_to_break, connections)
        check_connections(postgres_to_break, connections)
    load.check()
