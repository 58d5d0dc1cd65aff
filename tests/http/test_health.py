# SPDX-License-Identifier: Apache-2.0
"""Liveness and readiness probes, also during outages."""

import pytest

import servers
from apis import check_error
from faults import (CHILD, GRACE, MODULES, MOUNTS, OPERATING, TIMEOUT,   # noqa: F401
                    Caller, check_unavailable, database, own_postgres, postgres_to_break)


@pytest.fixture
def one(start_httpd, postgres_to_break):
    """A Caller of an httpd whose database is the breakable one."""
    site = CHILD + MOUNTS + database(postgres_to_break.dsn()) + OPERATING
    return Caller(start_httpd(site, modules=MODULES))


def check_ready(one):
    answer = one.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert answer.headers["Cache-Control"] == "no-store"


def check_live(one):
    """Liveness does not depend on the database."""
    answer = one.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "live"})
    assert answer.seconds < GRACE


def wait_until_ready(one):
    servers.wait_until(lambda: one.get("/health/ready").status_code == 200, 20,
                       "the service did not recover")


def test_service_is_live_and_ready(one):
    check_live(one)
    check_ready(one)


def test_not_ready_while_database_is_stopped(one, postgres_to_break):
    check_ready(one)
    postgres_to_break.stop("immediate")
    for _ in range(3):
        answer = one.get("/health/ready")
        check_unavailable(answer)
        assert answer.json()["error"] == "unavailable"
        check_live(one)
    postgres_to_break.start()
    wait_until_ready(one)


def test_not_ready_while_database_is_frozen(one, postgres_to_break, at_once):
    """Concurrent probes are all answered in time."""
    check_ready(one)
    with postgres_to_break.frozen():
        for answer in at_once(8, lambda _: one.get("/health/ready")):
            check_unavailable(answer, seconds=TIMEOUT + GRACE)
        check_live(one)
    wait_until_ready(one)


def test_not_ready_without_schema(one, postgres_to_break, expect_log):
    expect_log(r"REG0303: operation health.*42883",
               "ERROR:  function registration.health")
    postgres_to_break.query("ALTER FUNCTION health RENAME TO health_elsewhere")
    try:
        check_error(one.get("/health/ready"), "live", 503)
    finally:
        postgres_to_break.query("ALTER FUNCTION health_elsewhere RENAME TO health")
    check_ready(one)


def test_not_ready_while_database_is_read_only(one, postgres_to_break):
    """As a standby or a read-only server."""
    check_ready(one)
    with postgres_to_break.setting("default_transaction_read_only", "on"):
        postgres_to_break.terminate(postgres_to_break.backends())
        check_error(one.get("/health/ready"), "live", 503)
    postgres_to_break.terminate(postgres_to_break.backends())
    check_ready(one)


def test_probes_support_head_and_options(one):
    for path in ("/health/live", "/health/ready"):
        head = one.head(path)
        assert (head.status_code, head.content) == (200, b"")
        options = one.options(path)
        assert (options.status_code, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
        answer = one.post(path, json={})
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
        check_error(answer, "live", 405)
    check_error(one.get("/health"), "live", 404)


def test_example_site_allows_probes_from_localhost(anonymous):
    assert anonymous.get("/health/ready").status_code == 200
    assert anonymous.get("/health/live").status_code == 200
