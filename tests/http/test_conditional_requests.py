# SPDX-License-Identifier: Apache-2.0
"""Conditional requests (RFC 9110, section 13): If-Match and If-None-Match on every method.

A read compares the whole entity tag, a write only the version in it. A failed condition is
412, or 304 for If-None-Match on a read, and changes nothing.
"""

import contextlib
import itertools
import threading

import pytest

import servers
from apis import good   # noqa: F401, a fixture
from event_registrations import MOUNT, UNKNOWN, created, error, get, path, updated

OTHER = '"99-0123456789abcdef"'
FORMS = {"matching": "{tag}", "weak": "W/{tag}", "other": OTHER, "any": "*",
         "list with it": OTHER + ", {tag}", "list without it": OTHER + ', "98-0"',
         "compressed": "{gzip}", "malformed": "nonsense",
         "weak in a list": OTHER + ", W/{tag}"}
MATCHES_STRONGLY = {"matching", "any", "list with it", "compressed"}
MATCHES_WEAKLY = MATCHES_STRONGLY | {"weak", "weak in a list"}
READS, WRITES = ("GET", "HEAD"), ("PUT", "DELETE")


def value_of(form, tag):
    return FORMS[form].format(tag=tag, gzip=tag[:-1] + '-gzip"')


def request(api, method, registration, headers):
    body = {"json": {"fields": {"changed": True}}} if method == "PUT" else {}
    return api.request(method, path(registration), headers=headers, **body)


def expected(method, if_match, if_none_match):
    """By RFC 9110, section 13.2.2: If-Match first."""
    if if_match and if_match not in MATCHES_STRONGLY:
        return 412
    if if_none_match in MATCHES_WEAKLY:
        return 304 if method in READS else 412
    return 200


def check(api, registration, method, if_match=None, if_none_match=None):
    before = get(api, registration)
    tag = before.headers["ETag"]
    headers = {name: value_of(form, tag) for name, form in (
        ("If-Match", if_match), ("If-None-Match", if_none_match)) if form}
    answer = request(api, method, registration, headers)
    status = expected(method, if_match, if_none_match)
    assert answer.status_code == status, answer.text
    if status in (304, 412) or method in READS:
        after = get(api, registration)
        assert (after.json(), after.headers["ETag"]) == (before.json(), tag)
    if status == 412 and method != "HEAD":
        error(answer, 412)
        message = answer.json()["message"]
        named = {name for name in ("If-Match", "If-None-Match") if name in message}
        assert named == ({name for name in headers if if_none_match}
                         if method in WRITES else set()), message
        assert named or message == "The registration has been changed in the meantime"
    if status == 304:
        assert (answer.text, answer.headers["ETag"]) == ("", tag)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("header", ["if_match", "if_none_match"])
@pytest.mark.parametrize("method", READS + WRITES)
def test_each_method_evaluates_each_header(api, occurrence, method, header, form):
    check(api, created(api, occurrence()), method, **{header: form})


@pytest.mark.parametrize("method", READS + WRITES)
def test_both_headers_are_evaluated(api, occurrence, method):
    one = occurrence()
    for n, (first, second) in enumerate(itertools.product(
            ("matching", "other", "any", "weak"), repeat=2)):
        check(api, created(api, one, f"user {n}"), method, first, second)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("method", ("GET", "HEAD", "DELETE"))
def test_trashed_registration_evaluates_each_header(api, occurrence, method, header, form):
    registration = created(api, occurrence())
    tag = api.delete(path(registration)).headers["ETag"]
    trashed = path(registration) + "?withTrashed=true"
    before = api.get(trashed).json()
    answer = api.request(method, trashed, headers={header: value_of(form, tag)})
    assert answer.status_code == expected(
        method, *((form, None) if header == "If-Match" else (None, form)))
    assert answer.headers.get("ETag", tag) == tag
    assert api.get(trashed).json() == before


def test_read_compares_whole_tag_and_write_only_version(api, occurrence):
    one = occurrence()
    registration = created(api, one)
    old = get(api, registration).headers["ETag"]
    created(api, one, "neighbour")   # changes the answer, but not this registration
    for header, read, write in (("If-Match", 412, 200), ("If-None-Match", 200, 412)):
        assert get(api, registration, headers={header: old}).status_code == read
        answer = api.put(path(registration), json={}, headers={header: old})
        assert answer.status_code == write


@pytest.mark.parametrize("headers", [{"If-Match": "*"}, {"If-Match": OTHER},
                                     {"If-None-Match": "*"}, {"If-None-Match": OTHER}], ids=str)
def test_condition_does_not_hide_other_errors(api, occurrence, headers):
    for method in READS + WRITES:
        body = {"json": {}} if method == "PUT" else {}
        for address, status in ((f"{MOUNT}/{UNKNOWN}", 404), (f"{MOUNT}/x", 400)):
            answer = api.request(method, address, headers=headers, **body)
            assert answer.status_code == status, (method, address)
    assert api.put(f"{MOUNT}/{UNKNOWN}", data="{", headers=headers).status_code == 400
    assert api.post(MOUNT, json={"occurrenceId": 1}, headers=headers).status_code == 400


@pytest.mark.parametrize("form", FORMS)
def test_post_fails_if_match_and_passes_if_none_match(api, sql, occurrence, form):
    """There is no registration yet: If-Match is false for any value, If-None-Match true."""
    one = occurrence()
    body = {"occurrenceId": one, "externalUserId": "somebody"}
    value = value_of(form, OTHER)
    error(api.post(MOUNT, json=body, headers={"If-Match": value}), 412)
    assert sql("SELECT count(*) FROM event_registrations WHERE occurrence_id = %s",
               one) == [(0,)]
    answer = api.post(MOUNT, json=body, headers={"If-None-Match": value})
    assert answer.status_code == 201


@pytest.mark.parametrize("form", FORMS)
def test_openapi_document_evaluates_each_header(anonymous, form):
    tag = anonymous.get("/openapi.json").headers["ETag"]
    for method in READS:
        for name, keyword in (("If-Match", "if_match"), ("If-None-Match", "if_none_match")):
            answer = anonymous.request(method, "/openapi.json",
                                       headers={name: value_of(form, tag)})
            assert answer.status_code == expected(
                method, **{"if_match": None, "if_none_match": None, keyword: form})


@pytest.mark.parametrize("headers", [{name: value} for name in ("If-Match", "If-None-Match")
                                     for value in ("*", OTHER, "nonsense", "W/" + OTHER)], ids=str)
def test_condition_without_entity_tag_is_ignored(admin, good, headers):
    for name in ("live", "groups", "users", "families"):
        one = good(name)
        made = admin.post(one.path, json=one.body, headers=headers)
        assert made.status_code == 201 and "ETag" not in made.headers
        if "Location" in made.headers:
            for method in READS:
                read = admin.request(method, made.headers["Location"], headers=headers)
                assert read.status_code == 200 and "ETag" not in read.headers


# --- Writes compare under the row lock -----------------------------------------------------

@contextlib.contextmanager
def change_under_lock(postgres, registration):
    """Holds the occurrence's lock and raises the registration's version at the end of the
    block."""
    with contextlib.closing(postgres.connect()) as connection:
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute("SELECT FROM registration.occurrences WHERE id = %s FOR UPDATE",
                       (registration["occurrence"]["id"],))
        yield
        cursor.execute("UPDATE registration.event_registrations SET version = version + 1"
                       " WHERE id = %s", (registration["id"],))
        connection.commit()


def race(api, postgres, registration, method):
    """The status of a write sent before another change and executed after it. Its
    If-None-Match names the version that the other change makes."""
    tag = get(api, registration).headers["ETag"].replace('"1-', '"2-')
    answers = []
    one = threading.Thread(target=lambda: answers.append(
        request(api, method, registration, {"If-None-Match": tag})))
    with change_under_lock(postgres, registration):
        one.start()
        servers.wait_until(lambda: is_waiting(postgres), 10, "no call waited for the lock")
    one.join()
    return answers[0].status_code


def is_waiting(postgres):
    with contextlib.closing(postgres.connect()) as connection, \
            connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'registration'"
                       " AND wait_event_type = 'Lock'")
        return cursor.fetchone()[0] > 0


@pytest.mark.parametrize("method", WRITES)
def test_write_compares_version_under_row_lock(api, postgres, occurrence, method,
                                               expect_log):
    expect_log("canceling statement due to lock timeout")
    registration = created(api, occurrence())
    assert race(api, postgres, registration, method) == 412
    assert get(api, registration).status_code == 200


def test_control_without_condition_in_operation_write_succeeds(api, sql, postgres,
                                                                   occurrence, expect_log):
    expect_log("canceling statement due to lock timeout")
    function = sql("SELECT pg_get_functiondef('events_lock'::regproc)")[0][0]
    condition = """OR excluded_versions = '*'
             OR registration.version::text = ANY (string_to_array(excluded_versions, ' '))"""
    assert function.count(condition) == 1
    try:
        sql(function.replace(condition, ""))
        assert race(api, postgres, created(api, occurrence()), "PUT") == 200
        assert api.put(path(created(api, occurrence())), json={"fields": {"a": 1}},
                       headers={"If-None-Match": "*"}).status_code == 200
    finally:
        sql(function)


def test_promotion_changes_entity_tag(api, occurrence):
    one = occurrence(capacity=1)
    first = created(api, one, "first")
    waiting = created(api, one, "second")
    assert waiting["status"] == "WAITING_LIST"
    updated(api, first, status="CANCELLED")
    tag = get(api, waiting).headers["ETag"]
    error(api.put(path(waiting), json={"fields": {}}, headers={"If-None-Match": tag}), 412)
