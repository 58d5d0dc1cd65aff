# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics: exact counts, summed over all child processes."""

import collections
import os
import signal
import subprocess

import pytest

import metrics
import servers
from changed import changed_module
from conftest import new_uuid
from faults import (CHILD, MODULES, MOUNTS, OPERATING, OUTAGE, Caller, children,   # noqa: F401
                    database, own_postgres, postgres_to_break)

CHILDREN = """
ServerLimit 8
StartServers 2
ThreadLimit 64
ThreadsPerChild 64
MaxRequestWorkers 128
MaxSpareThreads 128
"""


@pytest.fixture
def one(start_httpd, postgres):
    """A Caller of an httpd with two child processes."""
    site = CHILDREN + MOUNTS + database(postgres.dsn()) + OPERATING
    return Caller(start_httpd(site, modules=MODULES))


def wait_for(one, condition, what, seconds=20):
    """Waits until the samples meet a condition; requests are counted after their answers."""
    latest = {}

    def is_so():
        latest["samples"] = metrics.get(one)
        return condition(latest["samples"])
    servers.wait_until(is_so, seconds, what)
    return latest["samples"]


def register_in_both(one, session, at_once):
    """Sends 160 requests on 40 connections, so that both children get some."""
    assert len(children(one.httpd.pid())) == 2

    def ask(number):
        with Caller(one.httpd) as caller:
            return [caller.register(session).status_code,
                    caller.post(f"/v1/sessions/{new_uuid()}/register",
                                json={"patient_id": "x"}).status_code,
                    caller.get(f"/v1/sessions/{session}/register").status_code,
                    caller.get("/v1/sessions").status_code]
    answers = at_once(40, ask)
    assert collections.Counter(a for a, *_ in answers) == {201: 30, 412: 10}


def test_requests_are_counted_exactly_over_child_processes(one, live_session, at_once):
    session = live_session(max_participants=30)
    pids = children(one.httpd.pid())
    register_in_both(one, session, at_once)
    one.httpd.graceful()
    servers.wait_until(lambda: not set(pids) & set(children(one.httpd.pid())), 20,
                       "the children did not end")
    one.close()
    for _ in range(5):
        assert one.register(session).status_code == 412
    wanted = {201: 30, 412: 15, 404: 40}
    samples = wait_for(one, lambda s: metrics.requests_of(s, "live_register") == wanted,
                       "there were not just these counts")
    assert metrics.requests_of(samples, "none") == {404: 40, 405: 40}
    label = 'operation="live_register"'
    assert metrics.one(samples, "request_duration_seconds_count", label) == 85
    assert metrics.one(samples, "request_duration_seconds_sum", label) > 0
    # Each request is in exactly one batch.
    assert metrics.one(samples, "batch_requests_sum") == 85
    assert 1 <= metrics.one(samples, "batch_requests_count") <= 85
    assert metrics.one(samples, "database_call_duration_seconds_count") \
        == metrics.one(samples, "batch_requests_count")
    assert metrics.one(samples, "queued_requests") == 0
    assert metrics.one(samples, "connections_in_use") == 0
    servers.wait_until(lambda: metrics.one(metrics.get(one), "processes") == 2, 20,
                       "there were not two processes")


def test_control_unshared_counters_are_detected(
        start_httpd, postgres, live_session, at_once, tmp_path):
    module = changed_module(tmp_path / "unshared",
                            "reg_metrics_join(pool, align_memory(memory))",
                            "reg_metrics_join(pool, apr_pcalloc(pool, reg_metrics_size()))")
    site = CHILDREN + MOUNTS + database(postgres.dsn()) + OPERATING
    one = Caller(start_httpd(site, modules=MODULES, registration=module))
    register_in_both(one, live_session(max_participants=30), at_once)
    with pytest.raises(servers.ServerError):
        wait_for(one, lambda s: metrics.requests_of(s, "live_register")
                 == {201: 30, 412: 10, 404: 40} and metrics.one(s, "processes") == 2,
                 "", seconds=3)


def test_requests_refused_by_authorization_are_counted(start_httpd, client, token):
    httpd = start_httpd()
    client(httpd=httpd).post("/v1/families", json={})
    client(token, httpd).post("/v1/families", json={})
    local = client(httpd=httpd)
    servers.wait_until(
        lambda: metrics.requests_of(metrics.get(local), "families_register")
        == {401: 1, 403: 1}, 20, "there were not just these counts")


def test_promtool_accepts_metrics(one, live_session, tmp_path):
    assert one.register(live_session()).status_code == 201
    answer = one.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"

    def check(text):
        return subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    checked = check(answer.text)
    assert (checked.returncode, checked.stdout) == (0, "")
    # Negative control: it detects errors.
    assert check(answer.text.replace("_total", "")).returncode != 0
    assert check(answer.text + answer.text).returncode != 0


def test_metrics_are_read_only(one):
    assert one.head("/metrics").status_code == 200
    options = one.options("/metrics")
    assert (options.status_code, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    answer = one.post("/metrics", json={})
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert answer.json()["error"] == "method_not_allowed"
    assert one.get("/metrics/x").json()["error"] == "not_found"


def test_killed_child_process_leaves_no_gauges(one, live_session, expect_log):
    """Its counters remain and its gauges are removed."""
    expect_log("AH00052: child pid .* exit signal Killed")
    session = live_session()
    pids = children(one.httpd.pid())
    for _ in range(3):
        assert one.register(session).status_code == 201
    samples = wait_for(one, lambda s: metrics.requests_of(s, "live_register") == {201: 3},
                       "they were not counted")
    assert metrics.one(samples, "connections_open") >= 1
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    servers.wait_until(lambda: len(set(children(one.httpd.pid())) - set(pids)) == 2, 20,
                       "there were no new children")
    one.close()
    samples = wait_for(one, lambda s: metrics.one(s, "processes") == 2,
                       "still counted")
    assert metrics.one(samples, "connections_open") == 0
    assert metrics.requests_of(samples, "live_register") == {201: 3}


def test_database_errors_and_circuit_breaker_are_counted(start_httpd, postgres_to_break,
                                                         expect_log):
    expect_log('violates check constraint "no_hosts"')
    site = CHILD + MOUNTS + database(postgres_to_break.dsn()) + OPERATING
    one = Caller(start_httpd(site, modules=MODULES))
    session = postgres_to_break.live_session()
    assert one.register(session).status_code == 201
    before = metrics.get(one)
    assert metrics.one(before, "connections_open") == 1
    assert metrics.one(before, "breakers_open") == 0
    # An error of class 23, by an administrator's constraint.
    postgres_to_break.query("ALTER TABLE live_registrations ADD CONSTRAINT no_hosts"
                            " CHECK (role <> 'host') NOT VALID")
    try:
        assert one.post(f"/v1/sessions/{session}/register",
                        json={"patient_id": "x", "role": "host"}).status_code == 400
    finally:
        postgres_to_break.query("ALTER TABLE live_registrations DROP CONSTRAINT no_hosts")
    assert metrics.one(metrics.get(one), "database_errors_total", 'class="23"') == 1
    postgres_to_break.stop("immediate")
    assert one.register(session).status_code == 503
    answer, samples = one.register(session), metrics.get(one)
    assert answer.status_code == 503
    assert metrics.one(samples, "breakers_open") == 1
    refused = "connections_refused_total"
    assert metrics.one(samples, refused, 'reason="breaker"') >= 1

    # The breaker may open before the first request waits for a connection; a later one waits.
    def is_unreachable(samples):
        assert one.register(session).status_code == 503
        return metrics.one(samples, refused, 'reason="unreachable"') >= 1
    wait_for(one, is_unreachable, "no request was refused for an attempt to connect")
    postgres_to_break.start()
    wait_for(one, lambda s: metrics.one(s, "breakers_open") == 0, "the breaker stayed open")


def test_queued_requests_are_counted(start_httpd, postgres_to_break, at_once):
    site = CHILD + MOUNTS + database(postgres_to_break.dsn(), timeout=10) + OPERATING
    one = Caller(start_httpd(site, modules=MODULES))
    session = postgres_to_break.live_session()
    assert one.register(session).status_code == 201

    def register_or_look(number):
        if number == 0:
            return wait_for(one, lambda s: metrics.one(s, "queued_requests") >= 1
                            and metrics.one(s, "connections_in_use") >= 1,
                            "no queued request was seen")
        return one.register(session).status_code
    with postgres_to_break.slow(0.2, session):
        _, *statuses = at_once(9, register_or_look)
    assert statuses == [201] * 8
    wait_for(one, lambda s: metrics.one(s, "queued_requests") == 0
             and metrics.one(s, "connections_in_use") == 0, "still queued")


def test_queued_requests_returns_to_zero_after_lock_wait(start_httpd, postgres_to_break,
                                                         at_once):
    """Requests for locked rows are in another queue."""
    site = CHILD + MOUNTS + database(postgres_to_break.dsn(), timeout=10) + OPERATING
    one = Caller(start_httpd(site, modules=MODULES))
    session = postgres_to_break.live_session()

    def register_or_lock(number):
        if number:
            return one.register(session).status_code
        with postgres_to_break.locked(session):
            return wait_for(one, lambda s: metrics.one(s, "database_errors_total",
                                                       'class="55"') >= 2, "no lock wait")
    _, *statuses = at_once(5, register_or_lock)
    assert statuses == [201] * 4
    wait_for(one, lambda s: metrics.one(s, "queued_requests") == 0
             and metrics.one(s, "connections_in_use") == 0, "still queued")
