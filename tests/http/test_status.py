# SPDX-License-Identifier: Apache-2.0
"""The status page in a real browser, and mod_status's page."""

import contextlib
import copy
import os
import re
import secrets
import signal
import time

import pytest
import requests
from selenium.webdriver.support.ui import WebDriverWait

import metrics
import servers
from apis import check_error
from browser import PATIENCE, browser   # noqa: F401, a fixture
from conftest import new_uuid
from faults import (CHILD, MODULES, MOUNTS, OPERATING, Caller, children, database,   # noqa: F401
                    own_postgres, postgres_to_break, two_hosts)
from scratch import OnScratch

SERVER_STATUS = """
<Location "/server-status">
    SetHandler server-status
</Location>
"""
PAGE = servers.ROOT / "src" / "api" / "status.html"
EVIL = """<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>"""


@pytest.fixture
def start_one(start_httpd, postgres_to_break):
    """start(text, other): a Caller of an httpd whose database is the breakable one, and whose
    page has another text in the place of one of its own."""
    def start(text=None, other=""):
        site = CHILD + MOUNTS + database(postgres_to_break.dsn()) + OPERATING + SERVER_STATUS
        if text:
            assert PAGE.read_text().count(text) == 1
            site += (f'<Location "/status">\nSetOutputFilter SUBSTITUTE\n'
                     f'Substitute "s|{text}|{other}|n"\n</Location>\n')
        one = Caller(start_httpd(site, modules=(*MODULES, "status", "substitute")))
        assert not text or text not in one.get("/status").text
        return one
    return start


@pytest.fixture
def one(start_one):
    return start_one()


def fill(postgres, title, places, taken):
    session = new_uuid()
    postgres.query("INSERT INTO live_sessions (id, title, status, max_participants,"
                   " registered_count) VALUES (%s, %s, 'live', %s, 0)", session, title, places)
    postgres.query("INSERT INTO live_registrations (id, session_id, patient_id, role)"
                   " SELECT gen_random_uuid(), %s, 'p' || i, 'participant'"
                   " FROM generate_series(1, %s) AS i", session, taken)
    postgres.query("SELECT recount()")
    return session


def shown(page, css):
    """The texts of the elements that match, read at once: the page replaces its elements."""
    return page.driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", css)


def wait_for(page, condition, what):
    WebDriverWait(page.driver, PATIENCE).until(lambda _: condition(), what)


def width(page, css):
    """The part of its track that a bar fills."""
    return page.driver.execute_script("""
        const fill = document.querySelector(arguments[0]);
        return fill.getBoundingClientRect().width
            / fill.parentElement.getBoundingClientRect().width""", css)


def narrow(page):
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": 390, "height": 1500, "deviceScaleFactor": 2, "mobile": True})


def is_too_wide(page):
    return page.driver.execute_script("return document.documentElement.scrollWidth"
                                      " > document.documentElement.clientWidth")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_shows_state_sessions_and_operations(one, postgres_to_break, browser, dark):
    full = fill(postgres_to_break, "Full house", 7, 7)
    fill(postgres_to_break, "A quarter of it", 24, 6)
    fill(postgres_to_break, EVIL, None, 5)
    page = browser(dark=dark)
    page.driver.get(f"{one.base}/status")
    wait_for(page, lambda: shown(page, "#state") == ["Database answers"], "no answer")
    wait_for(page, lambda: any("Full house" in text for text in shown(page, "#sessions .row")),
             "no session")
    for _ in range(3):
        assert one.register(full).status_code == 412
    # It refreshes itself.
    wait_for(page, lambda: any(re.search(r"^live_register\s.*\s0\s3\s0$",
                                         text) for text in shown(page, "#operations tr")),
             "the requests were not shown")
    rows = shown(page, "#sessions .row")
    assert any(text.split("\n") == ["Full house", "7 of 7"] for text in rows), rows
    # A title is text, not HTML.
    assert any(text.split("\n") == [EVIL, "5"] for text in rows), rows
    assert page.driver.title == "Registration status"
    assert shown(page, "img, script[src], link, iframe") == []
    assert width(page, '[aria-label="Full house"] .fill.full') == pytest.approx(1)
    assert width(page, '[aria-label="A quarter of it"] .fill') == pytest.approx(0.25, abs=0.01)
    page.screenshot("status-dark" if dark else "status-light")
    background = page.driver.execute_script(
        "return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 380) == dark
    narrow(page)
    assert not is_too_wide(page)
    page.screenshot("status-phone-dark" if dark else "status-phone")
    assert page.complaints() == []
    assert {url.split("/status")[0] for url in page.requests()} == {one.base}


def test_page_shows_outage_of_database(one, postgres_to_break, browser):
    page = browser()
    page.driver.get(f"{one.base}/status")
    wait_for(page, lambda: shown(page, "#state") == ["Database answers"], "no answer")
    postgres_to_break.stop("immediate")
    wait_for(page, lambda: shown(page, "#state") == ["Database does not answer"],
             "the outage was not shown")
    page.screenshot("status-outage")
    postgres_to_break.start()
    wait_for(page, lambda: shown(page, "#state") == ["Database answers"],
             "the recovery was not shown")


def stale(page):
    """The ids of the elements marked as out of date."""
    return set(page.driver.execute_script(
        "return [...document.querySelectorAll('.stale')].map(e => e.id)"))


def open_page(browser, one, **options):
    page = browser(**options)
    page.driver.get(f"{one.base}/status")
    wait_for(page, lambda: shown(page, "#state") == ["Database answers"], "no answer")
    return page


def cards(page):
    return dict(text.split("\n") for text in shown(page, "#cards div"))


BUSIEST = {"busiest-sessions", "busiest-occurrences"}


@contextlib.contextmanager
def hanging(httpd):
    """httpd accepts connections and does not answer."""
    parent = httpd.pid()
    pids = [parent, *children(parent)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_is_red_when_server_hangs(one, postgres_to_break, browser, dark):
    fill(postgres_to_break, "Nearly full", 8, 7)
    page = open_page(browser, one, dark=dark)
    assert stale(page) == set()
    with hanging(one.httpd):
        begin = time.monotonic()
        wait_for(page, lambda: shown(page, "#state.bad") == ["No answer for 6 seconds"],
                 "the page stays green")
        assert time.monotonic() - begin < 30
        assert stale(page) == {"cards", "all"} | BUSIEST
        assert re.match(r"the numbers are those of \d", shown(page, "#when")[0])
        page.screenshot("status-hung-dark" if dark else "status-hung")
        narrow(page)
        assert not is_too_wide(page)
        page.screenshot("status-hung-phone-dark" if dark else "status-hung-phone")
    wait_for(page, lambda: shown(page, "#state.good") == ["Database answers"], "still red")
    assert stale(page) == set()


def test_control_without_timeout_page_stays_green(start_one, browser):
    one = start_one("signal: AbortSignal.timeout(PATIENCE)")
    page = open_page(browser, one)
    with hanging(one.httpd):
        time.sleep(15)
        assert shown(page, "#state.good") == ["Database answers"] and stale(page) == set()


def test_control_unmarked_outdated_numbers_are_detected(start_one, browser):
    one = start_one("markStale(true,", "markStale(false,")
    page = open_page(browser, one)
    with hanging(one.httpd):
        wait_for(page, lambda: shown(page, "#state.bad"), "the page stays green")
        assert stale(page) == set()


def test_unknown_numbers_are_not_zero(one, postgres_to_break, browser):
    """The page is opened during an outage."""
    postgres_to_break.stop("immediate")
    page = browser()
    page.driver.get(f"{one.base}/status")
    wait_for(page, lambda: shown(page, "#state.bad") == ["Database does not answer"],
             "the outage was not shown")
    values = cards(page)
    assert values["Database errors"] == values["Failures (5xx)/s"] == "–"
    assert shown(page, ".columns p") == ["No data while the database does not answer."] * 2
    assert stale(page) == BUSIEST
    page.screenshot("status-first-outage")
    narrow(page)
    page.screenshot("status-first-outage-phone")
    postgres_to_break.start()
    wait_for(page, lambda: shown(page, "#state.good") == ["Database answers"], "still red")
    assert stale(page) == set()
    assert "No data" not in " ".join(shown(page, ".columns p"))


def test_control_number_instead_of_unknown_is_detected(
        start_one, postgres_to_break, browser):
    one = start_one("now.database ? whole", "true ? whole")
    postgres_to_break.stop("immediate")
    page = browser()
    page.driver.get(f"{one.base}/status")
    wait_for(page, lambda: shown(page, "#state.bad") == ["Database does not answer"],
             "the outage was not shown")
    assert cards(page)["Database errors"].isdigit()


def test_control_foreign_script_is_blocked_and_detected(one, browser):
    """The Content Security Policy blocks it, and the test above would see the browser's
    message."""
    page = browser()
    page.driver.get(f"{one.base}/status")
    page.find("#state")
    assert page.complaints() == []
    page.driver.execute_script("""
        const script = document.createElement("script");
        script.textContent = "document.title = 'broken'";
        document.body.append(script);
        const image = document.createElement("img");
        image.src = "/status";
        document.body.append(image);""")
    wait_for(page, lambda: len(page.complaints()) >= 1, "no message")
    assert page.driver.title == "Registration status"


def test_policy_is_strict_and_nonce_is_new(one):
    policies = set()
    for _ in range(3):
        answer = one.get("/status")
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = answer.headers["Content-Security-Policy"]
        [nonce] = set(re.findall("'nonce-([0-9a-f]{32})'", policy))
        assert re.findall('nonce="(.*?)"', answer.text) == [nonce] * 2
        assert "unsafe" not in policy and policy.startswith("default-src 'none'; ")
        policies.add(policy)
    assert len(policies) == 3
    assert not re.search(r"https?://|\bstyle=|\bon\w+=|innerHTML", answer.text)


def test_data_equals_metrics(one, postgres_to_break):
    session = postgres_to_break.live_session(max_participants=2)
    assert [one.register(session).status_code for _ in range(3)] == [201, 201, 412]

    def operations():
        return {o["name"]: o["codes"] for o in one.get("/status/data").json()
                ["metrics"]["operations"]}
    servers.wait_until(lambda: operations().get("live_register") == {"201": 2, "412": 1}, 20,
                       "the requests were not counted")
    data, samples = one.get("/status/data").json(), metrics.get(one)
    assert data["metrics"]["processes"] == metrics.one(samples, "processes") == 1
    assert data["metrics"]["open"] == metrics.one(samples, "connections_open")
    assert {"id": session, "title": "A session", "status": "live", "taken": 2, "places": 2} \
        in data["database"]["sessions"]


# --- Cost ----------------------------------------------------------------------------------

def count_calls(one, path, times=50):
    """The database calls for that many sequential requests, and the most there may be if an
    answer is cached for two seconds."""
    def calls():
        return metrics.one(metrics.get(one), "database_call_duration_seconds_count")
    before, begin = calls(), time.monotonic()
    for _ in range(times):
        assert one.get(path).status_code == 200
    return calls() - before, 1 + (time.monotonic() - begin) / 2


def test_database_calls_are_limited_by_cache(one):
    called, most = count_calls(one, "/status/data")
    assert 1 <= called <= most


def test_control_uncached_path_calls_database_each_time(one):
    called, most = count_calls(one, "/health/ready")
    assert called == 50 > most


def test_cached_data_is_soon_updated(one, postgres_to_break):
    session = postgres_to_break.live_session()
    for taken in (1, 2):
        assert one.register(session).status_code == 201
        servers.wait_until(
            lambda taken=taken: [s["taken"] for s in one.get("/status/data").json()
                                 ["database"]["sessions"] if s["id"] == session] == [taken],
            20, "the registration was not shown")


def test_each_host_shows_its_own_database(start_httpd, postgres_to_break):
    other = copy.copy(postgres_to_break)
    other.database = f"other_{secrets.token_hex(4)}"
    other.install("install.sql")
    inside = f'{OPERATING}<Location "/">\nRequire all granted\n</Location>\n'
    site = two_hosts(postgres_to_break.dsn(), other.dsn())
    httpd = start_httpd(site.replace("</VirtualHost>", f"{inside}</VirtualHost>"),
                        modules=MODULES)
    titles = {}
    for name, database in [("one", postgres_to_break), ("two", other)]:
        fill(database, f"of {name}", 99, 99)
        data = Caller(httpd, f"{name}.example.org").get("/status/data").json()["database"]
        titles[name] = {session["title"] for session in data["sessions"]}
    assert "of one" in titles["one"] and "of two" in titles["two"]
    assert "of one" not in titles["two"]


class TestBusiest(OnScratch):
    def test_ten_busiest_are_listed_first(self, sql):
        sql("INSERT INTO live_sessions (id, title, status, registered_count)"
            " SELECT gen_random_uuid(), 's' || i, CASE i WHEN 30 THEN 'ended' ELSE 'live' END, i"
            " FROM generate_series(0, 30) AS i")
        sql("INSERT INTO occurrences (event_id, end_date, registrations, capacity)"
            " SELECT (SELECT id FROM events LIMIT 1),"
            " CASE i WHEN 30 THEN now() - interval '1 day' END, i, 100"
            " FROM generate_series(0, 30) AS i")
        [[data]] = sql("SELECT body::jsonb FROM status('{\"\"}')")
        assert [s["taken"] for s in data["sessions"]] == list(range(29, 19, -1))
        assert [o["taken"] for o in data["occurrences"]] == list(range(29, 19, -1))
        assert {o["places"] for o in data["occurrences"]} == {100}


def test_page_and_data_are_read_only(one):
    for path in ("/status", "/status/data"):
        assert one.head(path).content == b""
        options = one.options(path)
        assert (options.status_code, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
        check_error(one.post(path, json={}), "live", 405)
    check_error(one.get("/status/"), "live", 404)


# --- mod_status ----------------------------------------------------------------------------

def auto(one):
    return dict(line.split(": ", 1) for line in one.get("/server-status?auto").text.splitlines()
                if ": " in line)


def test_mod_status_shows_requests_and_batches(one, postgres_to_break):
    session = postgres_to_break.live_session(max_participants=2)
    assert [one.register(session).status_code for _ in range(3)] == [201, 201, 412]
    servers.wait_until(lambda: auto(one)["RegistrationRequests"] == "3", 20, "no requests")
    found = auto(one)
    assert (found["RegistrationRefused"], found["RegistrationFailed"]) == ("1", "0")
    assert (found["RegistrationBatches"], found["RegistrationBatched"]) == ("3", "3")
    assert found["RegistrationConnections"] == "1"
    page = one.get("/server-status").text
    assert "<h2>mod_registration</h2>" in page
    assert "<td>live_register</td><td>3</td><td>1</td><td>0</td>" in page


def test_mod_status_without_mount_shows_nothing(start_httpd):
    httpd = start_httpd(SERVER_STATUS, modules=("authz_core", "status"))
    answer = requests.get(f"http://127.0.0.1:{httpd.port}/server-status?auto", timeout=30)
    assert answer.status_code == 200 and "Registration" not in answer.text
