# SPDX-License-Identifier: Apache-2.0
"""Noisy neighbours: one client's expensive requests do not slow down other clients."""

import concurrent.futures
import contextlib
import copy
import itertools
import socket
import time

import pytest

import servers
from apis import check_error
from changed import changed_module
from event_registrations import MOUNT
from faults import (CHILD, GRACE, MODULES, MOUNTS, Caller, Meanwhile, children, database,
                    statuses)
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures
from samples import member
from wire import Wire, message

# As in example-site.conf: PostgreSQL's timeout ends a second before the module's.
PATIENT, STATEMENT = 5, "-c statement_timeout=4000"


@pytest.fixture
def site(start_httpd, postgres_to_break):
    """site(): a Caller of an httpd with one child process and the breakable database."""
    def make(*directives, postgres=postgres_to_break, **httpd):
        return Caller(start_httpd(
            CHILD + MOUNTS
            + database(postgres.dsn(), most=8, timeout=PATIENT, options=STATEMENT)
            + "".join(f"{line}\n" for line in directives), modules=MODULES, **httpd))
    return make


@pytest.fixture(scope="module")
def many(own_postgres):     # noqa: F811
    """A database with more event registrations than a socket's buffers hold."""
    postgres = copy.copy(own_postgres)
    postgres.database = "many"
    postgres.install("install.sql")
    postgres.psql("-v", f"rows={ROWS}",
                  "-f", str(servers.ROOT / "tests" / "bench" / "search.sql"))
    return postgres


ROWS = 100_000


# --- A slow call ---------------------------------------------------------------------------

def register_beside_slow_requests(one, postgres, pool):
    """Sends two slow requests, and others that queue behind the first or share a batch with
    the second. Returns the answers of the others and of the slow requests."""
    slow_session, slow_session_2, *quick_sessions = (postgres.live_session() for _ in range(5))
    assert one.register(quick_sessions[0]).status_code == 201
    with postgres.slow(10, slow_session, slow_session_2):
        slow_answers = [pool.submit(one.register, slow_session)]
        time.sleep(0.3)
        other_answers = [pool.submit(one.register, quick_sessions[n % 3]) for n in range(5)]
        time.sleep(0.1)
        slow_answers.append(pool.submit(one.register, slow_session_2))
        time.sleep(0.1)
        other_answers += [pool.submit(one.register, quick_sessions[n % 3]) for n in range(20)]
        return ([answer.result() for answer in other_answers],
                [answer.result() for answer in slow_answers])


def test_slow_request_fails_without_failing_its_batch(site, postgres_to_break, pool):
    other_answers, slow_answers = register_beside_slow_requests(site(), postgres_to_break, pool)
    assert statuses(other_answers) == [201] * 25
    assert statuses(slow_answers) == [503] * 2
    assert all(answer.seconds < PATIENT + GRACE for answer in other_answers + slow_answers)


def test_control_without_shared_limit_slow_request_fails_other_requests(
        site, postgres_to_break, pool, tmp_path):
    module = changed_module(tmp_path / "changed", "kind == BATCHED ? shared_limit(start_by) : 0",
                            "0")
    other_answers, _ = register_beside_slow_requests(
        site(registration=module), postgres_to_break, pool)
    assert statuses(other_answers).count(503) > 10


# --- Many large bodies ----------------------------------------------------------------------

LARGE = "x" * 60_000
BOUND = 4 * 1024 * 1024     # maximum bytes of a batch, as conf/registration.conf has it


def register_large_batch(one, postgres, pool, code="LARGE"):
    """Sends 64 large requests that queue for one locked row. Returns the bytes written by
    each transaction, and the growth of the child's peak memory in MiB."""
    [[plan]] = postgres.query("SELECT id FROM plans ORDER BY id LIMIT 1")
    postgres.query("DELETE FROM group_members WHERE invite_code = %s", code)
    postgres.query("INSERT INTO invite_codes (code, plan_id, max_uses) VALUES (%s, %s, 1000)"
                   " ON CONFLICT DO NOTHING", code, plan)
    [[group]] = postgres.query("SELECT group_id FROM plans WHERE id = %s", plan)
    [child] = children(one.httpd.pid())
    before = servers.resident(child, "VmHWM")
    with postgres.locked(code, table="invite_codes", key="code"):
        answers = [pool.submit(one.post, f"/api/v1/groups/{group}/members",
                               json=member(code, attributes={"large": LARGE}, tags=TAGS))
                   for _ in range(64)]
        time.sleep(1.5)
    assert statuses(answer.result() for answer in answers) == [201] * 64
    sizes = [size for size, in postgres.query(
        "SELECT sum(octet_length(attributes::text) + octet_length(tags::text))::bigint"
        "  FROM group_members WHERE invite_code = %s GROUP BY xmin::text", code)]
    return sizes, servers.resident(child, "VmHWM") - before


TAGS = ["y" * 250 + str(n) for n in range(230)]


def test_batch_bytes_are_limited(site, postgres_to_break, pool, expect_log):
    expect_log("AH00484")   # MaxRequestWorkers reached
    sizes, grown = register_large_batch(site(), postgres_to_break, pool)
    assert sum(sizes) > 1.5 * BOUND
    assert max(sizes) <= BOUND
    # MiB; each request is in memory about ten times, mostly in its own pool.
    assert grown < (256 if servers.is_sanitized(servers.MODULE) else 128)


def test_control_without_byte_limit_batch_is_larger(
        site, postgres_to_break, pool, tmp_path, expect_log):
    expect_log("AH00484")
    module = changed_module(tmp_path / "changed", "((apr_size_t)4 * 1024 * 1024)",
                            "((apr_size_t)-1 / 4)")
    one = site(registration=module)

    def is_exceeded():
        """On a busy machine half of the requests may arrive too late: try again."""
        return max(register_large_batch(one, postgres_to_break, pool)[0]) > BOUND
    servers.wait_until(is_exceeded, 60, "no batch was larger")


# --- Searches -------------------------------------------------------------------------------

class Searches(Meanwhile):
    """Clients that search in a loop, far beyond the counted pages. `most` is the largest
    number of concurrent searches seen in PostgreSQL. There are no more clients than RegistrationListThreads
    allows: slow ones would get REG0204."""

    def __init__(self, one, postgres, clients=16):
        self.one, self.postgres, self.clients, self.most = one, postgres, clients, 0
        self.answers = []

    def search(self):
        pages = itertools.count(90)
        while not self.ended.is_set():
            self.answers.append(self.one.get(f"{MOUNT}?limit=1000&page={next(pages)}"))

    def go_on(self):
        with concurrent.futures.ThreadPoolExecutor(self.clients) as pool:
            searching = [pool.submit(self.search) for _ in range(self.clients)]
            connection = self.postgres.connect()
            with connection.cursor() as cursor:
                while not self.ended.wait(0.01):
                    cursor.execute("SELECT count(*) FROM pg_stat_activity"
                                   " WHERE application_name = 'mod_registration'"
                                   " AND state = 'active' AND query LIKE '%%events_search%%'")
                    self.most = max(self.most, cursor.fetchone()[0])
            connection.close()
            for client in searching:
                client.result()


def register_during_searches(one, postgres, seconds=4):
    session = postgres.live_session()
    assert one.register(session).status_code == 201
    with Searches(one, postgres) as searches:
        time.sleep(0.5)
        registered, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            registered.append(one.register(session))
    assert set(statuses(searches.answers)) <= {200, 503}
    return searches.most, registered


def test_concurrent_searches_are_limited(site, many, expect_log):
    expect_log("REG0313: operation events_search")
    one = site("RegistrationSearches 2", postgres=many)
    most, registered = register_during_searches(one, many)
    assert most == 2
    assert set(statuses(registered)) == {201}
    assert all(answer.seconds < GRACE for answer in registered)


def test_control_without_search_limit_searches_use_all_connections(site, many, expect_log):
    expect_log("REG0313", "REG0304")
    one = site("RegistrationSearches 8", postgres=many)
    most, _ = register_during_searches(one, many)
    assert most > 5


# --- Streamed lists ------------------------------------------------------------------------

NDJSON = {"Accept": "application/x-ndjson"}


class Reader(Meanwhile):
    """A client that requests a whole list and reads `rate` bytes a second of it."""

    def __init__(self, one, rate, path=MOUNT):
        self.rate, self.read, self.is_closed = rate, 0, False
        self.wire = Wire(one.httpd, receive_buffer=4096)
        self.wire.send(message("GET", path, **NDJSON))
        assert self.wire.socket.recv(12) == b"HTTP/1.1 200"

    def is_reset(self):
        """Asks the socket, without reading the octets received."""
        return self.wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def go_on(self):
        while not self.is_closed and not self.ended.wait(0.1):
            try:
                self.is_closed = self.is_reset()
                if self.rate:
                    self.read += len(self.wire.socket.recv(self.rate // 10))
            except ConnectionResetError:
                self.is_closed = True

    def __exit__(self, *error):
        try:
            super().__exit__(*error)
        finally:
            self.wire.close()


def request_third_list(one, postgres):
    """The answer to a third list while two clients read nothing of theirs. Checks that other
    requests are answered meanwhile."""
    session = postgres.live_session()
    with Reader(one, 0), Reader(one, 0):
        third = one.get(MOUNT, headers=NDJSON, stream=True)
        assert one.register(session).status_code == 201
        assert one.get(MOUNT).status_code == 200
    return third


def test_concurrent_lists_are_limited(site, many, expect_log):
    expect_log("REG0204: 2 ")
    one = site("RegistrationListThreads 2", postgres=many)
    third = request_third_list(one, many)
    check_error(third, "events", 503)
    assert third.headers["Retry-After"]

    def is_sent():
        return one.get(MOUNT, headers=NDJSON, stream=True).status_code == 200
    servers.wait_until(is_sent, 10, "no list was sent")


def request_third_page(one, postgres):
    """As request_third_list, with long pages; the answers to a page and to a whole list."""
    session = postgres.live_session()
    with Reader(one, 0, PAGE), Reader(one, 0, PAGE):
        answers = [one.get(path, headers=NDJSON, stream=True) for path in (PAGE, MOUNT)]
        assert one.register(session).status_code == 201
        assert one.get(f"{MOUNT}?limit=20").status_code == 200
    return answers


PAGE = f"{MOUNT}?limit=1000"


def test_concurrent_long_pages_are_limited(site, many, expect_log):
    expect_log("REG0204: 2 ")
    for answer in request_third_page(site("RegistrationListThreads 2", postgres=many), many):
        check_error(answer, "events", 503)
        assert answer.headers["Retry-After"]


def test_control_with_higher_limit_third_page_is_sent(site, many):
    answers = request_third_page(site("RegistrationListThreads 4", postgres=many), many)
    assert statuses(answers) == [200, 200]
    for answer in answers:
        answer.close()


def test_control_with_higher_limit_third_list_is_sent(site, many):
    third = request_third_list(site("RegistrationListThreads 3", postgres=many), many)
    assert third.status_code == 200
    third.close()


def test_list_limit_defaults_to_quarter_of_threads(site, many, expect_log):
    expect_log("REG0204: 16 ")
    one = site(postgres=many)   # 64 threads in one child process
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(Reader(one, 0))
        check_error(one.get(MOUNT, headers=NDJSON), "events", 503)


def test_slow_reader_is_disconnected(site, many, tmp_path):
    """Of a list and of a large page, but not a client that reads fast enough. The control
    beside it has a longer window and disconnects no client."""
    module = changed_module(tmp_path / "changed", "#define WINDOW apr_time_from_sec(20)",
                            "#define WINDOW apr_time_from_sec(3600)")
    guarded, control = site(postgres=many), site(postgres=many, registration=module)
    rates = (0, 2_000, 60_000)
    with contextlib.ExitStack() as stack:
        readers = {(one, rate): stack.enter_context(Reader(one, rate))
                   for one in (guarded, control) for rate in rates}
        servers.wait_until(lambda: all(readers[guarded, rate].is_closed for rate in (0, 2_000))
                           and readers[guarded, 60_000].read > 1_000_000, 180,
                           "the slow readers are connected, or the fast one is stuck")
        assert not readers[guarded, 60_000].is_closed
        assert not any(readers[control, rate].is_closed for rate in rates)
    assert guarded.httpd.log.text().count("REG0205") == 2
