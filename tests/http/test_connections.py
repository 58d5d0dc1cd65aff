# SPDX-License-Identifier: Apache-2.0
"""Database connections: their limit, how long a request holds one, and the requests that wait for one."""

import socket
import time

import pytest

import servers
from changed import changed_module
from conftest import new_uuid
from faults import (CHILD, GRACE, MODULES, MOUNTS, TIMEOUT, Caller, Meanwhile, Proxy,
                    check_recovers, check_unavailable, database, statuses, two_hosts)
from faults import caller, own_postgres, postgres_to_break   # noqa: F401, fixtures
from wire import Wire, message


# RegistrationTimeout of tests in which requests wait for a while.
PATIENT = 8


class Watch(Meanwhile):
    """`most` is the largest number of the module's connections seen at a time."""

    def __init__(self, postgres):
        self.postgres = postgres
        self.most = 0

    def go_on(self):
        connection = self.postgres.connect()
        with connection.cursor() as cursor:
            while not self.ended.wait(0.005):
                cursor.execute("SELECT count(*) FROM pg_stat_activity"
                               " WHERE application_name = 'mod_registration'")
                self.most = max(self.most, cursor.fetchone()[0])
        connection.close()

    def wait_for(self, connections):
        servers.wait_until(lambda: self.most >= connections, TIMEOUT,
                           f"there were not {connections} connections")


# --- Connection limiter --------------------------------------------------------------------

def most_calls(one, postgres, pool, expected):
    """The largest number of concurrent calls for 40 requests that all wait for a lock."""
    session = postgres.live_session()
    with Watch(postgres) as watch:
        with postgres.locked(session):
            answers = pool.submit(one.register_many, session, 40)
            watch.wait_for(expected)
            time.sleep(0.5)   # for one connection too many
        assert statuses(answers.result()) == [201] * 40
    return watch.most


@pytest.mark.parametrize("limit", [1, 3])
def test_concurrent_calls_are_limited_to_registration_connections(caller, postgres_to_break,
                                                                  pool, limit):
    one = caller(most=10, timeout=PATIENT, inside=f"RegistrationConnections {limit}")
    assert most_calls(one, postgres_to_break, pool, limit) == limit


def test_control_higher_limit_allows_more_calls(caller, postgres_to_break, pool):
    one = caller(most=10, timeout=PATIENT)   # RegistrationConnections is DBDMax by default
    assert most_calls(one, postgres_to_break, pool, 10) == 10


def test_request_without_free_connection_in_time_is_503(start_httpd, postgres_to_break,
                                                        pool, expect_log):
    """The first host's requests hold all connections for longer than the second's timeout."""
    dsn = postgres_to_break.dsn()
    site = two_hosts(dsn, dsn, "RegistrationBatchSize 1", most=2, timeout=PATIENT)
    first, _, second = site.rpartition(f"RegistrationTimeout {PATIENT}")
    httpd = start_httpd(f"{first}RegistrationTimeout {TIMEOUT}{second}", modules=MODULES)
    one, two = (Caller(httpd, f"{name}.example.org") for name in ("one", "two"))
    *slow, other = [postgres_to_break.live_session() for _ in range(3)]
    assert two.register(other).status_code == 201
    with postgres_to_break.slow(10, *slow), Watch(postgres_to_break) as watch:
        held_up = [pool.submit(one.register, session) for session in slow]
        servers.wait_until(lambda: postgres_to_break.query(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == [(2,)],
            TIMEOUT, "they do not hold the connections")
        for answer in two.register_many(other, 10):
            check_unavailable(answer)
        for each in held_up:
            check_unavailable(each.result(), seconds=PATIENT + GRACE)
    assert httpd.log.text().count("REG0304") == 10
    assert watch.most <= 4
    check_recovers(two, other)


# --- Calls that exceed the deadline --------------------------------------------------------

def seconds_after_deadline(start_httpd, postgres, module):
    """Makes a call exceed its deadline; returns how long PostgreSQL continues to execute it."""
    site = CHILD + MOUNTS + database(postgres.dsn(), options="-c statement_timeout=0")
    one = Caller(start_httpd(site, modules=MODULES, registration=module))
    session, other = postgres.live_session(), postgres.live_session()
    with postgres.slow(3 * TIMEOUT, session):
        check_unavailable(one.register(session))
        begin = time.monotonic()
        assert one.register(other).status_code == 201
        while postgres.query("SELECT 1 FROM pg_stat_activity WHERE state = 'active'"
                             " AND application_name = 'mod_registration'"):
            time.sleep(0.02)
    return time.monotonic() - begin


def test_call_over_deadline_is_cancelled(start_httpd, postgres_to_break):
    assert seconds_after_deadline(start_httpd, postgres_to_break, servers.MODULE) < GRACE


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory):
    """A module that cancels no call and renews the lease of expired connections."""
    return changed_module(tmp_path_factory.mktemp("unguarded") / "sources",
                          "pg_cancel_backend(pid)", "pid",
                          "reg_connection_close(&p->connection);",
                          "p->used_at = apr_time_now();")


def test_control_without_cancel_call_goes_on(start_httpd, postgres_to_break, unguarded):
    assert seconds_after_deadline(start_httpd, postgres_to_break, unguarded) > GRACE


# --- Expired connections -------------------------------------------------------------------

def backends_after_a_rest(start_httpd, postgres, exptime, module=servers.MODULE):
    """The backends of two requests with two idle seconds in between."""
    site = CHILD + MOUNTS + database(postgres.dsn(), most=1)
    assert site.count("DBDExptime 0") == 1
    one = Caller(start_httpd(site.replace("DBDExptime 0", f"DBDExptime {exptime}"),
                             modules=MODULES, registration=module))
    session = postgres.live_session()
    backends = []
    for _ in range(2):
        assert one.register(session).status_code == 201
        servers.wait_until(lambda: postgres.query(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'mod_registration'"
            " AND state = 'idle' AND state_change < clock_timestamp() - interval '2 s'"), 30,
            "no connection was idle")
        backends.append(postgres.backends())
    return backends


def test_expired_connection_is_replaced(start_httpd, postgres_to_break):
    [before], [after] = backends_after_a_rest(start_httpd, postgres_to_break, 1)
    assert before != after


def test_unexpired_connection_is_reused(start_httpd, postgres_to_break):
    [before], [after] = backends_after_a_rest(start_httpd, postgres_to_break, 0)
    assert before == after


def test_control_reuse_of_expired_connection_is_detected(start_httpd, postgres_to_break,
                                                         unguarded):
    [before], [after] = backends_after_a_rest(start_httpd, postgres_to_break, 1, unguarded)
    assert before == after


# --- Row locks, and PostgreSQL's own timeouts ----------------------------------------------

def test_locked_row_delays_only_requests_for_that_row(caller, postgres_to_break, pool):
    one = caller()
    session, other = postgres_to_break.live_session(), postgres_to_break.live_session()
    with postgres_to_break.locked(session):
        held_up = pool.submit(one.register, session)
        for _ in range(10):
            answer = one.register(other)
            assert (answer.status_code, answer.seconds < GRACE) == (201, True)
        assert not held_up.done()   # Negative control: the row is locked.
        check_unavailable(held_up.result())
    check_recovers(one, session)


def test_lock_released_in_time_fails_no_request(caller, postgres_to_break, pool):
    one = caller(timeout=PATIENT)
    session = postgres_to_break.live_session(max_participants=5)
    with postgres_to_break.locked(session):
        answers = pool.submit(one.register_many, session, 12)
        # Longer than one wait of 100 ms. PostgreSQL may get the lock just as its timeout ends,
        # and then takes the timeout for a cancellation by the user.
        time.sleep(1)
        assert not answers.done()
    assert sorted(statuses(answers.result())) == [201] * 5 + [412] * 7


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
def test_timeout_of_postgresql_is_503_and_keeps_connection(caller, postgres_to_break,
                                                           setting):
    one = caller(options=f"-c {setting}=400")
    session = postgres_to_break.live_session()
    assert one.register(session).status_code == 201
    before = postgres_to_break.backends()
    with postgres_to_break.locked(session):
        answer = one.register(session)
        check_unavailable(answer)
        assert answer.seconds > 0.35
    assert one.register(session).status_code == 201
    assert postgres_to_break.backends() == before


# --- Slow clients ---------------------------------------------------------------------------

def test_slow_sender_holds_no_connection(caller, postgres_to_break):
    one = caller(most=1)
    session = postgres_to_break.live_session()
    assert one.register(session).status_code == 201
    slow = []
    body = b'{"patient_id": "slow"}'
    for _ in range(5):
        slow.append(Wire(one.httpd))
        slow[-1].send(message("POST", f"/v1/sessions/{session}/register", body[:10],
                              Content_Length=str(len(body))))
    time.sleep(0.2)
    for _ in range(5):
        answer = one.register(session)
        assert (answer.status_code, answer.seconds < GRACE) == (201, True)
    slow[0].send(body[10:])
    assert slow[0].answer().status == 201
    for wire in slow:
        wire.close()


def test_slow_reader_holds_no_connection(caller, postgres_to_break):
    one = caller(most=1)
    session = postgres_to_break.live_session()
    path, occurrence = "/api/v1/event-registrations", "123e4567-e89b-12d3-a456-426614174001"
    for _ in range(100):
        assert one.post(path, json={
            "occurrenceId": occurrence, "externalUserId": new_uuid(),
            "fields": {"x": "x" * 65000}}).status_code == 201
    slow = []
    for _ in range(2):
        slow.append(Wire(one.httpd, receive_buffer=2048))
        slow[-1].send(message("GET", f"{path}?limit=100&occurrenceId={occurrence}"))
        assert slow[-1].file.peek(1)   # The answer has begun; the rest is not read.
    for _ in range(5):
        answer = one.register(session)
        assert (answer.status_code, answer.seconds < GRACE) == (201, True)
    for wire in slow:
        wire.close()


def test_control_single_connection_can_be_held(caller, postgres_to_break, pool):
    """By a slow call: another request waits for it."""
    one = caller(most=1, timeout=PATIENT)
    session, other = postgres_to_break.live_session(), postgres_to_break.live_session()
    with postgres_to_break.slow(2 * GRACE, session):
        held_up = pool.submit(one.register, session)
        servers.wait_until(lambda: len(postgres_to_break.backends()) == 1, TIMEOUT,
                           "there was no connection")
        waiting = pool.submit(one.register, other)
        time.sleep(GRACE)
        assert not waiting.done()
        assert (held_up.result().status_code, waiting.result().status_code) == (201, 201)


def test_aborted_request_frees_its_connection(caller, postgres_to_break):
    one = caller(most=1)
    session, other = postgres_to_break.live_session(), postgres_to_break.live_session()
    assert one.register(other).status_code == 201
    with postgres_to_break.locked(session):
        aborted = Wire(one.httpd)
        aborted.send(message("POST", f"/v1/sessions/{session}/register",
                             b'{"patient_id": "x"}'))
        time.sleep(0.3)
        aborted.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        aborted.close()
    for _ in range(3):
        answer = one.register(other)
        assert (answer.status_code, answer.seconds < GRACE) == (201, True)


# --- Two databases --------------------------------------------------------------------------

@pytest.mark.parametrize("mode, host", [("refuse", 0), ("hole", 1)])
def test_outage_of_one_database_does_not_affect_another_host(
        start_httpd, postgres_to_break, pool, mode, host):
    proxies = [Proxy(postgres_to_break.port) for _ in range(2)]
    httpd = start_httpd(two_hosts(*(postgres_to_break.dsn(port=each.port)
                                    for each in proxies)), modules=MODULES)
    callers = [Caller(httpd, "one.example.org"), Caller(httpd, "two.example.org")]
    session = postgres_to_break.live_session()
    try:
        for one in callers:
            assert statuses(one.register_many(session, 4)) == [201] * 4
        away, there = callers[host], callers[1 - host]
        proxies[host].change(mode)
        held_up = pool.submit(away.register_many, session, 12)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            answer = there.register(session)
            assert (answer.status_code, answer.seconds < GRACE) == (201, True)
        for answer in held_up.result():
            check_unavailable(answer)   # Negative control: it is unreachable.
        proxies[host].change("forward")
        check_recovers(away, session)
    finally:
        for each in proxies:
            each.close()


def test_hosts_with_same_database_share_its_connections(start_httpd, postgres_to_break,
                                                        pool):
    dsn = postgres_to_break.dsn()
    # Without batching, so that each host alone would reach its limit.
    httpd = start_httpd(two_hosts(dsn, dsn, "RegistrationBatchSize 1", most=3,
                                  timeout=PATIENT), modules=MODULES)
    session = postgres_to_break.live_session()
    with Watch(postgres_to_break) as watch:
        with postgres_to_break.locked(session):
            answers = [pool.submit(Caller(httpd, f"{name}.example.org").register_many,
                                   session, 15) for name in ("one", "two")]
            watch.wait_for(3)
            time.sleep(0.5)   # for one connection too many
        for each in answers:
            assert statuses(each.result()) == [201] * 15
    assert watch.most == 3
