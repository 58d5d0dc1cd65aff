# SPDX-License-Identifier: Apache-2.0
"""httpd is restarted, reloaded with another configuration, recycles its child processes or
loses one, while clients of all APIs register, change and delete.

A graceful restart fails not a single request; nothing that was confirmed is lost, whatever
ends; and no connection to the database is left behind.
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

# Room for the children of former generations.
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
    """load(): a Load on an httpd with two child processes; more of its configuration."""
    def make(more="", **options):
        httpd = start_httpd(site(postgres_to_break, more), modules=MODULES)
        return RestartedLoad(KeptCaller(httpd, **options), Rooms(postgres_to_break, 600))
    return make


class RestartedLoad(Load):
    """One whose clients may have to ask twice. They cannot know what their first request
    has come to: a change that it made answers the second."""

    def is_confirmed(self, name, answer):
        if answer.status_code in (404, 412) and answer.again:
            self.unknown.add(name)
            return False
        return super().is_confirmed(name, answer)


def wait_until_ended(httpd, before):
    servers.wait_until(lambda: not set(before) & set(children(httpd.pid())), 20,
                       "the children did not end")


def restart(load, change="", how=servers.Httpd.graceful):
    """Restarts httpd with that configuration; returns when its old children have ended."""
    httpd, postgres = load.one.httpd, load.rooms.postgres
    load.wait_for_more()
    time.sleep(0.5)
    before, connections = children(httpd.pid()), postgres.backends()
    httpd.site = site(postgres, change)
    how(httpd)
    wait_until_ended(httpd, before)
    load.wait_for_more()
    return connections


def check_failed_nobody(load):
    load.check()
    assert (load.unknown, load.lost) == (set(), [])


def check_connections(postgres, ended=(), most=2 * CONNECTIONS):
    """Of the connections of children that have ended none is left."""
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
    check_failed_nobody(load)
    check_stopped(load)


SECOND_MOUNT = """
<Location "/second/sessions">
    RegistrationAPI live
    Require all granted
</Location>
"""


class Visitor(Meanwhile):
    """Somebody who registers below the second mount."""

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
        """The answers in their order, equal ones that follow each other as one."""
        answers = list(self.answers.values())
        return [answer for answer, before in zip(answers, [None, *answers])
                if answer != before]


def test_a_reload_with_another_configuration_fails_no_request(load, postgres_to_break):
    """Each of these is another batch size and number of connections; and an API is mounted
    and taken away: who uses it sees just that."""
    changes = [SECOND_MOUNT + "RegistrationBatchSize 1\n",
               "RegistrationBatchSize 7\nRegistrationConnections 1\nRegistrationTimeout 9\n",
               SECOND_MOUNT + "DBDKeep 4\nDBDMax 4\n",
               "RegistrationBatchSize 64\nRegistrationMaxBody 9999\n"]
    session = postgres_to_break.live_session()
    with load() as load, Visitor(KeptCaller(load.one.httpd), session) as visitor:
        for change in changes:
            check_connections(postgres_to_break, restart(load, change))
            time.sleep(0.3)
    check_failed_nobody(load)
    assert visitor.flips() == [404, 201, 404, 201, 404]
    assert postgres_to_break.patients(session) == {
        patient for patient, status in visitor.answers.items() if status == 201}
    check_stopped(load)


def test_children_that_are_recycled_fail_no_request(load, postgres_to_break):
    with load("MaxConnectionsPerChild 40\nMaxKeepAliveRequests 20\n") as load:
        seen = set()

        def have_ended():
            running = set(children(load.one.httpd.pid()))
            seen.update(running)
            return len(seen - running) >= 6
        servers.wait_until(have_ended, 30, "the children did not end")
    check_failed_nobody(load)
    running = len(children(load.one.httpd.pid()))
    check_connections(postgres_to_break, most=running * CONNECTIONS)
    check_stopped(load)


# --- Not graceful ----------------------------------------------------------------------------

def kill_a_child(load):
    """While every client waits for an answer. What the child has sent to PostgreSQL is done
    there all the same."""
    load.wait_for_more()
    time.sleep(0.5)
    with load.rooms.locked():
        time.sleep(0.5)
        victim = children(load.one.httpd.pid())[0]
        os.kill(victim, signal.SIGKILL)
    wait_until_ended(load.one.httpd, [victim])
    load.wait_for_more()


def test_a_child_that_is_killed_loses_nothing_that_was_confirmed(load, postgres_to_break,
                                                                 expect_log):
    """Clients with an Idempotency-Key ask again, and nobody is refused what is his own."""
    expect_log("AH00052: child pid .* exit signal Killed")
    with load(with_keys=True) as load:
        for _ in range(3):
            kill_a_child(load)
    load.check()
    check_connections(postgres_to_break)
    check_stopped(load)


# --- Controls --------------------------------------------------------------------------------

def test_control_without_a_key_some_are_refused_what_is_their_own(load, expect_log):
    expect_log("AH00052: child pid .* exit signal Killed")
    with load() as load:
        end = time.monotonic() + 30
        while not load.refused and time.monotonic() < end:
            kill_a_child(load)
    assert {status for _, status, _ in load.refused} <= {409, 422}
    with pytest.raises(AssertionError):
        check_failed_nobody(load)


def test_control_a_connection_of_a_child_that_has_not_ended_is_found(load, postgres_to_break):
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
