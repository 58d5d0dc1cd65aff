# SPDX-License-Identifier: Apache-2.0
"""A call whose result is lost after its commit is retried, and recognizes its own rows.

A proxy in front of PostgreSQL forwards the call but not its result. The call cannot be retried
until the proxy forwards results again, so a test can change the rows in between.
"""

import contextlib
import re
import secrets

import pytest

import servers
from event_registrations import DEMO_EVENT, MOUNT
from faults import caller, own_postgres, postgres_to_break, proxy   # noqa: F401, fixtures
from samples import family, member

# Enough to reconnect, which a child process tries a second later at the earliest.
TIMEOUT = 15


class Fixture:
    """The rows that a case needs; `name` is unique."""

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
    """A request for an existing registration, conditional on its version."""
    def send(t):
        return t.one.request(method, f"{MOUNT}/{t.registration.json()['id']}",
                             headers={"If-Match": t.registration.headers["ETag"]}, **options)
    send.__name__ = method
    return send


update = with_registration("PUT", json={"status": "ATTENDED", "fields": {"seen": True}})
cancel = with_registration("PUT", json={"status": "CANCELLED"})
delete = with_registration("DELETE")

# Queries that tell whether the first call was committed.
WRITTEN = {
    live: "SELECT 1 FROM live_registrations WHERE patient_id = %s",
    live_guest: "SELECT 1 FROM live_registrations WHERE guest_email = %s || '@example.org'",
    group: "SELECT 1 FROM group_members WHERE email = %s || '@example.org'",
    user: "SELECT 1 FROM group_members WHERE email = %s || '@example.org'",
    a_family: "SELECT 1 FROM families WHERE username = %s",
    event: "SELECT 1 FROM event_registrations r JOIN event_users u ON u.id = r.user_id"
           " WHERE u.external_id = %s",
    **dict.fromkeys((update, cancel, delete),
                    "SELECT 1 FROM event_registrations r JOIN event_users u ON u.id = r.user_id"
                    " WHERE u.external_id = %s AND r.version = 2"),
}

# The request, the number of places (None: unlimited), a change before the retry, the expected
# status, and the status if the retry did not recognize its rows.
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
        cancel, 1, "UPDATE occurrences SET capacity = 0 WHERE id = %(occurrence)s", 200, 412),
    "events, delete": (delete, None, None, 200, 404),
}


@contextlib.contextmanager
def slow_families(t):
    """Makes the insert of a family slow enough to act during it."""
    t.sql("CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS"
          " 'BEGIN PERFORM pg_sleep(0.7); RETURN NEW; END';"
          "CREATE TRIGGER pause BEFORE INSERT ON families FOR EACH ROW EXECUTE FUNCTION pause()")
    yield
    t.sql("DROP TRIGGER pause ON families; DROP FUNCTION pause()")


def lose_result(t, proxy, pool, send, places, meanwhile):
    """The answer to a request whose call was committed and whose result was lost."""
    t.set_up(places)
    if send in (update, cancel, delete):
        t.registration = event(t)
    # Connections and statements are prepared, so that only the call's own result is lost.
    warm = Fixture(t.one, t.postgres)
    warm.set_up(None)
    if send in (update, cancel, delete):
        warm.registration = event(warm)
    assert send(warm).status_code in (200, 201)

    if send is a_family:   # A first call checks it, whose result must not be lost.
        with slow_families(t):
            answer = pool.submit(send, t)
            servers.wait_until(lambda: t.sql("SELECT 1 FROM pg_stat_activity"
                                             " WHERE wait_event = 'PgSleep'"),
                               5, "the call was not sent")
            proxy.change("mute")
            servers.wait_until(lambda: t.sql(WRITTEN[send], t.name), 5, "nothing was written")
    else:
        proxy.change("mute")
        answer = pool.submit(send, t)
    servers.wait_until(lambda: t.sql(WRITTEN[send], t.name), 5, "the call was not sent")
    assert proxy.lost.wait(5), "the result was not lost"
    if meanwhile:
        t.sql(re.sub(r"%\((\w+)\)s", lambda m: f"'{getattr(t, m[1])}'", meanwhile))
    assert not answer.done()
    proxy.change("forward")
    return answer.result()


@pytest.mark.parametrize("case", CASES)
def test_retried_call_recognizes_its_own_rows(caller, proxy, postgres_to_break, pool, case):
    send, places, meanwhile, expected, _ = CASES[case]
    t = Fixture(caller(proxy.port, timeout=TIMEOUT, batching=True), postgres_to_break)
    answer = lose_result(t, proxy, pool, send, places, meanwhile)
    assert answer.status_code == expected, answer.text
    assert len(t.sql(WRITTEN[send], t.name)) == 1
    assert t.sql("SELECT * FROM recount()") == []
    # The audit has one entry for each change.
    assert t.sql("SELECT id FROM audit GROUP BY id, action HAVING count(*) > 1") == []


# How the operations recognize their own rows.
RECOGNITION = {
    "live_register": ["r.id = ids[item] AND r.session_id = session_ids[item]"],
    "groups_register": ["m.id = ids[item] AND m.group_id = home.id"],
    "families_register": ["body IS NOT NULL AND outcome = 'duplicate'"],
    "events_create": ["body IS NOT NULL"],
    # events_lock(), for update and delete.
    "events_common": ["r.last_call = call_id", "registration.last_call = call_id"],
}


@pytest.fixture
def forgetful(postgres_to_break):
    """Operations that do not recognize their own rows."""
    for name, conditions in RECOGNITION.items():
        text = (servers.ROOT / "sql" / "operations" / f"{name}.sql").read_text()
        for condition in conditions:
            assert text.count(f" {condition}") == 1
            text = text.replace(f" {condition}", " false")
        postgres_to_break.psql("-c", "SET search_path = registration", "-c", text)
    yield
    postgres_to_break.install("install.sql")


@pytest.mark.parametrize("case", CASES)
def test_control_retry_without_recognition_is_detected(caller, proxy, postgres_to_break,
                                                       pool, forgetful, expect_log, case):
    expect_log("ERROR:  duplicate key value violates unique constraint")
    send, places, meanwhile, _, expected = CASES[case]
    t = Fixture(caller(proxy.port, timeout=TIMEOUT, batching=True), postgres_to_break)
    answer = lose_result(t, proxy, pool, send, places, meanwhile)
    assert answer.status_code == expected, answer.text
