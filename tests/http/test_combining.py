# SPDX-License-Identifier: Apache-2.0
"""Requests that come together share a transaction, and nothing else."""

import concurrent.futures
import time

import pytest

from conftest import new_uuid
from event_registrations import DEMO_EVENT, MOUNT, created
from faults import (GRACE, TIMEOUT, caller, check_recovers,  # noqa: F401 (fixtures)
                    own_postgres, postgres_to_break, statuses)


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
    ("RegistrationBatchSize 64", 1, 4), ("RegistrationBatchSize 8", 5, 12),
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
    postgres_to_break.query("ALTER TABLE live_registrations ADD CONSTRAINT no_poison"
                            " CHECK (patient_id <> 'poison')")
    try:
        one = caller(combining=True)
        session = postgres_to_break.live_session()
        patients = [new_uuid() for _ in range(20)]
        patients[7] = "poison"
        answers = register_together(one, postgres_to_break, pool, session, patients)
        expected = [201] * 20
        expected[7] = 400
        assert statuses(answers) == expected
    finally:
        postgres_to_break.query("ALTER TABLE live_registrations DROP CONSTRAINT no_poison")


def test_a_locked_row_holds_up_only_those_who_want_it(caller, postgres_to_break, pool):
    """They wait on one connection, however many they are, and get what they want."""
    one = caller(most=4, timeout=10, combining=True)
    locked = postgres_to_break.live_session()
    others = [postgres_to_break.live_session() for _ in range(5)]
    with postgres_to_break.locked(locked):
        held_up = [pool.submit(one.register, locked) for _ in range(10)]
        time.sleep(1)
        for _ in range(5):
            quick = [pool.submit(one.register, other) for other in others]
            for answer in (each.result() for each in quick):
                assert answer.status_code == 201
                assert answer.seconds < 1
        [[waiting]] = postgres_to_break.query(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND application_name = 'mod_registration'")
        assert waiting <= 1
        assert not any(each.done() for each in held_up)
    assert statuses(each.result() for each in held_up) == [201] * 10


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
        for _ in range(5):
            answer = change(*other)
            assert (answer.status_code, answer.seconds < 1.5) == (200, True)
        assert not any(each.done() for each in waiting)
    assert statuses(each.result() for each in waiting) == [200] * 30


def test_who_waits_for_a_lock_in_vain_is_told_so(caller, postgres_to_break, pool):
    one = caller(timeout=3, combining=True)
    session = postgres_to_break.live_session()
    with postgres_to_break.locked(session):
        answers = [pool.submit(one.register, session) for _ in range(10)]
        answers = [answer.result() for answer in answers]
    assert statuses(answers) == [503] * 10
    assert all(answer.seconds < 4 for answer in answers)
    assert one.register(session).status_code == 201


def test_a_frozen_database_holds_nobody_longer_than_the_timeout(caller, postgres_to_break):
    one = caller(combining=True)
    session = postgres_to_break.live_session()
    assert one.register(session).status_code == 201
    with postgres_to_break.frozen():
        for answer in one.register_many(session, 40):
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            assert answer.seconds < TIMEOUT + GRACE
    check_recovers(one, session)


def test_a_restart_between_requests_costs_nobody_an_error(caller, postgres_to_break):
    one = caller(combining=True)
    session = postgres_to_break.live_session()
    for mode in ("fast", "immediate"):
        assert statuses(one.register_many(session, 20)) == [201] * 20
        postgres_to_break.restart(mode)
    assert statuses(one.register_many(session, 20)) == [201] * 20
