# SPDX-License-Identifier: Apache-2.0
"""PUT of an event registration: merging, refused changes, If-Match."""

import functools

import pytest

from event_registrations import (HOLDING, MOUNT, NO_OBJECT, STATUSES, UNKNOWN, check_keys,
                                 created, delete, error, get, path, places_held, send,
                                 status_of, update, updated)


# --- Changes -------------------------------------------------------------------------------

def test_example_of_api_page(api, occurrence):
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


def test_changed_registration_is_returned_by_get(api, occurrence):
    registration = created(api, occurrence())
    answer = update(api, registration, status="PENDING", fields={"a": 1})
    again = get(api, registration)
    assert again.json() == answer.json()
    assert again.headers["ETag"] == answer.headers["ETag"]


@pytest.mark.parametrize("before", HOLDING)
@pytest.mark.parametrize("after", STATUSES)
def test_each_status_can_follow_each_other(api, occurrence, before, after):
    registration = created(api, occurrence(), status=before)
    changed = updated(api, registration, status=after)
    # With a free place, a registration put on the waiting list is promoted at once.
    assert changed["status"] == ("CONFIRMED" if after == "WAITING_LIST" else after)
    assert changed["occurrence"]["registrations"] == (after != "CANCELLED")


def test_status_and_fields_change_separately(api, occurrence):
    registration = created(api, occurrence(), fields={"a": 1})
    assert updated(api, registration, status="ATTENDED")["fields"] == {"a": 1}
    assert updated(api, registration, fields={"b": 2})["status"] == "ATTENDED"


@pytest.mark.parametrize("change", [{}, {"fields": {}}, {"status": "CONFIRMED"},
                                    {"fields": {"a": 1, "b": None}}, {"x": 1}], ids=str)
def test_change_without_effect_keeps_version(api, occurrence, change):
    registration = created(api, occurrence(), fields={"a": 1})
    tag = get(api, registration).headers["ETag"]
    answer = update(api, registration, **change)
    assert answer.json() == registration
    assert answer.headers["ETag"] == tag


def test_unknown_keys_of_body_are_ignored(api, occurrence):
    registration = created(api, occurrence())
    changed = updated(api, registration, id=UNKNOWN, occurrenceId=UNKNOWN, user=None,
                      externalUserId="another", deletedAt="now", createdAt=None,
                      occurrence={"registrations": 99}, fields={"a": 1})
    assert changed == {**registration, "fields": {"a": 1}, "updatedAt": changed["updatedAt"]}


# --- Merging of fields (RFC 7396) ----------------------------------------------------------

# Appendix A of RFC 7396: original, patch, result.
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
def test_value_in_fields_is_merged_as_in_rfc_appendix(api, occurrence, original, patch,
                                                      result):
    """As the value of a key, because fields itself is an object; null removes the key."""
    registration = created(api, occurrence(), fields={"it": original, "kept": [None]})
    fields = updated(api, registration, fields={"it": patch})["fields"]
    assert fields == {"kept": [None], **({} if result is None else {"it": result})}


@pytest.mark.parametrize("original, patch, result", [
    case for case in APPENDIX if all(isinstance(value, dict) for value in case)], ids=str)
def test_fields_are_merged_as_in_rfc_appendix(api, occurrence, original, patch, result):
    registration = created(api, occurrence(), fields=original)
    assert updated(api, registration, fields=patch)["fields"] == result


def test_stored_nulls_and_nulls_in_arrays_are_kept(api, occurrence):
    stored = {"a": None, "b": {"c": None, "d": [{"e": None}]}}
    registration = created(api, occurrence(), fields=stored)
    fields = updated(api, registration, fields={"f": [None, {"g": None}]})["fields"]
    assert fields == {**stored, "f": [None, {"g": None}]}


def test_keys_with_special_characters_are_merged_literally(api, occurrence):
    keys = {"": 1, "a.b": 2, "{a}": 3, "0": 4, "é": 5, "'": 6, '"': 7, "\\": 8, "\n": 9}
    registration = created(api, occurrence(), fields=keys)
    change = {key: (None if value % 2 else {"was": value}) for key, value in keys.items()}
    assert updated(api, registration, fields=change)["fields"] == {
        key: {"was": value} for key, value in keys.items() if value % 2 == 0}


def test_many_and_deep_keys_are_merged(api, occurrence):
    registration = created(api, occurrence(), fields={f"key {n}": n for n in range(500)})
    nested = lambda leaf: functools.reduce(lambda value, _: {"deep": value}, range(97), leaf)
    change = {**{f"key {n}": None for n in range(1, 500)}, **nested({"a": 1, "b": None})}
    assert updated(api, registration, fields=change)["fields"] == {
        "key 0": 0, **nested({"a": 1})}
    assert updated(api, registration, fields=nested({"c": {}, "a": None}))["fields"] == {
        "key 0": 0, **nested({"c": {}})}


# --- Invalid requests ----------------------------------------------------------------------

@pytest.mark.parametrize("change, fields", [
    ({"status": "confirmed"}, {"status"}), ({"status": "DELETED"}, {"status"}),
    ({"status": ""}, {"status"}), ({"status": None}, {"status"}), ({"status": 1}, {"status"}),
    ({"status": ["PENDING"]}, {"status"}), ({"fields": None}, {"fields"}),
    ({"fields": []}, {"fields"}), ({"fields": "x"}, {"fields"}),
    ({"status": "x", "fields": 1}, {"status", "fields"})], ids=str)
def test_invalid_field_is_named(api, change, fields):
    # The registration does not exist, which is checked only after all fields are valid.
    assert set(error(api.put(f"{MOUNT}/{UNKNOWN}", json=change), 400)) == fields


def test_invalid_id_and_fields_are_reported_at_once(api):
    answer = api.put(f"{MOUNT}/x", json={"status": "x", "fields": 1})
    assert set(error(answer, 400)) == {"id", "status", "fields"}


@pytest.mark.parametrize("body", NO_OBJECT.values(), ids=NO_OBJECT)
def test_body_not_a_json_object_is_400(api, body):
    assert error(send(api, "PUT", f"{MOUNT}/{UNKNOWN}", body), 400) == {}


def test_content_type_not_json_is_415(api):
    answer = api.put(f"{MOUNT}/{UNKNOWN}", data="x", headers={"Content-Type": "text/plain"})
    error(answer, 415)


def test_trashed_registration_is_404(api, occurrence):
    registration = created(api, occurrence())
    trashed = delete(api, registration).json()
    error(update(api, registration, status="CONFIRMED"), 404, "Registration not found")
    answer = api.put(path(registration) + "?withTrashed=true", json={"status": "PENDING"})
    error(answer, 404, "Registration not found")
    assert get(api, registration, params={"withTrashed": 1}).json() == trashed


@pytest.mark.parametrize("after", HOLDING)
def test_cancelled_registration_gets_no_place_when_full(api, occurrence, after):
    one = occurrence(capacity=1)
    cancelled = created(api, one, "first", status="CANCELLED")
    created(api, one, "second")
    answer = update(api, cancelled, status=after, fields={"a": 1})
    error(answer, 409, "Occurrence is full")
    assert get(api, cancelled).json()["fields"] == {}
    assert places_held(api, cancelled) == 1


@pytest.mark.parametrize("after", HOLDING)
def test_waiting_registration_gets_no_place_when_full(api, occurrence, after):
    one = occurrence(capacity=1)
    created(api, one, "first")
    waiting = created(api, one, "second")
    error(update(api, waiting, status=after), 409, "Occurrence is full")
    assert status_of(api, waiting) == "WAITING_LIST"


@pytest.mark.parametrize("after", HOLDING)
def test_cancelled_registration_gets_free_place(api, occurrence, after):
    one = occurrence(capacity=1)
    cancelled = created(api, one, status="CANCELLED")
    changed = updated(api, cancelled, status=after)
    assert (changed["status"], changed["occurrence"]["registrations"]) == (after, 1)


@pytest.mark.parametrize("before", HOLDING)
@pytest.mark.parametrize("after", HOLDING)
def test_holder_keeps_place_when_full(api, occurrence, before, after):
    registration = created(api, occurrence(capacity=1), status=before)
    changed = updated(api, registration, status=after)
    assert (changed["status"], changed["occurrence"]["registrations"]) == (after, 1)


@pytest.mark.parametrize("after", [*HOLDING, "WAITING_LIST"])
def test_uncancelling_is_409_while_user_has_another_registration(api, occurrence, after):
    one = occurrence()
    cancelled = created(api, one, status="CANCELLED")
    created(api, one)
    error(update(api, cancelled, status=after), 409)
    assert status_of(api, cancelled) == "CANCELLED"


def test_fields_of_cancelled_registration_can_change_beside_another(api, occurrence):
    one = occurrence()
    cancelled = created(api, one, status="CANCELLED")
    created(api, one)
    assert updated(api, cancelled, fields={"a": 1}, status="CANCELLED")["fields"] == {"a": 1}


@pytest.mark.parametrize("gone", ["CANCELLED", "trashed"])
def test_uncancelling_succeeds_after_other_registration_is_gone(api, occurrence, gone):
    one = occurrence()
    cancelled = created(api, one, status="CANCELLED")
    other = created(api, one)
    if gone == "trashed":
        delete(api, other)
    else:
        updated(api, other, status=gone)
    assert updated(api, cancelled, status="CONFIRMED")["occurrence"]["registrations"] == 1


def test_waiting_list_status_without_waiting_list_is_409(api, occurrence):
    one = occurrence(capacity=1, waiting_list=False)
    registration = created(api, one)
    error(update(api, registration, status="WAITING_LIST"), 409)
    assert status_of(api, registration) == "CONFIRMED"


# --- If-Match ------------------------------------------------------------------------------

@pytest.mark.parametrize("form", [
    "{tag}", "*", '"other", {tag}', '{tag},"other"', "{gzip}", "{brotli}", 'W/"1", {tag}'])
def test_if_match_with_current_version_succeeds(api, occurrence, form):
    registration = created(api, occurrence())
    tag = get(api, registration).headers["ETag"]
    known = form.format(tag=tag, gzip=tag[:-1] + '-gzip"', brotli=tag[:-1] + '-br"')
    answer = update(api, registration, if_match=known, fields={"a": 1})
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag


@pytest.mark.parametrize("form", ['"other"', "other", '""', '"*"', "W/{tag}",
                                  '"other", W/{gzip}'])
def test_if_match_with_other_value_is_412(api, occurrence, form):
    registration = created(api, occurrence())
    tag = get(api, registration).headers["ETag"]
    other = form.format(tag=tag, gzip=tag[:-1] + '-gzip"')
    answer = update(api, registration, if_match=other, fields={"a": 1})
    assert error(answer, 412) == {}
    assert get(api, registration).json() == registration


def test_outdated_tag_is_412(api, occurrence):
    registration = created(api, occurrence())
    old = get(api, registration).headers["ETag"]
    new = update(api, registration, if_match=old, fields={"a": 1}).headers["ETag"]
    error(update(api, registration, if_match=old, fields={"a": 2}), 412)
    assert update(api, registration, if_match=new, fields={"a": 3}).status_code == 200


def test_entity_tag_of_each_answer_is_valid(api, occurrence):
    answer = api.post(MOUNT, json={"occurrenceId": occurrence(), "externalUserId": "x"})
    for n in range(3):
        answer = update(api, answer.json(), if_match=answer.headers["ETag"], fields={"n": n})
        assert answer.status_code == 200


def test_change_of_other_registration_keeps_tag_valid_for_if_match(api, occurrence):
    one = occurrence()
    registration = created(api, one, "first")
    tag = get(api, registration).headers["ETag"]
    neighbour = created(api, one, "second")
    updated(api, neighbour, status="CANCELLED", fields={"a": 1})
    assert update(api, registration, if_match=tag, fields={"a": 1}).status_code == 200


def test_change_of_event_keeps_tag_valid_for_if_match(api, sql, occurrence):
    registration = created(api, occurrence())
    tag = get(api, registration).headers["ETag"]
    sql("UPDATE events SET name = 'Renamed' WHERE id = %s", registration["event"]["id"])
    assert update(api, registration, if_match=tag, fields={"a": 1}).status_code == 200


def test_promotion_invalidates_tag(api, occurrence):
    one = occurrence(capacity=1)
    first = created(api, one, "first")
    second = created(api, one, "second")
    tag = get(api, second).headers["ETag"]
    updated(api, first, status="CANCELLED")
    error(update(api, second, if_match=tag, status="CANCELLED"), 412)
    assert status_of(api, second) == "CONFIRMED"


def test_missing_registration_is_404_whatever_the_condition(api):
    answer = api.put(f"{MOUNT}/{UNKNOWN}", json={}, headers={"If-Match": "*"})
    error(answer, 404, "Registration not found")


def test_failed_precondition_is_reported_before_full(api, occurrence):
    one = occurrence(capacity=1)
    cancelled = created(api, one, "first", status="CANCELLED")
    created(api, one, "second")
    error(update(api, cancelled, if_match='"other"', status="CONFIRMED"), 412)
