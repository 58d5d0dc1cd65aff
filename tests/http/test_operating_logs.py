# SPDX-License-Identifier: Apache-2.0
"""Request ids and notes: how an administrator finds a request. Log tags: test_log_tags.py."""

import collections
import re
import secrets

import pytest

import log_leaks
import servers
from apis import MOUNTS, each_api, good, post_path   # noqa: F401, fixtures
from conftest import new_uuid
from faults import (CHILD, MODULES, OUTAGE, Caller, database,   # noqa: F401
                    own_postgres, postgres_to_break)
from faults import MOUNTS as SITE
from wire import wire   # noqa: F401, a fixture


# --- The request id ------------------------------------------------------------------------

def lines_of(httpd, request_id):
    """The access log's lines with that request id, from the id on."""
    access = (httpd.directory / "access.log").read_text()
    return [line.split(f" {request_id} ")[1] for line in access.splitlines()
            if f" {request_id} " in line]


@pytest.fixture
def logged(httpd):
    """logged(id): the fields of the access log behind the request id."""
    def wait(request_id):
        servers.wait_until(lambda: lines_of(httpd, request_id), 10, "nothing was logged")
        [line] = lines_of(httpd, request_id)
        return line.split()
    return wait


def test_error_has_the_request_id_of_the_logs(api, anonymous, each_api, logged):
    """Errors of the module, of mod_oauth2 and of httpd."""
    path = post_path(each_api)
    answers = [api.post(path, data="{"), api.patch(path), anonymous.post(path, json={}),
               api.post(path, data="x", headers={"Content-Type": "text/plain"}),
               api.get(MOUNTS[each_api] + "/no/such/thing"),
               api.post(path, json={}, headers={"Expect": "a miracle"})]
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert all(answer.status_code >= 400 for answer in answers)
    assert len(set(ids)) == len(ids)
    for request_id in ids:
        assert len(logged(request_id)) == 4


def test_success_has_no_request_id(api, good, each_api, admin):
    one = good(each_api)
    answer = admin.post(one.path, json=one.body)
    assert answer.status_code == 201
    assert "X-Request-Id" not in answer.headers


def test_request_id_of_client_is_not_adopted(api):
    answer = api.post("/v1/sessions/x/register", json={},
                      headers={"X-Request-Id": "mine"})
    assert answer.headers["X-Request-Id"] != "mine"


def test_error_outside_mounts_has_request_id(wire):
    """httpd refuses the request before it looks for a mount."""
    one = wire()
    one.send(b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = one.answer()
    assert answer.status == 414
    assert re.fullmatch("[!-~]+", answer.headers["X-Request-Id"])


def test_error_log_format_can_include_request_id(start_httpd, client, issuer):
    """Also in a line of another module, authz_core, which names the caller."""
    name = secrets.token_hex(8)
    log_leaks.forget(name)
    httpd = start_httpd(inside='ErrorLogFormat "[%t] [%-m:%l] [%L] %M"',
                        change=lambda site: site.replace("LogLevel authz_core:crit", ""))
    answer = client(issuer.token(name), httpd).post("/v1/families", json={})
    assert answer.status_code == 403
    servers.wait_until(lambda: f"[{answer.headers['X-Request-Id']}] AH016" in httpd.log.text(),
                       10, "no line has the request id")


def test_without_mod_unique_id_request_id_is_log_id_of_httpd(start_httpd, postgres):
    site = (CHILD + SITE + database(postgres.dsn())
            + 'LogFormat "%>s %L %{registration-operation}n" ids\nCustomLog access.log ids\n')
    httpd = start_httpd(site, modules=MODULES)
    request_id = Caller(httpd).register("x").headers["X-Request-Id"]
    access = httpd.directory / "access.log"
    servers.wait_until(lambda: access.exists() and access.read_text(), 10, "no log")
    assert access.read_text() == f"404 {request_id} live_register\n"


# --- Notes for a CustomLog -----------------------------------------------------------------

def test_notes_of_request_with_database_call(api, logged):
    answer = api.post(f"/v1/sessions/{new_uuid()}/register", json={"patient_id": "x"})
    assert answer.status_code == 404
    operation, outcome, batch, microseconds = logged(answer.headers["X-Request-Id"])
    assert (operation, outcome) == ("live_register", "not_found")
    assert int(batch) >= 1
    assert 0 < int(microseconds) < 30_000_000


def test_notes_of_request_refused_before_database_call(api, anonymous, logged):
    path = f"/v1/sessions/{new_uuid()}/register"
    for answer in (api.post(path, data="{"), anonymous.post(path, json={})):
        assert logged(answer.headers["X-Request-Id"]) == ["live_register", "-", "-", "-"]
    answer = api.get("/v1/sessions/x/y/z")
    assert logged(answer.headers["X-Request-Id"]) == ["-", "-", "-", "-"]


def test_notes_have_batch_size(start_httpd, postgres_to_break, at_once):
    site = (CHILD + SITE + database(postgres_to_break.dsn(), timeout=10)
            + 'LogFormat "%{registration-outcome}n %{registration-batch}n'
              ' %{registration-dbtime}n" notes\nCustomLog access.log notes\n')
    httpd = start_httpd(site, modules=MODULES)
    one = Caller(httpd)
    session = postgres_to_break.live_session()
    with postgres_to_break.slow(0.1, session):
        assert {a.status_code for a in at_once(16, lambda _: one.register(session))} == {201}
    access = httpd.directory / "access.log"
    servers.wait_until(lambda: access.exists() and access.read_text().count("\n") == 16, 10,
                       "not all were logged")
    lines = [line.split() for line in access.read_text().splitlines()]
    assert {outcome for outcome, *_ in lines} == {"created"}
    batches = collections.Counter(int(batch) for _, batch, _ in lines)
    assert max(batches) > 1
    # A batch of n requests has n lines.
    assert all(count % size == 0 for size, count in batches.items())
    assert all(int(took) >= 100_000 for *_, took in lines)


def test_notes_of_request_during_outage(start_httpd, postgres_to_break):
    site = (CHILD + SITE + database(postgres_to_break.dsn())
            + 'LogFormat "%L %{registration-outcome}n" notes\nCustomLog access.log notes\n')
    httpd = start_httpd(site, modules=MODULES)
    one = Caller(httpd)
    postgres_to_break.stop("immediate")
    answer = one.register(new_uuid())
    assert answer.status_code == 503
    request_id = answer.headers["X-Request-Id"]
    access = httpd.directory / "access.log"
    servers.wait_until(lambda: access.exists() and access.read_text(), 10, "no log")
    assert access.read_text() == f"{request_id} unavailable\n"
