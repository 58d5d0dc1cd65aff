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
from event_registrations import MOUNT
from faults import (GRACE, MODULES, MOUNTS, OUTAGE, RECOVERY, TIMEOUT, BreakablePostgres,
                    Caller, children, database, statuses)
from faults import own_postgres, postgres_to_break, proxy   # noqa: F401, fixtures
from wire import Wire, message
from workload import CHILDREN, CLIENTS, KINDS, KeptCaller, Load, Rooms

THREADS = 128   # of both child processes

STATUS = """
<Location "/server-status">
    SetHandler server-status
</Location>
"""


@pytest.fixture
def load(start_httpd, postgres_to_break):
    """load(): a Load on an httpd of its own; options are those of faults.database."""
    def make(postgres=postgres_to_break, port=None, inside="", rooms=400, **options):
        dsn = postgres.dsn(**({"port": port} if port else {}))
        site = CHILDREN + MOUNTS + STATUS + database(dsn, **options) + inside
        httpd = start_httpd(site, modules=[*MODULES, "status", "reqtimeout"])
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
    """A PostgreSQL whose database is on a small file system of its own."""

    def __init__(self, postgres):
        self.postgres = postgres
        [[number]] = postgres.query(
            "SELECT oid::text FROM pg_database WHERE datname = current_database()")
        self.directory = postgres.data / "base" / number

    def mount(self):
        """Fails where this is not allowed to mount anything."""
        files = self.postgres.data / "copy"
        self.postgres.stop()
        shutil.copytree(self.directory, files)
        size = sum(file.stat().st_size for file in files.iterdir()) + (16 << 20)
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
    expect_log(*OUTAGE, "ERROR:  could not extend file .* No space left on device")
    postgres = BreakablePostgres(tmp_path_factory.mktemp("small"))
    watched_logs.append(postgres.log)
    postgres.start()
    postgres.install("install.sql", "demo.sql")
    disk = FullDisk(postgres)
    try:
        disk.mount()
        yield disk
    except subprocess.CalledProcessError:
        pytest.skip("nothing can be mounted here")
    finally:
        disk.close()


def test_when_the_disk_is_full_it_is_503_until_it_is_not(load, disk):
    with load(disk.postgres) as load:
        load.wait_for_more()
        with disk.full():
            time.sleep(TIMEOUT)
        check_recovers(load)   # The control: it was the disk.
    assert {name.partition("-")[0] for name, _ in load.unavailable} == set(KINDS)
    check_waits(load)
    check_threads(load)
