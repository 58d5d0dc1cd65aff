# SPDX-License-Identifier: Apache-2.0
"""PUT of an event registration: what changes, what is refused, whom If-Match lets through."""

import functools

import pytest

from event_registrations import (HOLDING, MOUNT, NO_OBJECT, STATUSES, UNKNOWN, check_keys,
                                 created, delete, error, get, path, places_held, send,
                                 status_of, update, updated)


# --- What changes --------------------------------------------------------------------------

def test_the_page_s_example(api, occurrence):
    registration = created(api, occurrence(), fields={"email": "john@example.com"})
    answer = update(api, registration, status="ATTENDED",
                    fields={"ticketType": "VIP", "notes": "Arrived early"})
    assert answer.status_code == 200
    changed = answer.json()
    check_keys(changed)
    assert changed["updatedAt"] > registration["updatedAt"]
    assert changed == {**registration, "status": "ATTENDED", "updatedAt": changed["updatedAt"],
                       "fields": {"email": "john@example.com", "ticketType": "VIP",
                                  "notes": "Arrived early"}}


def test_what_was_changed_is_what_one_gets(api, occurrence):
    registration = created(api, occurrence())
    answer = update(api, registration, status="PENDING", fields={"a": 1})
    again = get(api, registration)
    assert again.json() == answer.json()
    assert again.headers["ETag"] == answer.headers["ETag"]


@pytest.mark.parametrize("before", HOLDING)
@pytest.mark.parametrize("after", STATUSES)
def test_every_status_leads_to_every_other(api, occurrence, before, after):
    registration = created(api, occurrence(), status=before)
    changed = updated(api, registration, status=after)
    # Nobody else waits and there is room, so who is put on the list is given a place again.
    assert changed["status"] == ("CONFIRMED" if after == "WAITING_LIST" else after)
    assert changed["occurrence"]["registrations"] == (after != "CANCELLED")


def test_either_alone_leaves_the_other(api, occurrence):
    registration = created(api, occurrence(), fields={"a": 1})
    assert updated(api, registration, status="ATTENDED")["fields"] == {"a": 1}
    assert updated(api, registration, fields={"b": 2})["status"] == "ATTENDED"


@pytest.mark.parametrize("change", [{}, {"fields": {}}, {"status": "CONFIRMED"},
                                    {"fields": {"a": 1, "b": None}}, {"x": 1}], ids=str)
def test_what_changes_nothing_leaves_even_the_version(api, occurrence, change):
    registration = created(api, occurrence(), fields={"a": 1})
    tag = get(api, registration).headers["ETag"]
    answer = update(api, registration, **change)
    assert answer.json() == registration
    assert answer.headers["ETag"] == tag


def test_anything_else_in_the_body_is_ignored(api, occurrence):
    registration = created(api, occurrence())
    changed = updated(api, registration, id=UNKNOWN, occurrenceId=UNKNOWN, user=None,
                      externalUserId="another", deletedAt="now", createdAt=None,
                      occurrence={"registrations": 99}, fields={"a": 1})
    assert changed == {**registration, "fields": {"a": 1}, "updatedAt": changed["updatedAt"]}


# --- fields are merged (RFC 7396) ----------------------------------------------------------

# Its appendix A: original, patch, result.
APPENDIX = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize("original, patch, result", APPENDIX, ids=str)
def test_fields_are_merged_as_the_rfc_s_appendix_does(api, occurrence, original, patch,
                                                      result):
    """One level down, as fields itself is always an object; there null removes the key."""
    registration = created(api, occurrence(), fields={"it": original, "kept": [None]})
    fields = updated(api, registration, fields={"it": patch})["fields"]
    assert fields == {"kept": [None], **({} if result is None else {"it": result})}


@pytest.mark.parametrize("original, patch, result", [
    case for case in APPENDIX if all(isinstance(value, dict) for value in case)], ids=str)
def test_fields_itself_is_merged_likewise(api, occurrence, original, patch, result):
    registration = created(api, occurrence(), fields=original)
    assert updated(api, registration, fields=patch)["fields"] == result


def test_nulls_in_arrays_and_in_what_was_stored_stay(api, occurrence):
    stored = {"a": None, "b": {"c": None, "d": [{"e": None}]}}
    registration = created(api, occurrence(), fields=stored)
    fields = updated(api, registration, fields={"f": [None, {"g": None}]})["fields"]
    assert fields == {**stored, "f": [None, {"g": None}]}


def test_keys_that_look_like_anything_else_are_merged_literally(api, occurrence):
    keys = {"": 1, "a.b": 2, "{a}": 3, "0": 4, "é": 5, "'": 6, '"': 7, "\\": 8, "\n": 9}
    registration = created(api, occurrence(), fields=keys)
    change = {key: (None if value % 2 else {"was": value}) for key, value in keys.items()}
    assert updated(api, registration, fields=change)["fields"] == {
        key: {"was": value} for key, value in keys.items() if value % 2 == 0}


def test_many_keys_and_deep_ones_are_merged(api, occurrence):
    registration = created(api, occurrence(), fields={f"key {n}": n for n in range(500)})
    nested = lambda inner: functools.reduce(lambda value, _: {"deep": value}, range(97), inner)
    change = {**{f"key {n}": None for n in range(1, 500)}, **nested({"a": 1, "b": None})}
    assert updated(api, registration, fields=change)["fields"] == {
        "key 0": 0, **nested({"a": 1})}
    assert updated(api, registration, fields=nested({"c": {}, "a": None}))["fields"] == {
        "key 0": 0, **nested({"c": {}})}


# --- What is refused -----------------------------------------------------------------------

@pytest.mark.parametrize("change, fields", [
    ({"status": "confirmed"}, {"status"}), ({"status": "DELETED"}, {"status"}),
    ({"status": ""}, {"status"}), ({"status": None}, {"status"}), ({"status": 1}, {"status"}),
    ({"status": ["PENDING"]}, {"status"}), ({"fields": None}, {"fields"}),
    ({"fields": []}, {"fields"}), ({"fields": "x"}, {"fields"}),
    ({"status": "x", "fields": 1}, {"status", "fields"})], ids=str)
def test_a_wrong_field_is_named(api, change, fields):
    # No such registration: that is found out only when all fields are right.
    assert set(error(api.put(f"{MOUNT}/{UNKNOWN}", json=change), 400)) == fields


def test_the_id_and_wrong_fields_are_named_at_once(api):
    answer = api.put(f"{MOUNT}/x", json={"status": "x", "fields": 1})
    assert set(error(answer, 400)) == {"id", "status", "fields"}


@pytest.mark.parametrize("body", NO_OBJECT.values(), ids=NO_OBJECT)
def test_what_is_no_json_object_is_400(api, body):
    assert error(send(api, "PUT", f"{MOUNT}/{UNKNOWN}", body), 400) == {}


def test_only_json_is_taken(api):
    answer = api.put(f"{MOUNT}/{UNKNOWN}", data="x", headers={"Content-Type": "text/plain"})
    error(answer, 415)


def test_a_trashed_registration_is_404(api, occurrence):
    registration = created(api, occurrence())
    trashed = delete(api, registration).json()
    error(update(api, registration, status="CONFIRMED"), 404, "Registration not found")
    answer = api.put(path(registration) + "?withTrashed=true", json={"status": "PENDING"})
    error(answer, 404, "Registration not found")
    assert get(api, registration, params={"withTrashed": 1}).json() == trashed


@pytest.mark.parametrize("after", HOLDING)
def test_a_cancelled_one_gets_no_place_where_none_is_left(api, occurrence, after):
    one = occurrence(capacity=1)
    cancelled = created(api, one, "first", status="CANCELLED")
    created(api, one, "second")
    answer = update(api, cancelled, status=after, fields={"a": 1})
    error(answer, 409, "Occurrence is full")
    assert get(api, cancelled).json()["fields"] == {}
    assert places_held(api, cancelled) == 1


@pytest.mark.parametrize("after", HOLDING)
def test_one_who_waits_gets_no_place_where_none_is_left(api, occurrence, after):
    one = occurrence(capacity=1)
    created(api, one, "first")
    waiting = created(api, one, "second")
    error(update(api, waiting, status=after), 409, "Occurrence is full")
    assert status_of(api, waiting) == "WAITING_LIST"


@pytest.mark.parametrize("after", HOLDING)
def test_a_cancelled_one_gets_a_place_that_is_left(api, occurrence, after):
    one = occurrence(capacity=1)
    cancelled = created(api, one, status="CANCELLED")
    changed = updated(api, cancelled, status=after)
    assert (changed["status"], changed["occurrence"]["registrations"]) == (after, 1)


@pytest.mark.parametrize("before", HOLDING)
@pytest.mark.parametrize("after", HOLDING)
def test_who_holds_a_place_keeps_it_though_it_is_full(api, occurrence, before, after):
    registration = created(api, occurrence(capacity=1), status=before)
    changed = updated(api, registration, status=after)
    assert (changed["status"], changed["occurrence"]["registrations"]) == (after, 1)


@pytest.mark.parametrize("after", [*HOLDING, "WAITING_LIST"])
def test_leaving_cancelled_is_409_while_the_user_has_another(api, occurrence, after):
    one = occurrence()
    cancelled = created(api, one, status="CANCELLED")
    created(api, one)
    error(update(api, cancelled, status=after), 409)
    assert status_of(api, cancelled) == "CANCELLED"


def test_a_cancelled_one_s_fields_change_though_the_user_has_another(api, occurrence):
    one = occurrence()
    cancelled = created(api, one, status="CANCELLED")
    created(api, one)
    assert updated(api, cancelled, fields={"a": 1}, status="CANCELLED")["fields"] == {"a": 1}


@pytest.mark.parametrize("gone", ["CANCELLED", "trashed"])
def test_leaving_cancelled_goes_when_the_other_is_gone(api, occurrence, gone):
    one = occurrence()
    cancelled = created(api, one, status="CANCELLED")
    other = created(api, one)
    if gone == "trashed":
        delete(api, other)
    else:
        updated(api, other, status=gone)
    assert updated(api, cancelled, status="CONFIRMED")["occurrence"]["registrations"] == 1


def test_nobody_is_put_on_a_waiting_list_that_is_switched_off(api, occurrence):
    one = occurrence(capacity=1, waiting_list=False)
    registration = created(api, one)
    error(update(api, registration, status="WAITING_LIST"), 409)
    assert status_of(api, registration) == "CONFIRMED"


# --- If-Match ------------------------------------------------------------------------------

@pytest.mark.parametrize("form", [
    "{tag}", "*", '"other", {tag}', '{tag},"other"', "{gzip}", "{brotli}", 'W/"1", {tag}'])
def test_if_match_with_the_present_version_lets_through(api, occurrence, form):
    registration = created(api, occurrence())
    tag = get(api, registration).headers["ETag"]
    known = form.format(tag=tag, gzip=tag[:-1] + '-gzip"', brotli=tag[:-1] + '-br"')
    answer = update(api, registration, if_match=known, fields={"a": 1})
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag


@pytest.mark.parametrize("form", ['"other"', "other", '""', '"*"', "W/{tag}",
                                  '"other", W/{gzip}'])
def test_if_match_with_anything_else_is_412(api, occurrence, form):
    registration = created(api, occurrence())
    tag = get(api, registration).headers["ETag"]
    other = form.format(tag=tag, gzip=tag[:-1] + '-gzip"')
    answer = update(api, registration, if_match=other, fields={"a": 1})
    assert error(answer, 412) == {}
    assert get(api, registration).json() == registration


def test_a_tag_from_before_a_change_is_412_afterwards(api, occurrence):
    registration = created(api, occurrence())
    old = get(api, registration).headers["ETag"]
    new = update(api, registration, if_match=old, fields={"a": 1}).headers["ETag"]
    error(update(api, registration, if_match=old, fields={"a": 2}), 412)
    assert update(api, registration, if_match=new, fields={"a": 3}).status_code == 200


def test_the_tags_of_all_answers_are_good(api, occurrence):
    answer = api.post(MOUNT, json={"occurrenceId": occurrence(), "externalUserId": "x"})
    for n in range(3):
        answer = update(api, answer.json(), if_match=answer.headers["ETag"], fields={"n": n})
        assert answer.status_code == 200


def test_a_neighbour_s_registration_does_not_stand_in_the_way(api, occurrence):
    one = occurrence()
    registration = created(api, one, "first")
    tag = get(api, registration).headers["ETag"]
    neighbour = created(api, one, "second")
    updated(api, neighbour, status="CANCELLED", fields={"a": 1})
    assert update(api, registration, if_match=tag, fields={"a": 1}).status_code == 200


def test_what_an_administrator_changes_elsewhere_does_not_either(api, sql, occurrence):
    registration = created(api, occurrence())
    tag = get(api, registration).headers["ETag"]
    sql("UPDATE events SET name = 'Renamed' WHERE id = %s", registration["event"]["id"])
    assert update(api, registration, if_match=tag, fields={"a": 1}).status_code == 200


def test_a_promotion_is_a_change(api, occurrence):
    one = occurrence(capacity=1)
    first = created(api, one, "first")
    second = created(api, one, "second")
    tag = get(api, second).headers["ETag"]
    updated(api, first, status="CANCELLED")
    error(update(api, second, if_match=tag, status="CANCELLED"), 412)
    assert status_of(api, second) == "CONFIRMED"


def test_no_condition_helps_one_that_is_not_there(api):
    answer = api.put(f"{MOUNT}/{UNKNOWN}", json={}, headers={"If-Match": "*"})
    error(answer, 404, "Registration not found")


def test_a_wrong_version_is_told_before_a_full_occurrence(api, occurrence):
    one = occurrence(capacity=1)
    cancelled = created(api, one, "first", status="CANCELLED")
    created(api, one, "second")
    error(update(api, cancelled, if_match='"other"', status="CONFIRMED"), 412)
