# SPDX-License-Identifier: Apache-2.0
"""HTTP itself, the same for all APIs: addresses, methods, media types, bodies."""

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

# Every address there is, and what it allows.
ADDRESSES = [
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

NOWHERE = [
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
    """The same JSON, as long as that."""
    return text.encode().ljust(size)


# --- Addresses and methods ------------------------------------------------------------------

@pytest.mark.parametrize("api, path, methods", ADDRESSES, ids=[a[1] for a in ADDRESSES])
def test_a_method_that_is_not_there_is_405_and_allow_names_those_that_are(
        admin, api, path, methods):
    for method in METHODS:
        if method not in methods:
            answer = admin.request(method, filled_in(path))
            check_error(answer, api, 405, head=method == "HEAD")
            assert allowed(answer) - {"OPTIONS"} == methods, method


@pytest.mark.parametrize("api, path, methods", ADDRESSES, ids=[a[1] for a in ADDRESSES])
def test_options_tells_the_methods(admin, api, path, methods):
    answer = admin.options(filled_in(path))
    assert (answer.status_code, answer.content) == (204, b"")
    assert allowed(answer) - {"OPTIONS"} == methods


@pytest.mark.parametrize("api, path", NOWHERE, ids=[n[1] for n in NOWHERE])
def test_where_nothing_is_every_method_is_404(admin, api, path):
    for method in [*METHODS, "OPTIONS"]:
        if method == "TRACE":
            continue   # TraceEnable off: httpd refuses it everywhere, before any handler
        answer = admin.request(method, filled_in(path))
        check_error(answer, api, 404, head=method == "HEAD")
        assert "Allow" not in answer.headers


def test_a_method_in_lower_case_is_another_method(wire, admin_token, each_api):
    one = wire()
    one.send(message("post", post_path(each_api), token=admin_token))
    answer = one.answer()
    check_error(answer, each_api, 405)
    assert "POST" in allowed(answer)


def test_head_is_get_without_the_body(api, good):
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


def test_head_of_an_error_has_its_headers(api):
    for path in (f"/api/v1/groups/{new_uuid()}", f"{MOUNTS['events']}/{new_uuid()}",
                 f"{MOUNTS['events']}/nonsense", f"{MOUNTS['events']}?limit=0"):
        get, head = api.get(path), api.head(path)
        assert get.status_code == head.status_code
        assert head.content == b""
        assert head.headers["Content-Type"] == "application/json; charset=utf-8"
        assert head.headers.get("Content-Length", str(len(get.content))) == \
            str(len(get.content))


# Each is sent as it stands.
ODD_ADDRESSES = [
    ("an encoded letter is that letter", "/v1/sessions/{}/%72egister", 201),
    ("an absolute address", "https://localhost/v1/sessions/{}/register", 201),
    ("a query that nobody asked for", "/v1/sessions/{}/register?a=%zz&&", 201),
    ("an encoded slash separates nothing", "/v1/sessions/{}%2Fregister", 404),
    ("an encoded NUL ends nothing", "/v1/sessions/{}/register%00", (400, 404)),
    ("characters beyond ASCII", "/v1/sessions/{}%C3%BC/register", 404),
    ("octets that are no UTF-8", "/v1/sessions/{}%FF/register", 404),
    ("a line feed", "/v1/sessions/{}%0A/register", 404),
    ("a quote", "/v1/sessions/{}%22%27%7D/register", 404),
]


@pytest.mark.parametrize("path, status", [odd[1:] for odd in ODD_ADDRESSES],
                         ids=[odd[0] for odd in ODD_ADDRESSES])
def test_odd_addresses(wire, token, live_session, path, status):
    one = wire()
    one.send(message("POST", path.format(live_session()), b'{"patient_id": "one"}', token))
    answer = one.answer()
    if status == 201:
        assert answer.status == 201, answer.body
    else:
        assert answer.status in (status if isinstance(status, tuple) else (status,))
        check_error(answer, "live", answer.status)


def test_a_long_id_is_not_found_like_any_other(api):
    """It is no file name, whose length the file system limits."""
    for length in (256, 4096, 7000):
        check_error(api.post(f"/v1/sessions/{'a' * length}/register", json={
            "patient_id": "one"}), "live", 404)
        check_error(api.get(f"/api/v1/groups/{'a' * length}"), "groups", 404)
        check_error(api.get(f"{MOUNTS['events']}/{'a' * length}"), "events", 400)


def test_a_rewritten_address_is_the_one_that_counts(start_httpd, client, token,
                                                    live_session):
    httpd = start_httpd(modules=[*servers.MODULES, "rewrite"], inside="""
        RewriteEngine On
        RewriteRule "^/old/(.*)$" "/v1/sessions/$1/register" [PT]""")
    one = client(token, httpd)
    answer = one.post(f"/old/{live_session()}", json={"patient_id": "one"})
    assert answer.status_code == 201, answer.text
    check_error(one.post(f"/old/{new_uuid()}", json={"patient_id": "one"}), "live", 404)


def test_http_1_0_is_served(wire, token, live_session):
    one = wire()
    one.send(message("POST", f"/v1/sessions/{live_session()}/register",
                     b'{"patient_id": "one"}', token, "HTTP/1.0"))
    assert one.answer().status == 201
    assert one.is_ended()


def test_what_is_not_mounted_is_none_of_our_business(api):
    """Also where a path only begins like a mount."""
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
    """Headers for requests; a None there takes a default away, or none is sent at all."""
    return {} if value is None else {"Content-Type": value}


@pytest.mark.parametrize("value", JSON_TYPES)
def test_json_is_taken_under_its_names_and_under_none(admin, good, each_api, value):
    request = good(each_api)
    answer = admin.post(request.path, data=request.text.encode(), headers=with_type(value))
    assert answer.status_code == 201, answer.text
    if each_api == "events":
        answer = admin.put(answer.headers["Location"], data=b"{}", headers=with_type(value))
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("value", OTHER_TYPES)
def test_a_body_of_another_type_is_415(admin, good, each_api, value):
    request = good(each_api)
    answer = admin.post(request.path, data=request.text.encode(), headers=with_type(value))
    check_error(answer, each_api, 415)
    if each_api == "events":
        answer = admin.put(f"{MOUNTS['events']}/{new_uuid()}", data=b"{}",
                           headers=with_type(value))
        check_error(answer, "events", 415)


def test_another_type_is_415_in_every_api(admin, each_api):
    headers = {"Content-Type": "text/plain"}
    check_error(admin.post(post_path(each_api), data="{}", headers=headers), each_api, 415)
    check_error(admin.post(post_path(each_api), data=iter([b"{", b"}"]), headers=headers),
                each_api, 415)
    if each_api == "events":
        check_error(admin.put(f"{MOUNTS['events']}/{new_uuid()}", data="{}",
                              headers=headers), "events", 415)


def test_without_a_body_its_type_does_not_matter(admin, each_api):
    answer = admin.post(post_path(each_api), headers={"Content-Type": "text/plain"})
    check_error(answer, each_api, 400)


def test_a_type_without_a_body_is_nothing_to_a_get(api, good):
    registration = good("events")
    location = api.post(registration.path, json=registration.body).headers["Location"]
    assert api.get(location, headers={"Content-Type": "text/plain"}).status_code == 200


# --- The size of a body ---------------------------------------------------------------------

def pieces(octets):
    """What makes requests send it in chunks, without a length."""
    return iter([octets[:100], octets[100:]])


@pytest.mark.parametrize("send", [lambda octets: octets, pieces], ids=["length", "chunked"])
def test_the_largest_body_is_128_KiB(admin, good, each_api, send):
    request = good(each_api)
    answer = admin.post(request.path, data=send(padded(request.text, LIMIT + 1)))
    check_error(answer, each_api, 413)
    answer = admin.post(request.path, data=send(padded(request.text, LIMIT)))
    assert answer.status_code == 201, answer.text


def test_the_limit_is_for_put_too(api, good):
    registration = good("events")
    location = api.post(registration.path, json=registration.body).headers["Location"]
    check_error(api.put(location, data=padded("{}", LIMIT + 1)), "events", 413)
    assert api.put(location, data=padded("{}", LIMIT)).status_code == 200


def test_a_body_far_too_large_is_refused_before_it_has_been_sent(wire, admin_token,
                                                                 each_api):
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
    """An httpd where httpd's own limit comes first, 1000, and one with another of ours."""
    return start_httpd(inside="""
        LimitRequestBody 1000
        <Location "/api/v1/users">
            LimitRequestBody 0
            RegistrationMaxBody 500
        </Location>""")


def test_the_limits_that_are_configured_hold(limited, client, admin_token):
    admin = client(admin_token, limited)
    for api in APIS:
        limit = 500 if api == "users" else 1000
        for send in (lambda octets: octets, pieces):
            answer = admin.post(post_path(api), data=send(padded("{}", limit + 1)))
            check_error(answer, api, 413)
            answer = admin.post(post_path(api), data=send(padded("[]", limit)))
            check_error(answer, api, 400)


# --- Expect: 100-continue -------------------------------------------------------------------

def test_who_expects_it_is_told_to_continue(wire, admin_token, good, each_api):
    request = good(each_api)
    octets = request.text.encode()
    one = wire()
    one.send(message("POST", request.path, token=admin_token, Expect="100-continue",
                     Content_Length=str(len(octets))))
    assert one.is_continued()
    one.send(octets)
    assert one.answer().status == 201


def test_who_is_refused_need_not_send_the_body(wire, limited, admin_token):
    """The final answer comes at once, in place of 100."""
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


def test_another_expectation_cannot_be_met(wire, admin_token, each_api):
    one = wire()
    one.send(message("POST", post_path(each_api), b"{}", admin_token, Expect="200-ok"))
    check_error(one.answer(), each_api, 417)


# --- Bodies that do not come as announced ---------------------------------------------------

HALVES = {"of a length": {"Content_Length": "1000"},
          "of a chunk": {"Transfer_Encoding": "chunked"}}


@pytest.mark.parametrize("headers", HALVES.values(), ids=HALVES)
def test_half_a_body_and_the_end_is_400(wire, admin_token, each_api, headers):
    start = b'3e8\r\n{"a"' if "Transfer_Encoding" in headers else b'{"a"'
    one = wire()
    one.send(message("POST", post_path(each_api), start, admin_token, **headers))
    one.send_no_more()
    check_error(one.answer(), each_api, 400)


def test_half_a_body_registers_nobody(wire, token, live_session, sql):
    session = live_session()
    one = wire()
    one.send(message("POST", f"/v1/sessions/{session}/register", b'{"patient_id": "one"}',
                     token, Content_Length="1000"))
    one.send_no_more()
    check_error(one.answer(), "live", 400)
    assert sql("SELECT 1 FROM live_registrations WHERE session_id = %s", session) == []


@pytest.mark.parametrize("body", [b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n0\r\n\r\n",
                                  b"2\r\n{}X\r\n0\r\n\r\n", b"fffffffffffffffff\r\n{}"])
def test_a_wrong_chunk_is_an_error(wire, admin_token, each_api, body):
    one = wire()
    one.send(message("POST", post_path(each_api), body, admin_token,
                     Transfer_Encoding="chunked"))
    answer = one.answer()
    check_error(answer, each_api, 413 if body.startswith(b"fff") and answer.status == 413
                else 400)
    assert one.is_ended()


def test_chunks_with_extensions_and_a_trailer_are_put_together(wire, token, live_session):
    one = wire()
    one.send(message("POST", f"/v1/sessions/{live_session()}/register",
                     b'5;a=b\r\n{"pat\r\n10\r\nient_id": "one"}\r\n0\r\nX-Sum: 1\r\n\r\n',
                     token, Transfer_Encoding="chunked"))
    answer = one.answer()
    assert (answer.status, json.loads(answer.body)["patient_id"]) == (201, "one")


def test_a_body_octet_by_octet_is_put_together(wire, token, live_session):
    one = wire()
    body = '{"patient_id": "Zoë"}'.encode()
    one.send(message("POST", f"/v1/sessions/{live_session()}/register", b"", token,
                     Content_Length=str(len(body))))
    for octet in body:
        one.send(bytes([octet]))
    answer = one.answer()
    assert (answer.status, json.loads(answer.body)["patient_id"]) == (201, "Zoë")


def test_a_body_that_stalls_is_408(wire, start_httpd, admin_token):
    """By mod_reqtimeout, and where that is not loaded by Timeout."""
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

def test_a_body_that_nobody_decodes_is_415(admin, good, each_api):
    request = good(each_api)
    answer = admin.post(request.path, data=gzip.compress(request.text.encode()),
                        headers={"Content-Encoding": "gzip"})
    check_error(answer, each_api, 415)


@pytest.fixture
def inflating(start_httpd):
    return start_httpd(modules=[*servers.MODULES, "deflate", "filter"],
                       inside='<Location "/">\nSetInputFilter DEFLATE\n</Location>')


def test_a_body_that_a_filter_decodes_is_taken(inflating, client, admin_token, good):
    admin = client(admin_token, inflating)
    for api in APIS:
        request = good(api)
        answer = admin.post(request.path, data=gzip.compress(request.text.encode()),
                            headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 201, answer.text


# Hardly compressible: mod_deflate has a limit of its own for what is too much so.
DECODED_TOO_LARGE = gzip.compress(
    json.dumps({"x": secrets.token_hex(LIMIT * 3 // 4)}).encode())


@pytest.mark.parametrize("body, status", [
    (DECODED_TOO_LARGE, 413), (b"{}", 400), (gzip.compress(b"{}")[:-9], 400),
    (gzip.compress(b" " * 20 * LIMIT), (400, 413))],
    ids=["is too large then", "is not encoded", "ends early", "is a bomb"])
def test_a_body_that_cannot_be_decoded_is_an_error(inflating, client, admin_token,
                                                   expect_log, body, status):
    expect_log(r"\[deflate:(error|warn)\]")
    assert len(body) < LIMIT
    admin = client(admin_token, inflating)
    for api in APIS:
        answer = admin.post(post_path(api), data=body, headers={"Content-Encoding": "gzip"})
        assert answer.status_code in (status if isinstance(status, tuple) else (status,))
        check_error(answer, api, answer.status_code)
