# SPDX-License-Identifier: Apache-2.0
"""The answer of a call is lost after it was committed, and the call is made again.

In front of PostgreSQL there is a proxy that passes the call on, but not the answer. Until
it passes on answers again the call cannot be repeated; so there is time to change what the
repeated call will find.
"""

import concurrent.futures
import contextlib
import re
import secrets

import pytest

import servers
from event_registrations import DEMO_EVENT, MOUNT
from faults import caller, own_postgres, postgres_to_break, proxy   # noqa: F401, fixtures
from samples import family, member

# Time enough to connect again, which a child does not try before a second has passed.
TIMEOUT = 15


class Things:
    """What a case needs; `name` is new each time."""

    def __init__(self, one, postgres):
        self.one = one
        self.sql = postgres.query
        self.postgres = postgres
        self.name = secrets.token_hex(8)
        self.session = self.code = self.occurrence = self.registration = None

    def set_up(self, places):
        self.session = self.postgres.live_session(places)
        [[self.group]] = self.sql("INSERT INTO groups (id, name)"
                                  " VALUES (gen_random_uuid(), 'A') RETURNING id")
        [[self.code]] = self.sql(
            "WITH p AS (INSERT INTO plans (id, group_id, name)"
            " VALUES (gen_random_uuid(), %s, 'A') RETURNING id)"
            " INSERT INTO invite_codes (code, plan_id, max_uses)"
            " SELECT gen_random_uuid(), id, %s FROM p RETURNING code", self.group, places)
        self.institution, self.child = secrets.token_hex(12), secrets.token_hex(12)
        self.sql("INSERT INTO institutions (id, name) VALUES (%s, 'A')", self.institution)
        self.sql("INSERT INTO children (id, username, institution_id) VALUES (%s, 'A', %s)",
                 self.child, self.institution)
        [[self.occurrence]] = self.sql(
            "INSERT INTO occurrences (event_id, capacity, waiting_list)"
            " VALUES (%s, %s, false) RETURNING id", DEMO_EVENT, places)


def live(t):
    return t.one.register(t.session, t.name)


def live_guest(t):
    return t.one.post(f"/v1/sessions/{t.session}/register",
                      json={"guest_email": f"{t.name}@example.org"})


def group(t):
    return t.one.post(f"/api/v1/groups/{t.group}/members",
                      json=member(t.code, {"email": f"{t.name}@example.org"}))


def user(t):
    return t.one.post("/api/v1/users", json=member(t.code,
                                                   {"email": f"{t.name}@example.org"}))


def a_family(t):
    return t.one.post("/v1/families", json=family(t.institution, [t.child],
                                                  username=t.name))


def event(t):
    return t.one.post(MOUNT, json={"occurrenceId": t.occurrence, "externalUserId": t.name})


def with_registration(method, **options):
    """A request for a registration made before, which nobody may have changed since."""
    def ask(t):
        return t.one.request(method, f"{MOUNT}/{t.registration.json()['id']}",
                             headers={"If-Match": t.registration.headers["ETag"]}, **options)
    ask.__name__ = method
    return ask


update = with_registration("PUT", json={"status": "ATTENDED", "fields": {"seen": True}})
leave = with_registration("PUT", json={"status": "CANCELLED"})
delete = with_registration("DELETE")

# Whether a row says that the first call was committed.
WRITTEN = {
    live: "SELECT 1 FROM live_registrations WHERE patient_id = %s",
    live_guest: "SELECT 1 FROM live_registrations WHERE guest_email = %s || '@example.org'",
    group: "SELECT 1 FROM group_members WHERE email = %s || '@example.org'",
    user: "SELECT 1 FROM group_members WHERE email = %s || '@example.org'",
    a_family: "SELECT 1 FROM families WHERE username = %s",
    event: "SELECT 1 FROM event_registrations r JOIN event_users u ON u.id = r.user_id"
           " WHERE u.external_id = %s",
    **dict.fromkeys((update, leave, delete),
                    "SELECT 1 FROM event_registrations r JOIN event_users u ON u.id = r.user_id"
                    " WHERE u.external_id = %s AND r.version = 2"),
}

# The request, how many places there are (none: any number), what is done before it is
# repeated, its answer, and the answer if it did not recognize what it had written.
CASES = {
    "live": (live, None, None, 201, 409),
    "live, a guest": (live_guest, None, None, 201, 409),
    "live, full with it": (live, 1, None, 201, 409),
    "live, ended since": (
        live, None, "UPDATE live_sessions SET status = 'ended' WHERE id = %(session)s",
        201, 412),
    "live, lowered since": (
        live, 9, "UPDATE live_sessions SET max_participants = 0 WHERE id = %(session)s",
        201, 409),
    "groups": (group, None, None, 201, 422),
    "groups, used up with it": (group, 1, None, 201, 422),
    "groups, expired since": (
        group, None, "UPDATE invite_codes SET expires_at = now() WHERE code = %(code)s",
        201, 422),
    "users": (user, None, None, 201, 422),
    "users, used up with it": (user, 1, None, 201, 422),
    "families": (a_family, None, None, 201, 409),
    "events": (event, None, None, 201, 409),
    "events, full with it": (event, 1, None, 201, 409),
    "events, cancelled since": (
        event, None, "UPDATE event_registrations SET status = 'CANCELLED'"
                     " WHERE occurrence_id = %(occurrence)s;"
                     " UPDATE occurrences SET registrations = 0 WHERE id = %(occurrence)s",
        201, 409),
    "events, update": (update, None, None, 200, 412),
    "events, update, full since": (
        leave, 1, "UPDATE occurrences SET capacity = 0 WHERE id = %(occurrence)s", 200, 412),
    "events, delete": (delete, None, None, 200, 404),
}


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool


@contextlib.contextmanager
def slow_families(t):
    """To write a family takes long enough to do something meanwhile."""
    t.sql("CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS"
          " 'BEGIN PERFORM pg_sleep(0.7); RETURN NEW; END';"
          "CREATE TRIGGER pause BEFORE INSERT ON families FOR EACH ROW EXECUTE FUNCTION pause()")
    yield
    t.sql("DROP TRIGGER pause ON families; DROP FUNCTION pause()")


def lose_the_answer(t, proxy, pool, ask, places, meanwhile):
    """What a request is answered the answer to whose first call is lost."""
    t.set_up(places)
    if ask in (update, leave, delete):
        t.registration = event(t)
    # Whatever else the call needs is there, so the answer that is lost is its own.
    warm = Things(t.one, t.postgres)
    warm.set_up(None)
    if ask in (update, leave, delete):
        warm.registration = event(warm)
    assert ask(warm).status_code in (200, 201)

    if ask is a_family:   # It is checked by a call before, whose answer is not to be lost.
        with slow_families(t):
            answer = pool.submit(ask, t)
            servers.wait_until(lambda: t.sql("SELECT 1 FROM pg_stat_activity"
                                             " WHERE wait_event = 'PgSleep'"),
                               5, "the call was not made")
            proxy.change("mute")
            servers.wait_until(lambda: t.sql(WRITTEN[ask], t.name), 5, "nothing was written")
    else:
        proxy.change("mute")
        answer = pool.submit(ask, t)
    servers.wait_until(lambda: t.sql(WRITTEN[ask], t.name), 5, "the call was not made")
    if meanwhile:
        t.sql(re.sub(r"%\((\w+)\)s", lambda m: f"'{getattr(t, m[1])}'", meanwhile))
    assert not answer.done()
    proxy.change("forward")
    return answer.result()


@pytest.mark.parametrize("case", CASES)
def test_a_repeated_call_recognizes_what_it_wrote(caller, proxy, postgres_to_break, pool, case):
    ask, places, meanwhile, expected, _ = CASES[case]
    t = Things(caller(proxy.port, timeout=TIMEOUT, combining=True), postgres_to_break)
    answer = lose_the_answer(t, proxy, pool, ask, places, meanwhile)
    assert answer.status_code == expected, answer.text
    assert len(t.sql(WRITTEN[ask], t.name)) == 1
    assert t.sql("SELECT * FROM recount()") == []
    # Nor is it in the audit twice. Nothing here is changed twice.
    assert t.sql("SELECT id FROM audit GROUP BY id, action HAVING count(*) > 1") == []


# How the operations look for what they wrote themselves.
RECOGNITION = {
    "live_register": ["r.id = ids[item] AND r.session_id = session_ids[item]"],
    "groups_register": ["m.id = ids[item] AND m.group_id = home.id"],
    "families_register": ["body IS NOT NULL AND outcome = 'duplicate'"],
    "events_create": ["r.id = ids[item] AND r.occurrence_id = wanted"],
    "events_update": ["registration.last_call = call_ids[item]"],
    "events_delete": ["r.last_call = call_ids[item]",
                      "registration.last_call = call_ids[item]"],
}


@pytest.fixture
def forgetful(postgres_to_break):
    """The operations as they would be if they did not look for it."""
    for name, conditions in RECOGNITION.items():
        text = (servers.ROOT / "sql" / "operations" / f"{name}.sql").read_text()
        for condition in conditions:
            assert text.count(f" {condition}") == 1
            text = text.replace(f" {condition}", " false")
        postgres_to_break.psql("-c", "SET search_path = registration", "-c", text)
    yield
    postgres_to_break.install("install.sql")


@pytest.mark.parametrize("case", CASES)
def test_control_one_that_does_not_is_noticed(caller, proxy, postgres_to_break, pool,
                                              forgetful, expect_log, case):
    expect_log("ERROR:  duplicate key value violates unique constraint")
    ask, places, meanwhile, _, expected = CASES[case]
    t = Things(caller(proxy.port, timeout=TIMEOUT, combining=True), postgres_to_break)
    answer = lose_the_answer(t, proxy, pool, ask, places, meanwhile)
    assert answer.status_code == expected, answer.text
