# SPDX-License-Identifier: Apache-2.0
"""GET of the collection of event registrations: sort order, pages, links and total count."""

import re
import types

import pytest
import requests

from conftest import ORGANIZATION
from event_registrations import (MOUNT, TENANT_MOUNT, category_of, created, crowd, error, ids,
                                 person, search, updated)


# --- Order ---------------------------------------------------------------------------------

def test_default_order_is_newest_first(api, occurrence):
    one = occurrence()
    people = crowd(api, one, 3)
    assert ids(search(api, occurrenceId=one)) == ids(people)[::-1]


@pytest.fixture
def sortable(api, event, occurrence, sql):
    """Three registrations, and by field their ascending order when sorted by it."""
    made, events = [], []
    for n, (name, start, email, first, last) in enumerate([
            ("Beta", "2031-01-03", "c@example.org", "Ann", "Young"),
            ("Gamma", "2031-01-01", "b@example.org", "Cid", "Xu"),
            ("Alpha", "2031-01-02", "a@example.org", "Bea", "Zed")]):
        events.append(event(name=name))
        place = occurrence(event_id=events[n], start_date=f"{start}T00:00:00Z",
                           end_date=None, capacity=int(n < 2))
        made.append(person(api, sql, place, email, first, last)["id"])
    updated(api, {"id": made[0]}, fields={"changed": 1})
    order = {"createdAt": (0, 1, 2), "updatedAt": (1, 2, 0), "startDate": (1, 2, 0),
             "eventName": (2, 0, 1), "firstName": (0, 2, 1), "lastName": (1, 0, 2),
             "email": (2, 1, 0)}
    return types.SimpleNamespace(
        category=category_of(sql, *events), made=made,
        order={field: [made[i] for i in three] for field, three in order.items()})


def test_sort_by_each_field_in_each_direction(api, sortable):
    for field, expected in sortable.order.items():
        for sort, order in ((field, expected), (f"{field} ASC", expected),
                            (f"{field} DESC", expected[::-1])):
            assert ids(search(api, categories=sortable.category, sort=sort)) == order, sort


def test_sort_by_status(api, sortable):
    # The third is on the waiting list: its occurrence has no places.
    up = ids(search(api, categories=sortable.category, sort="status ASC"))
    down = ids(search(api, categories=sortable.category, sort="status DESC"))
    assert up[2] == down[0] == sortable.made[2]


@pytest.mark.parametrize("field", ["status", "eventName", "startDate", "firstName", "email",
                                   "createdAt", "updatedAt", "lastName"])
@pytest.mark.parametrize("direction", ["ASC", "DESC"])
def test_pages_of_equal_sort_keys_do_not_overlap(api, sql, occurrence, field, direction):
    one = occurrence()
    people = crowd(api, one, 5)
    sql("UPDATE event_registrations SET created_at = '2031-01-01', updated_at = '2031-01-01'"
        " WHERE occurrence_id = %s", one)
    sort = f"{field} {direction}"
    pages = [search(api, occurrenceId=one, sort=sort, limit=2, page=page)
             for page in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    listed = [id for page in pages for id in ids(page)]
    assert set(listed) == set(ids(people))
    assert listed == ids(search(api, occurrenceId=one, sort=sort))
    if direction == "ASC":
        assert listed == sorted(listed)


# --- Pages ---------------------------------------------------------------------------------

def test_default_page_size_is_ten(api, occurrence):
    one = occurrence()
    people = crowd(api, one, 12)
    newest = ids(people)[::-1]
    assert ids(search(api, occurrenceId=one)) == newest[:10]
    assert ids(search(api, occurrenceId=one, page=2)) == newest[10:]
    assert len(search(api, occurrenceId=one, limit=11)) == 11
    assert len(search(api, occurrenceId=one, limit=1000)) == 12


def relations(answer):
    """The query string of each link; checks that each is a link to the collection."""
    made = {}
    for relation, link in answer.links.items():
        base, _, query = link["url"].partition("?")
        assert base == MOUNT
        made[relation] = query
    return made


def test_links_lead_to_other_pages(api, occurrence):
    one = occurrence()
    people = crowd(api, one, 5)
    listed = {}
    for page in (1, 2, 3):
        answer = api.get(MOUNT, params={"occurrenceId": one, "limit": 2, "page": page})
        assert answer.headers["X-Total-Count"] == "5"
        links = relations(answer)
        assert set(links) == {"first", "last"} | ({"prev"} if page > 1 else set()) | (
            {"next"} if page < 3 else set())
        for relation, query in links.items():
            listed.setdefault({"first": 1, "prev": page - 1, "next": page + 1,
                               "last": 3}[relation], set()).add(
                tuple(ids(api.get(f"{MOUNT}?{query}").json())))
    newest = ids(people)[::-1]
    assert listed == {1: {tuple(newest[:2])}, 2: {tuple(newest[2:4])},
                      3: {tuple(newest[4:])}}


def test_prev_link_of_page_beyond_last_is_last_page(api, occurrence):
    one = occurrence()
    crowd(api, one, 5)
    for page, before in [(4, 3), (100, 3), (3, 2)]:
        links = relations(api.get(MOUNT, params={"occurrenceId": one, "limit": 2,
                                                 "page": page}))
        assert links["prev"].endswith(f"&page={before}")
        assert links["last"].endswith("&page=3")


def test_links_are_not_much_longer_than_the_request(api):
    """Repeated and unknown parameters are not copied into each link."""
    for query, most in [("x=" + "%3C" * 2500, 400), ("limit=1&" * 900, 400),
                        ("categories=" + f"{ORGANIZATION}," * 200, 9000)]:
        answer = api.get(f"{MOUNT}?{query}", headers={"Accept": "application/json"})
        assert answer.status_code == 200
        assert len(answer.headers.get("Link", "")) < most


def test_single_page_has_no_prev_and_next(api, occurrence):
    one = occurrence()
    crowd(api, one, 2)
    answer = api.get(MOUNT, params={"occurrenceId": one, "limit": 2})
    assert set(relations(answer)) == {"first", "last"}


def test_links_keep_other_parameters(api, occurrence, sql):
    one = occurrence()
    expected = {person(api, sql, one, last_name=f"Ærø & <b>Sons</b>, \"{n}\" +1%")["id"]
                for n in range(5)}
    created(api, one)
    url = requests.Request("GET", "https://localhost" + MOUNT, params={
        "search": 'ærø & <b>sons</b>, "', "limit": "2", "sort": "lastName DESC",
        "occurrenceId": one, "status": "CONFIRMED", "page": "1", "withTrashed": "1",
        "other": "left out"}).prepare().path_url
    pages = []
    while url:
        answer = api.get(url)
        pages += ids(answer.json())
        url = answer.links.get("next", {}).get("url")
        assert url is None or "other" not in url and url.count("page=") == 1
    assert len(pages) == 5 and set(pages) == expected


def test_links_are_well_formed_for_any_query(api, raw, token, occurrence):
    one = occurrence()
    crowd(api, one, 2)
    target = f"{MOUNT}?occurrenceId={one}&limit=1&x=<y>;rel=\"evil\"&z=\xe9,'&page=1&bom=1"
    answer = raw(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}"
                 "\r\nConnection: close\r\n\r\n".encode("latin-1"))
    # httpd may refuse such a target altogether.
    if answer.status == 200:
        links = re.fullmatch(r'(<[!#-;=?-~]+>; rel="(first|next|last)"(, |$)){3}',
                             answer.headers["Link"])
        assert links and "<y" not in answer.headers["Link"]
    else:
        assert answer.status == 400


def test_page_size_is_limited_by_directive(start_httpd, client, token, api, occurrence):
    one = occurrence()
    crowd(api, one, 12)
    for most in (1, 3, 10, 11):
        limited = client(token, start_httpd(change=lambda site: site.replace(
            "RegistrationAPI events", f"RegistrationAPI events\nRegistrationMaxPageSize {most}")))
        for limit, count in ((None, min(most, 10)), (most, most)):
            answer = limited.get(MOUNT, params={"occurrenceId": one, "limit": limit})
            assert len(answer.json()) == count
            assert ("next" in answer.links) == (count < 12)
        for limit in (most + 1, 1000):
            assert error(limited.get(MOUNT, params={"limit": limit}), 400) == {
                "limit": f"must be from 1 to {most}"}


@pytest.fixture(scope="module")
def ten_thousand(postgres):
    """An occurrence with 10,000 registrations, shared because it takes seconds to make."""
    connection = postgres.connect()
    cursor = connection.cursor()
    cursor.execute("SET search_path = registration")
    cursor.execute("INSERT INTO events (organization_id, name) VALUES (%s, 'Many')"
                   " RETURNING id", (ORGANIZATION,))
    made = types.SimpleNamespace(event=cursor.fetchone()[0])
    cursor.execute("INSERT INTO occurrences (event_id, start_date) VALUES (%s, '2030-01-01')"
                   " RETURNING id", (made.event,))
    made.occurrence = cursor.fetchone()[0]
    cursor.execute(
        "SELECT count(*) FROM (SELECT array_agg(gen_random_uuid()) AS ids,"
        " array_agg(%s::uuid) AS one, array_agg('ten thousand ' || n) AS users,"
        " array_agg(NULL::jsonb) AS none, array_agg(NULL::text) AS nothing,"
        " array_agg(NULL::uuid) AS no_limit FROM generate_series(1, 10000) n) AS given,"
        " events_create(ids, one, users, none, ids, nothing, nothing, nothing, nothing,"
        " no_limit, nothing, nothing)", (made.occurrence,))
    connection.close()
    return made


def test_total_is_counted_up_to_ten_thousand(api, sql, ten_thousand):
    params = {"occurrenceId": ten_thousand.occurrence, "limit": 1000, "page": 10}
    filters = [{name: value, **more} for name, value in (
        ("occurrenceId", ten_thousand.occurrence), ("eventId", ten_thousand.event),
        ("categories", category_of(sql, ten_thousand.event)), ("search", ten_thousand.event))
        for more in ({}, {"status": "CONFIRMED"}, {"withTrashed": "true"}, {"sort": "email"})]

    def totals():
        return [api.get(mount, params={**filter, "limit": 1}).headers.get("X-Total-Count")
                for filter in filters for mount in (MOUNT, TENANT_MOUNT)]
    assert set(totals()) == {"10000"}
    answer = api.get(MOUNT, params=params)
    assert len(answer.json()) == 1000
    assert answer.headers["X-Total-Count"] == "10000"
    assert set(relations(answer)) == {"first", "prev", "last"}
    created(api, ten_thousand.occurrence, "one more")
    assert set(totals()) == {None}
    answer = api.get(MOUNT, params=params)
    assert "X-Total-Count" not in answer.headers
    assert set(relations(answer)) == {"first", "prev", "next"}
    for sort in ("eventName", "startDate DESC", "lastName", "status"):
        last = api.get(MOUNT, params={**params, "page": 11, "sort": sort})
        assert len(last.json()) == 1
        assert set(relations(last)) == {"first", "prev"}


def test_order_of_more_than_ten_thousand_is_correct(api, sql, event, occurrence,
                                                    ten_thousand):
    """The operation uses another query plan for long lists."""
    events = {"ASC": event(name="A"), "DESC": event(name="Z")}
    category = category_of(sql, ten_thousand.event, *events.values())
    ends = {}
    for direction, start in (("ASC", "2020-01-01"), ("DESC", "2040-01-01")):
        place = occurrence(event_id=events[direction], start_date=start, end_date=None)
        ends[direction] = {created(api, place, f"user {n}", status=status)["id"]
                           for n, status in enumerate(["PENDING", "CONFIRMED", "CANCELLED"])}
    for sort in ("eventName", "startDate"):
        for direction, end in ends.items():
            pages = [search(api, categories=category, sort=f"{sort} {direction}", limit=2,
                            page=page) for page in (1, 2, 3)]
            listed = [id for page in pages for id in ids(page)]
            assert set(listed[:3]) == end
            assert len(set(listed)) == 6
            assert {one["event"]["name"] for one in pages[1][1:] + pages[2]} == {"Many"}
    newest = search(api, categories=category, limit=3)
    assert set(ids(newest)) == ends["DESC"]
