# SPDX-License-Identifier: Apache-2.0
"""Whether the service is well, for whoever asks each second: also while it is not."""

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


def check_well(one):
    answer = one.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert answer.headers["Cache-Control"] == "no-store"


def check_alive(one):
    """It lives, whatever the database does."""
    answer = one.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "live"})
    assert answer.seconds < GRACE


def wait_until_well(one):
    servers.wait_until(lambda: one.get("/health/ready").status_code == 200, 20,
                       "the service did not get well")


def test_it_is_well(one):
    check_alive(one)
    check_well(one)


def test_it_is_not_ready_while_the_database_is_stopped(one, postgres_to_break):
    check_well(one)
    postgres_to_break.stop("immediate")
    for _ in range(3):
        answer = one.get("/health/ready")
        check_unavailable(answer)
        assert answer.json()["error"] == "unavailable"
        check_alive(one)
    postgres_to_break.start()
    wait_until_well(one)


def test_it_is_not_ready_while_the_database_is_frozen(one, postgres_to_break, at_once):
    """Who asks is told so in time, however many ask."""
    check_well(one)
    with postgres_to_break.frozen():
        for answer in at_once(8, lambda _: one.get("/health/ready")):
            check_unavailable(answer, seconds=TIMEOUT + GRACE)
        check_alive(one)
    wait_until_well(one)


def test_it_is_not_ready_without_its_schema(one, postgres_to_break, expect_log):
    expect_log(r"REG0303: operation health failed with SQLSTATE 42883",
               "ERROR:  function registration.health")
    postgres_to_break.query("ALTER FUNCTION health RENAME TO health_elsewhere")
    try:
        check_error(one.get("/health/ready"), "live", 503)
    finally:
        postgres_to_break.query("ALTER FUNCTION health_elsewhere RENAME TO health")
    check_well(one)


def test_it_is_not_ready_while_the_database_takes_no_writes(one, postgres_to_break):
    """As a standby does, or an administrator has it."""
    check_well(one)
    with postgres_to_break.setting("default_transaction_read_only", "on"):
        postgres_to_break.terminate(postgres_to_break.backends())
        check_error(one.get("/health/ready"), "live", 503)
    postgres_to_break.terminate(postgres_to_break.backends())
    check_well(one)


def test_it_is_asked_like_everything_else(one):
    for path in ("/health/live", "/health/ready"):
        head = one.head(path)
        assert (head.status_code, head.content) == (200, b"")
        options = one.options(path)
        assert (options.status_code, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
        answer = one.post(path, json={})
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
        check_error(answer, "live", 405)
    check_error(one.get("/health"), "live", 404)


def test_the_example_site_has_it_for_this_machine(anonymous):
    assert anonymous.get("/health/ready").status_code == 200
    assert anonymous.get("/health/live").status_code == 200
