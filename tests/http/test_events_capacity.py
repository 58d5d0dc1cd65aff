# SPDX-License-Identifier: Apache-2.0
"""Places and the waiting list of an occurrence: never one too many, never one too few.

The races have negative controls: with the locks taken out of the operations, the check that
they end with must find fault, or it proves nothing.
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
    """Tries again when httpd closes a kept connection just when it is used again, as it may:
    after a burst it ends some of its processes."""
    again = urllib3.Retry(3, allowed_methods=None)
    api.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=64, max_retries=again))
    return api


@pytest.fixture
def queue(api, occurrence):
    """queue(5, capacity=2): an occurrence and the registrations of five, two of whom hold."""
    def make(count, capacity, **options):
        one = occurrence(capacity=capacity, **options)
        return one, [created(api, one, f"user {n}") for n in range(count)]
    return make


def statuses(api, registrations):
    return [status_of(api, registration) for registration in registrations]


def waiting(api, registrations):
    """Which of them wait, by index."""
    return [n for n, status in enumerate(statuses(api, registrations))
            if status == "WAITING_LIST"]


def put(api, registration, status):
    if status == "trashed":
        assert delete(api, registration).status_code == 200
    else:
        updated(api, registration, status=status)


@pytest.fixture
def faults(sql):
    """faults(occurrence): what is wrong with its places."""
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
        wrong = {"the count does not fit the rows": kept != held,
                 "more places are held than there are": held > places,
                 "somebody waits while a place is free": waits and held < places,
                 "somebody is registered twice": people}
        return [what for what, is_wrong in wrong.items() if is_wrong]
    return find


# --- Promotion -----------------------------------------------------------------------------

@pytest.mark.parametrize("after", ["CANCELLED", "WAITING_LIST", "trashed"])
@pytest.mark.parametrize("before", HOLDING)
def test_a_place_given_up_goes_to_the_first_in_the_list(api, queue, faults, before, after):
    one, people = queue(5, capacity=2)
    updated(api, people[0], status=before)
    put(api, people[0], after)
    assert statuses(api, people[2:]) == ["CONFIRMED", "WAITING_LIST", "WAITING_LIST"]
    assert places_held(api, people[1]) == 2
    assert faults(one) == []


@pytest.mark.parametrize("after", HOLDING)
def test_while_a_place_is_kept_nobody_is_promoted(api, queue, after):
    _, people = queue(2, capacity=1)
    assert updated(api, people[0], status=after)["occurrence"]["registrations"] == 1
    assert waiting(api, people) == [1]


@pytest.mark.parametrize("after", ["CANCELLED", "trashed"])
def test_who_leaves_the_list_frees_no_place(api, queue, faults, after):
    one, people = queue(4, capacity=1)
    put(api, people[1], after)
    assert waiting(api, people[2:]) == [0, 1]
    put(api, people[0], "CANCELLED")
    assert statuses(api, people[2:]) == ["CONFIRMED", "WAITING_LIST"]
    assert faults(one) == []


def test_the_promoted_one_is_changed_like_any_other(api, queue):
    _, (first, second) = queue(2, capacity=1)
    before = get(api, second)
    updated(api, first, status="CANCELLED")
    after = get(api, second)
    assert after.json() == {**before.json(), "status": "CONFIRMED",
                            "updatedAt": after.json()["updatedAt"]}
    assert after.json()["updatedAt"] > before.json()["updatedAt"]
    assert after.headers["ETag"] != before.headers["ETag"]


def test_the_order_is_that_of_arrival_not_of_any_time(api, sql, queue):
    _, people = queue(4, capacity=1)
    for n, registration in enumerate(people):
        sql("UPDATE event_registrations SET created_at = %s, updated_at = %s WHERE id = %s",
            f"2020-01-0{9 - n}", f"2020-01-0{9 - n}", registration["id"])
    for n in range(3):
        updated(api, people[n], status="CANCELLED")
        assert waiting(api, people) == list(range(n + 2, 4))


def test_a_seat_holder_put_on_the_list_goes_to_its_end(api, queue, faults):
    one, people = queue(3, capacity=1)
    answer = updated(api, people[0], status="WAITING_LIST")
    assert (answer["status"], answer["occurrence"]["registrations"]) == ("WAITING_LIST", 1)
    assert waiting(api, people) == [0, 2]
    updated(api, people[1], status="CANCELLED")
    assert waiting(api, people) == [0]
    updated(api, people[2], status="CANCELLED")
    assert waiting(api, people) == []
    assert faults(one) == []


@pytest.mark.parametrize("before", HOLDING)
def test_when_nobody_else_waits_its_place_comes_back(api, occurrence, before):
    registration = created(api, occurrence(capacity=1), status=before)
    answer = updated(api, registration, status="WAITING_LIST")
    assert (answer["status"], answer["occurrence"]["registrations"]) == ("CONFIRMED", 1)


def test_a_cancelled_one_put_on_the_list_goes_to_its_end(api, queue):
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
def test_a_change_of_status_raises_the_version_by_one(api, occurrence, before, after, is_full):
    """Also of one that is put on the waiting list and gets a place from it at once."""
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


def test_the_etag_of_a_place_that_came_back_holds_for_one_more_change(api, occurrence, at_once):
    """Of many changes with that ETag, one is made."""
    registration = created(api, occurrence(capacity=1))
    tag = update(api, registration, status="WAITING_LIST").headers["ETag"]
    assert get(api, registration).headers["ETag"] == tag
    answers = at_once(8, lambda n: update(api, registration, if_match=tag, fields={"n": n},
                                          status="WAITING_LIST").status_code)
    assert sorted(answers) == [200] + [412] * 7
    assert version(api, registration) == 3


def test_nobody_waits_while_a_place_is_free(api, occurrence):
    cancelled = created(api, occurrence(capacity=1), status="CANCELLED")
    assert updated(api, cancelled, status="WAITING_LIST")["status"] == "CONFIRMED"


def test_who_waits_keeps_the_place_in_the_list_when_changed(api, queue):
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
def test_raised_it_promotes_in_order(api, queue, set_capacity, faults, capacity,
                                     still_waiting):
    one, people = queue(5, capacity=1)
    set_capacity(one, capacity)
    assert waiting(api, people) == still_waiting
    shown = get(api, people[4]).json()["occurrence"]
    assert (shown["capacity"], shown["registrations"]) == (capacity, 5 - len(still_waiting))
    assert faults(one) == []


def test_raised_from_nothing(api, queue, set_capacity):
    one, people = queue(2, capacity=0)
    assert waiting(api, people) == [0, 1]
    set_capacity(one, 1)
    assert waiting(api, people) == [1]


def test_raised_for_several_occurrences_in_one_statement(api, sql, queue):
    first, second = queue(3, capacity=1), queue(3, capacity=2)
    sql("UPDATE occurrences SET capacity = capacity + 1 WHERE id IN (%s, %s)", first[0],
        second[0])
    assert waiting(api, first[1]) == [2]
    assert waiting(api, second[1]) == []


def test_lowered_below_the_places_held_nobody_loses_one(api, queue, set_capacity):
    one, people = queue(4, capacity=3)
    set_capacity(one, 1)
    assert waiting(api, people) == [3]
    shown = get(api, people[0]).json()["occurrence"]
    assert (shown["capacity"], shown["registrations"]) == (1, 3)
    assert updated(api, people[0], status="ATTENDED")["status"] == "ATTENDED"


def test_lowered_none_is_given_until_one_is_free(api, queue, set_capacity, faults):
    one, people = queue(4, capacity=3)
    set_capacity(one, 1)
    assert created(api, one, "late")["status"] == "WAITING_LIST"
    for n, expected in enumerate([[3], [3], []]):
        updated(api, people[n], status="CANCELLED")
        assert waiting(api, people) == expected
        error(update(api, people[n], status="CONFIRMED"), 409, "Occurrence is full")
    assert faults(one) == []


def test_made_unlimited_everybody_gets_a_place(api, queue, set_capacity):
    one, people = queue(1, capacity=1)
    set_capacity(one, None)
    assert [created(api, one, f"late {n}")["status"] for n in range(3)] == ["CONFIRMED"] * 3


def test_recount_reports_and_mends_a_wrong_count(sql, queue, faults):
    one, _ = queue(3, capacity=2)
    sql("UPDATE occurrences SET registrations = 1 WHERE id = %s", one)
    assert faults(one)
    assert any(one in map(str, row) for row in sql("SELECT * FROM recount()"))
    assert faults(one) == []
    assert not any(one in map(str, row) for row in sql("SELECT * FROM recount()"))


# --- Races ---------------------------------------------------------------------------------

def race_for_the_last_place(api, one, at_once):
    return at_once(40, lambda n: create(api, one, f"user {n}").status_code)


def race_of_one_user(api, one, at_once):
    return at_once(40, lambda n: create(api, one, "the same").status_code)


def race_back_from_cancelled(api, one, at_once):
    people = [created(api, one, f"user {n}", status="CANCELLED") for n in range(40)]
    return at_once(40, lambda n: update(api, people[n], status="CONFIRMED").status_code)


def race_of_leaving_and_coming(api, one, at_once):
    people = [created(api, one, f"user {n}") for n in range(10)]

    def leave_or_come(n):
        if n < 10:
            return update(api, people[n], status="CANCELLED").status_code
        return create(api, one, f"late {n}").status_code
    return at_once(40, leave_or_come)


def race_of_deletes(api, one, at_once):
    people = [created(api, one, f"user {n}") for n in range(3)]
    return at_once(40, lambda n: delete(api, people[n % 2]).status_code)


def race_of_one_version(api, one, at_once):
    registration = created(api, one, new_uuid())
    tag = get(api, registration).headers["ETag"]
    return at_once(40, lambda n: update(api, registration, if_match=tag,
                                        fields={"n": n}).status_code)


def test_of_forty_one_gets_the_last_place(api, occurrence, at_once, faults):
    one = occurrence(capacity=1)
    assert race_for_the_last_place(api, one, at_once) == [201] * 40
    assert places_held(api, created(api, one, "late")) == 1
    assert faults(one) == []


def test_of_forty_one_gets_the_last_place_without_a_waiting_list(api, occurrence, at_once,
                                                                 faults):
    one = occurrence(capacity=1, waiting_list=False)
    assert sorted(race_for_the_last_place(api, one, at_once)) == [201] + [409] * 39
    assert faults(one) == []


def test_forty_times_at_once_one_user_is_registered_once(api, occurrence, at_once, faults):
    one = occurrence()
    assert sorted(race_of_one_user(api, one, at_once)) == [201] + [409] * 39
    assert faults(one) == []


def test_of_forty_cancelled_ones_one_gets_the_last_place(api, occurrence, at_once, faults):
    one = occurrence(capacity=1)
    assert sorted(race_back_from_cancelled(api, one, at_once)) == [200] + [409] * 39
    assert faults(one) == []


def test_forty_times_at_once_each_is_deleted_once(api, occurrence, at_once, faults):
    one = occurrence(capacity=2)
    assert sorted(race_of_deletes(api, one, at_once)) == [200] * 2 + [404] * 38
    assert faults(one) == []


def test_of_forty_who_saw_the_same_version_one_changes_it(api, occurrence, at_once):
    assert sorted(race_of_one_version(api, occurrence(), at_once)) == [200] + [412] * 39


def test_while_ten_leave_and_thirty_come_every_place_is_taken(api, occurrence, at_once,
                                                              faults):
    one = occurrence(capacity=10)
    assert sorted(race_of_leaving_and_coming(api, one, at_once)) == [200] * 10 + [201] * 30
    assert places_held(api, created(api, one, "last")) == 10
    assert faults(one) == []


def test_a_user_s_cancelled_registrations_come_back_once(api, occurrence, at_once, faults):
    one = occurrence()
    people = [created(api, one, "the same", status="CANCELLED") for _ in range(20)]
    statuses = at_once(20, lambda n: update(api, people[n], status="PENDING").status_code)
    assert sorted(statuses) == [200] + [409] * 19
    assert faults(one) == []


def test_one_new_user_in_forty_occurrences_at_once_is_made_once(api, event, occurrence,
                                                                at_once):
    one = event()
    occurrences = [occurrence(event_id=one) for _ in range(40)]
    user = new_uuid()
    answers = at_once(40, lambda n: create(api, occurrences[n], user))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["user"]["id"] for answer in answers}) == 1


def test_while_an_administrator_adds_places_none_is_lost(api, postgres, occurrence, at_once,
                                                         faults):
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
    assert faults(one) == []


def test_whatever_forty_do_at_once_places_and_list_fit(api, occurrence, at_once, faults):
    """Changes of any kind, on two occurrences, so that deadlocks would show too."""
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
    assert [faults(one) for one in both] == [[], []]


# --- Negative controls ---------------------------------------------------------------------

@pytest.fixture
def unguarded(api, sql, occurrence, at_once, expect_log):
    """An occurrence with five places, while the operations do not lock occurrences, nor a
    unique index watches who is registered. Each change pauses, so that what can go wrong
    does."""
    # A lost count may also fall below zero; and the pauses are long for who waits.
    expect_log("occurrences_registrations", "canceling statement due to lock timeout")
    names = ["events_create", "events_update", "events_delete", "events_promote"]
    functions = [sql("SELECT pg_get_functiondef(%s::regproc)", name)[0][0] for name in names]
    index = sql("SELECT pg_get_indexdef('event_registrations_one_per_user'::regclass)")[0][0]
    one, other = occurrence(capacity=5), occurrence(capacity=5)

    def come_and_go(n):
        registration = created(api, other, f"user {n}")
        update(api, registration, status="CANCELLED")
        delete(api, registration)
    try:
        sql("DROP INDEX event_registrations_one_per_user")
        for function in functions:
            unlocked = function.replace("FOR NO KEY UPDATE;", "; PERFORM pg_sleep(0.01);")
            assert unlocked != function
            sql(re.sub(r"ON CONFLICT .*?DO NOTHING", "", unlocked, flags=re.DOTALL))
        sql("CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END';"
            "CREATE TRIGGER pause BEFORE INSERT OR UPDATE ON event_registrations"
            " FOR EACH ROW EXECUTE FUNCTION pause()")
        # Compiling them takes each connection longer than the pause.
        at_once(20, come_and_go)
        yield one
    finally:
        sql("DROP FUNCTION IF EXISTS pause CASCADE")
        for function in functions:
            sql(function)
        empty(sql, one)
        empty(sql, other)
        sql(index)


@pytest.mark.parametrize("race, fault", [
    (race_for_the_last_place, "more places are held than there are"),
    (race_of_one_user, "somebody is registered twice"),
    (race_back_from_cancelled, "more places are held than there are"),
    (race_of_leaving_and_coming, "the count does not fit the rows"),
    (race_of_deletes, "the count does not fit the rows")])
def test_without_the_guards_the_check_finds_fault(api, sql, unguarded, at_once, faults,
                                                  race, fault):
    found = []
    for _ in range(20):   # On a busy machine a race may happen to go well.
        race(api, unguarded, at_once)
        found += faults(unguarded)
        if found:
            break
        empty(sql, unguarded)
    assert fault in found


def test_without_the_guards_several_change_the_same_version(api, unguarded, at_once,
                                                            expect_log):
    expect_log("violates check constraint \"occurrences_registrations\"")
    assert any(race_of_one_version(api, unguarded, at_once).count(200) > 1 for _ in range(20))
