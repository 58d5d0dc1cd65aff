# SPDX-License-Identifier: Apache-2.0
"""GET of one event registration, conditional requests, and unknown routes and methods."""

import json

import pytest

import servers
from conftest import new_uuid
from event_registrations import (MOUNT, UNKNOWN, check_keys, create, created, delete, error,
                                 get, path, update, updated)

ALLOWED = {MOUNT: {"GET", "HEAD", "POST", "OPTIONS"},
           f"{MOUNT}/{UNKNOWN}": {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}}


def allow(answer):
    return {method.strip() for method in answer.headers["Allow"].split(",")}


# --- Routes --------------------------------------------------------------------------------

@pytest.mark.parametrize("url", ALLOWED)
def test_other_methods_are_405_with_allow(api, url):
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "BREW"} - ALLOWED[url]:
        answer = api.request(method, url)
        assert error(answer, 405) == {}
        assert allow(answer) == ALLOWED[url]


@pytest.mark.parametrize("url", ALLOWED)
def test_options_has_allow(api, url):
    answer = api.options(url)
    assert (answer.status_code, answer.text) == (204, "")
    assert allow(answer) == ALLOWED[url]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_path_below_registration_is_404(api, method):
    assert error(api.request(method, f"{MOUNT}/{UNKNOWN}/more", data="no json"), 404) == {}


@pytest.mark.parametrize("method, url", [
    ("POST", MOUNT), ("GET", MOUNT), ("GET", f"{MOUNT}/{UNKNOWN}"), ("PUT", f"{MOUNT}/x"),
    ("DELETE", f"{MOUNT}/{UNKNOWN}"), ("PATCH", MOUNT), ("GET", f"{MOUNT}/x/y")])
def test_missing_token_is_401_on_every_route(anonymous, method, url):
    answer = anonymous.request(method, url, data="no json")
    assert error(answer, 401) == {}
    assert "Bearer" in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("id", ["1", "x" * 36, UNKNOWN + "0", "%7B" + UNKNOWN + "%7D", "%20"])
def test_id_not_a_uuid_is_400(api, method, id):
    assert set(error(api.request(method, f"{MOUNT}/{id}", json={}), 400)) == {"id"}


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_unknown_registration_is_404(api, method):
    answer = api.request(method, f"{MOUNT}/{UNKNOWN}", json={})
    error(answer, 404, "Registration not found")
    assert json.loads(answer.text) == {
        "statusCode": 404, "message": "Registration not found", "error": "Not Found"}


# --- The object ----------------------------------------------------------------------------

def test_registration_has_all_fields(api, occurrence):
    registration = created(api, occurrence(), fields={"a": 1})
    answer = get(api, registration)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.json() == registration
    check_keys(answer.json())


def test_id_is_case_insensitive(api, occurrence):
    registration = created(api, occurrence())
    assert api.get(path(registration).replace(registration["id"],
                                              registration["id"].upper())).json() \
        == registration


def test_head_is_get_without_body(api, occurrence):
    registration = created(api, occurrence())
    whole, head = get(api, registration), api.head(path(registration))
    assert (head.status_code, head.text) == (200, "")
    for name in ("ETag", "Content-Type", "Content-Length"):
        assert head.headers[name] == whole.headers[name]
    assert api.head(f"{MOUNT}/{UNKNOWN}").status_code == 404
    assert api.head(f"{MOUNT}/x").status_code == 400


def test_changes_by_administrator_are_returned_at_once(api, sql, occurrence):
    registration = created(api, occurrence(), new_uuid())
    sql("UPDATE events SET name = 'Renamed' WHERE id = %s", registration["event"]["id"])
    sql("UPDATE event_users SET is_active = false WHERE id = %s", registration["user"]["id"])
    now = get(api, registration).json()
    assert (now["event"]["name"], now["user"]["isActive"]) == ("Renamed", False)
    assert now["event"]["updatedAt"] > registration["event"]["updatedAt"]
    assert now["user"]["updatedAt"] > registration["user"]["updatedAt"]
    assert now["occurrence"] == registration["occurrence"]


# --- Trashed registrations -----------------------------------------------------------------

def test_infinite_times_are_null(api, sql, occurrence):
    api.is_described = False    # an administrator should not write these
    one = occurrence()
    before = created(api, one, new_uuid())
    sql("UPDATE occurrences SET start_date = '-infinity', end_date = 'infinity' WHERE id = %s",
        one)
    sql("UPDATE event_users SET created_at = '-infinity' WHERE id = %s", before["user"]["id"])
    sql("UPDATE events SET created_at = '-infinity' WHERE id = %s", before["event"]["id"])
    after = get(api, before).json()
    assert [after["occurrence"]["startDate"], after["occurrence"]["endDate"],
            after["user"]["createdAt"], after["event"]["createdAt"]] == [None] * 4
    assert after["id"] == before["id"]


def test_trashed_registration_is_returned_only_with_trashed(api, occurrence):
    registration = created(api, occurrence())
    trashed = delete(api, registration).json()
    error(get(api, registration), 404, "Registration not found")
    for no in ("false", "0"):
        error(get(api, registration, params={"withTrashed": no}), 404)
    for yes in ("true", "1"):
        answer = get(api, registration, params={"withTrashed": yes})
        assert answer.status_code == 200
        assert answer.json() == trashed
        check_keys(answer.json(), deleted=True)


def test_with_trashed_also_returns_live_registration(api, occurrence):
    registration = created(api, occurrence())
    answer = get(api, registration, params={"withTrashed": "true"})
    assert answer.json() == registration
    assert answer.headers["ETag"] == get(api, registration).headers["ETag"]


@pytest.mark.parametrize("value", ["yes", "TRUE", "True", "2", "on", "truefalse", "%ff"])
def test_boolean_is_true_false_1_or_0(api, value):
    answer = api.get(f"{MOUNT}/{UNKNOWN}?withTrashed={value}")
    assert set(error(answer, 400)) == {"withTrashed"}


def test_all_errors_are_reported_at_once(api):
    assert set(error(api.get(f"{MOUNT}/x?withTrashed=x"), 400)) == {"id", "withTrashed"}


def test_unknown_parameters_are_ignored(api, occurrence):
    registration = created(api, occurrence())
    assert get(api, registration, params={"limit": "x", "": "y"}).json() == registration


# --- ETag and If-None-Match ----------------------------------------------------------------

def test_entity_tag_is_strong_and_stable(api, occurrence):
    registration = created(api, occurrence())
    tags = {get(api, registration).headers["ETag"] for _ in range(3)}
    assert len(tags) == 1
    tag = tags.pop()
    assert len(tag) > 2 and tag[0] == tag[-1] == '"' and '"' not in tag[1:-1]


def test_different_registrations_have_different_tags(api, occurrence):
    one = occurrence()
    assert create(api, one, "a").headers["ETag"] != create(api, one, "b").headers["ETag"]


@pytest.mark.parametrize("form", [
    "{tag}", "W/{tag}", '"other", {tag}', '{tag} , W/"other"', '"other",\t{tag}', "*",
    "{gzip}", "{brotli}", "W/{gzip}", '"a,b", {tag}'])
def test_if_none_match_with_current_tag_is_304(api, occurrence, form):
    registration = created(api, occurrence())
    tag = get(api, registration).headers["ETag"]
    known = form.format(tag=tag, gzip=tag[:-1] + '-gzip"', brotli=tag[:-1] + '-br"')
    for method in ("GET", "HEAD"):
        answer = api.request(method, path(registration), headers={"If-None-Match": known})
        assert (answer.status_code, answer.text) == (304, "")
        assert answer.headers["ETag"] == tag


@pytest.mark.parametrize("form", ['"other"', "other", '"{version}"', '"x{tag_text}"',
                                  '"{tag_text}x"', '"{tag_text}-gz"', '""', '"-gzip"'])
def test_if_none_match_with_other_value_is_200(api, occurrence, form):
    registration = created(api, occurrence())
    tag_text = get(api, registration).headers["ETag"][1:-1]
    other = form.format(tag_text=tag_text, version=tag_text[:1])
    answer = get(api, registration, headers={"If-None-Match": other})
    assert answer.status_code == 200
    assert answer.json() == registration


def change_itself(api, sql, registration):
    updated(api, registration, fields={"changed": True})


def change_by_a_neighbour(api, sql, registration):
    created(api, registration["occurrence"]["id"], "neighbour")


def change_by_an_administrator(api, sql, registration):
    sql("UPDATE events SET name = 'Renamed' WHERE id = %s", registration["event"]["id"])


@pytest.mark.parametrize("change", [change_itself, change_by_a_neighbour,
                                    change_by_an_administrator])
def test_if_none_match_compares_whole_representation(api, sql, occurrence, change):
    registration = created(api, occurrence())
    tag = get(api, registration).headers["ETag"]
    change(api, sql, registration)
    answer = get(api, registration, headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag


def test_missing_registration_is_404_whatever_the_condition(api):
    error(api.get(f"{MOUNT}/{UNKNOWN}", headers={"If-None-Match": "*"}), 404)


def test_trashed_registration_has_entity_tag(api, occurrence):
    registration = created(api, occurrence())
    delete(api, registration)
    tag = get(api, registration, params={"withTrashed": 1}).headers["ETag"]
    answer = get(api, registration, params={"withTrashed": 1},
                 headers={"If-None-Match": tag})
    assert answer.status_code == 304


@pytest.mark.parametrize("module, encoding, filter", [
    ("deflate", "gzip", "DEFLATE"), ("brotli", "br", "BROTLI_COMPRESS")])
def test_tag_of_compressed_answer_is_valid_in_conditions(start_httpd, client, token, api,
                                                         occurrence, module, encoding,
                                                         filter):
    compressing = client(token, start_httpd(modules=(*servers.MODULES, module),
                                            inside=f"SetOutputFilter {filter}"))
    registration = created(api, occurrence(), fields={"text": "text " * 100})
    accept = {"Accept-Encoding": encoding}
    # Streamed, as the client cannot decode Brotli.
    with get(compressing, registration, headers=accept, stream=True) as answer:
        assert answer.headers["Content-Encoding"] == encoding
        tag = answer.headers["ETag"]
    assert tag == get(api, registration).headers["ETag"][:-1] + f'-{encoding}"'
    answer = get(compressing, registration, headers={**accept, "If-None-Match": tag})
    assert answer.status_code == 304
    assert update(api, registration, if_match=tag, fields={"a": 1}).status_code == 200
    assert update(api, registration, if_match=tag, fields={"a": 2}).status_code == 412
