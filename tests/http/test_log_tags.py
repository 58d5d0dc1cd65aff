# SPDX-License-Identifier: Apache-2.0
"""Every log tag is used once in the sources, explained in docs/troubleshooting.md, and named by
a test; and each tag of that document is in the sources.

The guard is for a tag that is used twice, as an operator who searches for it then finds the
cause of another message, and for a message that no document explains. The tests below it
provoke the messages that no other test names.
"""

import collections
import concurrent.futures
import re
import subprocess

import pytest

import servers
from conftest import new_uuid
from faults import (CHILD, MODULES, MOUNTS, OPERATING, Caller, caller, database,   # noqa: F401
                    own_postgres, postgres_to_break, proxy)

TAG = re.compile(r"\bREG0\d{3}\b")
LOGGING = re.compile(r"\b(?:ap_log_r?error|report)\(([^;]*?\"[^;]*)\);", re.S)


def sources():
    return [(path.name, path.read_text()) for path in
            [*(servers.ROOT / "src").rglob("*.[ch]"), servers.ROOT / "mod_registration.c"]]


def used(texts):
    """Counts the uses of each tag in the sources."""
    return collections.Counter(tag for _, text in texts for tag in TAG.findall(text))


def untagged(texts):
    """The log calls whose own text has no tag."""
    return [f"{name}: {call}" for name, text in texts for call in LOGGING.findall(text)
            if '"%s"' not in call and not TAG.search(call)]


def explained(document):
    """The tags that have their own section, in the order of the sections."""
    return re.findall(r"(?m)^### (REG0\d{3})$", document)


def named_by_tests():
    """The tags that the tests name, except in the guard in this file."""
    return {tag for path in (servers.ROOT / "tests").rglob("*.py")
            for tag in TAG.findall(path.read_text())}


def faults_of(texts, document, named):
    """Lists the broken rules."""
    tags = used(texts)
    sections = explained(document)
    return [*(f"{tag} is used {count} times" for tag, count in tags.items() if count > 1),
            *(f"no tag: {call}" for call in untagged(texts)),
            *(f"{tag} has no section" for tag in sorted(set(tags) - set(sections))),
            *(f"{tag} is not in the sources"
              for tag in sorted(set(TAG.findall(document)) - set(tags))),
            *(f"{tag} is named by no test" for tag in sorted(set(tags) - named))]


def document():
    return (servers.ROOT / "docs" / "troubleshooting.md").read_text()


def test_tags_of_the_sources_are_unique_explained_and_tested():
    assert len(used(sources())) > 30
    assert faults_of(sources(), document(), named_by_tests()) == []
    assert explained(document()) == sorted(set(explained(document())))


@pytest.mark.parametrize("source, text, fault", [
    ('f("REG0101: again");', "", "REG0101 is used 2 times"),
    ('report(call, "text");', "", 'no tag: new.c: call, "text"'),
    ('f("REG0" "999", "REG0998: new");', "", "REG0998 has no section"),
    ("", "\n### REG0997\n", "REG0997 is not in the sources")])
def test_control_broken_rule_is_reported(source, text, fault):
    """The controls of the guard."""
    assert fault in faults_of([*sources(), ("new.c", source)], document() + text, named_by_tests())


def test_control_tag_without_test_is_reported():
    assert faults_of(sources(), document(), named_by_tests() - {"REG0303"}) \
        == ["REG0303 is named by no test"]


# --- Messages at the start -----------------------------------------------------------------

# A library that makes a function of APR fail when this module calls it.
FAILING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
int {function}(void *a, unsigned long b, void *c, void *d)
{{
    Dl_info caller = {{0}};
    int (*real)(void *, unsigned long, void *, void *) = dlsym(RTLD_NEXT, "{function}");

    dladdr(__builtin_return_address(0), &caller);
    return caller.dli_fname && strstr(caller.dli_fname, "mod_registration")
        ? 12 : real(a, b, c, d);
}}
"""


@pytest.fixture
def failing(start_httpd, postgres, tmp_path):
    """failing("apr_shm_create"): an httpd, not started yet, in which that function fails."""
    def make(function):
        source, library = tmp_path / "failing.c", tmp_path / "failing.so"
        source.write_text(FAILING.format(function=function))
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        site = CHILD + MOUNTS + database(postgres.dsn()) + OPERATING
        httpd = start_httpd(site, modules=MODULES, start=False)
        variables = httpd.environment()
        variables["LD_PRELOAD"] = f"{variables.get('LD_PRELOAD', '')} {library}"
        httpd.environment = lambda: variables
        return httpd
    return make


def test_reg0401_reg0112_without_shared_memory_metrics_and_turns_are_off(failing, live_session,
                                                                         expect_log):
    expect_log("REG0401: ", "REG0112: ")
    httpd = failing("apr_shm_create")
    httpd.start()
    assert all(tag in httpd.log.text() for tag in ("REG0401: ", "REG0112: "))
    one = Caller(httpd)
    assert one.register(live_session()).status_code == 201
    metrics = one.get("/metrics")
    assert (metrics.status_code, metrics.text) == (200, "")


def test_reg0108_without_random_numbers_httpd_does_not_start(failing, expect_log):
    expect_log("REG0108: ", "AH00020: Configuration Failed")
    assert "REG0108: " in failing("apr_generate_random_bytes").refusal()


def test_reg0102_reg0109_without_mutex_requests_are_503(failing, live_session, expect_log):
    expect_log("REG0102: ", "REG0109: ")
    httpd = failing("apr_thread_mutex_create")
    httpd.start()
    one = Caller(httpd)
    assert one.register(live_session()).status_code == 503
    assert one.get("/health/ready").status_code == 503
    assert one.get("/health/live").status_code == 200
    assert {"REG0102", "REG0109"} <= set(TAG.findall(httpd.log.text()))


# --- Messages about a request --------------------------------------------------------------

def test_reg0201_failing_expression_is_403(start_httpd, postgres, expect_log):
    expect_log("REG0201: ", "Evaluation of expression .* failed: Cannot open file")
    site = CHILD + MOUNTS + database(postgres.dsn()) + """
        <Location "/tenant">
            RegistrationAPI events
            RegistrationOrganization %{file:/no/such/file}
        </Location>"""
    httpd = start_httpd(site, modules=MODULES)
    assert Caller(httpd).get("/tenant").status_code == 403
    assert "REG0201: " in httpd.log.text()


def test_reg0301_open_breaker_is_logged_at_info(caller, postgres_to_break):
    one = caller(inside=OPERATING)
    postgres_to_break.stop("immediate")
    answers = [one.get("/health/ready") for _ in range(3)]
    assert {answer.status_code for answer in answers} == {503}
    lines = [line for line in one.httpd.log.text().splitlines() if "REG0301: " in line]
    assert len(lines) == 3
    assert all("[registration:info]" in line for line in lines)


def test_reg0305_lost_answer_is_logged_and_call_is_retried(caller, proxy,
                                                              postgres_to_break):
    one = caller(proxy.port)
    session = postgres_to_break.live_session()
    assert one.register(session).status_code == 201
    proxy.change("mute")
    assert one.register(session).status_code == 503
    assert "REG0305: " in one.httpd.log.text()


def replaced(postgres, body):
    """The SQL function of /health/ready, with another body."""
    postgres.query("ALTER FUNCTION health RENAME TO health_before")
    [[text]] = postgres.query("SELECT pg_get_functiondef('health_before'::regproc)")
    head = text.partition("LANGUAGE")[0].replace("health_before", "health")
    postgres.query(f"{head} LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
                   "GRANT EXECUTE ON FUNCTION health TO registration")


@pytest.fixture
def own_health(postgres_to_break):
    """own_health(body): makes /health/ready call this, until the test ends."""
    yield lambda body: replaced(postgres_to_break, body)
    postgres_to_break.query("DROP FUNCTION health;"
                            "ALTER FUNCTION health_before RENAME TO health")


@pytest.mark.parametrize("tag, body", [
    ("REG0306", "RETURN;"),
    ("REG0309", "RAISE 'no plan' USING ERRCODE = '0A000';"),
    ("REG0303", "RAISE 'a fault' USING ERRCODE = 'XX000';")])
def test_changed_operation_is_logged_with_its_tag(caller, own_health, expect_log, tag, body):
    expect_log(f"{tag}: ", "ERROR:  (no plan|a fault)")
    own_health(body)
    one = caller(inside=OPERATING)
    assert one.get("/health/ready").status_code == 503
    assert f"{tag}: operation health " in one.httpd.log.text()


@pytest.fixture
def missing_standby(postgres_to_break):
    """Commits wait for a missing standby until missing_standby.forget()."""
    def wait_for(name):
        postgres_to_break.query(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        postgres_to_break.query("SELECT pg_reload_conf()")
    wait_for("nowhere")
    yield lambda: wait_for("")
    wait_for("")


def waiting_for_standby(postgres):
    return [pid for pid, in postgres.query(
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")]


def test_reg0307_cancelled_wait_for_standby_is_retried(
        caller, postgres_to_break, missing_standby, expect_log):
    expect_log("REG0307: ", "WARNING:  canceling (the )?wait for synchronous replication")
    one = caller(timeout=30)
    session = str(postgres_to_break.query("SELECT id FROM live_sessions LIMIT 1")[0][0])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(one.register, session)
        servers.wait_until(lambda: waiting_for_standby(postgres_to_break), 20, "it did not wait")
        postgres_to_break.query("SELECT pg_cancel_backend(%s)",
                                waiting_for_standby(postgres_to_break)[0])
        servers.wait_until(lambda: "REG0307: " in one.httpd.log.text(), 20, "it was not logged")
        missing_standby()
        assert answer.result().status_code == 201
