# SPDX-License-Identifier: Apache-2.0
"""Security and cache headers of each answer of a mount, and accepted encodings of bodies."""

import functools
import gzip
import json
import re

import pytest

import servers
from apis import APIS, MOUNTS, check_error, post_path
from apis import each_api, good   # noqa: F401, fixtures
from changed import changed_module
from conftest import new_uuid
from wire import chunked, message
from wire import wire   # noqa: F401, a fixture

INVALID_PATH = "AH10244: invalid URI path"


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory):
    """A module without the guards that this file tests."""
    return changed_module(
        tmp_path_factory.mktemp("unguarded") / "sources",
        "    protect_reply(r, reply);\n", "    (void)protect_reply;\n",
        "return coding && *coding && ap_cstr_casecmp(coding, \"identity\") != 0;",
        "return 0 && coding;",
        "return coding && ap_cstr_casecmp(coding, \"chunked\") != 0;", "return 0 && coding;",
        "texts->status == 503 && writes ?", "texts->status == 503 && writes < 2 ?",
        "    *id = reg_id_uuid(r->pool);\n    return OK;\n", "    return id ? DECLINED : OK;\n",
        "other = reg_json_other_key(request->json, known);", "other = known[3];")


@pytest.fixture
def control(start_httpd, unguarded, client, token):
    """A client of an httpd with that module."""
    return client(token, start_httpd(registration=unguarded))


def check_headers(answer, cache="no-store"):
    """Checks each header's value; a duplicate would be joined by a comma."""
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == cache


# --- X-Content-Type-Options and Cache-Control --------------------------------------------------

def test_answers_are_not_cacheable(admin, good, each_api):
    one = good(each_api)
    made = admin.post(one.path, json=one.body)
    assert made.status_code == 201
    check_headers(made, "private, no-cache" if "ETag" in made.headers else "no-store")
    if "Location" in made.headers:
        for method in ("GET", "HEAD"):
            read = admin.request(method, made.headers["Location"])
            assert read.status_code == 200
            check_headers(read, "private, no-cache" if "ETag" in read.headers else "no-store")


def test_answers_with_entity_tag_have_to_be_revalidated(api, good):
    one = good("events")
    made = api.post(one.path, json=one.body)
    location, tag = made.headers["Location"], made.headers["ETag"]
    for answer in (made, api.get(location), api.put(location, json={}),
                   api.put(location, json={"status": "PENDING"}, headers={
                       "Prefer": "return=minimal"}), api.delete(location)):
        assert "ETag" in answer.headers
        check_headers(answer, "private, no-cache")
    tag = api.get(location, params={"withTrashed": 1}).headers["ETag"]
    unchanged = api.get(location, params={"withTrashed": 1}, headers={"If-None-Match": tag})
    # httpd sends few headers with a 304; without content, nosniff is not needed.
    assert (unchanged.status_code, unchanged.headers["Cache-Control"]) == (
        304, "private, no-cache")


@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/x-ndjson"])
def test_lists_are_not_cacheable(api, accept):
    for params in ({"limit": 1}, {"limit": 0}):
        check_headers(api.get(MOUNTS["events"], params=params, headers={"Accept": accept}))


def test_monitoring_and_description_have_headers(anonymous, start_httpd, client):
    assert anonymous.get("/openapi.json").headers["X-Content-Type-Options"] == "nosniff"
    assert anonymous.get("/openapi.json").headers["Cache-Control"] == "no-cache"
    httpd = start_httpd()
    for path in ("/metrics", "/health/live", "/health/ready", "/status", "/status/data"):
        answer = client(httpd=httpd).get(path)
        assert answer.status_code == 200
        check_headers(answer)


def test_errors_have_headers(admin, anonymous, api, each_api):
    path = post_path(each_api)
    for answer in (anonymous.post(path, json={}), admin.post(path, data="{"),
                   admin.request("BREW", path), admin.options(path),
                   admin.get(MOUNTS[each_api] + "/a/b/c/d"), admin.put(path, data="x"),
                   admin.post(path, data="{}", headers={"Content-Type": "text/plain"}),
                   admin.post(path, data="x" * 140000),
                   admin.post(path, data="{}", headers={"Expect": "a miracle"})):
        check_headers(answer)
    check_headers(api.post("/v1/families", json={}))   # 403


def test_early_errors_of_httpd_have_headers(wire, each_api, expect_log):
    expect_log(INVALID_PATH)
    path = MOUNTS[each_api]
    for octets in (message("GET", path + "/%zz"), message("GET", path, Host=None),
                   message("GET", path, X_Long="x" * 9000),
                   message("GET", path + "/" + "x" * 9000)):
        one = wire()
        one.send(octets)
        check_headers(one.answer())


@pytest.mark.parametrize("document", ['"a text"', "/page"])
def test_error_documents_and_redirects_have_headers(start_httpd, client, admin_token,
                                                    document):
    httpd = start_httpd(modules=[*servers.MODULES, "status", "rewrite"], inside=f"""
        <Location "/page">
            SetHandler server-status
            Require all granted
        </Location>
        ErrorDocument 401 {document}
        ErrorDocument 404 {document}
        RewriteEngine On
        RewriteRule "^(.*)/moved$" https://example.org/ [R=301]""")
    for path in MOUNTS.values():
        check_headers(client(httpd=httpd).post(path, json={}))
        check_headers(client(admin_token, httpd).get(path + "/a/b/c/d"))
        moved = client(admin_token, httpd).get(path + "/moved", allow_redirects=False)
        assert moved.status_code == 301
        check_headers(moved)


def test_header_of_site_replaces_module_header(start_httpd, client, admin_token, good):
    httpd = start_httpd(inside="""
        Header always set X-Content-Type-Options nosniff
        Header always set Cache-Control "no-store, no-transform\"""")
    one = good("events")
    for answer in (client(admin_token, httpd).post(one.path, json=one.body),
                   client(httpd=httpd).get(MOUNTS["events"])):
        check_headers(answer, "no-store, no-transform")


def test_path_outside_mounts_has_no_headers(api):
    answer = api.get("/nowhere")
    assert "Cache-Control" not in answer.headers
    assert "X-Content-Type-Options" not in answer.headers


def test_control_missing_headers_are_detected(control):
    with pytest.raises(KeyError):
        check_headers(control.get(MOUNTS["events"]))


# --- Content-Encoding ----------------------------------------------------------------------------

@pytest.mark.parametrize("coding", ["", "identity", "Identity", "IDENTITY"])
def test_identity_encoding_is_accepted(admin, good, each_api, coding):
    one = good(each_api)
    assert admin.post(one.path, data=one.text, headers={
        "Content-Encoding": coding, "Content-Type": "application/json"}).status_code == 201


def check_encoded(client, api, path, octets, coding):
    answer = client.post(path, data=octets, headers={
        "Content-Encoding": coding, "Content-Type": "application/json"})
    body = check_error(answer, api, 415)
    assert answer.headers["Accept-Encoding"] == "identity"
    assert "encoded" in body["message"]


@pytest.mark.parametrize("coding", ["gzip", "br", "x", "identity, gzip", "gzip, identity"])
def test_encoded_body_is_415_with_accept_encoding(admin, good, each_api, coding):
    one = good(each_api)
    check_encoded(admin, each_api, one.path, gzip.compress(one.text.encode()), coding)


def test_control_ignored_content_encoding_is_detected(control, good):
    one = good("events")
    with pytest.raises(AssertionError, match='"id"'):
        check_encoded(control, "events", one.path, one.text, "gzip")


def test_other_content_type_is_415_without_accept_encoding(admin, each_api):
    answer = admin.post(post_path(each_api), data="{}", headers={"Content-Type": "text/plain"})
    body = check_error(answer, each_api, 415)
    assert "Accept-Encoding" not in answer.headers
    assert "encoded" not in json.dumps(body)


# --- Transfer-Encoding ---------------------------------------------------------------------------

def check_transfer_coding(one, token, api, coding, method):
    one.send(message(method, post_path(api), chunked(b"{}"), token,
                     Transfer_Encoding=coding, Content_Type="application/json"))
    answer = one.answer()
    assert "chunked" in json.dumps(check_error(answer, api, 501))
    assert "Allow" not in answer.headers   # httpd adds it to some errors


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "identity", "x", "chunked, gzip",
                                    "chunked, chunked"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_other_transfer_coding_is_501(wire, admin_token, each_api, coding, method):
    check_transfer_coding(wire(), admin_token, each_api, coding, method)


def test_control_ignored_transfer_coding_is_detected(start_httpd, unguarded, wire,
                                                     admin_token):
    """httpd itself checks the last coding only."""
    with pytest.raises(AssertionError, match="occurrenceId"):
        check_transfer_coding(wire(start_httpd(registration=unguarded)), admin_token, "events",
                              "gzip, chunked", "POST")


@pytest.mark.parametrize("coding", ["chunked", "Chunked"])
def test_chunked_body_is_accepted(wire, admin_token, good, each_api, coding):
    request = good(each_api)
    one = wire()
    one.send(message("POST", request.path, chunked(request.text.encode()), admin_token,
                     Transfer_Encoding=coding, Content_Type="application/json"))
    assert one.answer().status == 201


@pytest.mark.parametrize("connection", ["keep-alive", None])
def test_http_1_0_with_chunked_body_is_answered_and_closed(wire, admin_token, good,
                                                           each_api, connection):
    request = good(each_api)
    one = wire()
    one.send(message("POST", request.path, chunked(request.text.encode()), admin_token,
                     "HTTP/1.0", Transfer_Encoding="chunked", Connection=connection,
                     Content_Type="application/json"))
    answer = one.answer()
    assert answer.status in (201, 400)
    if answer.status == 400:
        check_error(answer, each_api, 400)
    assert one.is_ended()


# --- The message of a 503 ------------------------------------------------------------------

@pytest.fixture
def says_in_doubt(start_httpd, client, admin_token):
    """Whether a 503 for each method says that the outcome is unknown."""
    def ask(methods, **options):
        one = client(admin_token, start_httpd(
            modules=[*servers.MODULES, "rewrite"], inside="""
                RewriteEngine On
                RewriteRule "^(.*)/later$" - [R=503]""", **options))
        return {(api, method): "not known to be done" in json.dumps(
            check_error(one.request(method, f"{mount}/later"), api, 503))
            for api, mount in MOUNTS.items() for method in methods}
    return ask


WRITES, OTHERS = ("POST", "PUT", "DELETE"), ("GET", "OPTIONS", "PATCH")


def test_only_writes_report_an_outcome_in_doubt(says_in_doubt):
    in_doubt = says_in_doubt(WRITES + OTHERS)
    assert in_doubt == {(api, method): method in WRITES for api, method in in_doubt}


def test_control_same_message_for_each_method_is_detected(says_in_doubt, unguarded):
    assert set(says_in_doubt(OTHERS, registration=unguarded).values()) == {True}


# --- X-Request-Id --------------------------------------------------------------------------------

UUID_7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def start_without_unique_id(start_httpd):
    """Starts an httpd whose error log has the request id."""
    return functools.partial(
        start_httpd, modules=[name for name in servers.MODULES if name != "unique_id"],
        inside='ErrorLogFormat "[%l] [%L] %M"')


@pytest.fixture
def without_unique_id(start_without_unique_id):
    return start_without_unique_id()


def ids_of(httpd, client, wire):
    """The ids of several requests, one of which httpd refuses early."""
    one = client(httpd=httpd)
    ids = [one.get(MOUNTS[api]).headers["X-Request-Id"] for api in APIS for _ in range(5)]
    early = wire(httpd)
    early.send(message("GET", MOUNTS["events"], Host=None))
    return [*ids, early.answer().headers["X-Request-Id"]]


def test_generated_request_id_is_uuid_version_7(without_unique_id, client, wire):
    ids = ids_of(without_unique_id, client, wire)
    assert len(set(ids)) == len(ids)
    assert all(UUID_7.fullmatch(one) for one in ids), ids


def test_control_request_id_of_httpd_is_detected(start_without_unique_id, client, wire,
                                                 unguarded):
    ids = ids_of(start_without_unique_id(registration=unguarded), client, wire)
    assert not any(UUID_7.fullmatch(one) for one in ids), ids


def test_error_log_has_the_same_request_id(without_unique_id, client):
    answer = client("nonsense", without_unique_id).get(MOUNTS["events"])
    servers.wait_until(lambda: f"[{answer.headers['X-Request-Id']}]"
                       in without_unique_id.log.text(), 10, "the id was not logged")


# --- Unknown keys of the live API ----------------------------------------------------------

def check_other_key(client, sql, session, body, key):
    answer = client.post(f"/v1/sessions/{session}/register", json=body)
    assert sql("SELECT count(*) FROM live_registrations WHERE session_id = %s",
               session) == [(0,)]
    error = check_error(answer, "live", 400)
    assert error["message"].startswith((key or "a field") + " ")


@pytest.mark.parametrize("body, key", [
    ({"patientId": "alice"}, "patientId"), ({"guestEmail": "a@b"}, "guestEmail"),
    ({"role": "host", "user": 1}, "user"), ({"Patient_id": "x"}, "Patient_id"),
    ({"": 1}, ""), ({"x" * 300: 1}, "a field")], ids=str)
def test_live_body_without_person_and_with_unknown_key_is_400(api, sql, live_session, body,
                                                               key):
    session = live_session()
    check_other_key(api, sql, session, body, key)


def test_control_registration_of_caller_instead_is_detected(control, sql, live_session):
    session = live_session()
    with pytest.raises(AssertionError):
        check_other_key(control, sql, session, {"patientId": "alice"}, "patientId")
    assert sql("SELECT patient_id FROM live_registrations WHERE session_id = %s",
               session) == [("somebody",)]


def test_live_body_with_person_ignores_unknown_keys(api, live_session):
    path = f"/v1/sessions/{live_session()}/register"
    for body in ({"patient_id": "x", "patientId": "y"}, {"guest_email": "a@b", "more": 1},
                 {}, {"role": "host"}):
        answer = api.post(path, json=body)
        assert answer.status_code in (201, 409), answer.text
