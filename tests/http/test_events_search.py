# SPDX-License-Identifier: Apache-2.0
"""GET of the collection of event registrations: filters, text search, invalid parameters."""

import types

import pytest

from conftest import ORGANIZATION, new_uuid
from event_registrations import (DEMO_EVENT, DEMO_OCCURRENCE, MOUNT, OTHER_ORGANIZATION,
                                 UNKNOWN, category_of, check_keys, created, crowd, delete,
                                 empty, error, get, ids, person, search, updated)


def found(api, **params):
    """The set of ids that a search finds."""
    return set(ids(search(api, **{"limit": 1000, **params})))


# --- The answer ----------------------------------------------------------------------------

def test_answer_is_array_of_complete_registrations(api, occurrence):
    one = occurrence()
    crowd(api, one, 2)
    answer = api.get(MOUNT, params={"occurrenceId": one})
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert isinstance(answer.json(), list)
    for registration in answer.json():
        check_keys(registration)
        assert registration == get(api, registration).json()


def test_search_without_match_is_empty_array(api):
    for filter in ({"eventId": UNKNOWN}, {"occurrenceId": UNKNOWN}, {"categories": UNKNOWN},
                   {"search": UNKNOWN}, {"page": 2147483647},
                   {"page": 2147483647, "limit": 1000}):
        answer = api.get(MOUNT, params=filter)
        assert (answer.status_code, answer.text) == (200, "[]")


def test_example_of_api_page(api, sql):
    empty(sql, DEMO_OCCURRENCE)
    one = created(api, DEMO_OCCURRENCE, "ext_user_12345")
    created(api, DEMO_OCCURRENCE, new_uuid())
    answer = api.get(f"{MOUNT}?eventId={DEMO_EVENT}&status=CONFIRMED&search=john")
    assert ids(answer.json()) == [one["id"]]
    empty(sql, DEMO_OCCURRENCE)


def test_head_is_get_without_body(api, occurrence):
    params = {"occurrenceId": occurrence()}
    created(api, params["occurrenceId"])
    whole, head = api.get(MOUNT, params=params), api.head(MOUNT, params=params)
    assert (head.status_code, head.text) == (200, "")
    for name in ("Content-Type", "Content-Length", "Link", "X-Total-Count"):
        assert head.headers[name] == whole.headers[name]


# --- Filters -------------------------------------------------------------------------------

def test_filter_by_event_occurrence_and_status(api, event, occurrence):
    one = event()
    first, second = occurrence(event_id=one), occurrence(event_id=one, capacity=1)
    a, b = created(api, first, "a"), created(api, first, "b", status="ATTENDED")
    c, d = created(api, second, "c"), created(api, second, "d")
    e = created(api, second, "e", status="WAITING_LIST")
    updated(api, e, status="CANCELLED")
    for filter, expected in [
            ({"eventId": one}, {a["id"], b["id"], c["id"], d["id"], e["id"]}),
            ({"occurrenceId": first}, {a["id"], b["id"]}),
            ({"occurrenceId": second.upper()}, {c["id"], d["id"], e["id"]}),
            ({"eventId": one, "occurrenceId": first}, {a["id"], b["id"]}),
            ({"eventId": UNKNOWN, "occurrenceId": first}, set()),
            ({"eventId": one, "status": "CONFIRMED"}, {a["id"], c["id"]}),
            ({"eventId": one, "status": "ATTENDED"}, {b["id"]}),
            ({"eventId": one, "status": "WAITING_LIST"}, {d["id"]}),
            ({"eventId": one, "status": "CANCELLED"}, {e["id"]}),
            ({"eventId": one, "status": "PENDING"}, set())]:
        assert found(api, **filter) == expected, filter


@pytest.fixture
def categorized(api, sql, event, occurrence):
    """Registrations for events in category a, in b, in both and in none."""
    events = {name: event() for name in ("in_a", "in_b", "in_both", "in_none")}
    return types.SimpleNamespace(
        a=category_of(sql, events["in_a"], events["in_both"]),
        b=category_of(sql, events["in_b"], events["in_both"]),
        **{name: created(api, occurrence(event_id=one))["id"]
           for name, one in events.items()})


@pytest.mark.parametrize("spelling", [
    "categories={a}&categories={b}", "categories[]={a}&categories[]={b}",
    "categories%5B%5D={a}&categories%5B%5D={b}", "categories={a},{b}",
    "categories={a}%2C{b}", "categories={a}&categories[]={b}", "categories[]={a},{b}",
    "categories={b}&limit=5&categories={a},{a}", "categories[0]={a}&categories[1]={b}",
    "categories%5B12%5D={a},{b}"])
def test_categories_parameter_accepts_each_array_syntax(api, categorized, spelling):
    query = spelling.format(a=categorized.a, b=categorized.b)
    assert sorted(ids(api.get(f"{MOUNT}?{query}").json())) == sorted(
        [categorized.in_a, categorized.in_b, categorized.in_both])


def test_filter_by_one_category(api, categorized):
    assert found(api, categories=categorized.a.upper()) == {categorized.in_a,
                                                            categorized.in_both}
    assert found(api, categories=f"{categorized.b},{UNKNOWN}") == {categorized.in_b,
                                                                   categorized.in_both}


def test_event_in_two_categories_counts_once(api, categorized):
    answer = api.get(f"{MOUNT}?categories={categorized.a},{categorized.b}")
    assert answer.headers["X-Total-Count"] == "3"


def test_trashed_registrations_are_listed_only_with_trashed(api, occurrence):
    one = occurrence()
    people = crowd(api, one, 3)
    trashed = delete(api, people[1]).json()
    left = {people[0]["id"], people[2]["id"]}
    for no in ({}, {"withTrashed": "false"}, {"withTrashed": "0"}):
        assert found(api, occurrenceId=one, **no) == left
    for yes in ("true", "1"):
        listed = search(api, occurrenceId=one, withTrashed=yes, sort="createdAt ASC")
        assert ids(listed) == ids(people)
        assert listed[1] == {**trashed, "occurrence": listed[0]["occurrence"]}
        check_keys(listed[1], deleted=True)


def test_trashed_registrations_are_filtered_and_sorted(api, occurrence, sql):
    one = occurrence()
    people = [person(api, sql, one, first_name=f"Zoë {n % 3}", last_name=f"Quist {n}")
              for n in range(6)]
    for n in (1, 2, 4):
        delete(api, people[n])
    updated(api, people[3], status="CANCELLED")
    for sort, order in [("lastName ASC", (0, 1, 2, 4, 5)), ("lastName DESC", (5, 4, 2, 1, 0)),
                        ("firstName ASC", (0, 1, 4, 2, 5)), ("createdAt", (0, 1, 2, 4, 5)),
                        ("eventName", (0, 1, 2, 4, 5)), ("startDate", (0, 1, 2, 4, 5))]:
        filter = dict(occurrenceId=one, status="CONFIRMED", search="quist", withTrashed="1",
                      sort=sort, limit=2)
        pages = [search(api, page=page, **filter) for page in (1, 2, 3)]
        assert [id for page in pages for id in ids(page)] == [people[n]["id"] for n in order]


# --- Text ----------------------------------------------------------------------------------

TEXT = {"email": "Anna.Larsen@Example.org", "first_name": "Anna Sofie", "last_name": "Lärsén",
        "phone": "+4512345678"}


@pytest.mark.parametrize("text", [
    "anna.larsen@example.org", "ANNA.L", "@exam", "anna sofie", "NA SO", "lärsén", "LÄRSÉN",
    "ÉN", "é", "+45123456", "345678"])
def test_text_search_is_case_insensitive_substring(api, occurrence, sql, text):
    one = occurrence()
    someone = person(api, sql, one, **TEXT)
    person(api, sql, one, "b@b.com", "Bob", "Brown", "+1")
    assert found(api, occurrenceId=one, search=text) == {someone["id"]}


def test_text_search_covers_event_name_event_id_and_user_id(api, event, occurrence):
    one_event = event(name="Ärger mit Straßenbahnen")
    one = occurrence(event_id=one_event)
    first, second = created(api, one, new_uuid()), created(api, one, new_uuid())
    for text in ("ärger MIT", "ÄRGER", one_event, one_event.upper()[3:20]):
        assert found(api, search=text, occurrenceId=one) == {first["id"], second["id"]}
    assert found(api, search=one_event) == {first["id"], second["id"]}
    assert found(api, search=first["user"]["id"]) == {first["id"]}
    assert found(api, search=second["user"]["id"][14:].upper(), occurrenceId=one) == {
        second["id"]}


def test_text_search_covers_no_other_columns(api, organization, event, occurrence):
    word = new_uuid().replace("-", "")
    one = occurrence(event_id=event(organization(word)))
    registration = created(api, one, word, fields={"company": word})
    for text in (word, registration["event"]["slug"], "What it is about",
                 registration["id"], one, registration["organization"]["id"]):
        assert found(api, search=text, occurrenceId=one) == set(), text


# Without hexadecimal digits, which might match an id.
LITERAL = ["z%", "zz", "p_q", "pxq", "p\\q", "pq", "p'q", 'p"q', "p\\%q", "x*y", "x.y",
           "(x|y)", "[z]", "$1", "p;q", "p&q", "p+q", "p=q", "p#q", "p q", "{p,q}", "日本",
           "東京都", "\N{GRINNING FACE}", "z\u0301"]


@pytest.mark.parametrize("text", LITERAL + ["%", "_", "\\", "'", "本", "+", "&"])
def test_text_search_has_no_special_characters(api, occurrence, sql, text):
    one = occurrence()
    people = {name: person(api, sql, one, last_name=f"x{name}x")["id"] for name in LITERAL}
    expected = {people[name] for name in LITERAL if text in f"x{name}x"}
    assert expected
    assert found(api, occurrenceId=one, search=text) == expected


def test_text_search_matches_within_one_column(api, occurrence, sql):
    one = occurrence()
    person(api, sql, one, "ann@example.org", "Ann", "Nord", "+45")
    for text in ("annnord", "organn", "nord+45", "ann@example.organn"):
        assert found(api, occurrenceId=one, search=text) == set()


def test_text_search_accepts_up_to_255_characters(api, occurrence, sql):
    one = occurrence()
    someone = person(api, sql, one, last_name="\N{GRINNING FACE}" * 255)
    assert found(api, occurrenceId=one, search="\N{GRINNING FACE}" * 255) == {someone["id"]}
    answer = api.get(MOUNT, params={"search": "\N{GRINNING FACE}" * 256})
    assert set(error(answer, 400)) == {"search"}


def test_text_search_finds_changes_by_administrator(api, sql, occurrence):
    one = occurrence()
    someone = person(api, sql, one, first_name="Jon")
    sql("UPDATE event_users SET first_name = 'Ethelbert' WHERE id = %s",
        someone["user"]["id"])
    sql("UPDATE events SET name = 'Fête' WHERE id = %s", someone["event"]["id"])
    assert found(api, occurrenceId=one, search="ethelbert") == {someone["id"]}
    assert found(api, occurrenceId=one, search="FÊTE") == {someone["id"]}
    assert found(api, occurrenceId=one, search="jon") == set()


def test_text_search_finds_common_name(api, sql, occurrence):
    """The operation uses another query plan for common texts."""
    word = new_uuid()[:8]
    sql("INSERT INTO event_users (organization_id, external_id, first_name)"
        " SELECT %s, %s || n, %s || n FROM generate_series(1, 1500) n", ORGANIZATION, word,
        word)
    one = occurrence()
    some = [created(api, one, f"{word}{n}") for n in (3, 1500, 700)]
    created(api, one, "another")
    assert ids(search(api, search=word, sort="createdAt")) == ids(some)
    assert ids(search(api, search=word, sort="firstName")) == [
        some[i]["id"] for i in (1, 0, 2)]
    assert found(api, search=word, occurrenceId=one, status="PENDING") == set()
    assert found(api, search=word + "15") == {some[1]["id"]}


# --- Invalid parameters --------------------------------------------------------------------

WRONG = [
    ("limit", ["0", "-1", "1001", "ten", "1.5", "1e2", "99999999999999999999", "0x10"]),
    ("page", ["0", "-1", "2147483648", "one", "1.5", "99999999999999999999"]),
    ("sort", ["password", "createdAt DOWN", "createdAt ASC, id", "createdAt;", "id",
              "createdAt ASC NULLS FIRST", "created_at", "created", "createdAtASC"]),
    ("eventId", ["1", "x" * 36, UNKNOWN + "0"]),
    ("occurrenceId", ["1", "{" + UNKNOWN + "}"]),
    ("status", ["confirmed", "DELETED", "CONFIRMED,PENDING"]),
    ("search", ["x" * 256, "a\nb", "a\x00b", "\x7f"]),
    ("categories", ["1", f"{UNKNOWN},1", f"1,{UNKNOWN}", "", ","]),
    ("withTrashed", ["yes", "TRUE", "2"]),
    ("bom", ["yes", "2"]),
    ("after", ["", "x", "Y3JlYXRlZEF0CnRydWUK", UNKNOWN]),
]


@pytest.mark.parametrize("name, value", [(name, value) for name, values in WRONG
                                         for value in values], ids=lambda x: repr(x)[:40])
def test_invalid_parameter_is_named(api, name, value):
    assert set(error(api.get(MOUNT, params={name: value}), 400)) == {name}


@pytest.mark.parametrize("name", ["search", "sort", "categories", "status", "limit"])
@pytest.mark.parametrize("value", ["%ff", "%c3", "%ed%a0%80"])
def test_parameter_not_utf8_is_named(api, name, value):
    assert set(error(api.get(f"{MOUNT}?{name}={value}"), 400)) == {name}


def test_all_invalid_parameters_are_reported_at_once(api):
    wrong = {name: values[0] for name, values in WRONG}
    assert set(error(api.get(MOUNT, params=wrong), 400)) == set(wrong)


def test_unknown_parameters_are_ignored(api, occurrence):
    one = occurrence()
    people = crowd(api, one, 1)
    assert ids(search(api, occurrenceId=one, organizationId=OTHER_ORGANIZATION,
                      offset="x", limited="x", **{"": "", "%": "%", "status[]": "x"})) \
        == ids(people)
    assert api.get(f"{MOUNT}?&&=&x&occurrenceId={one}&").status_code == 200


@pytest.mark.parametrize("spelling, name", [
    ("occurrenceID", "occurrenceId"), ("occurrence_id", "occurrenceId"),
    ("occurrence-ids", "occurrenceId"), ("EVENTID", "eventId"), ("Status", "status"),
    ("statuses", "status"), ("category", "categories"), ("Categories[]", "categories"),
    ("withtrashed", "withTrashed"), ("with_trashed", "withTrashed"), ("pages", "page"),
    ("Limit", "limit"), ("sorts", "sort"), ("BOM", "bom")])
def test_misspelt_parameter_is_400(api, spelling, name):
    """If it were ignored, the list would be longer than intended."""
    answer = api.get(MOUNT, params={spelling: UNKNOWN})
    assert error(answer, 400) == {name: "must be spelled exactly like this"}


def test_misspelt_flag_of_single_registration_is_400(api, occurrence):
    one = created(api, occurrence())
    for method in ("GET", "DELETE"):
        answer = api.request(method, f"{MOUNT}/{one['id']}", params={"withtrashed": "true"})
        assert set(error(answer, 400)) == {"withTrashed"}
    assert api.get(f"{MOUNT}/{one['id']}", params={"limit": "x"}).status_code == 200


def test_invalid_sort_error_explains_syntax(api):
    [message] = error(api.get(MOUNT, params={"sort": "createdAt:ASC"}), 400).values()
    assert "a space and ASC or DESC behind it" in message


@pytest.mark.parametrize("limit", ["1", "1000"])
def test_limit_accepts_1_and_1000(api, limit):
    assert api.get(MOUNT, params={"limit": limit}).status_code == 200
