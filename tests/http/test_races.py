# SPDX-License-Identifier: Apache-2.0
"""Forty concurrent requests for a limited resource.

Each race runs twice. With the database as installed, exactly as many requests succeed as
allowed. Without its locks and unique keys too many succeed, which shows that the check detects
it.
"""

import types

import pytest

import samples
from conftest import new_uuid
from scratch import OnScratch

CROWD = 40   # an even number


def live(tools, session, body):
    return tools.api.post(f"/v1/sessions/{session}/register", json=body)


def join(tools, group, user=None):
    return tools.api.post(f"/api/v1/groups/{group.id}/members",
                          json=samples.member(group.code, user))


def registered(tools, session):
    """The number of registrations by the session's count and by its rows."""
    return tools.sql("SELECT registered_count::int, (SELECT count(*)::int"
                     " FROM live_registrations r WHERE r.session_id = s.id)"
                     " FROM live_sessions s WHERE id = %s", session)[0]


def members(tools, code):
    return tools.sql("SELECT uses, (SELECT count(*)::int FROM group_members m"
                     " WHERE m.invite_code = c.code) FROM invite_codes c WHERE code = %s", code)[0]


# --- The races: the nth request, how many may succeed, and what to count afterwards --------

def race(send, places, lost, counts):
    """`lost` is the status and name of the refusal of the others; `counts` returns numbers
    that all have to be `places` afterwards."""
    return types.SimpleNamespace(send=send, places=places, lost=lost, counts=counts)


def same_patient(tools):
    session = tools.live_session()
    return race(lambda n: live(tools, session, {"patient_id": "p", "guest_email": f"g{n}@x.org"}),
                1, (409, "conflict"), lambda: registered(tools, session))


def same_guest(tools):
    session = tools.live_session()
    emails = ["guest@example.org", "Guest@Example.org", "GUEST@EXAMPLE.ORG"]
    return race(lambda n: live(tools, session, {"guest_email": emails[n % 3]}),
                1, (409, "conflict"), lambda: registered(tools, session))


def last_place(tools):
    session = tools.live_session(1)
    return race(lambda n: live(tools, session, {"patient_id": f"p{n}"}),
                1, (412, "session_full"), lambda: registered(tools, session))


def last_places(tools):
    session = tools.live_session(17)
    return race(lambda n: live(tools, session, {"patient_id": f"p{n}"}),
                17, (412, "session_full"), lambda: registered(tools, session))


def last_use_of_a_code(tools):
    group = tools.group(max_uses=1)
    return race(lambda n: join(tools, group), 1, (422, ["inviteCode"]),
                lambda: members(tools, group.code))


def last_uses_of_a_code(tools):
    """By both paths of the API."""
    group = tools.group(max_uses=17)

    def send(n):
        if n % 2:
            return join(tools, group)
        return tools.api.post("/api/v1/users", json=samples.member(group.code))
    return race(send, 17, (422, ["inviteCode"]), lambda: members(tools, group.code))


def same_email(tools):
    """In three groups, in upper and lower case."""
    groups = [tools.group() for _ in range(3)]
    email = samples.new_email()

    def send(n):
        return join(tools, groups[n % 3], {"email": email.upper() if n % 2 else email})
    return race(send, 1, (422, ["groupMember.user.email"]), lambda: tools.sql(
        "SELECT count(*)::int FROM group_members WHERE lower(email) = %s", email)[0])


def same_email_for_limited_codes(tools):
    """Refused requests use up no code."""
    groups = [tools.group(max_uses=CROWD) for _ in range(3)]
    email = samples.new_email()
    return race(lambda n: join(tools, groups[n % 3], {"email": email}),
                1, (422, ["groupMember.user.email"]),
                lambda: map(sum, zip(*(members(tools, group.code) for group in groups))))


def same_username(tools):
    school = tools.institution()
    family = samples.family(school, [tools.child(school)])
    return race(lambda n: tools.admin.post("/v1/families", json=family),
                1, (409, "Family is already registered..."), lambda: tools.sql(
        "SELECT count(*)::int FROM families WHERE username = %s", family["username"])[0])


RACES = [same_patient, same_guest, last_place, last_places, last_use_of_a_code,
         last_uses_of_a_code, same_email, same_email_for_limited_codes, same_username]


# --- Running them --------------------------------------------------------------------------

@pytest.fixture
def tools(api, admin, sql, live_session, group, institution, child):
    return types.SimpleNamespace(**locals())


@pytest.fixture
def crowd(at_once, api, admin):
    """crowd(function): the results of CROWD concurrent calls function(0), function(1)..."""
    def run(function):
        # A busy httpd closes idle connections; a request just sent on one fails.
        api.close()
        admin.close()
        return at_once(CROWD, function)
    return run


def refusal(answer):
    """The status and what identifies the error: the live API's code, the groups API's fields,
    the families API's message."""
    body = answer.json()
    fields = [error["field"] for error in body.get("errors", [])]
    return answer.status_code, fields or body.get("error") or body.get("message")


def check(race, answers):
    won = [answer for answer in answers if answer.status_code == 201]
    assert len(won) == race.places
    assert [refusal(answer) for answer in answers if answer not in won] == (
        [race.lost] * (len(answers) - race.places))
    assert set(race.counts()) == {race.places}


@pytest.mark.parametrize("make", RACES, ids=lambda make: make.__name__)
def test_as_many_requests_succeed_as_allowed(tools, crowd, make):
    race = make(tools)
    check(race, crowd(race.send))


class TestControlWithoutGuards(OnScratch):
    # Other requests may write rows between a check and the write that depends on it; the
    # pause makes this certain.
    broken = r"""
        DO $$
        DECLARE
            locking regprocedure;
            without text;
        BEGIN
            FOR locking IN SELECT oid FROM pg_proc
                            WHERE pronamespace = 'registration'::regnamespace
                              AND prosrc ~ 'FOR (NO KEY )?UPDATE'
            LOOP
                without := regexp_replace(pg_get_functiondef(locking),
                                          'FOR (NO KEY )?UPDATE( OF \w+)?( SKIP LOCKED)?', '', 'g');
                -- Places are looked for and not taken.
                without := regexp_replace(without,
                    'UPDATE live_sessions AS s\s+SET [^;]+?\s+WHERE',
                    'PERFORM FROM live_sessions AS s WHERE', 'g');
                EXECUTE without;
            END LOOP;
        END
        $$;
        ALTER TABLE live_registrations DROP CONSTRAINT live_registrations_patient_once;
        DROP INDEX live_registrations_guest_once;
        ALTER TABLE member_emails DROP CONSTRAINT member_emails_pkey;
        ALTER TABLE families DROP CONSTRAINT families_username_once;
        CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep(0.6); RETURN NEW; END $$;
        CREATE TRIGGER pause BEFORE INSERT ON live_registrations
            FOR EACH ROW EXECUTE FUNCTION pause();
        CREATE TRIGGER pause BEFORE INSERT ON group_members
            FOR EACH ROW EXECUTE FUNCTION pause();
        CREATE TRIGGER pause BEFORE INSERT ON families
            FOR EACH ROW EXECUTE FUNCTION pause();
    """
    # Without batching: requests of a batch would pause one after the other.
    directives = """RegistrationBatchSize 1
        <Location "/v1/families">
            RegistrationPasswordCost 4
        </Location>"""

    @pytest.mark.parametrize("make", RACES, ids=lambda make: make.__name__)
    def test_control_too_many_requests_succeed(self, tools, crowd, make):
        race = make(tools)
        answers = crowd(race.send)
        assert sum(answer.status_code == 201 for answer in answers) > race.places
        with pytest.raises(AssertionError):
            check(race, answers)


# --- Concurrent changes by an administrator ------------------------------------------------

@pytest.fixture
def as_administrator(postgres):
    """as_administrator(query, *parameters): runs it on another connection."""
    def run(query, *parameters):
        connection = postgres.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, parameters or None)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()
    return run


def test_places_freed_concurrently_are_given_once(tools, crowd, as_administrator):
    session = tools.live_session(CROWD // 2)
    places = [live(tools, session, {"patient_id": f"p{n}"}).json()["id"]
              for n in range(CROWD // 2)]

    def act(n):
        if n % 2:
            return live(tools, session, {"patient_id": f"late{n}"}).status_code
        as_administrator("SELECT registration.cancel_live_registration(%s)", places[n // 2])
        return 200
    answers = crowd(act)
    assert set(answers) <= {200, 201, 412}
    assert set(registered(tools, session)) == {answers.count(201)}


def test_code_uses_freed_concurrently_are_given_once(tools, crowd, as_administrator):
    group = tools.group(max_uses=CROWD // 2)
    places = [join(tools, group).json()["user"]["uuid"] for _ in range(CROWD // 2)]

    def act(n):
        if n % 2:
            return join(tools, group).status_code
        as_administrator("SELECT registration.remove_group_member(%s)", places[n // 2])
        return 200
    answers = crowd(act)
    assert set(answers) <= {200, 201, 422}
    assert set(members(tools, group.code)) == {answers.count(201)}


def test_code_limited_concurrently_keeps_limit(tools, crowd, as_administrator, expect_log):
    expect_log("the invite code got a limit from")   # the call is retried
    group = tools.group()
    limit = "UPDATE registration.invite_codes SET max_uses = %s WHERE code = %s"

    def act(n):
        if n == CROWD // 2:
            as_administrator(limit, CROWD // 4, group.code)
            return 200
        return join(tools, group).status_code
    answers = crowd(act)
    assert set(answers) <= {200, 201, 422}
    uses, rows = members(tools, group.code)
    assert uses == rows == answers.count(201) >= CROWD // 4
    assert join(tools, group).status_code == 422


def test_unlimited_code_is_not_locked(tools, postgres):
    """No request waits for an uncommitted registration."""
    group = tools.group()
    values = [new_uuid(), group.id, "/api/v1/groups", group.code, samples.new_email(),
              *[None] * 13]
    arrays = [f"ARRAY[%s]::{kind}[]" for kind in
              ["uuid", "uuid", "text", "text", "text", "date", *["text"] * 6,
               "jsonb", "jsonb", "date", "date", "text", "text"]]
    slow = postgres.connect("registration")
    try:
        slow.autocommit = False
        cursor = slow.cursor()
        cursor.execute(
            f"SELECT outcome FROM registration.groups_register({', '.join(arrays)})", values)
        assert cursor.fetchall() == [("created",)]
        assert join(tools, group).status_code == 201
        slow.commit()
    finally:
        slow.close()
    assert members(tools, group.code)[1] == 2
