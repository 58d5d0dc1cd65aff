# SPDX-License-Identifier: Apache-2.0
"""Requests for event registrations that one call of an operation serves.

The tests call the functions of the schema, so that the requests of a batch are known.
"""

import concurrent.futures
import contextlib
import datetime
import json
import time
import uuid

import pytest

import servers
from conftest import new_uuid
from event_registrations import created, get, updated


def new_id(moment=None):
    """A UUID of version 7."""
    milliseconds = int((moment or time.time()) * 1000)
    number = milliseconds << 80 | 7 << 76 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1
    return str(uuid.UUID(int=number))


@pytest.fixture
def register(sql):
    """register((occurrence, user), ...): for each request its outcome, the status of the
    registration, and the count in the answer."""
    def run(*requests, ids=None):
        ids = ids or [new_id() for _ in requests]
        unused = [None] * len(requests)
        rows = sql("SELECT r.outcome, r.body::json ->> 'status',"
                   " (r.body::json -> 'occurrence' ->> 'registrations')::integer"
                   " FROM events_create(%s::uuid[], %s::uuid[], %s::text[], %s::jsonb[],"
                   " %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::uuid[],"
                   " %s::text[], %s::text[]) AS r ORDER BY r.item",
                   ids, [one for one, _ in requests], [user for _, user in requests], unused,
                   [new_uuid() for _ in requests], *[unused] * 7)
        assert len(rows) == len(requests)
        return rows
    return run


def users_named(sql, prefix):
    return [name for name, in sql("SELECT external_id FROM event_users WHERE external_id"
                                  " LIKE %s ORDER BY external_id", f"{prefix}%")]


def test_last_places_and_waiting_list_go_to_requests_in_order(register, sql, occurrence):
    one, name = occurrence(capacity=2), new_uuid()
    assert register(*((one, f"{name} {n}") for n in (4, 3, 2, 1))) == [
        ("created", "CONFIRMED", 2)] * 2 + [("created", "WAITING_LIST", 2)] * 2
    assert [user for user, in sql(
        "SELECT right(u.external_id, 1) FROM event_registrations AS r JOIN event_users AS u"
        " ON u.id = r.user_id WHERE r.occurrence_id = %s ORDER BY r.waiting_number", one)
        ][:2] == ["2", "1"]


@pytest.mark.parametrize("capacity", [4, 3], ids=["places left", "the last places"])
def test_duplicates_in_batch_take_no_place(register, sql, occurrence, capacity):
    one, name = occurrence(capacity=capacity), new_uuid()
    register((one, f"{name} 1"))
    assert register(*((one, f"{name} {n}") for n in (1, 2, 2, 3))) == [
        ("duplicate", None, None), ("created", "CONFIRMED", 3), ("duplicate", None, None),
        ("created", "CONFIRMED", 3)]
    assert sql("SELECT registrations FROM occurrences WHERE id = %s", one) == [(3,)]
    assert sql("SELECT * FROM recount()") == []


def test_limit_of_places_removed_meanwhile_gives_place(register, postgres, occurrence):
    one, name = occurrence(capacity=1), new_uuid()
    register((one, f"{name} 1"))
    with contextlib.closing(postgres.connect()) as changing, \
            contextlib.closing(postgres.connect()) as watching, \
            concurrent.futures.ThreadPoolExecutor() as pool:
        changing.autocommit = False
        changing.cursor().execute(
            "UPDATE registration.occurrences SET capacity = NULL WHERE id = %s", (one,))
        rows = pool.submit(register, (one, f"{name} 2"))

        def waits():
            with watching.cursor() as cursor:
                cursor.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                return cursor.rowcount
        servers.wait_until(waits, 10, "the call does not wait")
        changing.commit()
        assert rows.result() == [("created", "CONFIRMED", 2)]


@pytest.mark.parametrize("capacity", [9, 1], ids=["places left", "full"])
def test_repeated_batch_gets_its_answers_again(register, sql, occurrence, capacity):
    one, name, ids = occurrence(capacity=capacity), new_uuid(), [new_id(), new_id()]
    requests = [(one, f"{name} {n}") for n in range(2)]
    assert register(*requests, ids=ids) == register(*requests, ids=ids)
    assert sql("SELECT count(*) FROM event_registrations WHERE occurrence_id = %s", one) == [(2,)]
    assert sql("SELECT count(*) FROM audit WHERE belongs_to = %s", one) == [(2,)]
    assert sql("SELECT * FROM recount()") == []


def test_new_user_of_several_requests_is_created_once(register, sql, occurrence):
    places, name = [occurrence(), occurrence()], new_uuid()
    assert [row[:2] for row in register(*((one, name) for one in places))] == [
        ("created", "CONFIRMED")] * 2
    assert users_named(sql, name) == [name]


@pytest.mark.parametrize("capacity", [1, 0])
def test_refused_request_creates_no_user(register, sql, occurrence, capacity):
    one, name = occurrence(capacity=capacity, waiting_list=False), new_uuid()
    outcomes = [row[0] for row in register((one, f"{name} 1"), (one, f"{name} 2"),
                                           (new_uuid(), f"{name} 3"))]
    assert outcomes == ["created"] * capacity + ["full"] * (2 - capacity) + ["not_found"]
    assert users_named(sql, name) == [f"{name} 1"] * capacity


def test_control_kept_user_of_refused_request_is_detected(register, sql, occurrence,
                                                          changed_functions):
    with changed_functions(("events_create", "IF created_users <> '{}' THEN", "IF false THEN")), \
            pytest.raises(AssertionError):
        test_refused_request_creates_no_user(register, sql, occurrence, 1)


def change(sql, *requests):
    """Each request is a registration and a patch of its fields; the outcomes."""
    unused = [None] * len(requests)
    return [outcome for outcome, in sql(
        "SELECT r.outcome FROM events_update(%s::uuid[], %s::text[], %s::jsonb[], %s::text[],"
        " %s::uuid[], %s::uuid[], %s::text[], %s::text[]) AS r ORDER BY r.item",
        [one["id"] for one, _ in requests], unused,
        [json.dumps(patch) for _, patch in requests], unused, unused,
        [new_uuid() for _ in requests], unused, unused)]


def test_all_changes_of_batch_are_made(api, sql, occurrence):
    first, second = (created(api, occurrence(), new_uuid(), fields={"a": 1, "b": {"c": 1}})
                     for _ in range(2))
    assert change(sql, (first, {"a": 2}), (second, {"a": 3}), (second, {"d": 4}),
                  (first, {"b": {"e": 5}, "a": None})) == ["updated"] * 4
    assert get(api, first).json()["fields"] == {"b": {"c": 1, "e": 5}}
    assert get(api, second).json()["fields"] == {"a": 3, "b": {"c": 1}, "d": 4}
    assert sql("SELECT version FROM event_registrations WHERE id = ANY (%s::uuid[])",
               [first["id"], second["id"]]) == [(3,)] * 2
    assert sql("SELECT count(*) FROM audit WHERE action = 'changed' AND id = ANY (%s)",
               [first["id"], second["id"]]) == [(4,)]


# --- Times of creation -----------------------------------------------------------------------

def test_time_of_creation_is_that_in_id(api, register, sql, occurrence):
    one = created(api, occurrence(), new_uuid())
    milliseconds = uuid.UUID(one["id"]).int >> 80
    moment = datetime.datetime.fromisoformat(one["createdAt"].replace("Z", "+00:00"))
    assert moment.timestamp() * 1000 == pytest.approx(milliseconds, abs=0.1)
    assert one["updatedAt"] == one["createdAt"]


def test_update_of_registration_from_fast_clock_is_not_before_creation(api, register, sql,
                                                                       occurrence):
    id = new_id(time.time() + 3600)
    register((occurrence(), new_uuid()), ids=[id])
    one = get(api, {"id": id}).json()
    assert updated(api, one, fields={"a": 1})["updatedAt"] >= one["createdAt"]
    assert updated(api, one, status="CANCELLED")["updatedAt"] >= one["createdAt"]
