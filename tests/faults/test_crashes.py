# SPDX-License-Identifier: Apache-2.0
"""Sessions are terminated and PostgreSQL crashes while 64 clients register, change and delete.

Each confirmation is a row, each row was confirmed or its request answered 503, and no request
is refused as a duplicate of its own first attempt.
"""

import os
import signal
import time

import psycopg2
import pytest

from faults import GRACE, MODULES, MOUNTS, OUTAGE, Caller, database
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures
from workload import CHILDREN, CLIENTS, Load, Rooms

# Enough to retry a call, including a new connection.
TIMEOUT = 10

RECOVERING = "FATAL:  the database system is in recovery mode"

# Seconds until the service recovers once the database is back.
BACK = 2 + GRACE


@pytest.fixture
def load(start_httpd, postgres_to_break):
    """load(): a Load on an httpd of its own; its arguments are start_httpd's."""
    def make(**options):
        site = CHILDREN + MOUNTS + database(postgres_to_break.dsn(), timeout=TIMEOUT)
        return Load(Caller(start_httpd(site, modules=MODULES, **options)),
                    Rooms(postgres_to_break))
    return make


def terminate_repeatedly(postgres, load, times=40):
    """Terminates the module's sessions repeatedly; how many."""
    ended = 0
    load.wait_for_more()
    for _ in range(times):
        ended += len(postgres.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'mod_registration'"))
        time.sleep(0.1)
    load.wait_for_more()
    return ended


def wait_for_postgres(postgres):
    while True:
        try:
            return postgres.connect().close()
        except psycopg2.OperationalError:
            time.sleep(0.01)


def most_unknown(load):
    """A session terminated while it starts looks like an unreachable database: REG0302. For a
    second the child process, which has half of the clients, answers 503, after which a client
    waits for half a second."""
    return CLIENTS * load.one.httpd.log.text().count("REG0302: ")


def test_terminated_sessions_fail_no_request(load, postgres_to_break):
    with load() as load:
        assert terminate_repeatedly(postgres_to_break, load) >= 40
    load.check()
    assert len(load.unknown) <= most_unknown(load)


def test_control_without_retries_requests_fail(load, postgres_to_break,
                                               module_without_retries):
    with load(registration=module_without_retries) as load:
        terminate_repeatedly(postgres_to_break, load)
    load.check()
    assert len(load.unknown) > most_unknown(load)


def kill_a_backend(postgres):
    """Kills a backend, upon which PostgreSQL ends all sessions and recovers."""
    begin = time.monotonic()
    while not (backends := postgres.backends()):
        assert time.monotonic() < begin + 10
    with postgres.canary():
        os.kill(backends.pop(), signal.SIGKILL)
        time.sleep(0.1)
        wait_for_postgres(postgres)


def crash(postgres):
    with postgres.canary():
        postgres.restart("immediate")


@pytest.mark.parametrize("fault", [kill_a_backend, crash])
def test_crashes_lose_no_confirmed_change(load, postgres_to_break, expect_log, fault):
    expect_log(*OUTAGE, RECOVERING)
    crashes = 3
    with load() as load:
        for _ in range(crashes):
            load.wait_for_more()
            time.sleep(0.7)
            fault(postgres_to_break)
            assert load.wait_for_more() < BACK
    load.check()
    # A request during the outage gets a 503 at once, and its client pauses.
    assert len(load.unknown) <= crashes * CLIENTS * 4


def test_control_lost_and_invented_rows_are_detected(load, postgres_to_break):
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
