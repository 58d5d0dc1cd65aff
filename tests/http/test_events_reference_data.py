# SPDX-License-Identifier: Apache-2.0
"""The events API's tables that an administrator writes: constraints, defaults, and effects of
changes on registrations."""

import psycopg2
import pytest

from conftest import ORGANIZATION, new_uuid
from event_registrations import OTHER_ORGANIZATION, TIMESTAMP, UNKNOWN, created, get, updated

GOOD = {
    "organizations": {"name": "An organization"},
    "events": {"organization_id": ORGANIZATION, "name": "An event"},
    "categories": {"organization_id": ORGANIZATION, "name": "A category"},
    "occurrences": {"event_id": "{event}"},
    "event_users": {"organization_id": ORGANIZATION, "external_id": "{uuid}"},
    "event_categories": {"event_id": "{event}", "category_id": "{category}"},
}
# For each table: changes of a good row, and the constraint or column that refuses them.
REFUSED = [
    *((table, {column: None}, column) for table, row in GOOD.items() for column in row),
    ("organizations", {"id": ORGANIZATION}, "organizations_pkey"),
    ("events", {"id": "{event}"}, "events_pkey"),
    ("events", {"organization_id": UNKNOWN}, "events_organization_fkey"),
    ("events", {"name": "x" * 256}, "events_name_length"),
    ("categories", {"id": "{category}"}, "categories_pkey"),
    ("categories", {"organization_id": UNKNOWN}, "categories_organization_fkey"),
    ("occurrences", {"id": "{occurrence}"}, "occurrences_pkey"),
    ("occurrences", {"event_id": UNKNOWN}, "occurrences_event_fkey"),
    ("occurrences", {"capacity": -1}, "occurrences_capacity"),
    ("occurrences", {"registrations": -1}, "occurrences_registrations"),
    ("occurrences", {"waiting_list": None}, "waiting_list"),
    ("occurrences", {"start_date": "2030-01-02", "end_date": "2030-01-01"},
     "occurrences_dates"),
    ("event_users", {"id": "{user}"}, "event_users_pkey"),
    ("event_users", {"organization_id": UNKNOWN}, "event_users_organization_fkey"),
    ("event_users", {"external_id": ""}, "event_users_external_id_length"),
    ("event_users", {"external_id": "x" * 256}, "event_users_external_id_length"),
    ("event_users", {"external_id": "{taken}"}, "event_users_external_id_key"),
    ("event_users", {"email": "x" * 255}, "event_users_email_length"),
    ("event_users", {"first_name": "x" * 256}, "event_users_first_name_length"),
    ("event_users", {"last_name": "x" * 256}, "event_users_last_name_length"),
    ("event_users", {"role": None}, "role"),
    ("event_users", {"is_active": None}, "is_active"),
    ("event_categories", {"event_id": UNKNOWN}, "event_categories_event_fkey"),
    ("event_categories", {"category_id": UNKNOWN}, "event_categories_category_fkey"),
]
ALLOWED = [
    ("events", {"name": "\N{GRINNING FACE}" * 255}), ("occurrences", {"capacity": 0}),
    ("occurrences", {"capacity": 2147483647}), ("occurrences", {"capacity": None}),
    ("occurrences", {"start_date": "2030-01-01", "end_date": "2030-01-01"}),
    ("occurrences", {"start_date": None, "end_date": "2030-01-01"}),
    ("event_users", {"external_id": "x" * 255, "organization_id": "{organization}"}),
    ("event_users", {"email": "x" * 254, "first_name": "x" * 255, "last_name": "x" * 255}),
]


@pytest.fixture
def insert(sql, event, occurrence, organization):
    """insert("events", {"name": None}): inserts a good row with that change."""
    def run(table, change):
        place, user = new_uuid(), new_uuid()
        made = {"event": event(), "occurrence": occurrence(), "category": place, "user": user,
                "uuid": new_uuid(), "taken": user, "organization": organization()}
        sql("INSERT INTO categories (id, organization_id, name) VALUES (%s, %s, 'A category')",
            place, ORGANIZATION)
        sql("INSERT INTO event_users (id, organization_id, external_id) VALUES (%s, %s, %s)",
            user, ORGANIZATION, user)
        row = {column: value.format(**made) if isinstance(value, str) else value
               for column, value in {**GOOD[table], **change}.items()}
        return sql(f"INSERT INTO {table} ({', '.join(row)})"
                   f" VALUES ({', '.join(['%s'] * len(row))}) RETURNING *", *row.values())
    return run


@pytest.mark.parametrize("table, change, by", REFUSED,
                         ids=[f"{table} {by} {str(change)[:20]}" for table, change, by in REFUSED])
def test_invalid_row_violates_constraint(insert, expect_log, table, change, by):
    expect_log("violates")
    with pytest.raises(psycopg2.IntegrityError) as refusal:
        insert(table, change)
    assert by in (refusal.value.diag.constraint_name, refusal.value.diag.column_name)


@pytest.mark.parametrize("table, change", [*((table, {}) for table in GOOD), *ALLOWED], ids=str)
def test_valid_row_is_inserted(insert, table, change):
    assert len(insert(table, change)) == 1


def test_columns_have_defaults(api, sql, event, occurrence):
    [(event_id,)] = sql("INSERT INTO events (organization_id, name) VALUES (%s, 'Bare')"
                        " RETURNING id::text", ORGANIZATION)
    [(one,)] = sql("INSERT INTO occurrences (event_id) VALUES (%s) RETURNING id::text", event_id)
    external = new_uuid()
    [(user,)] = sql("INSERT INTO event_users (organization_id, external_id) VALUES (%s, %s)"
                    " RETURNING id::text", ORGANIZATION, external)
    shown = created(api, one, external)
    for part in ("user", "occurrence", "event"):
        assert TIMESTAMP.fullmatch(shown[part].pop("createdAt"))
        assert TIMESTAMP.fullmatch(shown[part].pop("updatedAt"))
    assert shown["user"] == {
        "id": user, "organizationId": ORGANIZATION, "email": None, "firstName": None,
        "lastName": None, "role": "attendee", "avatar": None, "isActive": True}
    assert shown["occurrence"] == {"id": one, "startDate": None, "endDate": None,
                                   "capacity": None, "registrations": 1}
    assert shown["event"] == {"id": event_id, "name": "Bare", "slug": None, "description": None}
    sql("UPDATE occurrences SET capacity = 1 WHERE id = %s", one)
    assert created(api, one, "another")["status"] == "WAITING_LIST"   # waiting_list is true


@pytest.mark.parametrize("table, column", [
    ("occurrences", "event_id"), ("events", "organization_id"),
    ("event_users", "organization_id")])
def test_columns_copied_into_registrations_are_immutable(api, sql, event, occurrence,
                                                         expect_log, table, column):
    expect_log("cannot be changed")
    registration = created(api, occurrence())
    part = {"occurrences": "occurrence", "events": "event", "event_users": "user"}[table]
    other = event() if column == "event_id" else OTHER_ORGANIZATION
    with pytest.raises(psycopg2.errors.RestrictViolation, match=f"{table}.{column}"):
        sql(f"UPDATE {table} SET {column} = %s WHERE id = %s", other, registration[part]["id"])
    sql(f"UPDATE {table} SET {column} = {column} WHERE id = %s", registration[part]["id"])
    assert get(api, registration).json() == registration


# A column, a new value, the key of the answer that shows it, and whether it changes updatedAt.
SHOWN = [
    ("organizations", "name", "Renamed", ("organization", "name"), False),
    ("events", "name", "Renamed", ("event", "name"), True),
    ("events", "slug", "renamed", ("event", "slug"), True),
    ("events", "description", "Another", ("event", "description"), True),
    ("occurrences", "start_date", "2030-12-25T11:00:00Z",
     ("occurrence", "startDate", "2030-12-25T11:00:00.000Z"), True),
    ("occurrences", "end_date", None, ("occurrence", "endDate"), True),
    ("occurrences", "capacity", 7, ("occurrence", "capacity"), True),
    ("event_users", "email", "new@example.org", ("user", "email"), True),
    ("event_users", "first_name", "Ann", ("user", "firstName"), True),
    ("event_users", "last_name", "Ek", ("user", "lastName"), True),
    ("event_users", "role", "speaker", ("user", "role"), True),
    ("event_users", "avatar", "https://example.org/a.png", ("user", "avatar"), True),
    ("event_users", "is_active", False, ("user", "isActive"), True),
]


@pytest.mark.parametrize("table, column, value, shown, is_touched", SHOWN,
                         ids=[f"{table}.{column}" for table, column, *_ in SHOWN])
def test_change_by_administrator_is_returned_at_once(
        api, sql, organization, event, occurrence, table, column, value, shown, is_touched):
    """In the answer, its entity tag and updatedAt, but not in the registration's version."""
    registration = created(api, occurrence(event_id=event(organization())), new_uuid())
    tag = get(api, registration).headers["ETag"]
    part, key, *text = shown
    sql(f"UPDATE {table} SET {column} = %s WHERE id = %s", value, registration[part]["id"])
    answer = get(api, registration)
    now = answer.json()
    assert now[part].pop(key) == (text[0] if text else value)
    if "updatedAt" in now[part]:
        assert (now[part].pop("updatedAt") > registration[part].pop("updatedAt")) == is_touched
    del registration[part][key]
    assert now == registration
    assert answer.headers["ETag"] != tag
    assert answer.headers["ETag"].split("-")[0] == tag.split("-")[0]


def test_registration_count_does_not_change_updated_at(api, occurrence):
    one = occurrence(capacity=1)
    registration = created(api, one, "first")
    created(api, one, "second")
    now = updated(api, registration, status="CANCELLED")
    assert now["occurrence"] == registration["occurrence"]


@pytest.mark.parametrize("table", ["events", "categories"])
def test_event_category_is_deleted_with_event_or_category(sql, insert, table):
    [(event_id, category)] = insert("event_categories", {})
    sql(f"DELETE FROM {table} WHERE id = %s", event_id if table == "events" else category)
    assert sql("SELECT event_id FROM event_categories WHERE category_id = %s", category) == []


@pytest.mark.parametrize("table, part", [("occurrences", "occurrence"), ("events", "event"),
                                         ("event_users", "user"),
                                         ("organizations", "organization")])
def test_referenced_row_cannot_be_deleted(api, sql, occurrence, expect_log, table, part):
    expect_log("violates foreign key constraint")
    registration = created(api, occurrence(), new_uuid())
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        sql(f"DELETE FROM {table} WHERE id = %s", registration[part]["id"])
    assert get(api, registration).json() == registration
