# SPDX-License-Identifier: Apache-2.0
"""One client that asks for much does not slow down others."""

import concurrent.futures
import contextlib
import copy
import itertools
import pathlib
import re
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

# As in example-site.conf: PostgreSQL gives up a second before the module does.
PATIENT, STATEMENT = 5, "-c statement_timeout=4000"


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        yield pool


@pytest.fixture
def site(start_httpd, postgres_to_break):
    """site(): a Caller of an httpd with one child and the breakable database."""
    def make(*directives, postgres=postgres_to_break, **httpd):
        return Caller(start_httpd(
            CHILD + MOUNTS
            + database(postgres.dsn(), most=8, timeout=PATIENT, options=STATEMENT)
            + "".join(f"{line}\n" for line in directives), modules=MODULES, **httpd))
    return make


@pytest.fixture(scope="module")
def many(own_postgres):     # noqa: F811
    """A database with more event registrations than a connection's buffers hold."""
    postgres = copy.copy(own_postgres)
    postgres.database = "many"
    postgres.install("install.sql")
    postgres.psql("-v", f"rows={ROWS}",
                  "-f", str(servers.ROOT / "tests" / "bench" / "search.sql"))
    return postgres


ROWS = 100_000


# --- A call that takes long -----------------------------------------------------------------

def neighbours_of_slow_ones(one, postgres, pool):
    """Requests that wait behind one that is too slow, and in a batch with another; and the
    answers of these two."""
    slow, other, *quick = (postgres.live_session() for _ in range(5))
    assert one.register(quick[0]).status_code == 201
    with postgres.slow(10, slow, other):
        culprits = [pool.submit(one.register, slow)]
        time.sleep(0.3)
        neighbours = [pool.submit(one.register, quick[n % 3]) for n in range(5)]
        time.sleep(0.1)
        culprits.append(pool.submit(one.register, other))
        time.sleep(0.1)
        neighbours += [pool.submit(one.register, quick[n % 3]) for n in range(20)]
        return ([answer.result() for answer in neighbours],
                [answer.result() for answer in culprits])


def test_a_slow_request_fails_alone(site, postgres_to_break, pool):
    neighbours, culprits = neighbours_of_slow_ones(site(), postgres_to_break, pool)
    assert statuses(neighbours) == [201] * 25
    assert statuses(culprits) == [503] * 2
    assert all(answer.seconds < PATIENT + GRACE for answer in neighbours + culprits)


def test_control_without_a_limit_it_takes_its_neighbours_with_it(
        site, postgres_to_break, pool, tmp_path):
    module = changed_module(tmp_path / "changed", "way == SHARED ? shared_limit(deadline) : 0",
                            "0")
    neighbours, _ = neighbours_of_slow_ones(site(registration=module), postgres_to_break,
                                            pool)
    assert statuses(neighbours).count(503) > 10


# --- Many large bodies ----------------------------------------------------------------------

LARGE = "x" * 60_000
BOUND = 4 * 1024 * 1024     # bytes of a batch's values, as conf/registration.conf has it


def join_together(one, postgres, pool, code="LARGE"):
    """64 large requests that wait together for one row: the bytes of each transaction, and
    the MiB by which the child has grown at most."""
    [[plan]] = postgres.query("SELECT id FROM plans ORDER BY id LIMIT 1")
    postgres.query("DELETE FROM group_members WHERE invite_code = %s", code)
    postgres.query("INSERT INTO invite_codes (code, plan_id, max_uses) VALUES (%s, %s, 1000)"
                   " ON CONFLICT DO NOTHING", code, plan)
    [[group]] = postgres.query("SELECT group_id FROM plans WHERE id = %s", plan)
    [child] = children(one.httpd.pid())
    before = peak_memory(child)
    with postgres.locked(code, table="invite_codes", key="code"):
        answers = [pool.submit(one.post, f"/api/v1/groups/{group}/members",
                               json=member(code, attributes={"large": LARGE}, tags=TAGS))
                   for _ in range(64)]
        time.sleep(1.5)
    assert statuses(answer.result() for answer in answers) == [201] * 64
    sizes = [size for size, in postgres.query(
        "SELECT sum(octet_length(attributes::text) + octet_length(tags::text))::bigint"
        "  FROM group_members WHERE invite_code = %s GROUP BY xmin::text", code)]
    return sizes, peak_memory(child) - before


TAGS = ["y" * 250 + str(n) for n in range(230)]


def peak_memory(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def test_a_batch_has_no_more_bytes_than_it_may(site, postgres_to_break, pool, expect_log):
    expect_log("AH00484")   # All threads are busy.
    sizes, grown = join_together(site(), postgres_to_break, pool)
    assert sum(sizes) > 1.5 * BOUND
    assert max(sizes) <= BOUND
    # MiB; a request is held some ten times over, most of it its own.
    assert grown < (256 if servers.is_sanitized(servers.MODULE) else 128)


def test_control_without_a_bound_all_of_them_are_one_batch(
        site, postgres_to_break, pool, tmp_path, expect_log):
    expect_log("AH00484")
    module = changed_module(tmp_path / "changed", "((apr_size_t)4 * 1024 * 1024)",
                            "((apr_size_t)-1 / 4)")
    one = site(registration=module)

    def is_exceeded():
        """Unless half of the requests come too late, on a machine that is busy."""
        return max(join_together(one, postgres_to_break, pool)[0]) > BOUND
    servers.wait_until(is_exceeded, 60, "no batch was larger")


# --- Searches -------------------------------------------------------------------------------

class Searches(Meanwhile):
    """Clients that search on and on, far behind the counted pages; the most searches that
    were seen in PostgreSQL at a time."""

    def __init__(self, one, postgres, clients=20):
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
            for each in searching:
                each.result()


def beside_searches(one, postgres, seconds=4):
    session = postgres.live_session()
    assert one.register(session).status_code == 201
    with Searches(one, postgres) as searches:
        time.sleep(0.5)
        registered, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            registered.append(one.register(session))
    assert set(statuses(searches.answers)) <= {200, 503}
    return searches.most, registered


def test_searches_share_a_part_of_the_connections(site, many, expect_log):
    expect_log("REG0313: operation events_search: all RegistrationSearches are in use")
    one = site("RegistrationSearches 2", postgres=many)
    most, registered = beside_searches(one, many)
    assert most == 2
    assert set(statuses(registered)) == {201}
    assert all(answer.seconds < GRACE for answer in registered)


def test_control_without_a_bound_they_have_all_of_them(site, many, expect_log):
    expect_log("REG0313", "REG0304")
    one = site("RegistrationSearches 8", postgres=many)
    most, _ = beside_searches(one, many)
    assert most > 5


# --- Whole lists ----------------------------------------------------------------------------

NDJSON = {"Accept": "application/x-ndjson"}


class Reader(Meanwhile):
    """A client that asks for the whole list and reads so many bytes a second of it."""

    def __init__(self, one, rate, path=MOUNT):
        self.rate, self.read, self.is_cut = rate, 0, False
        self.wire = Wire(one.httpd, receive_buffer=4096)
        self.wire.send(message("GET", path, **NDJSON))
        assert self.wire.socket.recv(12) == b"HTTP/1.1 200"

    def is_reset(self):
        """Without reading: what has come is left where it is."""
        return self.wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def go_on(self):
        while not self.is_cut and not self.ended.wait(0.1):
            try:
                self.is_cut = self.is_reset()
                if self.rate:
                    self.read += len(self.wire.socket.recv(self.rate // 10))
            except ConnectionResetError:
                self.is_cut = True

    def __exit__(self, *error):
        try:
            super().__exit__(*error)
        finally:
            self.wire.close()


def lists_at_a_time(one, postgres):
    """Asks for a third list while two are sent that are not read; the answer. Other requests
    are answered meanwhile."""
    session = postgres.live_session()
    with Reader(one, 0), Reader(one, 0):
        third = one.get(MOUNT, headers=NDJSON, stream=True)
        assert one.register(session).status_code == 201
        assert one.get(MOUNT).status_code == 200
    return third


def test_whole_lists_have_a_part_of_the_threads(site, many, expect_log):
    expect_log("REG0204: 2 whole lists or other long answers are being sent")
    one = site("RegistrationListThreads 2", postgres=many)
    third = lists_at_a_time(one, many)
    check_error(third, "events", 503)
    assert third.headers["Retry-After"]

    def is_sent():
        return one.get(MOUNT, headers=NDJSON, stream=True).status_code == 200
    servers.wait_until(is_sent, 10, "no list was sent")


def pages_at_a_time(one, postgres):
    """As above, of pages; and a whole list."""
    session = postgres.live_session()
    with Reader(one, 0, PAGE), Reader(one, 0, PAGE):
        answers = [one.get(path, headers=NDJSON, stream=True) for path in (PAGE, MOUNT)]
        assert one.register(session).status_code == 201
        assert one.get(f"{MOUNT}?limit=20").status_code == 200
    return answers


PAGE = f"{MOUNT}?limit=1000"


def test_so_have_long_pages(site, many, expect_log):
    expect_log("REG0204: 2 whole lists or other long answers are being sent")
    for answer in pages_at_a_time(site("RegistrationListThreads 2", postgres=many), many):
        check_error(answer, "events", 503)
        assert answer.headers["Retry-After"]


def test_control_with_more_threads_there_is_another_page(site, many):
    answers = pages_at_a_time(site("RegistrationListThreads 4", postgres=many), many)
    assert statuses(answers) == [200, 200]
    for answer in answers:
        answer.close()


def test_control_with_more_threads_there_is_another(site, many):
    third = lists_at_a_time(site("RegistrationListThreads 3", postgres=many), many)
    assert third.status_code == 200
    third.close()


def test_by_default_it_is_a_quarter_of_the_threads(site, many, expect_log):
    expect_log("REG0204: 16 whole lists or other long answers are being sent")
    one = site(postgres=many)   # which has 64 in its only child
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(Reader(one, 0))
        check_error(one.get(MOUNT, headers=NDJSON), "events", 503)


def test_a_reader_that_is_too_slow_is_cut_off(site, many, tmp_path):
    """Of the list and of a large page; one that goes on well is not. With the control
    beside it: without a window none of them is."""
    module = changed_module(tmp_path / "changed", "#define WINDOW apr_time_from_sec(20)",
                            "#define WINDOW apr_time_from_sec(3600)")
    guarded, control = site(postgres=many), site(postgres=many, registration=module)
    rates = (0, 2_000, 60_000)
    with contextlib.ExitStack() as stack:
        readers = {(one, rate): stack.enter_context(Reader(one, rate))
                   for one in (guarded, control) for rate in rates}
        servers.wait_until(lambda: all(readers[guarded, rate].is_cut for rate in (0, 2_000))
                           and readers[guarded, 60_000].read > 1_000_000, 180,
                           "the slow ones were not cut off, or the other did not go on")
        assert not readers[guarded, 60_000].is_cut
        assert not any(readers[control, rate].is_cut for rate in rates)
    assert guarded.httpd.log.text().count("REG0205") == 2
