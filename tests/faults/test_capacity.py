# SPDX-License-Identifier: Apache-2.0
"""Places and waiting lists are exact at every moment, with many concurrent clients and
administrators in few rooms (sessions, occurrences, invite codes).

A watcher takes snapshots meanwhile. Afterwards a model checks the recorded history, which is
compared with the answers. Each negative control removes one guard from the operations, and
watcher or model has to detect it.
"""

import concurrent.futures
import contextlib
import itertools
import random
import threading
import time

import psycopg2
import pytest

import history
from event_registrations import DEMO_EVENT, MOUNT, STATUSES
from faults import MODULES, MOUNTS, Meanwhile, database
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures
from history import History
from samples import member
from workload import KeptCaller

CLIENTS = 48
ADMINISTRATORS = 2
REQUESTS = 15000

# Four child processes, with threads for all clients in each; httpd does not start more when
# all of them are busy.
CHILDREN = """
ServerLimit 8
StartServers 4
ThreadsPerChild 64
MaxRequestWorkers 256
MinSpareThreads 1
MaxSpareThreads 256
"""

CONNECTIONS = 3   # of each child

SNAPSHOT = """
    SELECT %(wrong_count)s, id::text FROM live_sessions AS s
     WHERE id = ANY (%(sessions)s::uuid[]) AND registered_count
        <> (SELECT count(*) FROM live_registrations AS r WHERE r.session_id = s.id)
    UNION ALL
    SELECT %(wrong_count)s, code FROM invite_codes AS c
     WHERE code = ANY (%(codes)s) AND max_uses IS NOT NULL AND uses
        <> (SELECT count(*) FROM group_members AS m WHERE m.invite_code = c.code)
    UNION ALL
    SELECT CASE WHEN registrations <> held THEN %(wrong_count)s
                WHEN waiting > 0 AND coalesce(held < capacity, true) THEN %(left_waiting)s
                WHEN people <> held + waiting THEN %(twice)s END, id::text
      FROM (SELECT o.id, o.registrations, o.capacity,
                   count(*) FILTER (WHERE r.status IN ('PENDING', 'CONFIRMED', 'ATTENDED'))
                       AS held,
                   count(*) FILTER (WHERE r.status = 'WAITING_LIST') AS waiting,
                   count(DISTINCT r.user_id) FILTER (WHERE r.status <> 'CANCELLED') AS people
              FROM occurrences AS o
              LEFT JOIN event_registrations AS r
                ON r.occurrence_id = o.id AND r.deleted_at IS NULL
             WHERE o.id = ANY (%(occurrences)s::uuid[])
             GROUP BY o.id) AS places
     WHERE registrations <> held OR people <> held + waiting
        OR waiting > 0 AND coalesce(held < capacity, true)"""


class Rooms:
    """A few rooms with few places."""

    def __init__(self, postgres):
        def made(text, *parameters):
            return [row[0] for row in postgres.query(text, *parameters)]

        self.sessions = made(
            "INSERT INTO live_sessions (id, title, status, max_participants)"
            " SELECT gen_random_uuid(), 'A session', 'live', 10 FROM generate_series(1, 2)"
            " RETURNING id")
        self.occurrences = made(
            "INSERT INTO occurrences (event_id, capacity) SELECT %s, 8"
            " FROM generate_series(1, 3) RETURNING id", DEMO_EVENT)
        plan, = made("WITH home AS (INSERT INTO groups (name) VALUES ('A') RETURNING id)"
                     " INSERT INTO plans (group_id, name) SELECT id, 'A' FROM home"
                     " RETURNING id")
        self.codes = made("INSERT INTO invite_codes (code, plan_id, max_uses)"
                          " SELECT gen_random_uuid(), %s, 10 FROM generate_series(1, 2)"
                          " RETURNING code", plan)

    def all(self):
        return [*self.sessions, *self.occurrences, *self.codes]


class Watcher(Meanwhile):
    """Takes snapshots, each in one statement."""

    def __init__(self, postgres, rooms):
        self.postgres = postgres
        self.parameters = {"sessions": rooms.sessions, "codes": rooms.codes,
                           "occurrences": rooms.occurrences, "wrong_count": history.COUNT,
                           "left_waiting": history.LEFT_WAITING, "twice": history.TWICE}
        self.snapshots = 0
        self.faults = []

    def go_on(self):
        connection = self.postgres.connect()
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SET search_path = registration")
            while not self.ended.wait(0.005):
                cursor.execute(SNAPSHOT, self.parameters)
                self.faults += cursor.fetchall()
                self.snapshots += 1


class Crowd:
    """Clients that together make a number of requests, and administrators who change the rooms
    meanwhile. `kinds` are the names of the methods that send a request."""

    def __init__(self, one, postgres, rooms, kinds=("live", "group", "event", "event")):
        self.one, self.postgres, self.rooms = one, postgres, rooms
        self.kinds = kinds
        self.made = {"live": [], "group": [], "event": []}   # ids in answers
        self.answered = []      # registrations and versions in answers of events
        self.statuses = set()
        self.ended = threading.Event()

    # --- Clients -----------------------------------------------------------------------

    def live(self, chance):
        answer = self.one.register(chance.choice(self.rooms.sessions),
                                   f"patient {chance.randrange(60)}")
        if answer.status_code == 201:
            self.made["live"].append(answer.json()["id"])
        return answer

    def group(self, chance):
        code = chance.choice(self.rooms.codes)
        answer = self.one.post("/api/v1/users", json=member(
            code, {"email": f"{chance.randrange(30)}@{code}.example.org"}))
        if answer.status_code == 201:
            self.made["group"].append(answer.json()["user"]["uuid"])
        return answer

    def event(self, chance):
        """Creates a registration, or changes or deletes a recent one."""
        known = self.made["event"][-40:]
        if not known or chance.random() < 0.3:
            answer = self.one.post(MOUNT, json={
                "occurrenceId": chance.choice(self.rooms.occurrences),
                "externalUserId": f"user {chance.randrange(40)}"})
            if answer.status_code == 201:
                self.made["event"].append(answer.json()["id"])
        elif chance.random() < 0.15:
            answer = self.one.delete(f"{MOUNT}/{chance.choice(known)}")
        else:
            answer = self.one.put(f"{MOUNT}/{chance.choice(known)}",
                                  json={"status": chance.choice(STATUSES)})
        if answer.status_code in (200, 201):
            version = answer.headers["ETag"].strip('"').partition("-")[0]
            self.answered.append((answer.json(), int(version)))
        return answer

    def client(self, seed, numbers):
        chance = random.Random(seed)
        for _ in numbers:
            kind = chance.choice(self.kinds)
            self.statuses.add((kind, getattr(self, kind)(chance).status_code))

    # --- Administrators ----------------------------------------------------------------

    def change(self, chance):
        """A random statement of an administrator."""
        capacity = chance.choice([None, 0, 2, 5, 8, 8, 10, 12])
        statement, *parameters = chance.choice([
            ("UPDATE occurrences SET capacity = %s WHERE id = %s", capacity,
             chance.choice(self.rooms.occurrences)),
            ("UPDATE occurrences SET capacity = capacity + 1 WHERE id = %s",
             chance.choice(self.rooms.occurrences)),
            ("UPDATE occurrences SET waiting_list = %s WHERE id = %s",
             chance.random() < 0.7, chance.choice(self.rooms.occurrences)),
            ("UPDATE live_sessions SET max_participants = %s WHERE id = %s", capacity,
             chance.choice(self.rooms.sessions)),
            ("UPDATE live_sessions SET status = %s WHERE id = %s",
             chance.choice(["live", "live", "ended"]), chance.choice(self.rooms.sessions)),
            ("UPDATE invite_codes SET max_uses = %s WHERE code = %s", capacity,
             chance.choice(self.rooms.codes)),
            *[("SELECT cancel_live_registration(%s)", self.one_of("live", chance))] * 5,
            *[("SELECT remove_group_member(%s)", self.one_of("group", chance))] * 5])
        return statement, parameters

    def one_of(self, kind, chance):
        return chance.choice(self.made[kind][-20:] or [None])

    def administrator(self, seed):
        chance = random.Random(seed)
        connection = self.postgres.connect()
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SET search_path = registration")
            while not self.ended.wait(chance.random() / 100):
                # Without a guard this may fail.
                with contextlib.suppress(psycopg2.errors.CheckViolation,
                                         psycopg2.errors.DeadlockDetected):
                    cursor.execute(*self.change(chance))

    # --- Both ----------------------------------------------------------------------------

    def run(self, requests):
        numbers = iter(range(requests))   # Shared by all clients.
        with concurrent.futures.ThreadPoolExecutor(CLIENTS + ADMINISTRATORS) as pool:
            self.ended.clear()
            administrators = [pool.submit(self.administrator, random.random())
                              for _ in range(ADMINISTRATORS)]
            clients = [pool.submit(self.client, random.random(), numbers)
                       for _ in range(CLIENTS)]
            try:
                for client in clients:
                    client.result()
            finally:
                self.ended.set()
            for administrator in administrators:
                administrator.result()


@pytest.fixture(scope="module")
def recording_postgres(own_postgres):
    own_postgres.psql("-c", "SET search_path = registration", "-c", history.INSTALL)
    return own_postgres


@pytest.fixture
def crowd(start_httpd, recording_postgres, postgres_to_break):
    """crowd(): a Crowd on an httpd of its own; `more` configures httpd."""
    def make(more="", with_keys=False, **options):
        site = CHILDREN + MOUNTS + database(postgres_to_break.dsn(), most=CONNECTIONS,
                                            timeout=20) + more
        one = KeptCaller(start_httpd(site, modules=MODULES), with_keys)
        return Crowd(one, postgres_to_break, Rooms(postgres_to_break), **options)
    return make


MODES = {"batched": {}, "one by one": {"more": "RegistrationBatchSize 1\n"},
         "under keys": {"with_keys": True}}


@pytest.mark.parametrize("mode", MODES)
def test_places_are_exact_at_every_moment(crowd, postgres_to_break, expect_log, mode):
    # Chance conflicts, whose calls are retried.
    expect_log("ERROR:  (deadlock detected|the invite code got a limit from)")
    crowd = crowd(**MODES[mode])
    with Watcher(postgres_to_break, crowd.rooms) as watcher:
        crowd.run(REQUESTS)
        backends = postgres_to_break.backends()
    assert watcher.faults == [] and watcher.snapshots > 100
    past = History(postgres_to_break, crowd.rooms.all())
    assert past.faults() == []
    # The answers agree with the history.
    assert past.made() == {one for made in crowd.made.values() for one in made}
    states = past.states()
    for registration, version in crowd.answered:
        assert states[registration["id"], version] == state_of(registration)
    assert not [row for row in postgres_to_break.query("SELECT * FROM recount()")
                if row[1] in crowd.rooms.all()]
    # Several child processes took part, and each kind of answer was given.
    assert len(backends) > CONNECTIONS
    assert crowd.statuses == {
        *itertools.product(["live"], [201, 409, 412]), *itertools.product(["group"], [201, 422]),
        *itertools.product(["event"], [200, 201, 404, 409])}
    assert {note.after for note in past.notes} >= {"holds", "waits", "cancelled", "trashed"}


def state_of(registration):
    if "deletedAt" in registration:
        return "trashed"
    return {"CANCELLED": "cancelled", "WAITING_LIST": "waits"}.get(registration["status"],
                                                                   "holds")


# --- Controls --------------------------------------------------------------------------------

UNLOCKED = ("FOR NO KEY UPDATE;", "; PERFORM pg_sleep(0.002);")

# The kind of requests, changes of functions, and the violation to detect.
CONTROLS = {
    "occurrences are not locked": (
        "event", {name: UNLOCKED for name in ("events_create", "events_update", "events_lock",
                                              "events_promote")},
        history.COUNT),
    "codes are not locked": (
        "group", {"groups_lock_code": ("FOR NO KEY UPDATE;", "; PERFORM pg_sleep(0.002);")},
        history.COUNT),
    "a place too many is given": (
        "event", {"events_create": ("coalesce(o.capacity - o.registrations,",
                                    "coalesce(o.capacity - o.registrations + 1,")},
        history.NO_PLACE),
    "a place too many is taken": (
        "event", {"events_update": ("registrations >= occurrence.capacity",
                                    "registrations > occurrence.capacity")},
        history.NO_PLACE),
    "a session takes one too many": (
        "live", {"live_register": ("s.max_participants - s.registered_count",
                                   "s.max_participants - s.registered_count + 1")},
        history.NO_PLACE),
    "an ended session takes some": (
        "live", {"live_register": ("s.status IN ('scheduled', 'live')", "true")},
        history.NOT_OPEN),
    "a code takes one too many": (
        "group", {"groups_register": ("code.uses >= code.max_uses",
                                      "code.uses > code.max_uses")},
        history.NO_PLACE),
    "no promotion": (
        "event", {"events_promote": ("greatest(places - held, 0)", "0")},
        history.LEFT_WAITING),
    "no promotion when places are added": (
        "event", {"events_capacity_changed": ("PERFORM events_promote(NEW.id);", "")},
        history.LEFT_WAITING),
    "the last is promoted": (
        "event", {"events_promote": ("ORDER BY r.waiting_number",
                                     "ORDER BY r.waiting_number DESC")},
        history.NOT_FIRST),
    "a new registration overtakes": (
        "event", {"events_promote": ("greatest(places - held, 0)", "0")}, history.OVERTAKEN),
    "a waiting list is not switched off": (
        "event", {"events_create": ("IF has_list", "IF true")},
        history.NO_LIST),
    "a place is not given back": (
        "live", {"cancel_live_registration": ("s.registered_count - 1",
                                              "s.registered_count")},
        history.COUNT),
    "a use is not given back": (
        "group", {"remove_group_member": ("c.uses - 1", "c.uses")}, history.COUNT),
}

IN_SNAPSHOTS = (history.COUNT, history.LEFT_WAITING, history.TWICE)


@pytest.fixture
def change_functions(recording_postgres, expect_log):
    """change_functions({name: (text, other)}): replaces text in functions' sources."""
    expect_log("ERROR: ")
    before = []

    def change(edits):
        for name, (text, other) in edits.items():
            [[source]] = recording_postgres.query("SELECT pg_get_functiondef(%s::regproc)",
                                                  f"registration.{name}")
            assert text in source
            before.append(source)
            recording_postgres.query(source.replace(text, other))
    yield change
    for source in before:
        recording_postgres.query(source)


def check_detected(fault, crowd, postgres):
    """Runs the crowd until the model has found the fault and the watcher has seen it, if
    snapshots can show it; for a minute at most."""
    end, found, seen = time.monotonic() + 60, set(), set()
    with Watcher(postgres, crowd.rooms) as watcher:
        while not (fault in found and (fault in seen or fault not in IN_SNAPSHOTS)):
            assert time.monotonic() < end, (fault, found, seen)
            crowd.run(300)
            found = {what for what, _ in History(postgres, crowd.rooms.all()).faults()}
            seen = {what for what, _ in watcher.faults}


@pytest.mark.parametrize("control", CONTROLS)
def test_control_removed_guard_is_detected(crowd, postgres_to_break, change_functions,
                                           control):
    kind, edits, fault = CONTROLS[control]
    crowd = crowd(kinds=[kind])
    change_functions(edits)
    check_detected(fault, crowd, postgres_to_break)


def test_control_duplicate_registration_is_detected(crowd, postgres_to_break):
    crowd = crowd(kinds=["event"])
    postgres_to_break.query("DROP INDEX event_registrations_one_per_user")
    try:
        check_detected(history.TWICE, crowd, postgres_to_break)
    finally:
        postgres_to_break.query("DELETE FROM event_registrations")
        postgres_to_break.install("install.sql")
