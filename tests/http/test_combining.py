# SPDX-License-Identifier: Apache-2.0
"""Requests that come together share a transaction, and nothing else."""

import concurrent.futures
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


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        yield pool


def register_together(one, postgres, pool, session, patients):
    """Registers them while the session is locked, so that they wait together; the answers."""
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
def test_requests_that_wait_together_are_one_transaction(
        caller, postgres_to_break, pool, directive, fewest, most):
    one = caller(inside=directive, combining=True)
    session = postgres_to_break.live_session()
    answers = register_together(one, postgres_to_break, pool, session,
                                [new_uuid() for _ in range(40)])
    assert statuses(answers) == [201] * 40
    assert fewest <= transactions(postgres_to_break, session) <= most


def test_each_request_gets_its_own_answer(caller, postgres_to_break, pool):
    one = caller(combining=True)
    session = postgres_to_break.live_session(max_participants=20)
    patients = [new_uuid() for _ in range(15)]
    answers = register_together(one, postgres_to_break, pool, session, patients + patients)
    won = [answer.json()["patient_id"] for answer in answers if answer.status_code == 201]
    assert sorted(won) == sorted(patients)
    assert statuses(answers).count(409) == 15
    for patient, answer in zip(patients + patients, answers):
        if answer.status_code == 201:
            assert answer.json()["patient_id"] == patient


def test_what_the_database_refuses_is_refused_alone(caller, postgres_to_break, pool,
                                                    expect_log):
    expect_log("violates check constraint")
    one, session = caller(combining=True), postgres_to_break.live_session()
    patients = [new_uuid() for _ in range(20)]
    with postgres_to_break.refusing(patients[7]):
        answers = register_together(one, postgres_to_break, pool, session, patients)
    assert statuses(answers) == [201] * 7 + [400] + [201] * 12


@pytest.mark.parametrize("combining", [True, False])
def test_a_locked_row_holds_up_only_those_who_want_it(caller, postgres_to_break, pool,
                                                      combining):
    """They wait on one connection, however many they are, and get what they want."""
    one = caller(most=4, timeout=10, combining=combining)
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


def test_one_client_is_held_up_no_longer_by_a_row_that_another_finds_locked_on_and_on(
        caller, postgres_to_break, pool):
    """Of all loads that with the fewest who could find it for the others."""
    one = caller(combining=True)
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


def test_a_locked_occurrence_holds_up_changes_of_others_for_a_moment(
        caller, postgres_to_break, pool):
    """A change names a registration, and each has to be tried to see whose is locked."""
    one = caller(timeout=10, combining=True)

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


def test_who_waits_for_a_lock_in_vain_is_told_so(caller, postgres_to_break, pool):
    one = caller(timeout=3, combining=True)
    session = postgres_to_break.live_session()
    with postgres_to_break.locked(session):
        answers = [pool.submit(one.register, session) for _ in range(10)]
        answers = [answer.result() for answer in answers]
    assert statuses(answers) == [503] * 10
    assert all(answer.seconds < 3 + 2 * GRACE for answer in answers)
    assert one.register(session).status_code == 201
    told = one.httpd.log.text()   # And not that connections were lacking.
    assert [told.count(tag) for tag in ("REG0310", "REG0304")] == [10, 0]


@pytest.mark.parametrize("outage", ["frozen", "silent", "lost", "stopped"])
def test_an_outage_holds_nobody_longer_than_the_timeout(caller, proxy, postgres_to_break,
                                                        pool, outage):
    """48 wait together: one of them for the database, the others for that one."""
    one = caller(proxy.port, combining=True)
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
        assert sum(answer.seconds > 0.3 for answer in answers.result()) > 40   # Who waited.
    postgres_to_break.start()
    proxy.change("forward")
    check_recovers(one, session)


# All but a second of the time may go into a connection.
SLOW_TO_CONNECT = {"more": "connect_timeout=7", "timeout": 8}


def test_a_first_connection_that_takes_a_while_costs_nobody_an_error(caller, proxy,
                                                                     postgres_to_break, pool):
    """Nothing is kept back for it from the time of the requests that wait."""
    one = caller(proxy.port, combining=True, **SLOW_TO_CONNECT)
    session = postgres_to_break.live_session()
    proxy.change("hole")
    answers = [pool.submit(one.register, session) for _ in range(30)]
    time.sleep(1.5)
    assert not any(answer.done() for answer in answers)
    proxy.change("forward")
    assert statuses(answer.result() for answer in answers) == [201] * 30


def test_a_restart_between_requests_costs_nobody_an_error(caller, postgres_to_break):
    one = caller(combining=True)
    session = postgres_to_break.live_session()
    for mode in ("fast", "immediate"):
        assert statuses(one.register_many(session, 20)) == [201] * 20
        postgres_to_break.restart(mode)
    assert statuses(one.register_many(session, 20)) == [201] * 20


# --- Tried again ----------------------------------------------------------------------------

def test_a_deadlock_costs_nobody_an_error(start_httpd, postgres_to_break, pool, expect_log):
    """Two child processes register for two sessions, and an administrator locks these in
    the other order."""
    expect_log("ERROR:  deadlock detected")
    sessions = sorted(postgres_to_break.live_session() for _ in range(2))
    stop = threading.Event()

    def register_on_and_on(number):
        answers = []
        while not stop.is_set():
            answers.append(one.register(sessions[len(answers) % 2]))
        return statuses(answers)

    def deadlocks():
        return postgres_to_break.log.text().count("ERROR:  deadlock detected")

    def lock_in_the_other_order():
        for session in reversed(sessions):
            cursor.execute("SELECT FROM registration.live_sessions WHERE id = %s FOR UPDATE",
                           [session])
        connection.rollback()
        return deadlocks() >= 2

    # So the module's call is the one that is sacrificed, and before it gives up waiting.
    with postgres_to_break.setting("deadlock_timeout", "10ms"):
        httpd = start_httpd(MOUNTS + database(postgres_to_break.dsn(), most=1, timeout=10),
                            modules=MODULES)
        one = Caller(httpd)
        one.headers["Connection"] = "close"   # Each child gets its share of them.
        connection = postgres_to_break.connect()
        connection.autocommit = False
        try:
            with connection.cursor() as cursor:
                answers = [pool.submit(register_on_and_on, number) for number in range(24)]
                servers.wait_until(lock_in_the_other_order, 20, "there was no deadlock")
            assert len(postgres_to_break.backends()) == 2   # Both children took part.
        finally:
            stop.set()
            connection.close()
        answers = [status for each in answers for status in each.result()]
    assert set(answers) == {201}
    assert len(answers) == sum(len(postgres_to_break.patients(session))
                               for session in sessions)


def test_a_serialization_failure_costs_nobody_an_error(caller, postgres_to_break, pool,
                                                       expect_log):
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
        one = caller(timeout=10, combining=True)
        servers.wait_until(is_provoked, 10, "there was no serialization failure")


# --- Two databases --------------------------------------------------------------------------

def test_each_hosts_requests_end_in_its_own_database(start_httpd, postgres_to_break, proxy,
                                                     pool):
    """Though they are for the same session, and also while one of the two has stalled."""
    other = copy.copy(postgres_to_break)
    other.database = "other"
    other.install("install.sql")
    session = postgres_to_break.live_session()
    other.live_session(session=session)
    # A busy machine takes its time to make a connection through a proxy in this process,
    # which has 60 threads to begin meanwhile.
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
        assert transactions(postgres, session) < 15   # They were combined.

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
