# SPDX-License-Identifier: Apache-2.0
"""Failover: the primary dies and its synchronous standby takes over.

No confirmed change is lost, and httpd is not restarted.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

import servers
from changed import changed_module
from conftest import new_uuid
from event_registrations import MOUNT
from faults import (GRACE, MODULES, MOUNTS, OUTAGE, BreakablePostgres, Caller, children,
                    check_unavailable, database)
from workload import CHILDREN, CLIENTS, KINDS, Load, Rooms

# Two hosts may take twice connect_timeout, and time for the call has to remain.
TIMEOUT = 15

BACK = 2 + GRACE


class Standby(BreakablePostgres):
    """A streaming replica of another PostgreSQL."""

    def __init__(self, directory, primary):
        super().__init__(directory)
        self.primary = primary
        self.passfile = primary.passfile

    def create(self):
        if self.data.exists():
            return
        self.data.mkdir(mode=0o700)
        if servers.IS_ROOT:
            shutil.chown(self.data, "postgres", "postgres")
        descriptor, command = self.as_owner(
            "pg_basebackup", "-d", self.primary.dsn("postgres"), "-R", "-c", "fast",
            "--no-sync")
        try:
            subprocess.run(command, cwd="/", check=True, pass_fds=[descriptor],
                           env=servers.environment(), stdin=subprocess.DEVNULL)
        finally:
            os.close(descriptor)

    def promote(self):
        """Not by SQL: replay before the promotion may cancel any query."""
        descriptor, command = self.as_owner("pg_ctl", "promote")
        try:
            subprocess.run(command, cwd="/", check=True, pass_fds=[descriptor],
                           env=servers.environment(), stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL)
        finally:
            os.close(descriptor)


class Pair:
    def __init__(self, primary, standby):
        self.primary = primary
        self.standby = standby

    def replicate(self, synchronously):
        """Sets whether a commit waits for the standby."""
        names = "'*'" if synchronously else "''"
        self.primary.query(f"ALTER SYSTEM SET synchronous_standby_names = {names}")
        self.primary.query("SELECT pg_reload_conf()")
        wanted = [("sync" if synchronously else "async",)]
        servers.wait_until(
            lambda: self.primary.query("SELECT sync_state FROM pg_stat_replication"
                                       " WHERE state = 'streaming'") == wanted,
            10, "the standby did not follow")

    def kill_primary(self):
        """Kills all processes, as in a power failure."""
        for pid in self.primary.processes():
            with contextlib.suppress(ProcessLookupError):   # The process has ended.
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def pair(tmp_path_factory, watched_logs, expect_log):
    expect_log(*OUTAGE, "FATAL:  terminating connection due to unexpected postmaster exit",
               "FATAL:  (could not (connect to the primary|receive data from WAL)"
                        "|terminating walreceiver|streaming replication receiver)",
               "FATAL:  .* is in recovery mode", "WARNING:  canceling wait",
               "could not (receive data from|send data to) (WAL stream|client)")
    # The primary keeps the connection of a standby that is silent for a minute.
    primary = BreakablePostgres(tmp_path_factory.mktemp("primary"), settings=(
        "synchronous_commit = on", "wal_sender_timeout = 0"))
    standby = Standby(tmp_path_factory.mktemp("standby"), primary)
    watched_logs += [primary.log, standby.log]
    try:
        primary.start()
        primary.install("install.sql", "demo.sql")
        standby.start()
        pair = Pair(primary, standby)
        pair.replicate(synchronously=True)
        yield pair
    finally:
        standby.stop("immediate")
        primary.stop("immediate")


@pytest.fixture
def caller(start_httpd, pair):
    """caller(): a Caller of an httpd that knows both servers."""
    def make(**options):
        dsn = pair.primary.dsn(host="127.0.0.1,127.0.0.1",
                               port=f"{pair.primary.port},{pair.standby.port}")
        site = CHILDREN + MOUNTS + database(
            dsn, "connect_timeout=2 target_session_attrs=read-write", most=10,
            timeout=TIMEOUT)
        return Caller(start_httpd(site, modules=MODULES, **options))
    return make


def fail_over(pair, load):
    pair.kill_primary()
    pair.standby.promote()
    assert load.wait_for_more() < BACK
    time.sleep(1)


def test_failover_loses_no_confirmed_change(caller, pair):
    one = caller()
    processes = {one.httpd.pid(), *children(one.httpd.pid())}
    with Load(one, Rooms(pair.primary)) as load:
        load.wait_for_more()
        time.sleep(2)
        fail_over(pair, load)
    assert {one.httpd.pid(), *children(one.httpd.pid())} == processes
    load.rooms.postgres = pair.standby
    load.check()
    assert len(load.unknown) <= CLIENTS * 4


def test_control_asynchronous_replication_loses_confirmed_changes(caller, pair):
    with Load(caller(), Rooms(pair.primary)) as load:
        load.wait_for_more()
        pair.replicate(synchronously=False)
        pair.standby.stop("immediate")
        load.wait_for_more()
        time.sleep(1)
        pair.kill_primary()
        pair.standby.start()
        pair.standby.promote()
        load.wait_for_more()
    load.rooms.postgres = pair.standby
    assert load.differences()


# --- Cancelled waits for the standby -------------------------------------------------------

def test_standby_serves_reads_by_id_but_no_lists(caller, start_httpd, pair, expect_log):
    """A list writes an audit entry."""
    expect_log("ERROR:  cannot execute INSERT in a read-only transaction")
    [[occurrence]] = pair.primary.query(
        "INSERT INTO occurrences (event_id) SELECT id FROM events LIMIT 1 RETURNING id")
    made = caller().post(MOUNT, json={"occurrenceId": occurrence, "externalUserId": "x"})
    path = made.headers["Location"]
    one = Caller(start_httpd(CHILDREN + MOUNTS + database(pair.standby.dsn()),
                             modules=MODULES))
    servers.wait_until(lambda: one.get(path).status_code == 200, BACK, "not read")
    assert one.get(path).json() == made.json()
    check_unavailable(one.get(MOUNT), "events")
    assert re.search("REG0303.*25006", one.httpd.log.text())


def cancel_waits(postgres):
    """Cancels all waits of commits for the standby; their number."""
    return len(postgres.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                              " WHERE wait_event = 'SyncRep'"))


def cancel_for_a_while(pair, seconds=2):
    end, cancelled = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        cancelled += cancel_waits(pair.primary)
        time.sleep(0.05)
    return cancelled


class KeyedCaller:
    """Registers with an Idempotency-Key, the same for each path and client."""

    def __init__(self, one):
        self.one = one

    def post(self, path, json):
        return self.one.post(path, json=json, headers={"Idempotency-Key": f"of{path}"})

    def register(self, session, patient):
        return self.post(f"/v1/sessions/{session}/register", {"patient_id": patient})


def keyed_requests(rooms, one):
    """Functions that register with a key, one of each kind."""
    return [lambda kind=kind: rooms.register(KeyedCaller(one), kind, 0, f"keyed-{kind}-0")
            for kind in KINDS]


@pytest.fixture
def requests_of_all_kinds(pair):
    """requests_of_all_kinds(one): functions that send a request, one for each operation that
    writes, with a key and without."""
    def make(one):
        rooms = Rooms(pair.primary, 1)
        changed = [rooms.register(one, "event", 0, new_uuid()).json() for _ in range(2)]
        address = [f"{MOUNT}/{registration['id']}" for registration in changed]
        return [*(lambda kind=kind: rooms.register(one, kind, 0, f"{kind}-0")
                  for kind in KINDS),
                *keyed_requests(rooms, one),
                lambda: one.put(address[0], json={"status": "ATTENDED"}),
                lambda: one.delete(address[1])], rooms
    return make


def test_cancelled_wait_is_not_confirmed(caller, pair, pool, requests_of_all_kinds):
    requests, rooms = requests_of_all_kinds(caller())
    with pair.standby.frozen():
        answers = [pool.submit(request) for request in requests]
        assert cancel_for_a_while(pair) > 2 * len(requests)
        assert [answer.done() for answer in answers] == [False] * len(requests)
    assert sorted(answer.result().status_code for answer in answers) == [200, 200] + [201] * 10
    rooms.postgres = pair.standby
    assert sorted(rooms.rows().values()) == [1] * 10 + [2, 3]


def test_control_without_retries_outcome_is_in_doubt(caller, pair, pool,
                                                     requests_of_all_kinds,
                                                     module_without_retries):
    requests, _ = requests_of_all_kinds(caller(registration=module_without_retries))
    with pair.standby.frozen():
        answers = [pool.submit(request) for request in requests]
        cancel_for_a_while(pair)
        assert [answer.result().status_code for answer in answers] == [503] * len(requests)


def test_control_retry_without_row_lock_does_not_wait(caller, pair, pool):
    text = (servers.ROOT / "sql" / "operations" / "families_register.sql").read_text()
    assert text.count("FOR NO KEY UPDATE") == 1
    pair.primary.psql("-c", "SET search_path = registration", "-c",
                      text.replace("FOR NO KEY UPDATE", ""))
    rooms = Rooms(pair.primary, 1)
    one = caller()
    pair.standby.stop("immediate")
    answer = pool.submit(rooms.register, one, "family", 0, "family-0")
    cancel_for_a_while(pair)
    assert answer.result().status_code == 201
    pair.kill_primary()
    pair.standby.start()
    rooms.postgres = pair.standby
    assert rooms.rows() == {}


# --- Repeated requests with an Idempotency-Key ---------------------------------------------

def repeat_without_the_standby(pair, pool, caller):
    """Registers with keys without waiting for the standby, which is stopped; then repeats the
    requests on connections that wait. The rooms, the first answers, the later ones."""
    rooms, not_waiting = Rooms(pair.primary, 1), caller()
    pair.primary.query("ALTER ROLE registration SET synchronous_commit = local")
    pair.standby.stop("immediate")
    first = [request() for request in keyed_requests(rooms, not_waiting)]
    assert [answer.status_code for answer in first] == [201] * len(KINDS)
    pair.primary.query("SET synchronous_commit = local;"
                       "ALTER ROLE registration RESET synchronous_commit")
    requests = keyed_requests(rooms, caller())
    return rooms, first, [pool.submit(request) for request in requests]


def test_repeated_key_waits_for_standby(caller, pair, pool):
    rooms, first, answers = repeat_without_the_standby(pair, pool, caller)
    assert not any(answer.done() for answer in answers)
    time.sleep(3)
    assert not any(answer.done() for answer in answers)
    pair.standby.start()
    assert [answer.result().content for answer in answers] == [one.content for one in first]
    pair.kill_primary()
    rooms.postgres = pair.standby
    assert sorted(rooms.rows().values()) == [1] * len(KINDS)


def test_control_repeated_key_without_row_lock_does_not_wait(caller, pair, pool):
    text = (servers.ROOT / "sql" / "operations" / "idempotent.sql").read_text()
    assert text.count("FOR NO KEY UPDATE OF k") == 1
    pair.primary.psql("-c", "SET search_path = registration", "-c",
                      text.replace("FOR NO KEY UPDATE OF k", ""))
    rooms, _, answers = repeat_without_the_standby(pair, pool, caller)
    assert [answer.result().status_code for answer in answers] == [201] * len(KINDS)
    pair.kill_primary()
    pair.standby.start()
    rooms.postgres = pair.standby
    assert rooms.rows() == {}


# --- A frozen standby ----------------------------------------------------------------------

FROZEN = 60     # seconds
PILED_UP = 15   # seconds, in the control
SHORT = 3       # RegistrationTimeout
CONNECTIONS = 4
CHILD_PROCESSES = 2   # of workload.CHILDREN

# Each connection may just have been replaced while the session before has not ended yet.
MOST_BACKENDS = 2 * CHILD_PROCESSES * CONNECTIONS


def load_while_frozen(start_httpd, pair, seconds=FROZEN, registration=servers.MODULE):
    """Registrations while no commit can be confirmed; the load, and the largest number of the
    module's sessions."""
    site = CHILDREN + MOUNTS + database(pair.primary.dsn(), most=CONNECTIONS, timeout=SHORT)
    one = Caller(start_httpd(site, modules=MODULES, registration=registration))
    most = 0
    with Load(one, Rooms(pair.primary)) as load:
        load.wait_for_more()
        with pair.standby.frozen():
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                most = max(most, len(pair.primary.backends()))
                time.sleep(0.1)
        assert load.wait_for_more() < BACK
        time.sleep(1)
    return load, most


def test_frozen_standby_makes_no_answer_late_and_leaves_no_session(start_httpd, pair):
    load, most = load_while_frozen(start_httpd, pair)
    assert load.late(SHORT + GRACE) == 0
    assert len(load.unavailable) > CLIENTS   # Negative control: the standby was needed,
    assert load.late(SHORT / 2) > CLIENTS    # and requests waited for it.
    assert most <= MOST_BACKENDS
    load.check()


def test_control_without_cancel_sessions_pile_up(start_httpd, pair, tmp_path):
    module = changed_module(tmp_path / "changed", "pg_cancel_backend(pid)", "pid")
    assert load_while_frozen(start_httpd, pair, PILED_UP, module)[1] > MOST_BACKENDS
