# SPDX-License-Identifier: Apache-2.0
"""Unreachable names and addresses of the database: connecting takes much longer than
RegistrationTimeout, and each request is answered in time.
"""

import contextlib
import time

import pytest

import servers
from changed import changed_module
from faults import (GRACE, MODULES, MOUNTS, RECOVERY, TIMEOUT, Proxy,
                    database)
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures
from mount_namespace import names   # noqa: F401, a fixture
from workload import CHILDREN, KeptCaller, Load, Rooms

LONGER = 5   # RegistrationTimeout, for two addresses of two seconds each

# A module whose connecting thread holds the limiter's mutex, which requests need.
HELD = ("""    apr_thread_mutex_unlock(limiter->mutex);
    connection = limiter->connector.connect(limiter->connector.baton, broken);
    apr_thread_mutex_lock(limiter->mutex);
""", """    connection = limiter->connector.connect(limiter->connector.baton, broken);
""")


@pytest.fixture
def held(tmp_path):
    return changed_module(tmp_path / "changed", *HELD)


@pytest.fixture
def load(start_httpd, postgres_to_break, names, expect_log):
    """load(port): a Load on an httpd that knows the database as db.test."""
    expect_log("REG0107: ")
    def make(port, timeout=TIMEOUT, registration=servers.MODULE):
        dsn = postgres_to_break.dsn(host="db.test", port=port)
        site = CHILDREN + MOUNTS + database(dsn, timeout=timeout)
        httpd = start_httpd(site, modules=MODULES, registration=registration,
                            within=names.within)
        return Load(KeptCaller(httpd), Rooms(postgres_to_break, 400))
    return make


def check_recovers(load):
    assert load.wait_for_more() < RECOVERY
    time.sleep(RECOVERY)   # for the other child process, too


def check(load, timeout):
    """Checks that each answer was in time and true."""
    assert load.slowest < timeout + GRACE
    assert load.lost == []
    load.check()


# --- A resolver that does not answer ---------------------------------------------------------

def lose_the_name(load, postgres, names, left):
    """Terminates all but `left` connections while the name does not resolve; the number of
    requests confirmed meanwhile."""
    load.wait_for_more()
    time.sleep(0.5)
    names.are("")
    postgres.terminate(sorted(postgres.backends())[left:])
    time.sleep(1)
    before = len(load.confirmed_at)
    time.sleep(10)   # as long as the resolver tries
    confirmed = len(load.confirmed_at) - before
    names.are("127.0.0.1 db.test")
    time.sleep(10)
    check_recovers(load)
    return confirmed


@pytest.mark.parametrize("left", [0, 4])
def test_silent_resolver_makes_no_request_late(load, postgres_to_break, names, left):
    names.are("127.0.0.1 db.test")
    with load(postgres_to_break.port) as load:
        confirmed = lose_the_name(load, postgres_to_break, names, left)
    check(load, TIMEOUT)
    # Requests use the remaining connections; without any, they fail for lack of the name.
    assert (confirmed > 100) == (left > 0)
    assert left > 0 or load.unavailable


def test_control_mutex_held_while_connecting_makes_requests_late(load, postgres_to_break,
                                                                 names, held):
    names.are("127.0.0.1 db.test")
    with load(postgres_to_break.port, registration=held) as load:
        lose_the_name(load, postgres_to_break, names, 0)
    assert load.slowest > TIMEOUT + GRACE


# --- Two addresses of one name ---------------------------------------------------------------

@contextlib.contextmanager
def two_addresses(postgres, names):
    if not servers.can_bind("::1"):
        pytest.skip("this machine has no IPv6")
    proxies = [Proxy(postgres.port)]
    proxies.append(Proxy(postgres.port, "::1", proxies[0].port))
    names.are("127.0.0.1 db.test", "::1 db.test")
    try:
        yield proxies
    finally:
        for each in proxies:
            each.close()


def fall_silent(load, proxies):
    load.wait_for_more()
    time.sleep(0.5)
    for each in proxies:
        each.change("hole")
    time.sleep(3 * LONGER)
    for each in proxies:
        each.change("forward")
    check_recovers(load)


def test_two_unreachable_addresses_make_no_request_late(load, postgres_to_break, names):
    with two_addresses(postgres_to_break, names) as proxies:
        with load(proxies[0].port, LONGER) as load:
            fall_silent(load, proxies)
        check(load, LONGER)
        assert load.unavailable


def test_control_mutex_held_for_both_addresses_makes_requests_late(load, postgres_to_break,
                                                                   names, held):
    with two_addresses(postgres_to_break, names) as proxies:
        with load(proxies[0].port, LONGER, held) as load:
            fall_silent(load, proxies)
    assert load.slowest > LONGER + GRACE
