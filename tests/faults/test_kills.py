# SPDX-License-Identifier: Apache-2.0
"""Connections and PostgreSQL itself die while 64 clients register, change and delete.

Every confirmation is a row, every row is somebody's who was confirmed or told 503, and
nobody is refused because of what he did himself.
"""

import os
import signal
import time

import psycopg2
import pytest

from faults import GRACE, MODULES, MOUNTS, OUTAGE, Caller, database
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures
from workload import CHILDREN, CLIENTS, Load, Rooms

# Time enough to make a call again, and for a connection to be made.
TIMEOUT = 10

RECOVERING = "FATAL:  the database system is in recovery mode"

# What the service may take once the database is there.
BACK = 2 + GRACE


@pytest.fixture
def load(start_httpd, postgres_to_break):
    """load(): a Load on an httpd of its own; its arguments are start_httpd's."""
    def make(**options):
        site = CHILDREN + MOUNTS + database(postgres_to_break.dsn(), timeout=TIMEOUT)
        return Load(Caller(start_httpd(site, modules=MODULES, **options)),
                    Rooms(postgres_to_break))
    return make


def terminate_again_and_again(postgres, load, times=40):
    """Ends the module's sessions; how many it found."""
    ended = 0
    load.wait_for_more()
    for _ in range(times):
        ended += len(postgres.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'mod_registration'"))
        time.sleep(0.1)
    load.wait_for_more()
    return ended


def wait_until_it_is_back(postgres):
    while True:
        try:
            return postgres.connect().close()
        except psycopg2.OperationalError:
            time.sleep(0.01)


def test_sessions_that_are_ended_cost_nobody_an_error(load, postgres_to_break):
    with load() as load:
        assert terminate_again_and_again(postgres_to_break, load) >= 40
    load.check()
    # A session that is ended while it begins looks like a database that is away.
    assert len(load.unknown) <= CLIENTS


def test_control_without_making_calls_again_they_do(load, postgres_to_break,
                                                    module_without_retries):
    with load(registration=module_without_retries) as load:
        terminate_again_and_again(postgres_to_break, load)
    load.check()
    assert len(load.unknown) > CLIENTS


def kill_a_backend(postgres):
    """Then PostgreSQL ends all sessions and recovers."""
    begin = time.monotonic()
    while not (backends := postgres.backends()):
        assert time.monotonic() < begin + 10
    with postgres.canary():
        os.kill(backends.pop(), signal.SIGKILL)
        time.sleep(0.1)
        wait_until_it_is_back(postgres)


def crash(postgres):
    with postgres.canary():
        postgres.restart("immediate")


@pytest.mark.parametrize("fault", [kill_a_backend, crash])
def test_crashes_lose_nothing_that_was_confirmed(load, postgres_to_break, expect_log, fault):
    expect_log(*OUTAGE, RECOVERING)
    crashes = 3
    with load() as load:
        for _ in range(crashes):
            load.wait_for_more()
            time.sleep(0.7)
            fault(postgres_to_break)
            assert load.wait_for_more() < BACK
    load.check()
    # Who comes while it is away is told so at once, and comes again after a while.
    assert len(load.unknown) <= crashes * CLIENTS * 4


def test_control_what_is_lost_or_made_up_is_found(load, postgres_to_break):
    with load() as load:
        load.wait_for_more()
        time.sleep(1)
    load.check()
    names = [name for name, done in load.done.items() if done == 1 and name[:4] == "live"]
    postgres_to_break.query("SELECT cancel_live_registration(id) FROM live_registrations"
                            " WHERE patient_id = %s", names[0])
    assert load.differences() == {names[0]: (1, 0)}
    load.done[names[1]] = 0
    assert set(load.differences()) == set(names[:2])
