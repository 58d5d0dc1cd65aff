# SPDX-License-Identifier: Apache-2.0
"""CORS: the commented lines of example-site.conf work once their comment marks are removed."""

import re

import pytest

from apis import APIS, MOUNTS, check_error, post_path
from browser import browser   # noqa: F401, a fixture

ORIGIN = "https://app.example.org"
METHODS = "GET, HEAD, POST, PUT, DELETE"


def uncommented(site, origin=None):
    """The site with its CORS lines active."""
    before, mark, rest = site.partition("    # SetEnvIf Origin")
    lines, end, after = rest.partition("    # </If>\n")
    assert mark and end
    lines = re.sub(r"(?m)^    # ", "    ", mark + lines + end)
    if origin:
        lines = re.sub(r'(?m)"\^https.*\$"', f'"^{re.escape(origin)}$"', lines)
    return before + lines + after


@pytest.fixture
def open_site(start_httpd):
    """open_site(origin): an httpd that allows requests from pages of that origin."""
    return lambda origin=None: start_httpd(change=lambda site: uncommented(site, origin))


def preflight(caller, path, method="POST", origin=ORIGIN):
    return caller.options(path, headers={
        "Origin": origin, "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,prefer"})


def test_preflight_needs_no_token(client, open_site, token):
    """At every mount, also with a required scope or organization."""
    anonymous = client(httpd=open_site())
    paths = [post_path(api) for api in APIS] + ["/tenant" + MOUNTS["events"]]
    for path in paths:
        answer = preflight(anonymous, path)
        assert answer.status_code == 204, path
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Allow-Methods"] == METHODS
        assert {"Authorization", "Content-Type", "Idempotency-Key", "Prefer"} <= set(
            answer.headers["Access-Control-Allow-Headers"].split(", "))
        assert "Origin" in answer.headers["Vary"]
        # The request itself still needs a token.
        assert anonymous.post(path, json={}).status_code == 401, path


def test_preflight_of_other_origin_is_not_allowed(client, open_site):
    anonymous = client(httpd=open_site())
    for origin in ("https://app.example.com", "https://app.example.org.evil.example",
                   "http://app.example.org", "null"):
        answer = preflight(anonymous, post_path("live"), origin=origin)
        assert not any(name.startswith("Access-Control") for name in answer.headers)
        assert "Origin" in answer.headers["Vary"]


def test_errors_have_cors_headers(client, open_site, token):
    httpd = open_site()
    for caller, status in ((client(httpd=httpd), 401), (client(token, httpd), 403)):
        answer = caller.post(MOUNTS["families"], json={}, headers={"Origin": ORIGIN})
        check_error(answer, "families", status)
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "WWW-Authenticate" in answer.headers["Access-Control-Expose-Headers"]


def test_control_preflight_without_cors_lines_is_401(anonymous):
    answer = preflight(anonymous, post_path("live"))
    assert answer.status_code == 401
    assert "Access-Control-Allow-Origin" not in answer.headers


REGISTER = """
const [address, token, body, done] = arguments;
fetch(address, {method: "POST", body: JSON.stringify(body), headers: {
    "Authorization": `Bearer ${token}`, "Content-Type": "application/json",
    "Idempotency-Key": crypto.randomUUID(), "Prefer": "return=minimal"}})
    .then(answer => done([answer.status, answer.headers.get("Location"),
                          answer.headers.get("ETag")]),
          error => done(String(error)));
"""


def test_page_of_allowed_origin_registers(browser, open_site, httpd, occurrence, token,
                                          start_httpd):
    """A page in a real browser, from one httpd, calls another httpd that allows its origin;
    and, as negative control, one that does not."""
    page_at = start_httpd()
    origin = f"https://localhost:{page_at.port}"
    page = browser()
    page.driver.get(f"{origin}/openapi.json")

    def register(other):
        return page.driver.execute_async_script(
            REGISTER, f"https://localhost:{other.port}{MOUNTS['events']}", token,
            {"occurrenceId": occurrence(), "externalUserId": "one"})

    status, location, etag = register(open_site(origin))
    assert status == 201
    assert location.startswith(MOUNTS["events"] + "/") and etag
    assert "TypeError" in register(httpd)
