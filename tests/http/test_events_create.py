# SPDX-License-Identifier: Apache-2.0
"""POST of an event registration."""

import decimal
import json
import time

import pytest

import samples
from conftest import ORGANIZATION, new_uuid
from event_registrations import (DEMO_EVENT, DEMO_OCCURRENCE, HOLDING, MOUNT, NO_OBJECT,
                                 OTHER_ORGANIZATION, TIMESTAMP, UNKNOWN, check_keys, create,
                                 created, delete, empty, error, get, send, updated)

EXAMPLE = {
    "occurrenceId": DEMO_OCCURRENCE,
    "externalUserId": "ext_user_12345",
    "fields": {"email": "john@example.com", "firstName": "John", "lastName": "Doe",
               "company": "Tech Corp", "role": "Developer"},
}


# --- The answer ----------------------------------------------------------------------------

def test_example_of_api_page(api, sql):
    empty(sql, DEMO_OCCURRENCE)
    answer = api.post(MOUNT, json=EXAMPLE)
    assert answer.status_code == 201
    one = answer.json()
    assert one["status"] == "CONFIRMED"
    assert one["fields"] == EXAMPLE["fields"]
    assert {key: one["user"][key] for key in ("organizationId", "firstName", "lastName")} == {
        "organizationId": ORGANIZATION, "firstName": "John", "lastName": "Doe"}
    assert one["occurrence"]["id"] == DEMO_OCCURRENCE
    assert (one["occurrence"]["capacity"], one["occurrence"]["registrations"]) == (100, 1)
    assert one["event"]["id"] == DEMO_EVENT
    assert one["event"]["name"] == "Annual Tech Conference 2025"
    assert one["event"]["slug"] == "annual-tech-conference-2025"
    assert one["event"]["description"] == (
        "Join us for the biggest tech conference of the year featuring keynote speakers, "
        "workshops, and networking opportunities.")
    assert one["organization"] == {"id": ORGANIZATION, "name": "Tech Corp"}
    empty(sql, DEMO_OCCURRENCE)


def test_demo_rows_exist(sql):
    rows = sql("SELECT o.capacity, o.waiting_list, e.id::text, g.id::text, g.name"
               " FROM occurrences o JOIN events e ON e.id = o.event_id"
               " JOIN organizations g ON g.id = e.organization_id WHERE o.id IN"
               " ('123e4567-e89b-12d3-a456-426614174002',"
               " '123e4567-e89b-12d3-a456-426614174009') ORDER BY o.id")
    assert rows[0] == (1, True, DEMO_EVENT, ORGANIZATION, "Tech Corp")
    assert rows[1][:2] + rows[1][3:] == (10, True, OTHER_ORGANIZATION, "Other Org")
    assert sql("SELECT category_id::text FROM event_categories WHERE event_id = %s",
               DEMO_EVENT) == [("0d9f8e7c-6b5a-4948-8372-615049382716",)]


def test_keys_are_in_order_of_api_page(api, occurrence):
    check_keys(created(api, occurrence(), fields={"z": 1}))


def test_created_registration_has_all_fields(api, sql, event, occurrence):
    one_event = event(name="Résumé workshop")
    one = occurrence(capacity=7, event_id=one_event)
    user = new_uuid()
    sql("INSERT INTO event_users (id, organization_id, external_id, email, first_name,"
        " last_name, phone, role, avatar, is_active) VALUES (%s, %s, %s, 'a@example.org',"
        " 'Ana', 'Ek', '+19195551212', 'speaker', 'https://example.org/a.png', false)",
        user, ORGANIZATION, user)
    before = time.time() * 1000
    registration = created(api, one, user)
    assert before - 1000 <= int(registration["id"].replace("-", "")[:12], 16) \
        <= time.time() * 1000 + 1000, "a UUIDv7 begins with the time"
    assert registration["id"][14] == "7" and registration["id"][19] in "89ab"
    assert registration["createdAt"] == registration["updatedAt"]
    for part in (registration, *(registration[k] for k in ("user", "occurrence", "event"))):
        assert TIMESTAMP.fullmatch(part.pop("createdAt"))
        assert TIMESTAMP.fullmatch(part.pop("updatedAt"))
    del registration["id"]
    assert registration == {
        "status": "CONFIRMED", "fields": {},
        "user": {"id": user, "organizationId": ORGANIZATION, "email": "a@example.org",
                 "firstName": "Ana", "lastName": "Ek", "role": "speaker",
                 "avatar": "https://example.org/a.png", "isActive": False},
        "occurrence": {"id": one, "startDate": "2030-12-25T10:00:00.000Z",
                       "endDate": "2030-12-25T18:00:00.000Z", "capacity": 7,
                       "registrations": 1},
        "event": {"id": one_event, "name": "Résumé workshop", "slug": f"event-{one_event}",
                  "description": "What it is about"},
        "organization": {"id": ORGANIZATION, "name": "Tech Corp"}}


def test_times_are_utc_with_milliseconds(api, sql, occurrence):
    one = occurrence(start_date="2031-07-01T00:30:00.5+05:45", end_date=None)
    sql("UPDATE occurrences SET created_at = '2031-01-01 23:59:59.999+00' WHERE id = %s", one)
    shown = created(api, one)["occurrence"]
    assert shown["startDate"] == "2031-06-30T18:45:00.500Z"
    assert shown["endDate"] is None
    assert shown["createdAt"] == "2031-01-01T23:59:59.999Z"


def test_location_is_the_created_registration(api, occurrence):
    answer = create(api, occurrence(), fields={"a": [1, {"b": None}]})
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Location"] == f"{MOUNT}/{answer.json()['id']}"
    again = api.get(answer.headers["Location"])
    assert again.json() == answer.json()
    assert again.headers["ETag"] == answer.headers["ETag"]


def test_registrations_counts_places_held(api, occurrence):
    one = occurrence()
    counts = [created(api, one, f"user {n}")["occurrence"]["registrations"] for n in range(3)]
    assert counts == [1, 2, 3]


def test_unlimited_capacity_is_null(api, occurrence):
    assert created(api, occurrence(capacity=None))["occurrence"]["capacity"] is None


def test_past_occurrence_accepts_registrations(api, occurrence):
    one = occurrence(capacity=1, start_date="2020-01-01T10:00:00Z",
                     end_date="2020-01-01T18:00:00Z")
    assert created(api, one, "first")["status"] == "CONFIRMED"
    assert created(api, one, "second")["status"] == "WAITING_LIST"


# --- Invalid requests ----------------------------------------------------------------------

LONGEST = "\N{GRINNING FACE}" * 255

WRONG = [
    ({"occurrenceId": None}, {"occurrenceId"}),
    ({"occurrenceId": 1}, {"occurrenceId"}),
    ({"occurrenceId": ""}, {"occurrenceId"}),
    ({"occurrenceId": "123e4567"}, {"occurrenceId"}),
    ({"occurrenceId": UNKNOWN + "0"}, {"occurrenceId"}),
    ({"occurrenceId": "{" + UNKNOWN + "}"}, {"occurrenceId"}),
    ({"occurrenceId": UNKNOWN.replace("-", "")}, {"occurrenceId"}),
    ({"occurrenceId": UNKNOWN.replace("f", "g")}, {"occurrenceId"}),
    ({"externalUserId": None}, {"externalUserId"}),
    ({"externalUserId": 12345}, {"externalUserId"}),
    ({"externalUserId": ["a"]}, {"externalUserId"}),
    ({"externalUserId": ""}, {"externalUserId"}),
    ({"externalUserId": LONGEST + "x"}, {"externalUserId"}),
    ({"externalUserId": "a\nb"}, {"externalUserId"}),
    ({"externalUserId": "a\x7f"}, {"externalUserId"}),
    ({"fields": None}, {"fields"}),
    ({"fields": []}, {"fields"}),
    ({"fields": "text"}, {"fields"}),
    ({"fields": 1}, {"fields"}),
    ({"occurrenceId": "x", "externalUserId": "", "fields": True},
     {"occurrenceId", "externalUserId", "fields"}),
]


@pytest.mark.parametrize("change, fields", WRONG, ids=[repr(w)[:60] for w, _ in WRONG])
def test_invalid_field_is_named(api, change, fields):
    # The occurrence does not exist, which is checked only after all fields are valid.
    body = {"occurrenceId": UNKNOWN, "externalUserId": "somebody", "fields": {}, **change}
    assert set(error(api.post(MOUNT, json=body), 400)) == fields


@pytest.mark.parametrize("body, fields", [
    ({}, {"occurrenceId", "externalUserId"}),
    ({"externalUserId": "somebody"}, {"occurrenceId"}),
    ({"occurrenceId": UNKNOWN}, {"externalUserId"})], ids=str)
def test_missing_field_is_named(api, body, fields):
    assert set(error(api.post(MOUNT, json=body), 400)) == fields


def test_unknown_occurrence_is_404(api):
    answer = create(api, UNKNOWN)
    assert json.loads(answer.text) == {
        "statusCode": 404, "message": "Occurrence not found", "error": "Not Found"}
    error(answer, 404, "Occurrence not found")


@pytest.mark.parametrize("body", NO_OBJECT.values(), ids=NO_OBJECT)
def test_body_not_a_json_object_is_400(api, body):
    assert error(send(api, "POST", MOUNT, body), 400) == {}


def test_content_type_not_json_is_415(api, occurrence):
    one = occurrence()
    body = json.dumps({"occurrenceId": one, "externalUserId": "somebody"})
    for wrong in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
        error(api.post(MOUNT, data="no json", headers={"Content-Type": wrong}), 415)
    kinds = ["application/json", "Application/JSON; charset=utf-8",
             "application/vnd.api+json", None]
    statuses = [api.post(MOUNT, data=body.encode(), headers={"Content-Type": kind})
                .status_code for kind in kinds]
    assert statuses == [201, 409, 409, 409]


# --- The user ------------------------------------------------------------------------------

def test_external_id_of_any_characters_is_stored_exactly(api, sql, occurrence):
    for user in (LONGEST, "d'Arc \"\\ {x,y}", "NULL", " ", "%s", "日本"):
        registration = created(api, occurrence(), user)
        assert sql("SELECT external_id FROM event_users WHERE id = %s",
                   registration["user"]["id"]) == [(user,)]


def test_external_ids_are_case_sensitive(api, occurrence):
    one = occurrence()
    users = {created(api, one, user)["user"]["id"] for user in ("Abc", "abc", "abc ")}
    assert len(users) == 3


def test_unknown_user_is_created_from_fields(api, sql, occurrence):
    user = new_uuid()
    shown = created(api, occurrence(), user, fields={
        "email": "New.User@Example.ORG", "firstName": "Zoë", "lastName": "O'Neill",
        "phone": "+19195551212", "role": "admin", "avatar": "x", "isActive": False})["user"]
    assert TIMESTAMP.fullmatch(shown.pop("createdAt"))
    assert TIMESTAMP.fullmatch(shown.pop("updatedAt"))
    made = shown.pop("id")
    assert made[14] == "7"
    assert shown == {"organizationId": ORGANIZATION, "email": "New.User@Example.ORG",
                     "firstName": "Zoë", "lastName": "O'Neill", "role": "attendee",
                     "avatar": None, "isActive": True}
    assert sql("SELECT external_id, phone FROM event_users WHERE id = %s", made) == [
        (user, "+19195551212")]


@pytest.mark.parametrize("given", [
    {"email": "no address"}, {"email": "a@b@example.org"}, {"email": 7}, {"email": None},
    {"email": f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 63}"}, {"email": "a@-b.org"},
    {"firstName": "x" * 256}, {"firstName": ["Ana"]}, {"lastName": "a\tb"},
    {"lastName": {"a": 1}}, {"lastName": None}, {"phone": 12345}, {"phone": None}],
    ids=lambda given: repr(given)[:40])
def test_invalid_personal_field_is_stored_but_not_used_for_user(api, sql, occurrence,
                                                                given):
    registration = created(api, occurrence(), new_uuid(), fields=given)
    assert registration["fields"] == given
    assert sql("SELECT email, first_name, last_name, phone FROM event_users WHERE id = %s",
               registration["user"]["id"]) == [(None, None, None, None)]


@pytest.mark.parametrize("email", samples.GOOD_EMAILS + samples.BAD_EMAILS,
                         ids=lambda email: ascii(email)[:60])
def test_valid_email_is_used_for_user(api, occurrence, email):
    """By the grammar of the HTML standard's input type=email; fields keep any value."""
    registration = created(api, occurrence(), new_uuid(), fields={"email": email})
    assert registration["fields"] == {"email": email}
    assert registration["user"]["email"] == (
        email if email in samples.GOOD_EMAILS else None)


def test_existing_user_is_not_changed(api, occurrence):
    user = new_uuid()
    first = created(api, occurrence(), user, fields={"firstName": "Ana"})["user"]
    second = created(api, occurrence(), user,
                     fields={"firstName": "Bea", "email": "bea@example.org"})
    assert second["user"] == first
    assert second["fields"] == {"firstName": "Bea", "email": "bea@example.org"}


def test_external_ids_are_per_organization(api, organization, event, occurrence):
    user = new_uuid()
    first = created(api, occurrence(), user)
    other = organization("Another")
    second = created(api, occurrence(event_id=event(other)), user)
    assert second["user"]["organizationId"] == other
    assert second["organization"] == {"id": other, "name": "Another"}
    assert second["user"]["id"] != first["user"]["id"]


def test_refused_registration_creates_no_user(api, sql, occurrence):
    user = new_uuid()
    error(create(api, occurrence(capacity=0, waiting_list=False), user), 409)
    assert sql("SELECT id FROM event_users WHERE external_id = %s", user) == []


# --- Duplicates ----------------------------------------------------------------------------

@pytest.mark.parametrize("status", HOLDING)
def test_duplicate_registration_is_409(api, occurrence, status):
    one = occurrence()
    created(api, one, status=status)
    assert error(create(api, one), 409) == {}


def test_duplicate_of_waiting_registration_is_409(api, occurrence):
    one = occurrence(capacity=0)
    assert created(api, one)["status"] == "WAITING_LIST"
    error(create(api, one), 409)


def test_user_may_register_again_after_cancelling(api, occurrence):
    one = occurrence()
    created(api, one, status="CANCELLED")
    again = created(api, one)
    assert (again["status"], again["occurrence"]["registrations"]) == ("CONFIRMED", 1)


def test_user_may_register_again_after_delete(api, occurrence):
    one = occurrence()
    first = created(api, one)
    assert delete(api, first).status_code == 200
    again = created(api, one)
    assert again["id"] != first["id"]
    assert again["occurrence"]["registrations"] == 1


def test_user_may_register_for_several_occurrences(api, event, occurrence):
    one = event()
    assert created(api, occurrence(event_id=one))["user"] == \
        created(api, occurrence(event_id=one))["user"]


# --- fields --------------------------------------------------------------------------------

def test_fields_of_any_shape_are_stored(api, occurrence):
    fields = {"": "empty key", "text": "tab\t line\n bell\x07 del\x7f quote\" back\\ '",
              "long": "x" * 50000, "unicode": "é 日本 \N{GRINNING FACE} \u202e \ufffe",
              "nothing": None, "list": [[], {}, [None, True, False]],
              "deep": json.loads("[" * 20 + "]" * 20), "email": "none at all",
              "id": "mine", "status": "ATTENDED", "$1": "%s", "NULL": "NULL"}
    registration = created(api, occurrence(), fields=fields)
    assert registration["fields"] == fields
    assert get(api, registration).json()["fields"] == fields


NUMBERS = ["0", "-1", "0.1", "-0.1", "1.10", "3.141592653589793238462643383279",
           "12345678901234567890", "-12345678901234567890", "9007199254740993",
           "18446744073709551616", "1e2", "1E+2", "1.5e-3", "1e300", "-1e-300", "1e400",
           "1e-400", "0.1000000000000000055511151231257827", "1" * 400, "0.0",
           "0." + "0" * 300 + "1"]


def exact(text):
    return json.loads(text, parse_float=decimal.Decimal, parse_int=decimal.Decimal)


def test_numbers_are_stored_exactly(api, occurrence):
    fields = '{"n": [%s]}' % ", ".join(NUMBERS)
    body = '{"occurrenceId": "%s", "externalUserId": "x", "fields": %s}' % (
        occurrence(), fields)
    answer = send(api, "POST", MOUNT, body)
    assert answer.status_code == 201
    assert exact(answer.text)["fields"] == exact(fields)
    change = send(api, "PUT", answer.headers["Location"],
                  '{"fields": {"more": 0.30000000000000000004}}')
    assert exact(change.text)["fields"] == {
        **exact(fields), "more": decimal.Decimal("0.30000000000000000004")}
    assert exact(api.get(answer.headers["Location"]).text) == exact(change.text)


@pytest.mark.parametrize("number", ["1e131072", "1e999999999", "-1e-20000",
                                    "1e-99999999999", "9" * 100000], ids=lambda n: n[:14])
def test_number_out_of_exact_range_is_400(api, occurrence, number):
    body = '{"occurrenceId": "%s", "externalUserId": "x", "fields": {"n": %s}}' % (
        occurrence(), number)
    error(send(api, "POST", MOUNT, body), 400)


def test_unknown_keys_of_body_are_ignored(api, occurrence):
    answer = api.post(MOUNT, json={
        "occurrenceId": occurrence(), "externalUserId": "somebody", "id": UNKNOWN,
        "status": "ATTENDED", "organizationId": OTHER_ORGANIZATION, "x": {"y": None}})
    assert answer.status_code == 201
    registration = answer.json()
    assert registration["status"] == "CONFIRMED"
    assert registration["id"] != UNKNOWN
    assert registration["organization"]["id"] == ORGANIZATION


def test_ids_are_case_insensitive(api, occurrence):
    one = occurrence()
    assert created(api, one.upper())["occurrence"]["id"] == one


# --- Full ----------------------------------------------------------------------------------

def test_registration_for_full_occurrence_is_on_waiting_list(api, occurrence):
    one = occurrence(capacity=2)
    made = [created(api, one, f"user {n}") for n in range(4)]
    assert [each["status"] for each in made] == [
        "CONFIRMED", "CONFIRMED", "WAITING_LIST", "WAITING_LIST"]
    assert [each["occurrence"]["registrations"] for each in made] == [1, 2, 2, 2]


def test_full_occurrence_without_waiting_list_is_409(api, occurrence):
    one = occurrence(capacity=1, waiting_list=False)
    created(api, one, "first")
    answer = create(api, one, "second")
    assert json.loads(answer.text) == {
        "statusCode": 409, "message": "Occurrence is full", "error": "Conflict"}
    error(answer, 409, "Occurrence is full")


def test_duplicate_is_reported_before_full(api, occurrence):
    one = occurrence(capacity=1, waiting_list=False)
    created(api, one)
    answer = create(api, one)
    error(answer, 409)
    assert answer.json()["message"] != "Occurrence is full"


def test_place_of_cancelled_registration_is_free(api, occurrence):
    one = occurrence(capacity=1, waiting_list=False)
    first = created(api, one, "first")
    updated(api, first, status="CANCELLED")
    assert created(api, one, "second")["status"] == "CONFIRMED"
