# SPDX-License-Identifier: Apache-2.0
"""Errors under a mount that come from httpd itself, authentication and authorization.

They have the API's own shape, whatever error documents the site configures. The connection
stays usable or is closed; the next answer on it is never one to another request.
"""

import json
import re
import subprocess
import types

import pytest

import servers
from apis import APIS, MOUNTS, check_error, check_html_error, check_plain_error, post_path
from apis import each_api, good   # noqa: F401, fixtures
from changed import changed_module
from conftest import new_uuid
from wire import Wire, chunked, message
from wire import wire   # noqa: F401, a fixture

LONG = "x" * 9000   # longer than LimitRequestLine and LimitRequestFieldSize, 8190
HALF = b"\r\nX-Long: " + LONG[:5000].encode()

INVALID_PATH = "AH10244: invalid URI path"


# --- Malformed requests --------------------------------------------------------------------

def malformed(path):
    """Requests that httpd refuses before it looks at any <Location>, each with its status."""
    return {
        "%zz in the path": (message("GET", path + "/%zz"), 400),
        "a lone % in the path": (message("GET", path + "/%"), 400),
        "an oversized header": (message("GET", path, X_Long=LONG), 431),
        "too many headers": (message("GET", path, **{f"X_{n}": "x" for n in range(101)}), 431),
        "an oversized header in two lines": (message("GET", path).replace(
            b"\r\n\r\n", HALF + HALF.replace(b"X-Long:", b"") + b"\r\n\r\n"), 431),
        "two headers that are oversized together": (message("GET", path).replace(
            b"\r\n\r\n", HALF * 2 + b"\r\n\r\n"), 431),
        "no Host": (message("GET", path, Host=None), 400),
        "an impossible Host": (message("GET", path, Host="local host"), 400),
        "a header without a colon": (message("GET", path).replace(
            b"\r\n\r\n", b"\r\nnonsense\r\n\r\n"), 400),
        "a space before the colon": (message("GET", path).replace(
            b"\r\n\r\n", b"\r\nX-A : b\r\n\r\n"), 400),
        "a control character in a header": (message("GET", path, X_A="a\x01b"), 400),
        "a length that is none": (message("POST", path, b"{}", Content_Length="abc"), 400),
        "a negative length": (message("POST", path, b"{}", Content_Length="-2"), 400),
        "two lengths": (message("POST", path, b"{}").replace(
            b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"), 400),
        "an unknown transfer coding": (message(
            "POST", path, b"{}", Transfer_Encoding="gzip"), 501),
    }


@pytest.mark.parametrize("what", malformed("/"))
def test_malformed_request_has_api_error_shape(wire, each_api, what, expect_log):
    expect_log(INVALID_PATH)
    octets, status = malformed(MOUNTS[each_api])[what]
    one = wire()
    one.send(octets)
    check_error(one.answer(), each_api, status)


def test_malformed_request_outside_mounts_has_httpd_error(wire, expect_log):
    expect_log(INVALID_PATH)
    for what, (octets, _) in malformed("/elsewhere").items():
        one = wire()
        one.send(octets)
        answer = one.answer()
        check_html_error(answer, answer.status)


def test_overlong_uri_is_414_in_plain_shape(wire, each_api):
    one = wire()
    one.send(message("GET", MOUNTS[each_api] + "/" + LONG))
    check_plain_error(one.answer(), 414)


WITHOUT_URI = {"a method": b"GET\r\nHost: localhost\r\n\r\n",
               "a method and a blank": b"GET \r\nHost: localhost\r\n\r\n",
               "a method and a version": b"GET HTTP/1.1\r\nHost: localhost\r\n\r\n",
               "two blanks": b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n",
               "a control character": b"X\x01\r\n\r\n",
               "an empty line before": b"\r\nGET\r\n\r\n",
               "no slash": b"GET families HTTP/1.1\r\nHost: localhost\r\n\r\n"}


@pytest.mark.parametrize("octets", WITHOUT_URI.values(), ids=WITHOUT_URI)
def test_request_line_without_path_is_400_in_plain_shape(wire, octets):
    one = wire()
    one.send(octets)
    check_plain_error(one.answer(), 400)


@pytest.mark.parametrize("octets", [
    message("GET", "/v1/families"), message("POST", "/v1/families", b"{}"),
    message("GET", "/elsewhere"), message("GET", "/v1/families", version="HTTP/1.0")],
    ids=["GET", "POST", "elsewhere", "HTTP/1.0"])
def test_plain_http_on_tls_port_is_400_in_plain_shape(wire, octets):
    """mod_ssl answers before the request is read: its API is not known."""
    one = wire(authority=None)
    one.send(octets)
    answer = one.answer()
    check_plain_error(answer, 400)
    assert "https" in json.loads(answer.body)["message"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_control_without_special_case_error_is_html(start_httpd, wire, tmp_path):
    module = changed_module(tmp_path / "changed", " && uri[strspn(uri, \" \")] "
                            "&& !is_without_tls(r);", " && uri;")
    httpd = start_httpd(registration=module)
    for octets, authority in ((b"GET\r\nHost: localhost\r\n\r\n", True),
                              (message("GET", "/v1/families"), False)):
        one = wire(httpd) if authority else wire(httpd, authority=None)
        one.send(octets)
        check_html_error(one.answer(), 400)


def test_malformed_method_is_error_in_json(wire, each_api):
    one = wire()
    one.send(message("P(ST", post_path(each_api)))
    answer = one.answer()
    assert answer.status in (400, 405, 501)
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


def test_stalled_headers_are_408(start_httpd, wire):
    httpd = start_httpd(inside="RequestReadTimeout header=1")
    stalled = {api: wire(httpd) for api in APIS}
    for api, one in stalled.items():
        one.send(message("POST", post_path(api))[:-2])   # no empty line
    for api, one in stalled.items():
        check_error(one.answer(), api, 408)


# --- Authentication and authorization -------------------------------------------------------

def test_missing_token_is_401_everywhere_below_mount(anonymous, each_api):
    for path in (post_path(each_api), MOUNTS[each_api], MOUNTS[each_api] + "/a/b/c"):
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            answer = anonymous.request(method, path)
            check_error(answer, each_api, 401)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        answer = anonymous.head(path)
        check_error(answer, each_api, 401, head=True)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


def test_families_error_distinguishes_missing_and_invalid_token(client):
    def refusal(**headers):
        return check_error(client().post("/v1/families", json={}, headers=headers),
                           "families", 401)
    missing = {"code": 401, "message": "UNAUTHORIZED", "description":
               "Authentication failed for lack of authentication credentials.",
               "redirect_link": "/auth"}
    bad = {**missing, "description": "Authentication failed due to access token issues."}
    assert refusal() == missing
    assert refusal(Authorization="Basic YTpi") == missing
    assert refusal(Authorization="Bearer nonsense") == bad
    assert refusal(Authorization="bearer nonsense") == bad


@pytest.fixture
def guarded(start_httpd):
    """A site whose other modules refuse and redirect in various ways."""
    inside = "".join(f"""
        <Location "{path}/denied">
            AuthMerging Off
            Require all denied
        </Location>
        <Location "{path}/basic">
            AuthType Basic
            AuthBasicProvider anon
            Anonymous somebody
            Anonymous_MustGiveEmail Off
            Require valid-user
        </Location>
        <Location "{path}">
            AllowMethods GET HEAD POST
        </Location>""" for path in MOUNTS.values())
    return start_httpd(
        modules=[*servers.MODULES, "authn_anon", "auth_basic", "allowmethods", "alias",
                 "rewrite", "dir"],
        inside=inside + """
        Header always set X-Everywhere yes
        Header always set Retry-After 7 "expr=%{REQUEST_URI} =~ m#/its-own/#"
        DirectoryIndex index.html
        RewriteEngine On
        RewriteRule "^(.*)/forbidden$" - [F]
        RewriteRule "^(.*)/gone$" - [G]
        RewriteRule "^(.*)/slow-down$" - [R=429]
        RewriteRule "^(.*)/later$" - [R=503]
        RewriteRule "^(.*)/legal$" - [R=451]
        RewriteRule "^(.*)/moved$" https://example.org/ [R=301]""" + "".join(f"""
        RewriteRule "^(.*)/status/{status}$" - [R={status}]""" for status in ANY_STATUS))


# Every error status of httpd's table, as a module may return it.
ANY_STATUS = [400, 401, 402, 403, *range(404, 418), 421, 422, 423, 424, 426, 428, 429, 431, 451,
              500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511]


def test_each_status_of_rewrite_rule_has_api_error_shape(guarded, client, token):
    one = client(token, guarded)
    for api, path in MOUNTS.items():
        for status in ANY_STATUS:
            for method in ("GET", "HEAD"):
                answer = one.request(method, f"{path}/status/{status}")
                check_error(answer, api, status, head=method == "HEAD")
            assert status == 405 or "Allow" not in answer.headers


def test_errors_of_other_modules_have_api_error_shape(guarded, client, token, expect_log):
    expect_log("AH01617|AH01618|AH01614|AH01623|AH00923")   # each names the refused user
    one, by_name = client(token, guarded), client(httpd=guarded)
    for api, path in MOUNTS.items():
        for name, status in [("denied", 403), ("forbidden", 403), ("gone", 410),
                             ("slow-down", 429), ("later", 503), ("legal", 451)]:
            answer = one.get(f"{path}/{name}")
            check_error(answer, api, status)
            assert answer.headers["X-Everywhere"] == "yes"
        # Retry-After has a default, and the site can set it.
        assert one.get(f"{path}/slow-down").headers["Retry-After"] == "10"
        for name in ("slow-down", "later"):
            answer = one.get(f"{path}/its-own/{name}")
            assert answer.headers["Retry-After"] == "7"
        # mod_allowmethods
        answer = one.delete(post_path(api))
        check_error(answer, api, 405)
        assert "POST" in answer.headers["Allow"]
        # mod_auth_basic
        for auth in (None, ("nobody", "secret")):
            answer = by_name.get(f"{path}/basic/x/y", auth=auth)
            check_error(answer, api, 401)
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="registration"'
        answer = by_name.get(f"{path}/basic/x/y", auth=("somebody", "secret"))
        check_error(answer, api, 404)
        # A redirect is not an error.
        answer = one.get(f"{path}/moved", allow_redirects=False)
        assert answer.status_code == 301
        assert answer.headers["Location"] == "https://example.org/"
    # No path below a mount is looked up in the file system.
    for path in ("/v1/sessions/", "/v1/sessions/index.html", "/v1/sessions/.htaccess"):
        check_error(one.get(path), "live", 404)


# Statuses with a reason phrase in httpd, except 401, which needs a challenge.
REFUSALS = [402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421,
            422, 423, 424, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 506, 507, 508,
            510, 511]


def test_each_refusal_status_has_distinct_error_code(start_httpd, client, admin_token):
    rules = "\n".join(f'RewriteRule "/refused-{status}$" - [R={status}]' for status in REFUSALS)
    one = client(admin_token, start_httpd(modules=[*servers.MODULES, "rewrite"],
                                          inside=f"RewriteEngine On\n{rules}"))
    codes = set()
    for status in REFUSALS:
        for api, path in MOUNTS.items():
            answer = one.post(f"{path}/refused-{status}", data="{}")
            body = check_error(answer, api, status)
            if api == "live":
                codes.add(body["error"])
            if api == "events":
                assert body["error"] == answer.reason
            if api == "families" and status not in (403, 500, 503):
                assert (body["message"], "description" in body) == (answer.reason, True)
    assert len(codes) == len(REFUSALS)


# --- ErrorDocument --------------------------------------------------------------------------

STATUSES = [400, 401, 403, 404, 405, 408, 413, 414, 415, 422, 500, 503]
DOCUMENTS = {"a text": '"<html>an error</html>"', "a page": "/page",
             "a page that is not there": "/missing", "the default": "default"}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
@pytest.mark.parametrize("where", ["the host", "the mount"])
def test_error_documents_of_site_do_not_apply_to_apis(
        start_httpd, client, admin_token, wire, expect_log, document, where):
    expect_log(INVALID_PATH)
    lines = "\n".join(f"ErrorDocument {status} {document}" for status in STATUSES)
    if where == "the mount":
        lines = "\n".join(f'<Location "{path}">\n{lines}\n</Location>'
                          for path in MOUNTS.values())
    httpd = start_httpd(modules=[*servers.MODULES, "status"], inside=f"""
        <Location "/page">
            SetHandler server-status
            Require all granted
        </Location>
        LimitRequestBody 1000
        {lines}""")
    admin, anonymous = client(admin_token, httpd), client(httpd=httpd)
    for api in APIS:
        path = post_path(api)
        answer = anonymous.post(path, json={})
        check_error(answer, api, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        check_error(admin.get(f"{path}/a/b"), api, 404)
        check_error(admin.post(f"{path}/a/b", json={}), api, 404)
        check_error(admin.head(f"{path}/a/b"), api, 404, head=True)
        answer = admin.request("BREW", path)
        check_error(answer, api, 405)
        assert "POST" in answer.headers["Allow"]
        check_error(admin.post(path, data="{"), api, 400)
        check_error(admin.post(path, data="x" * 1001), api, 413)
        one = wire(httpd)
        one.send(message("GET", path + "/%zz"))
        check_error(one.answer(), api, 400)
        one = wire(httpd)
        one.send(message("GET", path, X_Long=LONG))
        check_error(one.answer(), api, 431)
        one = wire(httpd)
        one.send(message("GET", path + "/" + LONG))
        check_plain_error(one.answer(), 414)
    if where == "the host" and document == "/page":
        assert "Apache Server Status" in admin.get("/nowhere").text


# --- Other hosts of the same server ---------------------------------------------------------

def test_host_without_mount_has_httpd_errors(start_httpd, expect_log):
    expect_log(INVALID_PATH)
    port = servers.free_port()
    httpd = start_httpd(extra=f"""
        Listen 127.0.0.1:{port}
        <VirtualHost *:{port}>
            ErrorLogFormat "[%t] [%-m:%l] %M"
        </VirtualHost>""")
    for octets, status in [(message("GET", "/" + LONG), 414), (message("GET", "/%zz"), 400),
                           (message("GET", "/v1/families"), 404),
                           (message("BREW", "/v1/families", X_Long=LONG), 400)]:
        other = Wire(type(httpd)(httpd.directory, "", port), None)
        other.send(octets)
        check_html_error(other.answer(), status)
        other.close()


# --- HTTP/2 ---------------------------------------------------------------------------------

def test_http2_errors_have_api_error_shape(start_httpd, certificates, admin_token,
                                           expect_log):
    expect_log(INVALID_PATH)
    httpd = start_httpd(modules=(*servers.MODULES, "http2"), inside="""
        Protocols h2 http/1.1
        LimitRequestBody 1000""")

    def curl(path, *arguments, token=admin_token):
        command = ["curl", "-sS", "--http2", "--noproxy", "*", "--path-as-is",
                   "--cacert", certificates.authority, "-w", "\n%{http_version} %{http_code}"
                   " %{content_type}", "-H", f"Authorization: Bearer {token}", *arguments,
                   f"https://localhost:{httpd.port}{path}"]
        # mod_http2 may reset a stream whose answer came before its body was read; curl then
        # exits with 92. It does so for httpd's own errors too.
        for _ in range(100):
            result = subprocess.run(command, text=True, stdout=subprocess.PIPE)
            if result.returncode != 92:
                break
        body, _, last = result.stdout.rpartition("\n")
        version, status, content_type = last.split(" ", 2)
        assert version == "2"
        return types.SimpleNamespace(body=body.encode(), status=int(status),
                                     headers={"Content-Type": content_type})
    for api in APIS:
        path, post = post_path(api), ["-H", "Content-Type: application/json", "-d"]
        for arguments, statuses in [
                ([path + "/a/b"], [404]),
                ([path, "-X", "BREW"], [405]),
                ([path, *post, "{"], [400]),
                ([path, *post, "x" * 1001], [413]),
                ([path, "-d", "{}"], [415]),
                ([path + "/%zz"], [400]),
                ([path, "-H", f"X-Long: {LONG}"], [431]),
                ([path, *(word for n in range(101) for word in ("-H", f"X-{n}: x"))],
                 [431])]:
            answer = curl(*arguments)
            assert answer.status in statuses, arguments
            check_error(answer, api, answer.status)
        check_error(curl(path, "-X", "POST", token="nonsense"), api, 401)
        answer = curl(path + "/" + LONG)
        assert answer.status in (400, 404, 414)   # HTTP/2 has a path in any case.
        if answer.status == 414:
            check_plain_error(answer, 414)
        else:
            check_error(answer, api, answer.status)


# --- One connection, several requests -------------------------------------------------------

def failing(path, token):
    """Requests that fail before their body, if any, has been read."""
    # If the body were taken for the next request, this would be answered.
    body = message("GET", "/smuggled")
    return {
        "401": message("POST", path, body),
        "404": message("POST", path + "/a/b", body, token),
        "404 of a GET with a body": message("GET", path + "/a/b", body, token),
        "404 chunked": message("POST", path + "/a/b", chunked(body, 10), token,
                               Transfer_Encoding="chunked"),
        "404 of a HEAD": message("HEAD", path + "/a/b", token=token),
        "405": message("BREW", path, body, token),
        "405 chunked": message("BREW", path, chunked(body, 10), token,
                               Transfer_Encoding="chunked"),
        "OPTIONS": message("OPTIONS", path, body, token),
        "415": message("POST", path, body, token, Content_Type="text/plain"),
        "415 for its encoding": message("POST", path, body, token, Content_Encoding="gzip"),
        "400 bad JSON": message("POST", path, body, token),
        "400 bad JSON in chunks": message("POST", path, chunked(body, 10), token,
                                          Transfer_Encoding="chunked"),
        "invalid fields": message("POST", path, b'{"username": 1, "patient_id": 1}', token),
        "413": message("POST", path, b" " * 131073, token),
        "400 %zz": message("POST", path + "/%zz", body, token),
        "400 no Host": message("POST", path, body, token, Host=None),
    }


@pytest.mark.parametrize("what", failing("", ""))
def test_next_request_after_error_gets_its_own_answer(
        wire, admin_token, good, each_api, what, expect_log):
    """Both are pipelined. After an error the connection may be closed instead."""
    expect_log(INVALID_PATH)
    octets = failing(post_path(each_api), admin_token)[what]
    request = good(each_api)
    one = wire()
    one.send(octets + message("POST", request.path, request.text.encode(), admin_token))
    answer = one.answer("HEAD" if octets.startswith(b"HEAD") else "GET")
    assert answer.status == int(re.match("[0-9]+", what)[0]) if what[0].isdigit() else True
    if answer.status == 204:
        assert answer.body == b""
    else:
        check_error(answer, each_api, answer.status, head=octets.startswith(b"HEAD"))
    if answer.headers.get("Connection") == "close":
        assert one.is_ended()
        assert answer.status in (400, 413)
    else:
        answer = one.answer()
        assert answer.status == 201, answer.body


def test_pipelined_requests_are_answered_in_order(wire, token, live_session):
    session = live_session(max_participants=3)
    path = f"/v1/sessions/{session}/register"
    requests = [message("POST", path, b'{"patient_id": "%d"}' % number, token)
                for number in (1, 1, 2, 2, 3, 3, 4)]
    requests[3:3] = [message("HEAD", f"/api/v1/groups/{new_uuid()}", token=token),
                     message("OPTIONS", path, token=token),
                     message("GET", path, b"{}", token)]
    one = wire()
    one.send(b"".join(requests))
    statuses = [one.answer(octets.split()[0].decode()).status for octets in requests]
    assert statuses == [201, 409, 201, 404, 204, 405, 409, 201, 409, 412]
