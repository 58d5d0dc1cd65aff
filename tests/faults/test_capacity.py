# SPDX-License-Identifier: Apache-2.0
"""Places and waiting lists are exact at every moment, whatever many clients and
administrators do at once to few rooms (sessions, occurrences, invite codes).

While they do, a watcher takes snapshots. Afterwards a model goes through what triggers
noted of each change, and what clients were told is compared with it. The controls take one
guard after the other out of the operations, and one of the two has to find it.
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

# Four child processes, with threads for all clients in each; httpd is content when all of
# them are busy.
CHILDREN = """
ServerLimit 8
StartServers 4
ThreadsPerChild 48
MaxRequestWorkers 192
MinSpareThreads 1
MaxSpareThreads 192
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
    """Few of them, and with few places."""

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
    """Looks on; each look is one statement, so one snapshot."""

    def __init__(self, postgres, rooms):
        self.postgres = postgres
        self.parameters = {"sessions": rooms.sessions, "codes": rooms.codes,
                           "occurrences": rooms.occurrences, "wrong_count": history.COUNT,
                           "left_waiting": history.LEFT_WAITING, "twice": history.TWICE}
        self.looks = 0
        self.faults = []

    def go_on(self):
        connection = self.postgres.connect()
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute("SET search_path = registration")
            while not self.ended.wait(0.005):
                cursor.execute(SNAPSHOT, self.parameters)
                self.faults += cursor.fetchall()
                self.looks += 1


class Crowd:
    """Clients who together make so many requests, and administrators who change the rooms
    meanwhile. `kinds` are the names of the methods that ask for something."""

    def __init__(self, one, postgres, rooms, kinds=("live", "group", "event", "event")):
        self.one, self.postgres, self.rooms = one, postgres, rooms
        self.kinds = kinds
        self.made = {"live": [], "group": [], "event": []}   # ids that clients were told
        self.told = []      # registration, version and status, as events' clients were told
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
        """Somebody comes, or something is done to one of those who came lately."""
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
            self.told.append((answer.json(), int(version)))
        return answer

    def client(self, seed, numbers):
        chance = random.Random(seed)
        for _ in numbers:
            kind = chance.choice(self.kinds)
            self.statuses.add((kind, getattr(self, kind)(chance).status_code))

    # --- Administrators ----------------------------------------------------------------

    def change(self, chance):
        """One statement of an administrator."""
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
                # In a race that has no guard this, too, may lose.
                with contextlib.suppress(psycopg2.errors.CheckViolation,
                                         psycopg2.errors.DeadlockDetected):
                    cursor.execute(*self.change(chance))

    # --- All of them ---------------------------------------------------------------------

    def run(self, requests):
        numbers = iter(range(requests))   # Each is given to one of them.
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
def noted_postgres(own_postgres):
    own_postgres.psql("-c", "SET search_path = registration", "-c", history.INSTALL)
    return own_postgres


@pytest.fixture
def crowd(start_httpd, noted_postgres, postgres_to_break):
    """crowd(): a Crowd on an httpd of its own, with more of its configuration."""
    def make(more="", with_keys=False, **options):
        site = CHILDREN + MOUNTS + database(postgres_to_break.dsn(), most=CONNECTIONS,
                                            timeout=20) + more
        one = KeptCaller(start_httpd(site, modules=MODULES), with_keys)
        return Crowd(one, postgres_to_break, Rooms(postgres_to_break), **options)
    return make


WAYS = {"together": {}, "one by one": {"more": "RegistrationBatchSize 1\n"},
        "under keys": {"with_keys": True}}


@pytest.mark.parametrize("way", WAYS)
def test_places_are_exact_at_every_moment(crowd, postgres_to_break, expect_log, way):
    # What meets by chance: these calls are made again.
    expect_log("ERROR:  (deadlock detected|the invite code was given a limit at this moment)")
    crowd = crowd(**WAYS[way])
    with Watcher(postgres_to_break, crowd.rooms) as watcher:
        crowd.run(REQUESTS)
        backends = postgres_to_break.backends()
    assert watcher.faults == [] and watcher.looks > 100
    past = History(postgres_to_break, crowd.rooms.all())
    assert past.faults() == []
    # Clients were told the truth, too.
    assert past.made() == {one for made in crowd.made.values() for one in made}
    states = past.states()
    for registration, version in crowd.told:
        assert states[registration["id"], version] == state_of(registration)
    assert not [row for row in postgres_to_break.query("SELECT * FROM recount()")
                if row[1] in crowd.rooms.all()]
    # It was no easy play: more than one child was at it, and there was all sort of answers.
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

# What is done to which functions, and what has to be found then.
CONTROLS = {
    "occurrences are not locked": (
        "event", {name: UNLOCKED for name in ("events_create", "events_update",
                                              "events_delete", "events_promote")},
        history.COUNT),
    "codes are not locked": (
        "group", {"groups_lock_code": ("FOR NO KEY UPDATE;", "; PERFORM pg_sleep(0.002);")},
        history.COUNT),
    "a place too many is given": (
        "event", {"events_create": ("registrations < occurrence.capacity",
                                    "registrations <= occurrence.capacity")},
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
    "nobody is promoted": (
        "event", {"events_promote": ("greatest(places - held, 0)", "0")},
        history.LEFT_WAITING),
    "nobody is promoted when places are added": (
        "event", {"events_capacity_changed": ("PERFORM events_promote(NEW.id);", "")},
        history.LEFT_WAITING),
    "the last is promoted": (
        "event", {"events_promote": ("ORDER BY r.waiting_number",
                                     "ORDER BY r.waiting_number DESC")},
        history.NOT_FIRST),
    "a newcomer overtakes": (
        "event", {"events_promote": ("greatest(places - held, 0)", "0")}, history.OVERTAKEN),
    "a waiting list is not switched off": (
        "event", {"events_create": ("has_place OR occurrence.waiting_list", "true")},
        history.NO_LIST),
    "a place is not given back": (
        "live", {"cancel_live_registration": ("s.registered_count - 1",
                                              "s.registered_count")},
        history.COUNT),
    "a use is not given back": (
        "group", {"remove_group_member": ("c.uses - 1", "c.uses")}, history.COUNT),
}

SEEN_AT_ONCE = (history.COUNT, history.LEFT_WAITING)


@pytest.fixture
def change_functions(noted_postgres, expect_log):
    """change_functions({name: (text, other)}): replaces text in functions' sources."""
    expect_log("ERROR: ")
    before = []

    def change(edits):
        for name, (text, other) in edits.items():
            [[source]] = noted_postgres.query("SELECT pg_get_functiondef(%s::regproc)",
                                              f"registration.{name}")
            assert text in source
            before.append(source)
            noted_postgres.query(source.replace(text, other))
    yield change
    for source in before:
        noted_postgres.query(source)


@pytest.mark.parametrize("control", CONTROLS)
def test_control_what_goes_wrong_is_found(crowd, postgres_to_break, change_functions, control):
    kind, edits, fault = CONTROLS[control]
    crowd = crowd(kinds=[kind])
    change_functions(edits)
    end, found = time.monotonic() + 30, set()
    with Watcher(postgres_to_break, crowd.rooms) as watcher:
        while fault not in found and time.monotonic() < end:
            crowd.run(300)
            found = {what for what, _ in History(postgres_to_break,
                                                 crowd.rooms.all()).faults()}
    seen = {what for what, _ in watcher.faults}
    assert fault in found
    assert fault in seen or fault not in SEEN_AT_ONCE


def test_control_who_is_registered_twice_is_found(crowd, postgres_to_break):
    crowd = crowd(kinds=["event"])
    postgres_to_break.query("DROP INDEX event_registrations_one_per_user")
    try:
        with Watcher(postgres_to_break, crowd.rooms) as watcher:
            crowd.run(300)
    finally:
        postgres_to_break.query("DELETE FROM event_registrations")
        postgres_to_break.install("install.sql")
    past = History(postgres_to_break, crowd.rooms.all())
    assert history.TWICE in {fault for fault, _ in past.faults()}
    assert history.TWICE in {fault for fault, _ in watcher.faults}
