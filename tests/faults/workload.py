# SPDX-License-Identifier: Apache-2.0
"""Concurrent clients of all APIs, and checks of their answers against the database."""

import concurrent.futures
import contextlib
import http.client
import itertools
import json
import secrets
import threading
import time

from conftest import new_uuid
from event_registrations import DEMO_EVENT, MOUNT
from samples import family, member

CLIENTS = 64
PLACES = 40   # in each session and occurrence, and uses of each invite code
KINDS = {"live": "live", "group": "groups", "user": "users", "family": "families",
         "event": "events"}   # kind of request: API

# Seconds that a client waits after a 503.
PAUSE = 0.5

# Two child processes, as in all tests, with threads for all clients in each; httpd does not
# start more when all of them are busy.
CHILDREN = "MinSpareThreads 1\n"

# The step that an event registration has reached, by status and deletion.
STEPS = {("CONFIRMED", False): 1, ("ATTENDED", False): 2, ("ATTENDED", True): 3,
         ("CONFIRMED", True): 3}


class Lost(Exception):
    """No answer came, even after the request was repeated where allowed."""


class Answer:
    """An answer; `again`: its request was sent twice."""

    def __init__(self, response, again, begin):
        self.status_code = response.status
        self.headers = response.headers
        self.content = response.read()
        self.text = self.content.decode()
        self.again = again
        self.seconds = time.monotonic() - begin

    def json(self):
        return json.loads(self.content)


class KeptCaller:
    """A Caller with a persistent connection per thread. If it was closed before any octet of
    the answer arrived, which httpd may do to an idle connection, the request is sent once
    more on a new one, with the same Idempotency-Key if `with_keys`.
    """

    def __init__(self, httpd, with_keys=False):
        self.httpd = httpd
        self.with_keys = with_keys
        self.own = threading.local()

    def connection(self):
        if not hasattr(self.own, "connection"):
            self.own.connection = http.client.HTTPConnection("127.0.0.1", self.httpd.port,
                                                             timeout=30)
        return self.own.connection

    def request(self, method, path, json=None, headers=None):
        headers = {"Content-Type": "application/json", **(headers or {})}
        if self.with_keys and method == "POST":
            headers["Idempotency-Key"] = new_uuid()
        return self.send(method, path, None if json is None else encode(json), headers)

    def send(self, *request):
        begin, connection = time.monotonic(), self.connection()
        was_kept, again = connection.sock is not None, False
        try:
            try:
                connection.request(*request)
                response = connection.getresponse()
            except (ConnectionResetError, BrokenPipeError):
                connection.close()
                if not was_kept:
                    raise
                again = True
                connection.request(*request)
                response = connection.getresponse()
            return Answer(response, again, begin)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Lost(repr(error)) from error

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, **options):
        return self.request("POST", path, **options)

    def put(self, path, **options):
        return self.request("PUT", path, **options)

    def delete(self, path, **options):
        return self.request("DELETE", path, **options)

    def register(self, session, patient=None):
        return self.post(f"/v1/sessions/{session}/register",
                         json={"patient_id": patient or new_uuid()})


def encode(body):
    return json.dumps(body).encode()


class Rooms:
    """Rows to register for, with exactly as many places as will be requested: no request may
    be refused, and a place taken twice would be missing."""

    def __init__(self, postgres, count=200):
        def made(text, *parameters):
            return [row[0] for row in postgres.query(text, *parameters)]

        self.postgres = postgres
        self.token = secrets.token_hex(4)   # makes names unique
        self.sessions = made(
            "INSERT INTO live_sessions (id, title, status, max_participants)"
            " SELECT gen_random_uuid(), 'A session', 'live', %s FROM generate_series(1, %s)"
            " RETURNING id", PLACES, count)
        self.occurrences = made(
            "INSERT INTO occurrences (event_id, capacity, waiting_list)"
            " SELECT %s, %s, false FROM generate_series(1, %s) RETURNING id", DEMO_EVENT,
            PLACES, count)
        self.group, = made("INSERT INTO groups (id, name) VALUES (gen_random_uuid(), 'A')"
                           " RETURNING id")
        plan, = made("INSERT INTO plans (id, group_id, name)"
                     " VALUES (gen_random_uuid(), %s, 'A plan') RETURNING id", self.group)
        self.codes = made(
            "INSERT INTO invite_codes (code, plan_id, max_uses)"
            " SELECT gen_random_uuid(), %s, %s FROM generate_series(1, %s) RETURNING code",
            plan, 2 * PLACES, count)   # for two APIs
        self.institution, = made("INSERT INTO institutions (id, name) VALUES"
                                 " (left(md5(random()::text), 24), 'A') RETURNING id")
        self.child, = made(
            "INSERT INTO children (id, username, institution_id)"
            " VALUES (left(md5(random()::text), 24), 'A', %s) RETURNING id",
            self.institution)

    def register(self, one, kind, number, name):
        room = number // PLACES
        if kind == "live":
            return one.register(self.sessions[room], name)
        if kind in ("group", "user"):
            path = f"groups/{self.group}/members" if kind == "group" else "users"
            return one.post(f"/api/v1/{path}", json=member(
                self.codes[room], {"email": f"{name}@example.org"}))
        if kind == "family":
            return one.post("/v1/families", json=family(self.institution, [self.child],
                                                        username=name))
        return one.post(MOUNT, json={"occurrenceId": self.occurrences[room],
                                     "externalUserId": name})

    @contextlib.contextmanager
    def locked(self):
        """Another transaction, as of an administrator, locks all rows."""
        connection = self.postgres.connect()
        connection.autocommit = False
        with contextlib.closing(connection), connection.cursor() as cursor:
            for table, key, rows in [("live_sessions", "id::text", self.sessions),
                                     ("occurrences", "id::text", self.occurrences),
                                     ("invite_codes", "code", self.codes)]:
                cursor.execute(f"SELECT 1 FROM registration.{table} WHERE {key} = ANY (%s)"
                               " FOR UPDATE", (rows,))
            yield

    def rows(self):
        """The step of each name in the database; checks that no name is there twice."""
        rows = self.postgres.query("""
            SELECT patient_id, 'CONFIRMED', false FROM live_registrations
             WHERE session_id = ANY (%s::uuid[])
            UNION ALL
            SELECT split_part(email, '@', 1), 'CONFIRMED', false FROM group_members
             WHERE group_id = %s
            UNION ALL
            SELECT username, 'CONFIRMED', false FROM families WHERE institution_id = %s
            UNION ALL
            SELECT u.external_id, r.status, r.deleted_at IS NOT NULL
              FROM event_registrations r JOIN event_users u ON u.id = r.user_id
             WHERE r.occurrence_id = ANY (%s::uuid[])""",
            self.sessions, self.group, self.institution, self.occurrences)
        steps = {name: STEPS[status, deleted] for name, status, deleted in rows}
        assert len(steps) == len(rows)
        return steps


class Load:
    """Clients that send requests until the block ends. Each name is requested once."""

    def __init__(self, one, rooms):
        self.one = one
        self.rooms = rooms
        self.numbers = itertools.count()
        self.done = {}          # confirmed steps, by name
        self.unknown = set()    # names with a step in doubt
        self.unavailable = []   # names and answers that were 503
        self.refused = []       # all other answers; there must be none
        self.lost = []          # names with a step without answer
        self.slowest = 0        # seconds of the slowest answer
        self.took = []          # seconds of each answer
        self.confirmed_at = []  # times, by time.monotonic()
        self.ended = threading.Event()
        self.pool = concurrent.futures.ThreadPoolExecutor(CLIENTS)

    def send_steps(self, kind, number, name):
        """The answers of all steps for a name, each based on the previous one."""
        answer = self.rooms.register(self.one, kind, number, name)
        yield answer
        if kind == "event":
            address = f"{MOUNT}/{answer.json()['id']}"
            answer = self.one.put(address, json={"status": "ATTENDED"},
                                  headers={"If-Match": answer.headers["ETag"]})
            yield answer
            if number % 2:
                yield self.one.delete(address, headers={"If-Match": answer.headers["ETag"]})

    def client(self):
        while not self.ended.is_set():
            number, kind = divmod(next(self.numbers), len(KINDS))
            kind = list(KINDS)[kind]
            name = f"{kind}-{number}-{self.rooms.token}"
            self.done[name] = 0
            try:
                for answer in self.send_steps(kind, number, name):
                    if not self.is_confirmed(name, answer):
                        self.ended.wait(PAUSE)
                        break
            except Lost:
                self.unknown.add(name)
                self.lost.append(name)

    def is_confirmed(self, name, answer):
        self.slowest = max(self.slowest, answer.seconds)
        self.took.append(answer.seconds)
        if answer.status_code in (200, 201):
            self.done[name] += 1
            self.confirmed_at.append(time.monotonic())
            return True
        self.unknown.add(name)
        if answer.status_code == 503:
            self.unavailable.append((name, answer))
        else:
            self.refused.append((name, answer.status_code, answer.text))
        return False

    def __enter__(self):
        self.clients = [self.pool.submit(self.client) for _ in range(CLIENTS)]
        return self

    def __exit__(self, *_):
        self.ended.set()
        for client in self.clients:
            client.result()

    def late(self, seconds):
        """The number of answers that took longer."""
        return sum(took > seconds for took in self.took)

    def wait_for_more(self, seconds=10):
        """Waits until the service confirms a request; the seconds that took."""
        before, begin = len(self.confirmed_at), time.monotonic()
        while len(self.confirmed_at) == before:
            assert time.monotonic() < begin + seconds, "the service did not come back"
            time.sleep(0.005)
        return self.confirmed_at[before] - begin

    def differences(self):
        """Names whose rows differ from the confirmed steps."""
        rows = self.rooms.rows()
        assert set(rows) <= set(self.done)
        return {name: (done, rows.get(name, 0)) for name, done in self.done.items()
                if rows.get(name, 0) - done not in ((0, 1) if name in self.unknown else (0,))}

    def check(self):
        for wrong in (self.refused, self.differences(),
                      self.rooms.postgres.query("SELECT * FROM recount()")):
            assert not wrong, wrong
