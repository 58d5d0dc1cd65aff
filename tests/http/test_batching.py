# SPDX-License-Identifier: Apache-2.0
"""Batching: concurrent requests share a transaction, but not each other's errors or locks."""

import contextlib
import copy
import statistics
import threading
import time

import pytest

import servers
from conftest import new_uuid
from event_registrations import DEMO_EVENT, MOUNT, created
from faults import (GRACE, MODULES, MOUNTS, Caller, check_recovers, check_unavailable, database,
                    statuses, two_hosts)
from faults import caller, own_postgres, postgres_to_break, proxy   # noqa: F401, fixtures


def register_while_locked(one, postgres, pool, session, patients):
    """Registers the patients while the session is locked, so that their requests queue."""
    with postgres.locked(session):
        answers = [pool.submit(one.register, session, patient) for patient in patients]
        time.sleep(0.5)
    return [answer.result() for answer in answers]


def transactions(postgres, session):
    [[count]] = postgres.query("SELECT count(DISTINCT xmin::text) FROM live_registrations"
                               " WHERE session_id = %s", session)
    return count


@pytest.mark.parametrize("directive, fewest, most", [
    ("RegistrationBatchSize 64", 1, 12), ("RegistrationBatchSize 8", 5, 20),
    ("RegistrationBatchSize 1", 40, 40)])
def test_queued_requests_share_a_transaction(
        caller, postgres_to_break, pool, directive, fewest, most):
    one = caller(inside=directive, batching=True)
    session = postgres_to_break.live_session()
    answers = register_while_locked(one, postgres_to_break, pool, session,
                                    [new_uuid() for _ in range(40)])
    assert statuses(answers) == [201] * 40
    assert fewest <= transactions(postgres_to_break, session) <= most


def test_each_request_of_batch_gets_its_own_answer(caller, postgres_to_break, pool):
    one = caller(batching=True)
    session = postgres_to_break.live_session(max_participants=20)
    patients = [new_uuid() for _ in range(15)]
    answers = register_while_locked(one, postgres_to_break, pool, session, patients + patients)
    won = [answer.json()["patient_id"] for answer in answers if answer.status_code == 201]
    assert sorted(won) == sorted(patients)
    assert statuses(answers).count(409) == 15
    for patient, answer in zip(patients + patients, answers):
        if answer.status_code == 201:
            assert answer.json()["patient_id"] == patient


def test_request_refused_by_constraint_fails_alone(caller, postgres_to_break, pool,
                                                   expect_log):
    expect_log("violates check constraint")
    one, session = caller(batching=True), postgres_to_break.live_session()
    patients = [new_uuid() for _ in range(20)]
    with postgres_to_break.refusing(patients[7]):
        answers = register_while_locked(one, postgres_to_break, pool, session, patients)
    assert statuses(answers) == [201] * 7 + [400] + [201] * 12


@pytest.mark.parametrize("batching", [True, False])
def test_locked_row_delays_only_requests_for_that_row(caller, postgres_to_break, pool,
                                                      batching):
    """They wait on one connection, whatever their number, and succeed after the lock."""
    one = caller(most=4, timeout=10, batching=batching)
    locked = postgres_to_break.live_session()
    others = [postgres_to_break.live_session() for _ in range(5)]
    with postgres_to_break.locked(locked):
        held_up = [pool.submit(one.register, locked) for _ in range(10)]
        time.sleep(1)
        for _ in range(5):
            quick = [pool.submit(one.register, other) for other in others]
            for answer in (each.result() for each in quick):
                assert answer.status_code == 201
                assert answer.seconds < 2 * GRACE
        [[waiting]] = postgres_to_break.query(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND application_name = 'mod_registration'")
        assert waiting <= 1
        assert not any(each.done() for each in held_up)
    assert statuses(each.result() for each in held_up) == [201] * 10


def test_repeated_lock_wait_of_one_client_does_not_delay_another(
        caller, postgres_to_break, pool):
    """With two clients, the smallest load in which one could delay the other."""
    one = caller(batching=True)
    locked, *others = (postgres_to_break.live_session() for _ in range(6))
    ended = threading.Event()

    def keep_asking():
        answers = []
        while not ended.is_set():
            answers.append(one.register(locked))
        return answers

    def slowest():
        answers = [one.register(others[n % 5]) for n in range(500)]
        assert set(statuses(answers)) == {201}
        return max(answer.seconds for answer in answers)

    before = slowest()
    with postgres_to_break.locked(locked):
        asking, meanwhile = pool.submit(keep_asking), []
        while len(meanwhile) < 8:
            meanwhile.append(slowest())
        ended.set()
        asked = asking.result()
    assert set(statuses(asked)) == {503}
    assert max(meanwhile) < before + 0.3


def test_locked_occurrence_delays_updates_of_others_only_briefly(
        caller, postgres_to_break, pool):
    """An update names a registration, so each call has to find out whose row is locked."""
    one = caller(timeout=10, batching=True)

    def occurrence():
        made = new_uuid()
        postgres_to_break.query("INSERT INTO occurrences (id, event_id) VALUES (%s, %s)", made,
                                DEMO_EVENT)
        return made

    def change(registration):
        return one.put(f"{MOUNT}/{registration}", json={"fields": {"seen": True}})

    locked, free = occurrence(), occurrence()
    held_up, other = ([created(one, place, user=f"{place} {i}")["id"] for i in range(count)]
                      for place, count in ((locked, 30), (free, 1)))
    with postgres_to_break.locked(locked, table="occurrences"):
        waiting = [pool.submit(change, registration) for registration in held_up]
        time.sleep(0.1)
        answers = [change(*other) for _ in range(5)]
        assert statuses(answers) == [200] * 5
        assert statistics.median(answer.seconds for answer in answers) < GRACE
        assert not any(each.done() for each in waiting)
    assert statuses(each.result() for each in waiting) == [200] * 30


def test_lock_timeout_is_503_and_logged(caller, postgres_to_break, pool):
    one = caller(timeout=3, batching=True)
    session = postgres_to_break.live_session()
    with postgres_to_break.locked(session):
        answers = [pool.submit(one.register, session) for _ in range(10)]
        answers = [answer.result() for answer in answers]
    assert statuses(answers) == [503] * 10
    assert all(answer.seconds < 3 + 2 * GRACE for answer in answers)
    assert one.register(session).status_code == 201
    log_text = one.httpd.log.text()   # REG0304 would say that no connection was free.
    assert [log_text.count(tag) for tag in ("REG0310", "REG0304")] == [10, 0]


@pytest.mark.parametrize("outage", ["frozen", "silent", "lost", "stopped"])
def test_outage_delays_no_batched_request_beyond_timeout(caller, proxy, postgres_to_break,
                                                         pool, outage):
    """48 requests are queued: one thread waits for the database, 47 wait for that thread."""
    one = caller(proxy.port, batching=True)
    session = postgres_to_break.live_session()
    assert statuses(one.register_many(session, 48)) == [201] * 48
    with contextlib.ExitStack() as stack:
        if outage == "frozen":
            stack.enter_context(postgres_to_break.frozen())
        elif outage == "stopped":
            stack.enter_context(postgres_to_break.locked(session))
        else:
            proxy.change("hole")
        answers = pool.submit(one.register_many, session, 48)
        time.sleep(0.5)
        assert not answers.done()
        if outage == "lost":
            proxy.change("refuse")
        elif outage == "stopped":
            postgres_to_break.stop("immediate")
        for answer in answers.result():
            check_unavailable(answer)
            assert answer.headers["Retry-After"]
        # They were queued.
        assert sum(answer.seconds > 0.3 for answer in answers.result()) > 40
    postgres_to_break.start()
    proxy.change("forward")
    check_recovers(one, session)


# Connecting may take all of the timeout but a second.
SLOW_TO_CONNECT = {"more": "connect_timeout=7", "timeout": 8}


def test_slow_first_connection_fails_no_batched_request(caller, proxy, postgres_to_break,
                                                        pool):
    """The queued requests may use their whole timeout for it."""
    one = caller(proxy.port, batching=True, **SLOW_TO_CONNECT)
    session = postgres_to_break.live_session()
    proxy.change("hole")
    answers = [pool.submit(one.register, session) for _ in range(30)]
    time.sleep(1.5)
    assert not any(answer.done() for answer in answers)
    proxy.change("forward")
    assert statuses(answer.result() for answer in answers) == [201] * 30


def test_restart_between_requests_fails_no_request(caller, postgres_to_break):
    one = caller(batching=True)
    session = postgres_to_break.live_session()
    for mode in ("fast", "immediate"):
        assert statuses(one.register_many(session, 20)) == [201] * 20
        postgres_to_break.restart(mode)
    assert statuses(one.register_many(session, 20)) == [201] * 20


# --- Retries -------------------------------------------------------------------------------

def test_deadlock_is_retried(start_httpd, postgres_to_break, pool, expect_log):
    """Two child processes register for two sessions. An administrator locks both in the
    opposite order."""
    expect_log("ERROR:  deadlock detected")
    sessions = sorted(postgres_to_break.live_session() for _ in range(2))
    stop = threading.Event()

    def register_repeatedly(number):
        answers = []
        while not stop.is_set():
            answers.append(one.register(sessions[len(answers) % 2]))
        return statuses(answers)

    def deadlocks():
        return postgres_to_break.log.text().count("ERROR:  deadlock detected")

    def lock_in_opposite_order():
        for session in reversed(sessions):
            cursor.execute("SELECT FROM registration.live_sessions WHERE id = %s FOR UPDATE",
                           [session])
        connection.rollback()
        return deadlocks() >= 2

    # So that PostgreSQL cancels the module's call, before its lock timeout.
    with postgres_to_break.setting("deadlock_timeout", "10ms"):
        httpd = start_httpd(MOUNTS + database(postgres_to_break.dsn(), most=1, timeout=10),
                            modules=MODULES)
        one = Caller(httpd)
        one.headers["Connection"] = "close"   # So that both children get requests.
        connection = postgres_to_break.connect()
        connection.autocommit = False
        try:
            with connection.cursor() as cursor:
                answers = [pool.submit(register_repeatedly, number) for number in range(24)]
                servers.wait_until(lock_in_opposite_order, 20, "there was no deadlock")
            assert len(postgres_to_break.backends()) == 2   # Both children took part.
        finally:
            stop.set()
            connection.close()
        answers = [status for each in answers for status in each.result()]
    assert set(answers) == {201}
    assert len(answers) == sum(len(postgres_to_break.patients(session))
                               for session in sessions)


def test_serialization_failure_is_retried(caller, postgres_to_break, pool, expect_log):
    failure = "ERROR:  could not serialize access due to concurrent update"
    expect_log(failure)
    session = postgres_to_break.live_session()

    def is_provoked():
        connection = postgres_to_break.connect()
        connection.autocommit = False
        connection.cursor().execute("UPDATE registration.live_sessions SET title = 'Another'"
                                    " WHERE id = %s", [session])
        answers = pool.submit(one.register_many, session, 20)
        time.sleep(0.3)
        connection.commit()
        connection.close()
        assert statuses(answers.result()) == [201] * 20
        return failure in postgres_to_break.log.text()

    with postgres_to_break.setting("default_transaction_isolation", "repeatable read"):
        one = caller(timeout=10, batching=True)
        servers.wait_until(is_provoked, 10, "there was no serialization failure")


# --- Two databases --------------------------------------------------------------------------

def test_each_host_writes_to_its_own_database(start_httpd, postgres_to_break, proxy, pool):
    """Also for a session of the same id, and while one of the databases is unreachable."""
    other = copy.copy(postgres_to_break)
    other.database = "other"
    other.install("install.sql")
    session = postgres_to_break.live_session()
    other.live_session(session=session)
    # Connecting takes long on a busy machine: the proxy runs in this process, which starts
    # 60 threads meanwhile.
    httpd = start_httpd(two_hosts(postgres_to_break.dsn(), other.dsn(port=proxy.port),
                                  **SLOW_TO_CONNECT), modules=MODULES)
    hosts = [(Caller(httpd, "one.example.org"), postgres_to_break, set()),
             (Caller(httpd, "two.example.org"), other, set())]

    def begin(host, patients):
        patient = new_uuid()
        patients.add(patient)
        return pool.submit(host.register, session, patient)

    with postgres_to_break.locked(session), other.locked(session):
        answers = [begin(host, patients) for _ in range(30)
                   for host, _, patients in hosts]
        time.sleep(0.5)
    assert statuses(answer.result() for answer in answers) == [201] * 60
    for _, postgres, patients in hosts:
        assert postgres.patients(session) == patients
        assert transactions(postgres, session) < 15   # They were batched.

    proxy.change("hole")
    (one, _, patients), (two, _, confirmed) = hosts
    held_up = [begin(two, set()) for _ in range(20)]
    for _ in range(3):
        answers = [begin(one, patients) for _ in range(20)]
        assert statuses(answer.result() for answer in answers) == [201] * 20
    assert not any(answer.done() for answer in held_up)
    for answer in held_up:
        check_unavailable(answer.result(), seconds=SLOW_TO_CONNECT["timeout"] + GRACE)
    assert postgres_to_break.patients(session) == patients
    assert other.patients(session) == confirmed
