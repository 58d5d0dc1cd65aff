# SPDX-License-Identifier: Apache-2.0
"""Helpers of the tests of the events API."""

import http
import json
import re
import uuid

from conftest import ORGANIZATION

MOUNT = "/api/v1/event-registrations"
TENANT_MOUNT = "/tenant" + MOUNT
OTHER_ORGANIZATION = "11e6543a-e21a-34b5-c678-426614174999"   # Other Org of the demo data
DEMO_EVENT = "4c4f93e6-38bb-4a1e-8286-e89f9853cf52"
DEMO_OCCURRENCE = "123e4567-e89b-12d3-a456-426614174001"
UNKNOWN = "0f0e0d0c-0b0a-4908-8706-050403020100"
HOLDING = ("PENDING", "CONFIRMED", "ATTENDED")
STATUSES = ("PENDING", "CONFIRMED", "CANCELLED", "WAITING_LIST", "ATTENDED")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

# The keys of the API page in order; a deletedAt comes last.
KEYS = ["id", "createdAt", "updatedAt", "status", "fields", "user", "occurrence", "event",
        "organization"]
PART_KEYS = {
    "user": ["id", "createdAt", "updatedAt", "organizationId", "email", "firstName",
             "lastName", "role", "avatar", "isActive"],
    "occurrence": ["id", "createdAt", "updatedAt", "startDate", "endDate", "capacity",
                   "registrations"],
    "event": ["id", "createdAt", "updatedAt", "name", "slug", "description"],
    "organization": ["id", "name"],
}

# Bodies that are not JSON objects by RFC 8259, or refused: duplicate keys, NUL, depth.
NO_OBJECT = {
    "nothing": b"", "blanks": b" \n", "null": b"null", "a string": b'"text"',
    "an array": b"[{}]", "a number": b"1", "cut short": b'{"fields":{"a":1}',
    "a second value": b"{} {}", "trailing text": b"{}x", "single quotes": b"{'a':1}",
    "a trailing comma": b'{"a":1,}', "a comment": b"{} // no", "NaN": b'{"a":NaN}',
    "a leading zero": b'{"a":01}', "a bare point": b'{"a":1.}', "a plus": b'{"a":+1}',
    "a duplicate key": b'{"a":1,"a":1}',
    "a duplicate key inside": b'{"fields":{"a":1,"a":2}}',
    "a duplicate key, escaped": b'{"fields":{"a":1,"\\u0061":2}}',
    "NUL": b'{"fields":{"a":"\\u0000"}}', "NUL in a key": b'{"fields":{"a\\u0000":1}}',
    "a bare NUL": b'{"fields":{"a":"\0"}}', "a bare line feed": b'{"fields":{"a":"\n"}}',
    "half a surrogate pair": b'{"fields":{"a":"\\ud800"}}',
    "Latin-1": b'{"fields":{"a":"\xe9"}}', "overlong UTF-8": b'{"fields":{"a":"\xc0\xaf"}}',
    "a surrogate in UTF-8": b'{"fields":{"a":"\xed\xa0\x80"}}',
    "beyond Unicode": b'{"fields":{"a":"\xf4\x90\x80\x80"}}',
    "UTF-16": "{}".encode("utf-16"),
    "deep objects": b'{"fields":' + b'{"a":' * 20000 + b"1" + b"}" * 20001,
    "deep arrays": b'{"fields":{"a":' + b"[" * 50000 + b"]" * 50000 + b"}}",
}


def create(api, occurrence, user="somebody", mount=MOUNT, **more):
    """The answer to a registration of the user with this external id."""
    return api.post(mount, json={"occurrenceId": occurrence, "externalUserId": user, **more})


def created(api, occurrence, user="somebody", mount=MOUNT, status=None, **more):
    """A new registration, changed to `status` if given."""
    answer = create(api, occurrence, user, mount, **more)
    assert answer.status_code == 201, answer.text
    registration = answer.json()
    if status not in (None, registration["status"]):
        registration = updated(api, registration, status=status)
        assert registration["status"] == status
    return registration


def person(api, sql, occurrence, email=None, first_name=None, last_name=None, phone=None):
    """The registration of a new user with these data, given by an administrator."""
    external_id = str(uuid.uuid4())
    sql("INSERT INTO event_users (organization_id, external_id, email, first_name, last_name,"
        " phone) SELECT e.organization_id, %s, %s, %s, %s, %s"
        " FROM occurrences o JOIN events e ON e.id = o.event_id WHERE o.id = %s",
        external_id, email, first_name, last_name, phone, occurrence)
    return created(api, occurrence, external_id)


def category_of(sql, *events):
    """A new category of Tech Corp with these events."""
    made = str(uuid.uuid4())
    sql("INSERT INTO categories (id, organization_id, name) VALUES (%s, %s, 'A category')",
        made, ORGANIZATION)
    for event in events:
        sql("INSERT INTO event_categories (category_id, event_id) VALUES (%s, %s)", made,
            event)
    return made


def crowd(api, occurrence, count):
    """Registrations of that many users, oldest first."""
    return [created(api, occurrence, f"user {n}") for n in range(count)]


def insert_registrations(query, occurrence, count, fields, created_at="now()"):
    """Inserts cancelled registrations in SQL; their ids, oldest first. `fields` and `created_at`
    are SQL expressions, for which people.id is the id of the user."""
    made = query(f"""
        WITH home AS (SELECT e.id, e.organization_id FROM occurrences o
                        JOIN events e ON e.id = o.event_id WHERE o.id = %s),
             people AS (INSERT INTO event_users (organization_id, external_id)
                        SELECT organization_id, gen_random_uuid()
                          FROM home, generate_series(1, %s)
                        RETURNING id)
        INSERT INTO event_registrations (id, occurrence_id, event_id, organization_id,
                                         user_id, status, fields, created_at)
        SELECT gen_random_uuid(), %s, home.id, home.organization_id, people.id, 'CANCELLED',
               {fields}, {created_at}
          FROM home, people RETURNING id::text, created_at""", occurrence, count, occurrence)
    return [id for id, _ in sorted(made, key=lambda one: one[1])]


def empty(sql, occurrence):
    """Deletes all registrations of an occurrence."""
    sql("DELETE FROM event_registrations WHERE occurrence_id = %s", occurrence)
    sql("UPDATE occurrences SET registrations = 0 WHERE id = %s", occurrence)


def path(registration, mount=MOUNT):
    return f"{mount}/{registration['id']}"


def get(api, registration, **options):
    return api.get(path(registration), **options)


def update(api, registration, if_match=None, **change):
    headers = {"If-Match": if_match} if if_match is not None else {}
    return api.put(path(registration), json=change, headers=headers)


def updated(api, registration, **change):
    answer = update(api, registration, **change)
    assert answer.status_code == 200, answer.text
    return answer.json()


def delete(api, registration, if_match=None, **params):
    headers = {"If-Match": if_match} if if_match is not None else {}
    return api.delete(path(registration), params=params, headers=headers)


def status_of(api, registration):
    return get(api, registration).json()["status"]


def places_held(api, registration):
    return get(api, registration).json()["occurrence"]["registrations"]


def search(api, **params):
    """The registrations that a search lists."""
    answer = api.get(MOUNT, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(registrations):
    return [registration["id"] for registration in registrations]


def send(api, method, url, body):
    """Sends a body exactly as given."""
    return api.request(method, url, data=body, headers={"Content-Type": "application/json"})


def error(answer, status, message=None):
    """Checks that an answer is an error in this API's format; its errors by field."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    body = json.loads(answer.text)
    assert list(body)[:3] == ["statusCode", "message", "error"]
    assert list(body)[3:] in ([], ["errors"])
    assert body["statusCode"] == status
    assert body["error"] == http.HTTPStatus(status).phrase
    assert body["message"] if message is None else body["message"] == message
    for one in body.get("errors", []):
        assert list(one) == ["field", "message"] and one["message"]
    return {one["field"]: one["message"] for one in body.get("errors", [])}


def check_keys(registration, deleted=False):
    """Checks the order of all keys of a registration."""
    assert list(registration) == KEYS + (["deletedAt"] if deleted else [])
    for part, keys in PART_KEYS.items():
        assert list(registration[part]) == keys
