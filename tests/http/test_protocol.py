# SPDX-License-Identifier: Apache-2.0
"""HTTP, alike in all APIs: paths, methods, media types, bodies."""

import gzip
import json
import re
import secrets
import time

import pytest

import servers
from apis import APIS, MOUNTS, check_error, check_html_error, post_path
from apis import each_api, good   # noqa: F401, fixtures
from conftest import new_uuid
from wire import chunked, message
from wire import wire   # noqa: F401, a fixture

LIMIT = 131072   # RegistrationMaxBody's default

# Each path, and its methods.
PATHS = [
    ("live", "/v1/sessions/{id}/register", {"POST"}),
    ("groups", "/api/v1/groups/{id}/members", {"POST"}),
    ("groups", "/api/v1/groups/{id}", {"GET", "HEAD"}),
    ("groups", "/api/v1/groups/{id}/plans/{id}", {"GET", "HEAD"}),
    ("groups", "/api/v1/groups/{id}/users/{id}", {"GET", "HEAD"}),
    ("groups", "/api/v1/groups/{id}/members/{id}", {"GET", "HEAD"}),
    ("users", "/api/v1/users", {"POST"}),
    ("families", "/v1/families", {"POST"}),
    ("events", "/api/v1/event-registrations", {"GET", "HEAD", "POST"}),
    ("events", "/api/v1/event-registrations/{id}", {"GET", "HEAD", "PUT", "DELETE"}),
    ("events", "/tenant/api/v1/event-registrations", {"GET", "HEAD", "POST"}),
]

UNKNOWN_PATHS = [
    ("live", "/v1/sessions"),
    ("live", "/v1/sessions/{id}"),
    ("live", "/v1/sessions/{id}/Register"),
    ("live", "/v1/sessions/{id}/register/more"),
    ("live", "/v1/sessions/{id}/registered"),
    ("live", "/v1/sessions//register"),
    ("groups", "/api/v1/groups"),
    ("groups", "/api/v1/groups/{id}/users"),
    ("groups", "/api/v1/groups/{id}/plans"),
    ("groups", "/api/v1/groups/{id}/codes/{id}"),
    ("groups", "/api/v1/groups/{id}/plans/{id}/more"),
    ("users", "/api/v1/users/{id}"),
    ("families", "/v1/families/{id}"),
    ("events", "/api/v1/event-registrations/{id}/more"),
    ("events", "/tenant/api/v1/event-registrations/{id}/more"),
]

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"]


def filled_in(path):
    return path.replace("{id}", new_uuid())


def allowed(answer):
    return set(re.split(r", *", answer.headers["Allow"]))


def padded(text, size):
    """The same JSON, padded to that size."""
    return text.encode().ljust(size)


# --- Paths and methods ---------------------------------------------------------------------

@pytest.mark.parametrize("api, path, methods", PATHS, ids=[a[1] for a in PATHS])
def test_unsupported_method_is_405_with_allow(admin, api, path, methods):
    for method in METHODS:
        if method not in methods:
            answer = admin.request(method, filled_in(path))
            check_error(answer, api, 405, head=method == "HEAD")
            assert allowed(answer) - {"OPTIONS"} == methods, method


@pytest.mark.parametrize("api, path, methods", PATHS, ids=[a[1] for a in PATHS])
def test_options_lists_methods(admin, api, path, methods):
    answer = admin.options(filled_in(path))
    assert (answer.status_code, answer.content) == (204, b"")
    assert allowed(answer) - {"OPTIONS"} == methods


@pytest.mark.parametrize("api, path", UNKNOWN_PATHS, ids=[n[1] for n in UNKNOWN_PATHS])
def test_unknown_path_is_404_for_each_method(admin, api, path):
    for method in [*METHODS, "OPTIONS"]:
        if method == "TRACE":
            continue   # TraceEnable off: httpd refuses it before any handler
        answer = admin.request(method, filled_in(path))
        check_error(answer, api, 404, head=method == "HEAD")
        assert "Allow" not in answer.headers


def test_method_is_case_sensitive(wire, admin_token, each_api):
    one = wire()
    one.send(message("post", post_path(each_api), token=admin_token))
    answer = one.answer()
    check_error(answer, each_api, 405)
    assert "POST" in allowed(answer)


def test_head_is_get_without_body(api, good):
    registration = good("events")
    made = api.post(registration.path, json=registration.body)
    member = good("groups")
    joined = api.post(member.path, json=member.body).json()
    for path in [made.headers["Location"], joined["href"], joined["group"]["href"],
                 joined["plan"]["href"],
                 f"{MOUNTS['events']}?occurrenceId={registration.body['occurrenceId']}"]:
        get, head = api.get(path), api.head(path)
        assert get.status_code == head.status_code == 200, path
        assert head.content == b""
        for header in ("Content-Type", "Content-Length", "ETag", "Link", "X-Total-Count"):
            assert get.headers.get(header) == head.headers.get(header), (path, header)
        assert get.headers["Content-Type"] == "application/json; charset=utf-8"


def test_head_of_error_has_headers_of_get(api):
    for path in (f"/api/v1/groups/{new_uuid()}", f"{MOUNTS['events']}/{new_uuid()}",
                 f"{MOUNTS['events']}/nonsense", f"{MOUNTS['events']}?limit=0"):
        get, head = api.get(path), api.head(path)
        assert get.status_code == head.status_code
        assert head.content == b""
        assert head.headers["Content-Type"] == "application/json; charset=utf-8"
        assert head.headers.get("Content-Length", str(len(get.content))) == \
            str(len(get.content))


# Each is sent exactly as given.
UNUSUAL_PATHS = [
    ("an encoded letter is that letter", "/v1/sessions/{}/%72egister", 201),
    ("an absolute address", "https://localhost/v1/sessions/{}/register", 201),
    ("an unknown query", "/v1/sessions/{}/register?a=%zz&&", 201),
    ("an encoded slash separates nothing", "/v1/sessions/{}%2Fregister", 404),
    ("an encoded NUL ends nothing", "/v1/sessions/{}/register%00", (400, 404)),
    ("characters beyond ASCII", "/v1/sessions/{}%C3%BC/register", 404),
    ("octets that are no UTF-8", "/v1/sessions/{}%FF/register", 404),
    ("a line feed", "/v1/sessions/{}%0A/register", 404),
    ("a quote", "/v1/sessions/{}%22%27%7D/register", 404),
]


@pytest.mark.parametrize("path, status", [odd[1:] for odd in UNUSUAL_PATHS],
                         ids=[odd[0] for odd in UNUSUAL_PATHS])
def test_unusual_paths(wire, token, live_session, path, status):
    one = wire()
    one.send(message("POST", path.format(live_session()), b'{"patient_id": "one"}', token))
    answer = one.answer()
    if status == 201:
        assert answer.status == 201, answer.body
    else:
        assert answer.status in (status if isinstance(status, tuple) else (status,))
        check_error(answer, "live", answer.status)


def test_long_id_is_not_found(api):
    """It is not a file name, whose length the file system limits."""
    for length in (256, 4096, 7000):
        check_error(api.post(f"/v1/sessions/{'a' * length}/register", json={
            "patient_id": "one"}), "live", 404)
        check_error(api.get(f"/api/v1/groups/{'a' * length}"), "groups", 404)
        check_error(api.get(f"{MOUNTS['events']}/{'a' * length}"), "events", 400)


def test_rewritten_path_is_used(start_httpd, client, token, live_session):
    httpd = start_httpd(modules=[*servers.MODULES, "rewrite"], inside="""
        RewriteEngine On
        RewriteRule "^/old/(.*)$" "/v1/sessions/$1/register" [PT]""")
    one = client(token, httpd)
    answer = one.post(f"/old/{live_session()}", json={"patient_id": "one"})
    assert answer.status_code == 201, answer.text
    check_error(one.post(f"/old/{new_uuid()}", json={"patient_id": "one"}), "live", 404)


def test_http_1_0_is_supported(wire, token, live_session):
    one = wire()
    one.send(message("POST", f"/v1/sessions/{live_session()}/register",
                     b'{"patient_id": "one"}', token, "HTTP/1.0"))
    assert one.answer().status == 201
    assert one.is_ended()


def test_path_outside_mounts_is_404_of_httpd(api):
    """Also where a path begins like a mount."""
    for path in ("/", "/nowhere", "/v1", "/v1/families2", "/v1/sessionsx/y/register",
                 "/V1/families"):
        check_html_error(api.get(path), 404)


# --- Content-Type ---------------------------------------------------------------------------

JSON_TYPES = [None, "", "application/json", "application/json; charset=utf-8",
              "Application/JSON;charset=UTF-8", "application/json ; x=y",
              "application/vnd.api+json", "application/merge-patch+JSON; x=y"]

OTHER_TYPES = ["text/plain", "text/json", "application/x-www-form-urlencoded",
               "multipart/form-data; boundary=x", "application/octet-stream",
               "application/jsonx", "application/json-seq", "application/xml",
               "application/jso", "text/plain; x=application/json",
               "text/plain; application/json", "application/json, text/plain",
               "text/plain;+json", "application/x+json2", "json"]


def with_type(value):
    """Headers of a request; with None, no Content-Type is sent."""
    return {} if value is None else {"Content-Type": value}


@pytest.mark.parametrize("value", JSON_TYPES)
def test_json_types_and_missing_type_are_accepted(admin, good, each_api, value):
    request = good(each_api)
    answer = admin.post(request.path, data=request.text.encode(), headers=with_type(value))
    assert answer.status_code == 201, answer.text
    if each_api == "events":
        answer = admin.put(answer.headers["Location"], data=b"{}", headers=with_type(value))
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("value", OTHER_TYPES)
def test_other_type_is_415(admin, good, each_api, value):
    request = good(each_api)
    answer = admin.post(request.path, data=request.text.encode(), headers=with_type(value))
    check_error(answer, each_api, 415)
    if each_api == "events":
        answer = admin.put(f"{MOUNTS['events']}/{new_uuid()}", data=b"{}",
                           headers=with_type(value))
        check_error(answer, "events", 415)


def test_text_plain_is_415_in_every_api(admin, each_api):
    headers = {"Content-Type": "text/plain"}
    check_error(admin.post(post_path(each_api), data="{}", headers=headers), each_api, 415)
    check_error(admin.post(post_path(each_api), data=iter([b"{", b"}"]), headers=headers),
                each_api, 415)
    if each_api == "events":
        check_error(admin.put(f"{MOUNTS['events']}/{new_uuid()}", data="{}",
                              headers=headers), "events", 415)


def test_type_of_missing_body_is_ignored(admin, each_api):
    answer = admin.post(post_path(each_api), headers={"Content-Type": "text/plain"})
    check_error(answer, each_api, 400)


def test_type_of_get_is_ignored(api, good):
    registration = good("events")
    location = api.post(registration.path, json=registration.body).headers["Location"]
    assert api.get(location, headers={"Content-Type": "text/plain"}).status_code == 200


# --- Size of a body ------------------------------------------------------------------------

def pieces(octets):
    """An iterator, which makes requests send chunks without a length."""
    return iter([octets[:100], octets[100:]])


@pytest.mark.parametrize("send", [lambda octets: octets, pieces], ids=["length", "chunked"])
def test_body_over_128_KiB_is_413(admin, good, each_api, send):
    request = good(each_api)
    answer = admin.post(request.path, data=send(padded(request.text, LIMIT + 1)))
    check_error(answer, each_api, 413)
    answer = admin.post(request.path, data=send(padded(request.text, LIMIT)))
    assert answer.status_code == 201, answer.text


def test_put_body_over_limit_is_413(api, good):
    registration = good("events")
    location = api.post(registration.path, json=registration.body).headers["Location"]
    check_error(api.put(location, data=padded("{}", LIMIT + 1)), "events", 413)
    assert api.put(location, data=padded("{}", LIMIT)).status_code == 200


def test_body_far_over_limit_is_refused_before_it_is_sent(wire, admin_token, each_api):
    for headers, sent in [({"Content_Length": str(1 << 40)}, b" " * (LIMIT + 100000)),
                          ({"Transfer_Encoding": "chunked"},
                           b"%x\r\n" % (1 << 40) + b" " * (LIMIT + 100000))]:
        one = wire()
        one.send(message("POST", post_path(each_api), sent, admin_token, **headers))
        answer = one.answer()
        check_error(answer, each_api, 413)
        assert answer.headers["Connection"] == "close"


@pytest.fixture
def limited(start_httpd):
    """An httpd with LimitRequestBody 1000, and RegistrationMaxBody 500 for users."""
    return start_httpd(inside="""
        LimitRequestBody 1000
        <Location "/api/v1/users">
            LimitRequestBody 0
            RegistrationMaxBody 500
        </Location>""")


def test_configured_body_limits_apply(limited, client, admin_token):
    admin = client(admin_token, limited)
    for api in APIS:
        limit = 500 if api == "users" else 1000
        for send in (lambda octets: octets, pieces):
            answer = admin.post(post_path(api), data=send(padded("{}", limit + 1)))
            check_error(answer, api, 413)
            answer = admin.post(post_path(api), data=send(padded("[]", limit)))
            check_error(answer, api, 400)


# --- Expect: 100-continue -------------------------------------------------------------------

def test_expect_continue_is_answered_100(wire, admin_token, good, each_api):
    request = good(each_api)
    octets = request.text.encode()
    one = wire()
    one.send(message("POST", request.path, token=admin_token, Expect="100-continue",
                     Content_Length=str(len(octets))))
    assert one.is_continued()
    one.send(octets)
    assert one.answer().status == 201


def test_refused_request_with_expect_continue_needs_no_body(wire, limited, admin_token):
    """The final answer is sent at once instead of 100."""
    for api in APIS:
        path = post_path(api)
        for change, status in [
                ({"token": None}, 401), ({"path": path + "/a/b"}, 404),
                ({"method": "PATCH"}, 405), ({"Content_Type": "text/plain"}, 415),
                ({"Content_Length": "501" if api == "users" else "1001"}, 413)]:
            one = wire(limited)
            one.send(message(**{"method": "POST", "path": path, "token": admin_token,
                                "Expect": "100-continue", "Content_Length": "400", **change}))
            assert not one.is_continued(), (api, status)
            check_error(one.answer(), api, status)


def test_other_expectation_is_417(wire, admin_token, each_api):
    one = wire()
    one.send(message("POST", post_path(each_api), b"{}", admin_token, Expect="200-ok"))
    check_error(one.answer(), each_api, 417)


# --- Incomplete and malformed bodies -------------------------------------------------------

HALVES = {"of a length": {"Content_Length": "1000"},
          "of a chunk": {"Transfer_Encoding": "chunked"}}


@pytest.mark.parametrize("headers", HALVES.values(), ids=HALVES)
def test_truncated_body_is_400(wire, admin_token, each_api, headers):
    start = b'3e8\r\n{"a"' if "Transfer_Encoding" in headers else b'{"a"'
    one = wire()
    one.send(message("POST", post_path(each_api), start, admin_token, **headers))
    one.send_no_more()
    check_error(one.answer(), each_api, 400)


def test_truncated_body_registers_nothing(wire, token, live_session, sql):
    session = live_session()
    one = wire()
    one.send(message("POST", f"/v1/sessions/{session}/register", b'{"patient_id": "one"}',
                     token, Content_Length="1000"))
    one.send_no_more()
    check_error(one.answer(), "live", 400)
    assert sql("SELECT 1 FROM live_registrations WHERE session_id = %s", session) == []


@pytest.mark.parametrize("body", [b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n0\r\n\r\n",
                                  b"2\r\n{}X\r\n0\r\n\r\n", b"fffffffffffffffff\r\n{}"])
def test_malformed_chunk_is_an_error(wire, admin_token, each_api, body):
    one = wire()
    one.send(message("POST", post_path(each_api), body, admin_token,
                     Transfer_Encoding="chunked"))
    answer = one.answer()
    check_error(answer, each_api, 413 if body.startswith(b"fff") and answer.status == 413
                else 400)
    assert one.is_ended()


def test_chunks_with_extensions_and_trailer_are_accepted(wire, token, live_session):
    one = wire()
    one.send(message("POST", f"/v1/sessions/{live_session()}/register",
                     b'5;a=b\r\n{"pat\r\n10\r\nient_id": "one"}\r\n0\r\nX-Sum: 1\r\n\r\n',
                     token, Transfer_Encoding="chunked"))
    answer = one.answer()
    assert (answer.status, json.loads(answer.body)["patient_id"]) == (201, "one")


def test_body_sent_octet_by_octet_is_accepted(wire, token, live_session):
    one = wire()
    body = '{"patient_id": "Zoë"}'.encode()
    one.send(message("POST", f"/v1/sessions/{live_session()}/register", b"", token,
                     Content_Length=str(len(body))))
    for octet in body:
        one.send(bytes([octet]))
    answer = one.answer()
    assert (answer.status, json.loads(answer.body)["patient_id"]) == (201, "Zoë")


def test_stalled_body_is_408(wire, start_httpd, admin_token):
    """By mod_reqtimeout, or without it by Timeout."""
    impatient = start_httpd(inside="RequestReadTimeout body=1")
    site = re.sub("(?m)^ *(RequestRead)?Timeout .*$", "", impatient.site)
    site = site.replace("*:${REGISTRATION_PORT}", "*:*")
    modules = [module for module in impatient.modules if module != "reqtimeout"]
    for httpd in (impatient, start_httpd(site, modules=modules, extra="Timeout 1")):
        stalled = []
        for api in APIS:
            stalled.append(wire(httpd))
            stalled[-1].send(message("POST", post_path(api), b'{"a"', admin_token,
                                     Content_Length="1000"))
        begin = time.monotonic()
        for api, one in zip(APIS, stalled):
            check_error(one.answer(), api, 408)
        assert time.monotonic() - begin < 5


# --- Content-Encoding -----------------------------------------------------------------------

def test_encoded_body_without_filter_is_415(admin, good, each_api):
    request = good(each_api)
    answer = admin.post(request.path, data=gzip.compress(request.text.encode()),
                        headers={"Content-Encoding": "gzip"})
    check_error(answer, each_api, 415)


@pytest.fixture
def inflating(start_httpd):
    return start_httpd(modules=[*servers.MODULES, "deflate", "filter"],
                       inside='<Location "/">\nSetInputFilter DEFLATE\n</Location>')


def test_body_decoded_by_filter_is_accepted(inflating, client, admin_token, good):
    admin = client(admin_token, inflating)
    for api in APIS:
        request = good(api)
        answer = admin.post(request.path, data=gzip.compress(request.text.encode()),
                            headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 201, answer.text


# Hardly compressible: mod_deflate limits the ratio.
DECODED_TOO_LARGE = gzip.compress(
    json.dumps({"x": secrets.token_hex(LIMIT * 3 // 4)}).encode())


@pytest.mark.parametrize("body, status", [
    (DECODED_TOO_LARGE, 413), (b"{}", 400), (gzip.compress(b"{}")[:-9], 400),
    (gzip.compress(b" " * 20 * LIMIT), (400, 413))],
    ids=["is too large then", "is not encoded", "ends early", "is a bomb"])
def test_body_that_cannot_be_decoded_is_an_error(inflating, client, admin_token,
                                                 expect_log, body, status):
    expect_log(r"\[deflate:(error|warn)\]")
    assert len(body) < LIMIT
    admin = client(admin_token, inflating)
    for api in APIS:
        answer = admin.post(post_path(api), data=body, headers={"Content-Encoding": "gzip"})
        assert answer.status_code in (status if isinstance(status, tuple) else (status,))
        check_error(answer, api, answer.status_code)
