# SPDX-License-Identifier: Apache-2.0
"""Capacity and waiting list of an occurrence: never a place too many, never one unused.

The races have negative controls: with the locks removed from the operations, the final check
has to find an inconsistency.
"""

import random
import re

import pytest
import requests
import urllib3

from conftest import new_uuid
from event_registrations import (HOLDING, STATUSES, create, created, delete, empty, error,
                                 get, places_held, status_of, update, updated)


@pytest.fixture
def api(api):
    """Retries when httpd closes an idle connection just as it is reused: after a burst it
    ends some of its processes."""
    again = urllib3.Retry(3, allowed_methods=None)
    api.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=64, max_retries=again))
    return api


@pytest.fixture
def queue(api, occurrence):
    """queue(5, capacity=2): an occurrence and five registrations, of which two hold places."""
    def make(count, capacity, **options):
        one = occurrence(capacity=capacity, **options)
        return one, [created(api, one, f"user {n}") for n in range(count)]
    return make


def statuses(api, registrations):
    return [status_of(api, registration) for registration in registrations]


def waiting(api, registrations):
    """Indexes of the registrations on the waiting list."""
    return [n for n, status in enumerate(statuses(api, registrations))
            if status == "WAITING_LIST"]


def put(api, registration, status):
    if status == "trashed":
        assert delete(api, registration).status_code == 200
    else:
        updated(api, registration, status=status)


@pytest.fixture
def inconsistencies(sql):
    """faults(occurrence): the inconsistencies of its rows."""
    def find(occurrence):
        [(capacity, kept, held, waits, people)] = sql("""
            SELECT o.capacity, o.registrations,
                   count(*) FILTER (WHERE r.status IN ('PENDING', 'CONFIRMED', 'ATTENDED')),
                   count(*) FILTER (WHERE r.status = 'WAITING_LIST'),
                   count(*) FILTER (WHERE r.status <> 'CANCELLED')
                   - count(DISTINCT r.user_id) FILTER (WHERE r.status <> 'CANCELLED')
              FROM occurrences o
              LEFT JOIN event_registrations r
                ON r.occurrence_id = o.id AND r.deleted_at IS NULL
             WHERE o.id = %s GROUP BY o.id""", occurrence)
        places = float("inf") if capacity is None else capacity
        wrong = {"the count differs from the rows": kept != held,
                 "more places are held than exist": held > places,
                 "a place is free and the waiting list is not empty": waits and held < places,
                 "a user is registered twice": people}
        return [what for what, is_wrong in wrong.items() if is_wrong]
    return find


# --- Promotion -----------------------------------------------------------------------------

@pytest.mark.parametrize("after", ["CANCELLED", "WAITING_LIST", "trashed"])
@pytest.mark.parametrize("before", HOLDING)
def test_freed_place_goes_to_first_of_waiting_list(api, queue, inconsistencies, before,
                                                   after):
    one, people = queue(5, capacity=2)
    updated(api, people[0], status=before)
    put(api, people[0], after)
    assert statuses(api, people[2:]) == ["CONFIRMED", "WAITING_LIST", "WAITING_LIST"]
    assert places_held(api, people[1]) == 2
    assert inconsistencies(one) == []


@pytest.mark.parametrize("after", HOLDING)
def test_change_between_holding_statuses_promotes_none(api, queue, after):
    _, people = queue(2, capacity=1)
    assert updated(api, people[0], status=after)["occurrence"]["registrations"] == 1
    assert waiting(api, people) == [1]


@pytest.mark.parametrize("after", ["CANCELLED", "trashed"])
def test_leaving_waiting_list_frees_no_place(api, queue, inconsistencies, after):
    one, people = queue(4, capacity=1)
    put(api, people[1], after)
    assert waiting(api, people[2:]) == [0, 1]
    put(api, people[0], "CANCELLED")
    assert statuses(api, people[2:]) == ["CONFIRMED", "WAITING_LIST"]
    assert inconsistencies(one) == []


def test_promotion_updates_status_time_and_entity_tag(api, queue):
    _, (first, second) = queue(2, capacity=1)
    before = get(api, second)
    updated(api, first, status="CANCELLED")
    after = get(api, second)
    assert after.json() == {**before.json(), "status": "CONFIRMED",
                            "updatedAt": after.json()["updatedAt"]}
    assert after.json()["updatedAt"] > before.json()["updatedAt"]
    assert after.headers["ETag"] != before.headers["ETag"]


def test_promotion_order_is_arrival_not_timestamps(api, sql, queue):
    _, people = queue(4, capacity=1)
    for n, registration in enumerate(people):
        sql("UPDATE event_registrations SET created_at = %s, updated_at = %s WHERE id = %s",
            f"2020-01-0{9 - n}", f"2020-01-0{9 - n}", registration["id"])
    for n in range(3):
        updated(api, people[n], status="CANCELLED")
        assert waiting(api, people) == list(range(n + 2, 4))


def test_holder_moved_to_waiting_list_goes_to_its_end(api, queue, inconsistencies):
    one, people = queue(3, capacity=1)
    answer = updated(api, people[0], status="WAITING_LIST")
    assert (answer["status"], answer["occurrence"]["registrations"]) == ("WAITING_LIST", 1)
    assert waiting(api, people) == [0, 2]
    updated(api, people[1], status="CANCELLED")
    assert waiting(api, people) == [0]
    updated(api, people[2], status="CANCELLED")
    assert waiting(api, people) == []
    assert inconsistencies(one) == []


@pytest.mark.parametrize("before", HOLDING)
def test_holder_moved_to_empty_waiting_list_gets_its_place_back(api, occurrence, before):
    registration = created(api, occurrence(capacity=1), status=before)
    answer = updated(api, registration, status="WAITING_LIST")
    assert (answer["status"], answer["occurrence"]["registrations"]) == ("CONFIRMED", 1)


def test_cancelled_registration_moved_to_waiting_list_goes_to_its_end(api, queue):
    _, people = queue(3, capacity=1)
    updated(api, people[1], status="CANCELLED")
    assert updated(api, people[1], status="WAITING_LIST")["status"] == "WAITING_LIST"
    updated(api, people[0], status="CANCELLED")
    assert waiting(api, people) == [1]


def version(api, registration):
    return int(re.match('"([0-9]+)-', get(api, registration).headers["ETag"])[1])


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("after", STATUSES)
@pytest.mark.parametrize("before", [*HOLDING, "CANCELLED"])
def test_status_change_increments_version_by_one(api, occurrence, before, after, is_full):
    """Also if it is put on the waiting list and promoted at once."""
    one = occurrence(capacity=1)
    registration = created(api, one, "first", status=before)
    neighbour = created(api, one, "second") if is_full else None
    versions = [version(api, of) for of in (registration, neighbour) if of]
    answer = update(api, registration, status=after)
    is_done = not (is_full and before == "CANCELLED" and after in HOLDING)
    assert answer.status_code == (200 if is_done else 409)
    is_promoted = is_full and before in HOLDING and after not in HOLDING
    raised = [is_done and after != before, is_promoted][:len(versions)]
    assert [version(api, of) for of in (registration, neighbour) if of] == [
        number + by for number, by in zip(versions, raised)]


def test_etag_after_immediate_promotion_allows_one_change(api, occurrence, at_once):
    """Of concurrent changes with that ETag one succeeds."""
    registration = created(api, occurrence(capacity=1))
    tag = update(api, registration, status="WAITING_LIST").headers["ETag"]
    assert get(api, registration).headers["ETag"] == tag
    answers = at_once(8, lambda n: update(api, registration, if_match=tag, fields={"n": n},
                                          status="WAITING_LIST").status_code)
    assert sorted(answers) == [200] + [412] * 7
    assert version(api, registration) == 3


def test_waiting_list_status_with_free_place_becomes_confirmed(api, occurrence):
    cancelled = created(api, occurrence(capacity=1), status="CANCELLED")
    assert updated(api, cancelled, status="WAITING_LIST")["status"] == "CONFIRMED"


def test_changed_waiting_registration_keeps_its_position(api, queue):
    _, people = queue(3, capacity=1)
    updated(api, people[1], fields={"a": 1}, status="WAITING_LIST")
    updated(api, people[0], status="CANCELLED")
    assert waiting(api, people) == [2]


# --- Capacity changed by an administrator --------------------------------------------------

@pytest.fixture
def set_capacity(sql):
    return lambda occurrence, capacity: sql(
        "UPDATE occurrences SET capacity = %s WHERE id = %s", capacity, occurrence)


@pytest.mark.parametrize("capacity, still_waiting", [
    (2, [2, 3, 4]), (4, [4]), (5, []), (100, []), (None, [])])
def test_raised_capacity_promotes_in_order(api, queue, set_capacity, inconsistencies,
                                           capacity, still_waiting):
    one, people = queue(5, capacity=1)
    set_capacity(one, capacity)
    assert waiting(api, people) == still_waiting
    shown = get(api, people[4]).json()["occurrence"]
    assert (shown["capacity"], shown["registrations"]) == (capacity, 5 - len(still_waiting))
    assert inconsistencies(one) == []


def test_capacity_raised_from_zero_promotes(api, queue, set_capacity):
    one, people = queue(2, capacity=0)
    assert waiting(api, people) == [0, 1]
    set_capacity(one, 1)
    assert waiting(api, people) == [1]


def test_capacity_raised_for_several_occurrences_promotes_in_each(api, sql, queue):
    first, second = queue(3, capacity=1), queue(3, capacity=2)
    sql("UPDATE occurrences SET capacity = capacity + 1 WHERE id IN (%s, %s)", first[0],
        second[0])
    assert waiting(api, first[1]) == [2]
    assert waiting(api, second[1]) == []


def test_capacity_lowered_below_places_held_revokes_none(api, queue, set_capacity):
    one, people = queue(4, capacity=3)
    set_capacity(one, 1)
    assert waiting(api, people) == [3]
    shown = get(api, people[0]).json()["occurrence"]
    assert (shown["capacity"], shown["registrations"]) == (1, 3)
    assert updated(api, people[0], status="ATTENDED")["status"] == "ATTENDED"


def test_lowered_capacity_gives_no_place_until_one_is_free(api, queue, set_capacity,
                                                           inconsistencies):
    one, people = queue(4, capacity=3)
    set_capacity(one, 1)
    assert created(api, one, "late")["status"] == "WAITING_LIST"
    for n, expected in enumerate([[3], [3], []]):
        updated(api, people[n], status="CANCELLED")
        assert waiting(api, people) == expected
        error(update(api, people[n], status="CONFIRMED"), 409, "Occurrence is full")
    assert inconsistencies(one) == []


def test_unlimited_capacity_confirms_all(api, queue, set_capacity):
    one, people = queue(1, capacity=1)
    set_capacity(one, None)
    assert [created(api, one, f"late {n}")["status"] for n in range(3)] == ["CONFIRMED"] * 3


def test_recount_reports_and_corrects_count(sql, queue, inconsistencies):
    one, _ = queue(3, capacity=2)
    sql("UPDATE occurrences SET registrations = 1 WHERE id = %s", one)
    assert inconsistencies(one)
    assert any(one in map(str, row) for row in sql("SELECT * FROM recount()"))
    assert inconsistencies(one) == []
    assert not any(one in map(str, row) for row in sql("SELECT * FROM recount()"))


# --- Races ---------------------------------------------------------------------------------

def race_for_the_last_place(api, one, at_once):
    return at_once(40, lambda n: create(api, one, f"user {n}").status_code)


def race_of_one_user(api, one, at_once):
    return at_once(40, lambda n: create(api, one, "the same").status_code)


def race_to_confirm_cancelled(api, one, at_once):
    people = [created(api, one, f"user {n}", status="CANCELLED") for n in range(40)]
    return at_once(40, lambda n: update(api, people[n], status="CONFIRMED").status_code)


def race_of_cancelling_and_registering(api, one, at_once):
    people = [created(api, one, f"user {n}") for n in range(10)]

    def cancel_or_register(n):
        if n < 10:
            return update(api, people[n], status="CANCELLED").status_code
        return create(api, one, f"late {n}").status_code
    return at_once(40, cancel_or_register)


def race_of_deletes(api, one, at_once):
    people = [created(api, one, f"user {n}") for n in range(3)]
    return at_once(40, lambda n: delete(api, people[n % 2]).status_code)


def race_of_one_version(api, one, at_once):
    registration = created(api, one, new_uuid())
    tag = get(api, registration).headers["ETag"]
    return at_once(40, lambda n: update(api, registration, if_match=tag,
                                        fields={"n": n}).status_code)


def test_last_place_goes_to_one_of_concurrent_requests(api, occurrence, at_once,
                                                       inconsistencies):
    one = occurrence(capacity=1)
    assert race_for_the_last_place(api, one, at_once) == [201] * 40
    assert places_held(api, created(api, one, "late")) == 1
    assert inconsistencies(one) == []


def test_last_place_without_waiting_list_goes_to_one_of_concurrent_requests(
        api, occurrence, at_once, inconsistencies):
    one = occurrence(capacity=1, waiting_list=False)
    assert sorted(race_for_the_last_place(api, one, at_once)) == [201] + [409] * 39
    assert inconsistencies(one) == []


def test_concurrent_requests_of_one_user_register_once(api, occurrence, at_once,
                                                       inconsistencies):
    one = occurrence()
    assert sorted(race_of_one_user(api, one, at_once)) == [201] + [409] * 39
    assert inconsistencies(one) == []


def test_last_place_goes_to_one_of_concurrent_confirmations(api, occurrence, at_once,
                                                            inconsistencies):
    one = occurrence(capacity=1)
    assert sorted(race_to_confirm_cancelled(api, one, at_once)) == [200] + [409] * 39
    assert inconsistencies(one) == []


def test_concurrent_deletes_succeed_once(api, occurrence, at_once, inconsistencies):
    one = occurrence(capacity=2)
    assert sorted(race_of_deletes(api, one, at_once)) == [200] * 2 + [404] * 38
    assert inconsistencies(one) == []


def test_concurrent_updates_with_one_etag_succeed_once(api, occurrence, at_once):
    assert sorted(race_of_one_version(api, occurrence(), at_once)) == [200] + [412] * 39


def test_concurrent_cancellations_and_registrations_fill_all_places(
        api, occurrence, at_once, inconsistencies):
    one = occurrence(capacity=10)
    statuses = race_of_cancelling_and_registering(api, one, at_once)
    assert sorted(statuses) == [200] * 10 + [201] * 30
    assert places_held(api, created(api, one, "last")) == 10
    assert inconsistencies(one) == []


def test_concurrent_confirmations_of_one_user_succeed_once(api, occurrence, at_once,
                                                           inconsistencies):
    one = occurrence()
    people = [created(api, one, "the same", status="CANCELLED") for _ in range(20)]
    statuses = at_once(20, lambda n: update(api, people[n], status="PENDING").status_code)
    assert sorted(statuses) == [200] + [409] * 19
    assert inconsistencies(one) == []


def test_concurrent_registrations_create_new_user_once(api, event, occurrence, at_once):
    one = event()
    occurrences = [occurrence(event_id=one) for _ in range(40)]
    user = new_uuid()
    answers = at_once(40, lambda n: create(api, occurrences[n], user))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["user"]["id"] for answer in answers}) == 1


def test_capacity_raised_during_registrations_is_filled(api, postgres, occurrence, at_once,
                                                        inconsistencies):
    one = occurrence(capacity=0)
    connection = postgres.connect()

    def register_or_add(n):
        if n > 0:
            return create(api, one, f"user {n}").status_code
        for capacity in range(1, 31):
            connection.cursor().execute(
                "UPDATE registration.occurrences SET capacity = %s WHERE id = %s",
                (capacity, one))
        return 201
    assert set(at_once(41, register_or_add)) == {201}
    connection.close()
    assert places_held(api, created(api, one, "last")) == 30
    assert inconsistencies(one) == []


def test_random_concurrent_changes_stay_consistent(api, occurrence, at_once,
                                                   inconsistencies):
    """On two occurrences, so that deadlocks would show too."""
    both = [occurrence(capacity=5), occurrence(capacity=5)]
    people = [[created(api, one, f"user {n}") for n in range(10)] for one in both]

    def change(n):
        chance = random.Random(n)
        answers = []
        for _ in range(5):
            registration = chance.choice(chance.choice(people))
            answers.append(
                create(api, chance.choice(both), f"late {n}") if chance.random() < 0.2 else
                delete(api, registration) if chance.random() < 0.1 else
                update(api, registration, status=chance.choice(STATUSES)))
        return {answer.status_code for answer in answers}
    assert set.union(*at_once(40, change)) <= {200, 201, 404, 409}
    assert [inconsistencies(one) for one in both] == [[], []]


# --- Negative controls ---------------------------------------------------------------------

@pytest.fixture
def unguarded(api, sql, occurrence, at_once, expect_log):
    """An occurrence with five places. The operations do not lock occurrences and no unique
    index prevents duplicates. Each change pauses, so that races are likely."""
    # A lost update may make a count negative; the pauses may exceed a lock timeout.
    expect_log("occurrences_registrations", "canceling statement due to lock timeout")
    names = ["events_create", "events_update", "events_lock", "events_promote"]
    functions = [sql("SELECT pg_get_functiondef(%s::regproc)", name)[0][0] for name in names]
    index = sql("SELECT pg_get_indexdef('event_registrations_one_per_user'::regclass)")[0][0]
    one, other = occurrence(capacity=5), occurrence(capacity=5)

    def register_and_delete(n):
        registration = created(api, other, f"user {n}")
        update(api, registration, status="CANCELLED")
        delete(api, registration)
    try:
        sql("DROP INDEX event_registrations_one_per_user")
        for function in functions:
            unlocked = function.replace("FOR NO KEY UPDATE;", "; PERFORM pg_sleep(0.01);")
            assert unlocked != function
            sql(unlocked.replace("ON CONFLICT DO NOTHING", ""))
        sql("CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END';"
            "CREATE TRIGGER pause BEFORE INSERT OR UPDATE ON event_registrations"
            " FOR EACH ROW EXECUTE FUNCTION pause()")
        # Each connection compiles the functions, which takes longer than the pause.
        at_once(20, register_and_delete)
        yield one
    finally:
        sql("DROP FUNCTION IF EXISTS pause CASCADE")
        for function in functions:
            sql(function)
        empty(sql, one)
        empty(sql, other)
        sql(index)


@pytest.mark.parametrize("race, fault", [
    (race_for_the_last_place, "more places are held than exist"),
    (race_of_one_user, "a user is registered twice"),
    (race_to_confirm_cancelled, "more places are held than exist"),
    (race_of_cancelling_and_registering, "the count differs from the rows"),
    (race_of_deletes, "the count differs from the rows")])
def test_control_without_locks_check_finds_inconsistency(api, sql, unguarded, at_once,
                                                         inconsistencies, race, fault):
    found = []
    for _ in range(20):   # On a busy machine some races do no harm.
        race(api, unguarded, at_once)
        found += inconsistencies(unguarded)
        if found:
            break
        empty(sql, unguarded)
    assert fault in found


def test_control_without_locks_concurrent_updates_succeed_twice(
        client, token, start_httpd, unguarded, at_once, expect_log):
    """Without batching: changes of one registration are in one batch, or in turns."""
    expect_log("violates check constraint \"occurrences_registrations\"")
    one_by_one = client(token, start_httpd(inside="RegistrationBatchSize 1"))
    assert any(race_of_one_version(one_by_one, unguarded, at_once).count(200) > 1
               for _ in range(20))
