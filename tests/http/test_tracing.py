# SPDX-License-Identifier: Apache-2.0
"""The log of a request with LogLevel registration:debug and registration:trace1."""

import concurrent.futures
import re
import secrets

import pytest

import log_leaks
import servers
from conftest import new_uuid
from faults import (CHILD, MODULES, MOUNTS, Caller, database,   # noqa: F401
                    own_postgres, postgres_to_break)

ANSWERED = re.compile(
    r"\[registration:debug\] .* REG0501: request answered: operation=(?P<operation>\S+) "
    r"status=(?P<status>\d+) outcome=(?P<outcome>\S+) batch=(?P<batch>\d+) "
    r"backend=(?P<backend>\d+) retries=(?P<retries>\d+) reasons=(?P<reasons>\S+) "
    r"queued=(?P<queued>\d+)us connecting=(?P<connecting>\d+)us "
    r"executing=(?P<executing>\d+)us total=(?P<total>\d+)us$", re.M)
STEP = re.compile(r"\[registration:trace1\] .* REG0502: operation \w+: (.*)$", re.M)


@pytest.fixture
def traced(start_httpd, postgres_to_break):
    """traced(level) starts an httpd with this LogLevel, waits for its sessions in PostgreSQL and
    returns a Caller."""
    def make(level, inside=""):
        site = (CHILD + MOUNTS + database(postgres_to_break.dsn(), timeout=10)
                + f"LogLevel registration:{level}\n{inside}")
        one = Caller(start_httpd(site, modules=MODULES))
        one.session = postgres_to_break.live_session()
        return one
    return make


def answers(one, count=1):
    """The lines REG0501, which are written after the client has its answer."""
    servers.wait_until(lambda: len(ANSWERED.findall(one.httpd.log.text())) >= count, 10,
                       "too few lines")
    return [match.groupdict() for match in ANSWERED.finditer(one.httpd.log.text())]


def steps(one):
    return STEP.findall(one.httpd.log.text())


def in_order(patterns, lines):
    """Whether each pattern matches a line, in this order."""
    rest = iter(lines)
    return all(any(re.fullmatch(pattern, line) for line in rest) for pattern in patterns)


FIRST_CALL = ["joins the queue", r"checked out connection, backend [1-9]\d*, after \d+ us",
              "leads a batch of 1 requests",
              r"sends call, 1 requests, lock timeout 100 ms, backend [1-9]\d*"]
LAST_STEPS = [r"call returned done after \d+ us", "answered created, in a batch of 1"]


def test_debug_one_request_logs_one_line_with_its_outcome(traced, postgres_to_break):
    one = traced("debug")
    assert one.register(one.session).status_code == 201
    [line] = answers(one)
    assert (line["operation"], line["status"], line["outcome"]) == (
        "live_register", "201", "created")
    assert (line["batch"], line["retries"], line["reasons"]) == ("1", "0", "none")
    assert {int(line["backend"])} == postgres_to_break.backends()
    assert 0 < int(line["executing"]) < int(line["total"])
    assert steps(one) == []


def test_debug_refused_request_logs_one_line_without_a_call(traced):
    one = traced("debug")
    assert one.request("POST", f"/v1/sessions/{new_uuid()}/register",
                       data="{").status_code == 400
    assert one.request("GET", "/v1/sessions/no/such/thing").status_code == 404
    first, second = answers(one, 2)
    assert (first["operation"], first["status"], first["outcome"]) == (
        "live_register", "400", "none")
    assert (second["operation"], second["status"]) == ("none", "404")
    assert first["batch"] == first["backend"] == first["executing"] == "0"


def test_trace_one_request_logs_its_steps_in_order(traced):
    one = traced("trace1")
    assert one.register(one.session).status_code == 201
    answers(one)
    assert in_order(FIRST_CALL + LAST_STEPS, steps(one)), steps(one)


def test_control_steps_in_other_order_fail_the_check():
    assert in_order(["a", "c"], ["a", "b", "c"])
    assert not in_order(["c", "a"], ["a", "b", "c"])
    assert not in_order(["a", "a"], ["a", "b", "c"])


def test_trace_killed_backend_logs_the_retry_and_its_reason(traced, postgres_to_break):
    one = traced("trace1")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with postgres_to_break.slow(0.5, one.session):
            pending = pool.submit(one.register, one.session)
            servers.wait_until(lambda: "sends call" in one.httpd.log.text(), 10,
                               "no call was sent")
            postgres_to_break.terminate(postgres_to_break.backends())
        assert pending.result().status_code == 201
    [line] = answers(one)
    assert int(line["retries"]) >= 1 and line["reasons"] == "broken_connection"
    assert in_order([*FIRST_CALL, r"call returned broken_connection after \d+ us",
                     "retries 1 requests: broken_connection",
                     r"checked out connection, backend [1-9]\d*, after \d+ us",
                     "sends call.*", *LAST_STEPS], steps(one)), steps(one)


def test_trace_locked_row_logs_the_slow_queue_and_its_reason(traced, postgres_to_break):
    one = traced("trace1")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with postgres_to_break.locked(one.session):
            pending = pool.submit(one.register, one.session)
            servers.wait_until(lambda: "joins the slow queue" in one.httpd.log.text(), 10,
                               "it did not join the slow queue")
        assert pending.result().status_code == 201
    [line] = answers(one)
    assert int(line["retries"]) >= 1 and line["reasons"] == "lock_timeout"
    assert in_order([*FIRST_CALL, r"call returned lock_timeout after \d+ us",
                     "retries 1 requests: lock_timeout", "joins the slow queue",
                     "leads a batch of 1 requests, key locked", *LAST_STEPS],
                    steps(one)), steps(one)


def test_debug_requests_of_one_batch_log_its_size_and_backend(traced, postgres_to_break,
                                                              at_once):
    one = traced("debug")
    with postgres_to_break.slow(0.1, one.session):
        assert {answer.status_code for answer in at_once(
            16, lambda _: one.register(one.session))} == {201}
    lines = answers(one, 16)
    assert len(lines) == 16
    assert max(int(line["batch"]) for line in lines) > 1
    for line in lines:
        assert int(line["executing"]) >= 100_000
        assert int(line["queued"]) + int(line["connecting"]) + int(line["executing"]) \
            <= int(line["total"])


def test_info_logs_neither_lines_nor_steps(traced):
    one = traced("info")
    assert one.register(one.session).status_code == 201
    assert one.request("GET", "/v1/sessions/no/such/thing").status_code == 404
    one.httpd.stop()
    assert "REG050" not in one.httpd.log.text()


def test_trace_logs_no_string_of_the_request(traced):
    one = traced("trace1")
    patient, key, family = (secrets.token_hex(8) for _ in range(3))
    address = f"{secrets.token_hex(8)}@example.org"
    assert one.request("POST", f"/v1/sessions/{one.session}/register",
                       json={"patient_id": patient, "guest_email": address},
                       headers={"Idempotency-Key": key}).status_code == 201
    assert one.request("POST", "/v1/families", json={
        "username": family, "password": family, "institution_id": secrets.token_hex(12),
        "children": [secrets.token_hex(12)]}).status_code == 400
    assert one.request("GET", f"/api/v1/event-registrations?search={patient}").status_code == 200
    answers(one, 3)
    assert len(steps(one)) > 5
    for text in (patient, key, family, address, one.session):
        assert text not in one.httpd.log.text()


def test_control_string_of_request_in_traced_line_is_found(tmp_path):
    """The check at the end of each run reads the module's lines of every level."""
    text = secrets.token_hex(8)
    log_leaks.queries.add(f"search={text}")
    (tmp_path / "elsewhere").mkdir()
    log = tmp_path / "elsewhere" / "error.log"
    try:
        for level in ("debug", "trace1"):
            log.write_text(f"[Thu Nov 26 14:00:00 2026] [registration:{level}] [pid 1] {text}\n")
            assert len(list(log_leaks.leaks(log.parent))) == 1
    finally:
        log.unlink()
