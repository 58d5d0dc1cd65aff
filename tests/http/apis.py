# SPDX-License-Identifier: Apache-2.0
"""All APIs side by side: mounts, error formats, valid requests."""

import json
import re
import secrets
import types

import pytest

import samples
from conftest import new_uuid

# The mount of each API in example-site.conf.
MOUNTS = {"live": "/v1/sessions", "groups": "/api/v1/groups", "users": "/api/v1/users",
          "families": "/v1/families", "events": "/api/v1/event-registrations"}
APIS = list(MOUNTS)


def post_path(api):
    """A path that takes a POST; its id does not exist."""
    return MOUNTS[api] + {"live": f"/{new_uuid()}/register",
                          "groups": f"/{new_uuid()}/members"}.get(api, "")


# The status for invalid fields.
INVALID = {"live": 400, "groups": 422, "users": 422, "families": 400, "events": 400}

# The live API's code for each status, on which clients may rely.
LIVE_CODES = {400: "validation_error", 401: "unauthenticated", 403: "forbidden",
              404: "not_found", 500: "internal_error", 503: "unavailable"}

# The events API's reason phrases. RFCs of HTTP differ in that of 413.
REASONS = {400: ("Bad Request",), 401: ("Unauthorized",), 403: ("Forbidden",),
           404: ("Not Found",), 405: ("Method Not Allowed",), 408: ("Request Timeout",),
           409: ("Conflict",), 412: ("Precondition Failed",),
           415: ("Unsupported Media Type",), 417: ("Expectation Failed",),
           429: ("Too Many Requests",), 431: ("Request Header Fields Too Large",),
           500: ("Internal Server Error",), 501: ("Not Implemented",),
           503: ("Service Unavailable",),
           413: ("Payload Too Large", "Content Too Large", "Request Entity Too Large")}

FAMILIES_401 = ("Authentication failed for lack of authentication credentials.",
                "Authentication failed due to access token issues.")


def body_of(answer):
    return answer.body if hasattr(answer, "body") else answer.content


def is_text(value):
    return isinstance(value, str) and value != ""


def check_live(status, body):
    assert list(body) == ["error", "message"]
    assert re.fullmatch("[a-z][a-z_]*", body["error"])
    assert body["error"] == LIVE_CODES.get(status, body["error"])


def check_groups(status, body):
    assert list(body) in (["status", "message"], ["status", "message", "errors"])
    assert body["status"] == status


def check_families(status, body):
    assert list(body)[:2] == ["code", "message"]
    assert set(body) <= {"code", "message", "description", "redirect_link"}
    assert body["code"] == status
    assert is_text(body.get("description", "none"))
    assert body.get("redirect_link") == ("/auth" if status == 401 else None)
    if status == 401:
        assert body["message"] == "UNAUTHORIZED"
        assert body["description"] in FAMILIES_401
    if status == 403:
        assert body["message"] == "FORBIDDEN"
        assert body["description"] == "Authorization failed due to insufficient permissions."
    if status in (500, 503):
        assert "description" in body   # advice for the caller
    if status == 500:
        assert body["message"] == "An internal server error has occurred."
    if status == 503:
        assert body["message"] == "Service unavailable."


def check_events(status, body):
    assert list(body) in (["statusCode", "message", "error"],
                          ["statusCode", "message", "error", "errors"])
    assert body["statusCode"] == status
    assert is_text(body["error"])
    assert body["error"] in REASONS.get(status, (body["error"],))


CHECKS = {"live": check_live, "groups": check_groups, "users": check_groups,
          "families": check_families, "events": check_events}


def check_error(answer, api, status, head=False):
    """Checks that an answer, of requests or of Wire, is that error in the API's own format.

    With head=True only its headers are checked.
    """
    got = answer.status if hasattr(answer, "body") else answer.status_code
    assert got == status, body_of(answer)
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    if head:
        assert body_of(answer) == b""
        return None
    body = json.loads(body_of(answer).decode())
    assert is_text(body["message"])
    CHECKS[api](status, body)
    for problem in body.get("errors", []):
        assert list(problem) == ["field", "message"]
        assert is_text(problem["field"]) and is_text(problem["message"])
    if status in (429, 503):
        assert int(answer.headers["Retry-After"]) >= 1   # a duplicate would be "1, 1"
    return body


def check_plain_error(answer, status):
    """Checks the format of an error whose API is unknown."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    body = json.loads(answer.body)
    assert list(body) == ["error", "message"]
    assert is_text(body["error"]) and is_text(body["message"])


def check_html_error(answer, status):
    """Checks that it is httpd's own error page."""
    got = answer.status if hasattr(answer, "body") else answer.status_code
    assert got == status
    assert answer.headers["Content-Type"].startswith("text/html")
    assert b"<html>" in body_of(answer)


# --- Valid requests ------------------------------------------------------------------------

@pytest.fixture
def good(live_session, group, institution, child, occurrence):
    """good("families"): path and body (a dict) of a POST that will be answered 201."""
    def make(api):
        path, body = post_path(api), None
        if api == "live":
            path = f"{MOUNTS[api]}/{live_session()}/register"
            body = {"patient_id": secrets.token_hex(8)}
        elif api == "groups":
            one = group()
            path, body = f"{MOUNTS[api]}/{one.id}/members", samples.member(one.code)
        elif api == "users":
            body = samples.member(group().code)
        elif api == "families":
            school = institution()
            body = samples.family(school, [child(school)])
        elif api == "events":
            body = {"occurrenceId": occurrence(), "externalUserId": secrets.token_hex(8)}
        return types.SimpleNamespace(path=path, body=body, text=json.dumps(body))
    return make


@pytest.fixture(params=APIS)
def each_api(request):
    """Runs the test for each API, by name."""
    return request.param
