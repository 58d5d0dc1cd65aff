# SPDX-License-Identifier: Apache-2.0
"""Nobody waits longer than RegistrationTimeout, whatever becomes of the database, with all
threads of httpd busy: who cannot be served is told 503 and to come again. No thread and no
connection stays behind, memory is steady, and the service comes back by itself.
"""

import concurrent.futures
import contextlib
import pathlib
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
from event_registrations import MOUNT
from faults import (GRACE, MODULES, MOUNTS, OUTAGE, RECOVERY, TIMEOUT, BreakablePostgres,
                    Caller, children, database, statuses)
from faults import own_postgres, postgres_to_break, proxy   # noqa: F401, fixtures
from wire import Wire, message
from workload import CHILDREN, CLIENTS, KINDS, KeptCaller, Load, Rooms

PATIENT = 8     # seconds: RegistrationTimeout where somebody is to wait for a lock
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
    """How many of httpd's threads are at work, besides the one that tells."""
    text = Caller(httpd).get("/server-status?auto").text
    return int(re.search(r"(?m)^BusyWorkers: (\d+)", text)[1]) - 1


def check_recovers(load):
    """Nobody does anything, and soon nobody is refused any more."""
    assert load.wait_for_more() < RECOVERY
    time.sleep(RECOVERY)   # for the other child process, too
    before = len(load.unavailable)
    time.sleep(0.5)
    assert len(load.unavailable) == before


def check_waits(load, seconds=TIMEOUT):
    """Everybody got an answer in time, and was told the truth."""
    assert load.slowest < seconds + GRACE
    for name, answer in load.unavailable:
        check_error(answer, KINDS[name.partition("-")[0]], 503)
    assert load.lost == []
    load.check()


def check_threads(load):
    """None is stuck: soon all are idle, and as many requests are served at once."""
    httpd = load.one.httpd
    servers.wait_until(lambda: busy_threads(httpd) == 0, GRACE, "a thread was at work still")
    session = load.rooms.postgres.live_session()
    assert statuses(Caller(httpd).register_many(session, THREADS)) == [201] * THREADS


# --- Silence -------------------------------------------------------------------------------

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
def test_when_it_falls_silent_everybody_is_answered_in_time(load, postgres_to_break, proxy,
                                                            silence):
    with load(port=proxy.port) as load:
        fall_silent(load, silence, postgres_to_break, proxy)
    check_waits(load)
    check_threads(load)
    assert {name.partition("-")[0] for name, _ in load.unavailable} == set(KINDS)


@pytest.mark.parametrize("silence", [frozen, hole])
def test_control_with_a_long_timeout_they_wait(load, postgres_to_break, proxy, silence):
    with load(port=proxy.port, timeout=60) as load:
        assert fall_silent(load, silence, postgres_to_break, proxy) == CLIENTS
    with pytest.raises(AssertionError):
        check_waits(load)


# --- Out of connections --------------------------------------------------------------------

class Hog:
    """Takes all connections that PostgreSQL has for others than administrators."""

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
            time.sleep(0.1)   # for one that was just being made
        return self

    def __exit__(self, *_):
        for connection in self.connections:
            connection.close()


def test_when_there_is_no_connection_left_everybody_is_told_at_once(load, postgres_to_break,
                                                                    expect_log):
    expect_log("FATAL:  (remaining connection slots are reserved|sorry, too many clients)")
    with load() as load:
        load.wait_for_more()
        with Hog(postgres_to_break) as hog:
            assert len(hog.connections) > 150
            before = len(load.confirmed_at)
            time.sleep(TIMEOUT)
            assert len(load.confirmed_at) == before   # The control: there is none.
            load.unavailable.clear()
            time.sleep(TIMEOUT)
            told = [answer.seconds for _, answer in load.unavailable]
        check_recovers(load)
    check_waits(load)
    check_threads(load)
    assert len(told) > CLIENTS and max(told) < GRACE


# --- A full disk ---------------------------------------------------------------------------

class FullDisk:
    """A PostgreSQL that has a part of its data on a small file system of its own."""

    def __init__(self, postgres, part):
        self.postgres = postgres
        self.directory = postgres.data / part

    def mount(self, free):
        """Fails where this is not allowed to mount anything."""
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
    """disk("pg_wal", free=20 << 20): a FullDisk with that many octets left."""
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
            assert not servers.IS_ROOT   # Who may mount what he likes skips nothing.
            pytest.skip("nothing can be mounted here")
        return made[-1]
    expect_log(*OUTAGE)
    yield make
    for each in made:
        each.close()


TABLES = "base/{database}"
TABLES_FULL = "ERROR:  could not extend file .* No space left on device"


def test_when_the_disk_is_full_it_is_503_until_it_is_not(load, disk, expect_log):
    expect_log(TABLES_FULL)
    disk = disk(TABLES, free=16 << 20)
    with load(disk.postgres) as load:
        load.wait_for_more()
        with disk.full():
            time.sleep(TIMEOUT)
        check_recovers(load)   # The control: it was the disk.
    assert {name.partition("-")[0] for name, _ in load.unavailable} == set(KINDS)
    check_waits(load)
    check_threads(load)


def test_control_a_module_to_which_that_is_a_fault_is_found(load, disk, expect_log,
                                                            tmp_path):
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


# PostgreSQL ends itself then, and does not come back before there is room.
LOG_FULL = ["PANIC:  could not write to (log )?file .* No space left on device",
            "FATAL:  the database system is in recovery mode",
            "FATAL:  could not write to file .* No space left on device"]


def wait_for_panic(disk):
    servers.wait_until(lambda: "PANIC: " in disk.postgres.log.text(), 30,
                       "the log did not become full")


def test_when_the_log_is_full_nothing_that_was_confirmed_is_lost(load, disk, expect_log):
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
        disk.postgres.start()   # if it has given up
        check_recovers(load)
    check_waits(load)
    check_threads(load)


def test_control_what_is_confirmed_before_it_is_in_the_log_is_lost(load, disk, expect_log):
    """Whoever writes it there later is held up, until the log has no room for it."""
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


# --- Locks of others -----------------------------------------------------------------------

CROWD = 12   # who want what is locked, of each kind

# But families: each has a name of its own, and what they have in common, an institution and
# children, is locked for them only by who is about to delete it.
LOCKED_KINDS = ("live", "group", "user", "event")


def keep_asking(one, rooms, kind, number, ended):
    """Somebody's attempts to get what is locked; the answers."""
    answers = []
    while not ended.is_set():
        answers.append(rooms.register(one, kind, 0, f"{kind}-{number}-{rooms.token}"))
    return kind, answers


def pace(load, seconds):
    """Confirmations a second."""
    before = len(load.confirmed_at)
    time.sleep(seconds)
    return (len(load.confirmed_at) - before) / seconds


def test_a_locked_row_holds_up_only_who_wants_it(load, postgres_to_break):
    wanted, ended = Rooms(postgres_to_break, 1), threading.Event()
    crowd = [(kind, number) for kind in LOCKED_KINDS for number in range(CROWD)]
    with load(most=10, timeout=PATIENT) as load, \
            concurrent.futures.ThreadPoolExecutor(len(crowd)) as pool:
        load.wait_for_more()
        before, slowest = pace(load, PATIENT), load.slowest
        load.slowest = 0
        with wanted.locked():
            held_up = [pool.submit(keep_asking, load.one, wanted, *each, ended)
                       for each in crowd]
            meanwhile = pace(load, PATIENT)
            ended.set()
            told = [each.result() for each in held_up]
    for kind, answers in told:
        for answer in answers:
            check_error(answer, KINDS[kind], 503)
            assert answer.seconds < PATIENT + GRACE
    check_waits(load, PATIENT)
    assert not load.unknown
    assert meanwhile > before / 4
    assert load.slowest < slowest + 0.6
    check_threads(load)


def test_control_a_lock_that_all_want_holds_up_all(load, postgres_to_break):
    with load(most=10, timeout=PATIENT) as load:
        load.wait_for_more()
        before = pace(load, 2)
        with load.rooms.locked():
            time.sleep(1)
            meanwhile = pace(load, 2)
    assert meanwhile < before / 4


# --- Slow clients --------------------------------------------------------------------------

SLOW = 10   # of each sort


class SlowClient:
    """Sends its request octet by octet, if at all to the end, and does not read."""

    def __init__(self, httpd, whole_head=b"", slowly=b""):
        self.wire = Wire(httpd, receive_buffer=2048)
        self.wire.send(whole_head)
        self.rest = slowly
        self.cut_off = False

    def go_on(self):
        """Another octet, unless httpd has had enough."""
        try:
            if self.rest and not self.cut_off:
                self.wire.send(self.rest[:1])
                self.rest = self.rest[1:]
        except (BrokenPipeError, ConnectionResetError):
            self.cut_off = True


def crowd_of_slow_clients(httpd, rooms, long_list):
    """Who sends his head slowly, who his body, and who does not read what he asked for."""
    path = f"/v1/sessions/{rooms.sessions[0]}/register"
    request = message("POST", path, b'{"patient_id": "' + b"x" * 200 + b'"}')
    head, body = request[:-217], request[-217:]
    return [*(SlowClient(httpd, b"POST ", request[5:]) for _ in range(SLOW)),
            *(SlowClient(httpd, head, body) for _ in range(SLOW)),
            *(SlowClient(httpd, message("GET", long_list)) for _ in range(SLOW))]


@pytest.fixture
def long_list(postgres_to_break):
    """The address of a list that no buffer holds."""
    [[occurrence]] = postgres_to_break.query(
        "INSERT INTO occurrences (event_id) SELECT id FROM events LIMIT 1 RETURNING id")
    postgres_to_break.query("""
        WITH home AS (SELECT e.id, e.organization_id FROM occurrences o
                        JOIN events e ON e.id = o.event_id WHERE o.id = %s),
             people AS (INSERT INTO event_users (organization_id, external_id)
                        SELECT organization_id, gen_random_uuid() FROM home,
                               generate_series(1, 100) RETURNING id, organization_id)
        INSERT INTO event_registrations (id, occurrence_id, event_id, organization_id,
                                         user_id, status, fields)
        SELECT gen_random_uuid(), %s, home.id, home.organization_id, people.id, 'CANCELLED',
               jsonb_build_object('text', repeat('x', 100000))
          FROM home, people""", occurrence, occurrence)
    return f"{MOUNT}?limit=100&occurrenceId={occurrence}"


def go_slowly(clients, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for client in clients:
            client.go_on()
        time.sleep(0.1)


# To read a request, and for a client to go on reading an answer.
LIMITS = "RequestReadTimeout header=2 body=2\nTimeout 3\n"


def test_slow_clients_hold_neither_a_connection_nor_for_long_a_thread(
        load, postgres_to_break, long_list):
    """Each child has one connection, and everybody else is served all the time."""
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


def test_control_without_a_time_limit_they_keep_their_threads(load, postgres_to_break,
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

# What a child may grow by, in bytes, while thousands of requests are refused.
GROWTH = 1 << 20

# One child with few threads: each takes its share of the memory, and that should be soon.
FEW = "ServerLimit 1\nStartServers 1\nThreadsPerChild 20\nMaxRequestWorkers 20\n"


def memory(httpd):
    """Resident memory of the child processes, in bytes."""
    return [int(re.search(r"(?m)^VmRSS:\s+(\d+)", pathlib.Path(
        f"/proc/{pid}/status").read_text())[1]) * 1024 for pid in children(httpd.pid())]


def outages(load, proxy, count, seconds):
    for _ in range(count):
        proxy.change("refuse")
        time.sleep(seconds)
        proxy.change("forward")
        load.wait_for_more()
        time.sleep(0.3)


def grown(httpd, before):
    """By how much the child processes have grown, the one that did most."""
    return max(now - then for now, then in zip(memory(httpd), before))


def test_outages_leave_no_memory_behind(load, proxy, monkeypatch):
    monkeypatch.setattr("workload.PAUSE", 0)   # Everybody asks again at once.
    monkeypatch.setattr("workload.CLIENTS", clients := 12)
    with load(port=proxy.port, rooms=2000, most=8,
              inside=FEW + "RegistrationMaxBody 1048576\n") as load:
        httpd = load.one.httpd
        outages(load, proxy, 8, 0.4)
        before, told = memory(httpd), len(load.unavailable)
        # So long that no call is being made again any more: then all are told at once.
        for _ in range(10):   # On a busy machine fewer are told at a time.
            if len(load.unavailable) <= told + 1000:
                outages(load, proxy, 1, TIMEOUT + 1)
        assert grown(httpd, before) < GROWTH
        assert len(load.unavailable) > told + 1000
    load.check()
    # The control: what they do not give back is seen. httpd keeps some of each body.
    large = {"username": "x" * 900000}
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: load.one.post("/v1/families", json=large), range(clients)))
    assert grown(httpd, before) > GROWTH
