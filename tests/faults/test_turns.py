# SPDX-License-Identifier: Apache-2.0
"""Two child processes take turns: one that keeps its turn, or is killed while it has it, blocks
no request of the other one.

The module traces each batch that waits for its turn.
"""

import os
import re
import signal
import time

import pytest
import requests

import servers
from changed import changed_module
from faults import MODULES, MOUNTS, Caller, children, database
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures

SLOW = 12       # seconds that a registration for the slow session takes
TIMEOUT = 50    # a quarter of it is longer: until then the call is not cancelled

WITHOUT = "goes on without its turn"


@pytest.fixture
def two_children(start_httpd, postgres_to_break):
    """two_children(directive): a Caller of an httpd with two child processes."""
    def make(directive="RegistrationTurns 1", **options):
        site = (MOUNTS + database(postgres_to_break.dsn(), timeout=TIMEOUT)
                + f"{directive}\nLogLevel registration:trace1\n")
        one = Caller(start_httpd(site, modules=MODULES, **options))
        one.headers["Connection"] = "close"     # so that both children get requests
        return one
    return make


@pytest.fixture(scope="module")
def module_without_robust_mutex(tmp_path_factory):
    return changed_module(tmp_path_factory.mktemp("not_robust") / "sources",
                          "PTHREAD_MUTEX_ROBUST", "PTHREAD_MUTEX_STALLED")


def tracing(one, step):
    """The process ids of the children that traced a step, once for each time."""
    return [int(pid) for pid in re.findall(
        rf"\[pid (\d+)[^]]*\].* REG0502: operation live_register: {step}",
        one.httpd.log.text())]


def try_to_register(one, session):
    """The status; None if the child process was killed."""
    try:
        return one.register(session).status_code
    except requests.ConnectionError:
        return None


def start_slow_call(one, pool, session):
    """Starts a call that takes long; the process id of the child that makes it."""
    pool.submit(try_to_register, one, session)
    servers.wait_until(lambda: tracing(one, "sends call"), 60, "no call was made")
    return tracing(one, "sends call")[0]


def register_by_other_child(one, pool, session, owner):
    """Registers until the child that does not make the slow call has answered. Requests that
    the owner gets wait for its slow call."""
    def has_answered():
        pool.submit(try_to_register, one, session)
        time.sleep(0.1)
        return set(tracing(one, "answered created")) - {owner}
    servers.wait_until(has_answered, SLOW - 2, "the other child process answered nothing")


def kill(one, child):
    os.kill(child, signal.SIGKILL)
    servers.wait_until(lambda: child not in children(one.httpd.pid()), 10, "it did not end")


@pytest.mark.parametrize("directive, expected", [("RegistrationTurns 1", True),
                                                 ("RegistrationTurns 0", False)])
def test_batch_beside_slow_call_of_other_child_is_answered(
        two_children, postgres_to_break, pool, directive, expected):
    one = two_children(directive)
    slow, session = (postgres_to_break.live_session() for _ in range(2))
    with postgres_to_break.slow(SLOW, slow):
        owner = start_slow_call(one, pool, slow)
        register_by_other_child(one, pool, session, owner)
        assert bool(tracing(one, WITHOUT)) == expected
    assert set(tracing(one, WITHOUT)) <= {*children(one.httpd.pid())} - {owner}


def waits_after_kill(one, postgres, pool):
    """How many of ten batches waited in vain for the turn of a child process that was killed
    while it had the turn."""
    slow, session = (postgres.live_session() for _ in range(2))
    with postgres.slow(SLOW, slow):
        owner = start_slow_call(one, pool, slow)
        register_by_other_child(one, pool, session, owner)
        assert tracing(one, WITHOUT)            # the owner has the turn
        kill(one, owner)
        pool.shutdown()                         # until no request waits
        before = len(tracing(one, WITHOUT))
        assert [one.register(session).status_code for _ in range(10)] == [201] * 10
        return len(tracing(one, WITHOUT)) - before


def test_turn_of_killed_child_is_taken_by_others(two_children, postgres_to_break, pool,
                                                 expect_log):
    expect_log("AH00052: child pid .* exit signal Killed")
    assert waits_after_kill(two_children(), postgres_to_break, pool) == 0


def test_control_turn_without_robust_mutex_stays_taken(
        two_children, postgres_to_break, pool, expect_log, module_without_robust_mutex):
    expect_log("AH00052: child pid .* exit signal Killed")
    one = two_children(registration=module_without_robust_mutex)
    assert waits_after_kill(one, postgres_to_break, pool) == 10
