# SPDX-License-Identifier: Apache-2.0
"""No request waits longer than RegistrationTimeout, whatever the fault of the database, with
all threads of httpd busy: it is answered 503 with Retry-After. No thread and no connection is
left blocked, memory does not grow, and the service recovers by itself.
"""

import concurrent.futures
import contextlib
import re
import shutil
import subprocess
import threading
import time

import psycopg2
import pytest

import servers
from apis import check_error
from changed import changed_module
from event_registrations import MOUNT, insert_registrations
from faults import (GRACE, MODULES, MOUNTS, OUTAGE, RECOVERY, TIMEOUT, BreakablePostgres,
                    Caller, children, database, statuses)
from faults import own_postgres, postgres_to_break, proxy   # noqa: F401, fixtures
from wire import Wire, message
from workload import CHILDREN, CLIENTS, KINDS, KeptCaller, Load, Rooms

PATIENT = 8     # seconds: RegistrationTimeout of tests with lock waits
THREADS = 128   # of both child processes

STATUS = """
<Location "/server-status">
    SetHandler server-status
</Location>
"""


@pytest.fixture
def load(start_httpd, postgres_to_break):
    """load(): a Load on an httpd of its own; options are those of faults.database."""
    def make(postgres=postgres_to_break, port=None, inside="", rooms=400,
             registration=servers.MODULE, **options):
        dsn = postgres.dsn(**({"port": port} if port else {}))
        site = CHILDREN + MOUNTS + STATUS + database(dsn, **options) + inside
        httpd = start_httpd(site, modules=[*MODULES, "status", "reqtimeout"],
                            registration=registration)
        return Load(KeptCaller(httpd), Rooms(postgres, rooms))
    return make


def busy_threads(httpd):
    """The number of busy threads of httpd, except the one that reports it."""
    text = Caller(httpd).get("/server-status?auto").text
    return int(re.search(r"(?m)^BusyWorkers: (\d+)", text)[1]) - 1


def check_recovers(load):
    """Checks that soon, without intervention, no request is refused."""
    assert load.wait_for_more() < RECOVERY
    time.sleep(RECOVERY)   # for the other child process, too
    before = len(load.unavailable)
    time.sleep(0.5)
    assert len(load.unavailable) == before


def check_waits(load, seconds=TIMEOUT):
    """Checks that each answer was in time and true."""
    assert load.slowest < seconds + GRACE
    for name, answer in load.unavailable:
        check_error(answer, KINDS[name.partition("-")[0]], 503)
    assert load.lost == []
    load.check()


def check_threads(load):
    """Checks that all threads soon are idle, and can all be used at once."""
    httpd = load.one.httpd
    servers.wait_until(lambda: busy_threads(httpd) == 0, GRACE, "a thread is still busy")
    session = load.rooms.postgres.live_session()
    assert statuses(Caller(httpd).register_many(session, THREADS)) == [201] * THREADS


# --- Silence of the database ---------------------------------------------------------------

@contextlib.contextmanager
def frozen(postgres, proxy):
    with postgres.frozen():
        yield


@contextlib.contextmanager
def hole(postgres, proxy):
    proxy.change("hole")
    yield
    proxy.change("forward")


def fall_silent(load, silence, postgres, proxy):
    load.wait_for_more()
    time.sleep(0.5)
    with silence(postgres, proxy):
        time.sleep(2 * TIMEOUT)
        busy = busy_threads(load.one.httpd)
    check_recovers(load)
    return busy


@pytest.mark.parametrize("silence", [frozen, hole])
def test_silent_database_delays_no_request_beyond_timeout(load, postgres_to_break, proxy,
                                                          silence):
    with load(port=proxy.port) as load:
        fall_silent(load, silence, postgres_to_break, proxy)
    check_waits(load)
    check_threads(load)
    assert {name.partition("-")[0] for name, _ in load.unavailable} == set(KINDS)


@pytest.mark.parametrize("silence", [frozen, hole])
def test_control_long_timeout_blocks_all_clients(load, postgres_to_break, proxy, silence):
    with load(port=proxy.port, timeout=60) as load:
        assert fall_silent(load, silence, postgres_to_break, proxy) == CLIENTS
    with pytest.raises(AssertionError):
        check_waits(load)


# --- No free connection in PostgreSQL ------------------------------------------------------

class Hog:
    """Takes all connections that PostgreSQL does not reserve for superusers."""

    def __init__(self, postgres):
        self.postgres = postgres
        self.connections = []

    def take(self):
        with contextlib.suppress(psycopg2.OperationalError):
            while True:
                self.connections.append(psycopg2.connect(self.postgres.dsn()))

    def __enter__(self):
        self.take()
        while backends := self.postgres.backends():
            self.postgres.terminate(backends)
            self.take()
            time.sleep(0.1)   # for a connection just being made
        return self

    def __exit__(self, *_):
        for connection in self.connections:
            connection.close()


def test_exhausted_connections_are_503_at_once(load, postgres_to_break, expect_log):
    expect_log("FATAL:  (remaining connection slots are reserved|sorry, too many clients)")
    with load() as load:
        load.wait_for_more()
        with Hog(postgres_to_break) as hog:
            assert len(hog.connections) > 150
            before = len(load.confirmed_at)
            time.sleep(TIMEOUT)
            assert len(load.confirmed_at) == before   # Negative control: no connection is free.
            load.unavailable.clear()
            time.sleep(TIMEOUT)
            waits = [answer.seconds for _, answer in load.unavailable]
        check_recovers(load)
    check_waits(load)
    check_threads(load)
    assert len(waits) > CLIENTS and max(waits) < GRACE


# --- A full disk ---------------------------------------------------------------------------

class FullDisk:
    """A PostgreSQL with a part of its data on a small file system."""

    def __init__(self, postgres, part):
        self.postgres = postgres
        self.directory = postgres.data / part

    def mount(self, free):
        """Fails if this user may not mount."""
        files = self.postgres.data / "copy"
        self.postgres.stop()
        shutil.copytree(self.directory, files)
        size = sum(file.stat().st_size for file in files.rglob("*")) + free
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs",
                        self.directory], check=True, stderr=subprocess.DEVNULL)
        subprocess.run(["cp", "-r", f"{files}/.", self.directory], check=True)
        subprocess.run(["chown", "-R", "postgres:", self.directory], check=True)
        self.postgres.start()

    @contextlib.contextmanager
    def full(self):
        ballast = self.directory / "ballast"
        try:
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            yield
        finally:
            ballast.unlink()

    def close(self):
        self.postgres.stop("immediate")
        subprocess.run(["umount", self.directory], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def disk(tmp_path_factory, watched_logs, expect_log):
    """disk("pg_wal", free=20 << 20): a FullDisk with that many free bytes."""
    made = []

    def make(part, free, commit="on"):
        postgres = BreakablePostgres(tmp_path_factory.mktemp("small"),
                                     settings=(f"synchronous_commit = {commit}",))
        watched_logs.append(postgres.log)
        postgres.start()
        postgres.install("install.sql", "demo.sql")
        [[number]] = postgres.query("SELECT oid::text FROM pg_database"
                                    " WHERE datname = current_database()")
        made.append(FullDisk(postgres, part.format(database=number)))
        try:
            made[-1].mount(free)
        except subprocess.CalledProcessError:
            pytest.skip("nothing can be mounted here")
        return made[-1]
    expect_log(*OUTAGE)
    yield make
    for each in made:
        each.close()


TABLES = "base/{database}"
TABLES_FULL = "ERROR:  could not extend file .* No space left on device"


def test_full_disk_is_503_until_there_is_space(load, disk, expect_log):
    expect_log(TABLES_FULL)
    disk = disk(TABLES, free=16 << 20)
    with load(disk.postgres) as load:
        load.wait_for_more()
        with disk.full():
            time.sleep(TIMEOUT)
        check_recovers(load)   # Negative control: it was the disk.
    assert {name.partition("-")[0] for name, _ in load.unavailable} == set(KINDS)
    check_waits(load)
    check_threads(load)


def test_control_full_disk_as_internal_error_is_detected(load, disk, expect_log, tmp_path):
    expect_log(TABLES_FULL)
    # There is no such class.
    module = changed_module(tmp_path / "changed", '{"53", ', '{"--", ')
    disk = disk(TABLES, free=16 << 20)
    with load(disk.postgres, registration=module) as load:
        load.wait_for_more()
        with disk.full():
            time.sleep(TIMEOUT)
    assert {status for _, status, _ in load.refused} == {500}
    with pytest.raises(AssertionError):
        check_waits(load)


# PostgreSQL stops then, and does not start before there is space.
LOG_FULL = ["PANIC:  could not write to (log )?file .* No space left on device",
            "FATAL:  the database system is in recovery mode",
            "FATAL:  could not write to file .* No space left on device"]


def wait_for_panic(disk):
    servers.wait_until(lambda: "PANIC: " in disk.postgres.log.text(), 30,
                       "the log did not become full")


def test_full_wal_loses_no_confirmed_change(load, disk, expect_log):
    expect_log(*LOG_FULL)
    disk = disk("pg_wal", free=20 << 20)
    with load(disk.postgres) as load:
        load.wait_for_more()
        with disk.full():
            wait_for_panic(disk)
            time.sleep(0.5)
            before = len(load.confirmed_at)
            time.sleep(TIMEOUT)
            assert len(load.confirmed_at) == before
        disk.postgres.start()   # if it has stopped
        check_recovers(load)
    check_waits(load)
    check_threads(load)


def test_control_asynchronous_commit_loses_confirmed_changes(load, disk, expect_log):
    """The WAL writer is frozen until the WAL has no space."""
    expect_log(*LOG_FULL)
    disk = disk("pg_wal", free=20 << 20, commit="off")
    [[writer]] = disk.postgres.query(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
    with load(disk.postgres) as load:
        load.wait_for_more()
        with disk.full(), disk.postgres.frozen(writer):
            wait_for_panic(disk)
        disk.postgres.start()
        load.wait_for_more(30)
    with pytest.raises(AssertionError):
        load.check()
    assert any(done > kept for done, kept in load.differences().values())


# --- Row locks of others -------------------------------------------------------------------

CROWD = 12   # clients of each kind that request a locked row

# Not families: each has its own name, and their institution and children are locked only by
# a transaction that deletes them.
LOCKED_KINDS = ("live", "group", "user", "event")


def request_locked_rows(one, rooms, kind, number, ended):
    """Requests locked rows in a loop; the answers."""
    answers = []
    while not ended.is_set():
        answers.append(rooms.register(one, kind, 0, f"{kind}-{number}-{rooms.token}"))
    return kind, answers


def pace(load, seconds):
    """Confirmed requests per second."""
    before = len(load.confirmed_at)
    time.sleep(seconds)
    return (len(load.confirmed_at) - before) / seconds


def test_locked_rows_delay_only_requests_for_them(load, postgres_to_break):
    wanted, ended = Rooms(postgres_to_break, 1), threading.Event()
    crowd = [(kind, number) for kind in LOCKED_KINDS for number in range(CROWD)]
    with load(most=10, timeout=PATIENT) as load, \
            concurrent.futures.ThreadPoolExecutor(len(crowd)) as pool:
        load.wait_for_more()
        before, slowest = pace(load, PATIENT), load.slowest
        load.slowest = 0
        with wanted.locked():
            held_up = [pool.submit(request_locked_rows, load.one, wanted, *each, ended)
                       for each in crowd]
            meanwhile = pace(load, PATIENT)
            ended.set()
            waits = [each.result() for each in held_up]
    for kind, answers in waits:
        for answer in answers:
            check_error(answer, KINDS[kind], 503)
            assert answer.seconds < PATIENT + GRACE
    check_waits(load, PATIENT)
    assert not load.unknown
    assert meanwhile > before / 4
    assert load.slowest < slowest + 0.6
    check_threads(load)


def test_control_locking_all_rows_delays_all_requests(load, postgres_to_break):
    with load(most=10, timeout=PATIENT) as load:
        load.wait_for_more()
        before = pace(load, 2)
        with load.rooms.locked():
            time.sleep(1)
            meanwhile = pace(load, 2)
    assert meanwhile < before / 4


# --- Slow clients --------------------------------------------------------------------------

SLOW = 10   # of each kind


class SlowClient:
    """Sends a request octet by octet, perhaps not to the end, and reads nothing."""

    def __init__(self, httpd, whole_head=b"", slowly=b""):
        self.wire = Wire(httpd, receive_buffer=2048)
        self.wire.send(whole_head)
        self.rest = slowly
        self.cut_off = False

    def go_on(self):
        """Sends another octet, unless httpd has closed the connection."""
        try:
            if self.rest and not self.cut_off:
                self.wire.send(self.rest[:1])
                self.rest = self.rest[1:]
        except (BrokenPipeError, ConnectionResetError):
            self.cut_off = True


def crowd_of_slow_clients(httpd, rooms, long_list):
    """Clients that send the head slowly, that send the body slowly, and that do not read."""
    path = f"/v1/sessions/{rooms.sessions[0]}/register"
    request = message("POST", path, b'{"patient_id": "' + b"x" * 200 + b'"}')
    head, body = request[:-217], request[-217:]
    return [*(SlowClient(httpd, b"POST ", request[5:]) for _ in range(SLOW)),
            *(SlowClient(httpd, head, body) for _ in range(SLOW)),
            *(SlowClient(httpd, message("GET", long_list)) for _ in range(SLOW))]


@pytest.fixture
def long_list(postgres_to_break):
    """The path of a list larger than all buffers."""
    [[occurrence]] = postgres_to_break.query(
        "INSERT INTO occurrences (event_id) SELECT id FROM events LIMIT 1 RETURNING id")
    insert_registrations(postgres_to_break.query, occurrence, 100,
                         "jsonb_build_object('text', repeat('x', 100000))")
    return f"{MOUNT}?limit=100&occurrenceId={occurrence}"


def go_slowly(clients, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for client in clients:
            client.go_on()
        time.sleep(0.1)


# Time limits for reading a request, and for a client to read on.
LIMITS = "RequestReadTimeout header=2 body=2\nTimeout 3\n"


def test_slow_clients_hold_no_connection_and_threads_only_briefly(
        load, postgres_to_break, long_list):
    """Each child process has one connection, and other clients are served all the time."""
    with load(most=1, inside=LIMITS, timeout=PATIENT) as load:
        load.wait_for_more()
        before = pace(load, 2)
        slow = crowd_of_slow_clients(load.one.httpd, load.rooms, long_list)
        go_slowly(slow, 1)
        meanwhile = pace(load, 2)
    go_slowly(slow, 4)
    assert [client.cut_off for client in slow] == [True] * 2 * SLOW + [False] * SLOW
    check_waits(load, PATIENT)
    assert not load.unknown
    assert meanwhile > before / 10
    check_threads(load)
    for client in slow:
        client.wire.close()


def test_control_without_time_limits_slow_clients_keep_threads(load, postgres_to_break,
                                                               long_list):
    with load(most=1, inside="RequestReadTimeout header=0 body=0\n") as load:
        slow = crowd_of_slow_clients(load.one.httpd, load.rooms, long_list)
        go_slowly(slow, 4)
    assert busy_threads(load.one.httpd) >= 2 * SLOW
    with pytest.raises(servers.ServerError):
        check_threads(load)
    for client in slow:
        client.wire.close()


# --- Memory --------------------------------------------------------------------------------

# Allowed growth of a child process, in MiB, during thousands of refused requests.
GROWTH = 1

# One child process with few threads, so that each soon has its share of the memory.
FEW = "ServerLimit 1\nStartServers 1\nThreadsPerChild 32\nMaxRequestWorkers 32\n"


def memory(httpd):
    """Resident memory of the child processes, in MiB."""
    return [servers.resident(pid) for pid in children(httpd.pid())]


def outages(load, proxy, count, seconds):
    for _ in range(count):
        proxy.change("refuse")
        time.sleep(seconds)
        proxy.change("forward")
        load.wait_for_more()
        time.sleep(0.3)


def grown(httpd, before):
    """The largest growth of a child process."""
    return max(now - then for now, then in zip(memory(httpd), before))


def test_outages_leak_no_memory(load, proxy, monkeypatch):
    monkeypatch.setattr("workload.PAUSE", 0)   # Clients retry at once.
    monkeypatch.setattr("workload.CLIENTS", clients := 12)
    with load(port=proxy.port, rooms=2000, most=8,
              inside=FEW + "RegistrationMaxBody 1048576\nRegistrationBatchSize 32\n") as load:
        httpd = load.one.httpd
        outages(load, proxy, 8, 0.4)
        before, waits = memory(httpd), len(load.unavailable)
        # Longer than any retry; then all requests are refused at once.
        for _ in range(10):   # On a busy machine fewer are refused at a time.
            if len(load.unavailable) <= waits + 1000:
                outages(load, proxy, 1, TIMEOUT + 1)
        assert grown(httpd, before) < GROWTH
        assert len(load.unavailable) > waits + 1000
    load.check()
    # Negative control: growth is detected. httpd keeps a part of each body.
    large = {"username": "x" * 900000}
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: load.one.post("/v1/families", json=large), range(clients)))
    assert grown(httpd, before) > GROWTH
