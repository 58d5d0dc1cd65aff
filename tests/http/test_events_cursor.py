# SPDX-License-Identifier: Apache-2.0
"""GET of the collection of event registrations: page sizes in bytes, and the keyset cursor
`after`."""

import base64
import itertools
import json
import re

import pytest
import requests

from conftest import ORGANIZATION
from event_registrations import (MOUNT, TENANT_MOUNT, category_of, created, delete, error,
                                 ids, insert_registrations, person, search, updated)
from scratch import OnScratch

FIELDS = ("createdAt", "updatedAt", "status", "startDate", "eventName", "firstName",
          "lastName", "email")
ORDERS = [f"{field} {direction}" for field in FIELDS for direction in ("ASC", "DESC")]


def pages(api, mount=MOUNT, most=100, **params):
    """The answers of all pages, following the links."""
    url = requests.Request("GET", "https://localhost" + mount, params=params).prepare().path_url
    for number in itertools.count(1):
        answer = api.get(url)
        assert answer.status_code == 200, answer.text
        yield answer
        if "next" not in answer.links:
            return
        url = answer.links["next"]["url"]
        assert f"page={number + 1}&after=" in url and number < most


def ids_of_all_pages(api, **params):
    return [id for answer in pages(api, **params) for id in ids(answer.json())]


@pytest.fixture
def mixed(api, sql, event, occurrence):
    """A category of registrations with nulls and ties in all nullable columns."""
    events = [event(name=name) for name in ("Alpha", "Beta", "Beta")]
    places = [occurrence(event_id=events[n % 3], start_date=start, end_date=None, capacity=3)
              for n, start in enumerate(["2031-01-02T00:00:00Z", None, "2031-01-01T00:00:00Z",
                                         "2031-01-02T00:00:00Z", None])]
    names = [None, "Ann", "Bea", "Ann", "Zoë \U0001F600"]
    made = [person(api, sql, place, email=None if n % 4 == 3 else f"{n % 7}@example.org",
                   first_name=names[n % 5], last_name=names[n * 3 % 5])
            for place in places for n in range(6)]
    sql("UPDATE event_registrations SET created_at = '2031-01-01' WHERE id = ANY (%s::uuid[])",
        ids(made[3:9]))
    updated(api, made[4], status="CANCELLED")
    for n in (0, 11, 22):
        delete(api, made[n])
    return {"categories": category_of(sql, *events)}, {"occurrenceId": places[1]}, {
        "eventId": events[1]}


@pytest.mark.parametrize("sort", ORDERS)
def test_cursor_pages_list_each_registration_once_in_order(api, mixed, sort):
    for number, filter in enumerate([*mixed, {**mixed[0], "withTrashed": "1"},
                                     {**mixed[0], "search": "ann"},
                                     {**mixed[0], "status": "CONFIRMED"}]):
        whole = ids(search(api, sort=sort, limit=1000, **filter))
        assert len(whole) > 4
        for limit in (1, 3) if number == 0 else (4,):
            assert ids_of_all_pages(api, sort=sort, limit=limit, **filter) == whole, filter


def test_cursor_pages_stay_within_organization(api, mixed, sql, event,
                                               organization, occurrence):
    home = organization()
    other = [created(api, occurrence(event_id=event(home)), f"user {n}") for n in range(3)]
    category = category_of(sql, *{one["event"]["id"] for one in other})
    for sort in ORDERS:
        listed = ids_of_all_pages(api, mount=TENANT_MOUNT, sort=sort, limit=20, **mixed[0])
        assert listed == ids(search(api, sort=sort, limit=100, **mixed[0]))
        # A cursor of another organization is invalid.
        first = next(pages(api, sort=sort, limit=1, categories=category))
        answer = api.get(first.links["next"]["url"].replace(MOUNT, TENANT_MOUNT))
        if sort.startswith(("firstName", "lastName", "email")):
            assert set(error(answer, 400)) == {"after"}
        else:
            assert answer.json() == []


def test_changed_registration_does_not_shift_others(api, occurrence):
    one = {"occurrenceId": occurrence()}
    people = [created(api, one["occurrenceId"], f"user {n}") for n in range(6)]
    for sort, expected in [("updatedAt ASC", [*ids(people), people[1]["id"]]),
                           ("updatedAt DESC", ids(people)[::-1])]:
        met = []
        for number, answer in enumerate(pages(api, sort=sort, limit=2, **one)):
            met += ids(answer.json())
            if number == 0:   # It moves ahead of or behind the cursor.
                updated(api, people[1], fields={sort: "changed"})
        if sort.endswith("DESC"):
            assert met == [people[1]["id"], *[id for id in expected if id != people[1]["id"]]]
        else:
            assert met == expected


def test_cursor_at_deleted_registration_is_valid(api, occurrence):
    for sort in ("createdAt", "lastName", "startDate", "eventName"):
        one = {"occurrenceId": occurrence(), "limit": 2, "sort": sort}
        people = ids(created(api, one["occurrenceId"], f"user {n}") for n in range(4))
        first = next(pages(api, **one))
        assert ids(first.json()) == people[:2]
        delete(api, first.json()[1])
        assert ids(api.get(first.links["next"]["url"]).json()) == people[2:]


def decoded(cursor):
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()


def test_cursor_holds_no_personal_data(api, sql, occurrence):
    one = occurrence()
    for n in range(2):
        person(api, sql, one, f"jane{n}@example.org", f"Jane {n}", f"Doe {n}")
    for sort in ORDERS:
        answer = next(pages(api, sort=sort, limit=1, occurrenceId=one))
        cursor = answer.links["next"]["url"].partition("after=")[2]
        assert not {"jane", "doe"} & {word for word in ("jane", "doe")
                                      if word in decoded(cursor).lower()}


def test_cursor_is_valid_for_one_sort_order(api, occurrence):
    one = occurrence()
    for n in range(2):
        created(api, one, f"user {n}")
    answer = next(pages(api, sort="createdAt", limit=1, occurrenceId=one))
    cursor = answer.links["next"]["url"].partition("after=")[2]
    for sort in ORDERS[1:]:
        assert set(error(api.get(MOUNT, params={"sort": sort, "after": cursor}), 400)) == {
            "after"}
    for wrong in (cursor[1:], cursor[:-3], cursor + "x", "*" + cursor, cursor.upper()):
        assert set(error(api.get(MOUNT, params={"sort": "createdAt", "after": wrong}),
                         400)) == {"after"}, wrong


def test_cursor_with_invalid_time_is_400(api):
    for moment in ("2025-13-01T00:00:00.000Z", "2025-02-30T00:00:00.000Z",
                   "2025-01-01T25:00:00.000Z", "0000-01-01T00:00:00.000Z"):
        text = f"createdAt\nfalse\n{ORGANIZATION}\n{moment}"
        cursor = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
        error(api.get(MOUNT, params={"sort": "createdAt", "after": cursor}), 400)


def test_page_numbers_still_work(api, mixed):
    for sort in ORDERS[::3]:
        whole = ids(search(api, sort=sort, limit=1000, **mixed[0]))
        by_number = [ids(search(api, sort=sort, limit=5, page=page, **mixed[0]))
                     for page in range(1, 8)]
        assert [id for page in by_number for id in page] == whole


# --- Page sizes in bytes -------------------------------------------------------------------

MOST = 4 * 1024 * 1024


def insert_large(query, place, count, size):
    """Inserts registrations with fields of that many bytes; their ids."""
    return insert_registrations(query, place, count,
                                f"jsonb_build_object('text', repeat('x', {size}))")


def check_pages(api, made, **params):
    """Checks that each page is as full as allowed, and that together they are the list."""
    answers = list(pages(api, **params))
    listed = [id for answer in answers for id in ids(answer.json())]
    assert len(listed) == len(made) and set(listed) == set(made)
    for answer, following in zip(answers, answers[1:]):
        assert len(answer.content) < MOST + 5000 or len(answer.json()) == 1
        if len(answer.json()) < params.get("limit", 10):
            first = json.dumps(following.json()[0], separators=(",", ":"))
            assert len(answer.content) + len(first) > MOST
    return [len(answer.json()) for answer in answers]


def test_page_is_limited_in_bytes(api, sql, occurrence):
    one = {"occurrenceId": occurrence()}
    made = insert_large(sql, one["occurrenceId"], 13, 1000000)
    assert check_pages(api, made, **one) == [4, 4, 4, 1]
    assert check_pages(api, made, sort="email DESC", limit=3, **one) == [3, 3, 3, 3, 1]
    answer = api.get(MOUNT, params=one)
    assert answer.headers["X-Total-Count"] == "13" and "last" in answer.links


@pytest.mark.parametrize("accept", ["text/csv", "application/x-ndjson"])
def test_chunk_of_streamed_list_is_limited_in_bytes(api, sql, occurrence, accept):
    one = occurrence()
    made = insert_large(sql, one, 40, 500000)
    answer = api.get(MOUNT, params={"occurrenceId": one}, headers={"Accept": accept})
    assert answer.status_code == 200
    shown = re.findall(r'^(?:"|{"id":")([0-9a-f-]{36})"', answer.text, re.MULTILINE)
    assert sorted(shown) == sorted(made)
    [[parts, most, rows]] = sql(
        "SELECT count(*), max(row_count), sum(row_count) FROM audit"
        " WHERE id = %s AND action = 'exported'", one)
    assert (parts, most, rows) == (5, 8, 40)


class TestOversizedRows(OnScratch):
    """Rows stored before fields were limited."""

    broken = """
        ALTER TABLE event_registrations DROP CONSTRAINT event_registrations_fields_size;"""

    def test_oversized_registration_is_a_page_of_its_own(self, client, token, sql,
                                                         occurrence):
        api = client(token)
        api.is_described = False
        one = {"occurrenceId": occurrence()}
        made = insert_large(sql, one["occurrenceId"], 3, 5_000_000)
        made += insert_large(sql, one["occurrenceId"], 8, 1000)
        answers = list(pages(api, **one))
        assert sorted(id for answer in answers for id in ids(answer.json())) == sorted(made)
        assert [len(answer.json()) for answer in answers][-3:] == [1, 1, 1]
        answer = api.get(MOUNT, params=one, headers={"Accept": "application/x-ndjson"})
        assert len(answer.content.splitlines()) == 11


class TestControlWithoutByteLimit(OnScratch):
    """Negative control: pages are limited in rows only."""

    broken = """
        DO $$ BEGIN
            EXECUTE replace(pg_get_functiondef('events_find'::regproc),
                            'most_bytes constant integer := 4194304',
                            'most_bytes constant integer := 1073741824');
        END $$;"""

    def test_control_oversized_page_is_detected(self, client, token, sql, occurrence):
        api = client(token)
        one = {"occurrenceId": occurrence()}
        made = insert_large(sql, one["occurrenceId"], 13, 1000000)
        with pytest.raises(AssertionError):
            check_pages(api, made, **one)
