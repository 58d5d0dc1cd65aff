# SPDX-License-Identifier: Apache-2.0
"""Live sessions: POST /v1/sessions/{id}/register."""

import datetime
import re
import uuid

import pytest

import samples
import servers
from apis import check_error
from conftest import new_uuid

KEYS = ["id", "session_id", "patient_id", "guest_email", "role", "registered_at"]


def path(session):
    return f"/v1/sessions/{session}/register"


def assert_error(answer, status, code):
    """Checks that it is this error; its message."""
    error = check_error(answer, "live", status)
    assert error["error"] == code
    return error["message"]


@pytest.fixture
def register(api):
    """register(session, body): the answer to a POST of the JSON body."""
    return lambda session, body: api.post(path(session), json=body)


@pytest.fixture
def registered(register):
    """registered(session, body): the object of a registration that has to succeed."""
    def registered(session, body):
        answer = register(session, body)
        assert answer.status_code == 201, answer.text
        return answer.json()
    return registered


# --- Success -------------------------------------------------------------------------------

def test_example_of_api_page(api, sql):
    """With its headers and its three properties, for a session of the demo data."""
    answer = api.post(
        path("11111111-1111-4111-8111-111111111111"),
        headers={"Content-Type": "application/json"},
        data='{ "patient_id": "the page", "guest_email": "page@example.org", "role": "host" }')
    assert answer.status_code == 201
    body = answer.json()
    sql("SELECT cancel_live_registration(%s)", body["id"])
    assert body == {"id": body["id"], "session_id": "11111111-1111-4111-8111-111111111111",
                    "patient_id": "the page", "guest_email": "page@example.org",
                    "role": "host", "registered_at": body["registered_at"]}


def test_answer_has_all_keys_in_order(register, live_session, sql):
    session = live_session()
    before = datetime.datetime.now(datetime.timezone.utc)
    answer = register(session, {"patient_id": "p"})
    after = datetime.datetime.now(datetime.timezone.utc)
    assert answer.status_code == 201
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    body = answer.json()
    assert list(body) == KEYS
    assert (body["session_id"], body["patient_id"], body["guest_email"]) == (session, "p", None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["registered_at"])
    millisecond = datetime.timedelta(milliseconds=1)
    assert (before - millisecond
            <= datetime.datetime.fromisoformat(body["registered_at"].replace("Z", "+00:00"))
            <= after + millisecond)
    assert sql("SELECT id, session_id, patient_id, guest_email, role FROM live_registrations"
               " WHERE session_id = %s", session) == [
        (body["id"], session, "p", None, "participant")]


def test_ids_are_uuid_version_7(registered, live_session):
    made = uuid.UUID(registered(live_session(), {"patient_id": "p"})["id"])
    now = datetime.datetime.now().timestamp()
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert now - 60 < (made.int >> 80) / 1000 < now + 1


@pytest.mark.parametrize("body, patient, guest, role", [
    ({"patient_id": "p"}, "p", None, "participant"),
    ({"guest_email": "G@x.org"}, None, "G@x.org", "guest"),
    ({"patient_id": "p", "guest_email": "G@x.org"}, "p", "G@x.org", "participant"),
    ({"patient_id": "p", "role": "host"}, "p", None, "host"),
    ({"patient_id": "p", "role": "participant"}, "p", None, "participant"),
    ({"patient_id": "p", "role": "guest"}, "p", None, "guest"),
    ({"guest_email": "G@x.org", "role": "host"}, None, "G@x.org", "host"),
    ({"guest_email": "G@x.org", "role": "participant"}, None, "G@x.org", "participant"),
    ({}, "somebody", None, "participant"),
    ({"role": "host"}, "somebody", None, "host"),
    ({"role": "guest"}, "somebody", None, "guest"),
])
def test_patient_guest_and_role_have_defaults(registered, live_session, body, patient,
                                              guest, role):
    made = registered(live_session(), body)
    assert (made["patient_id"], made["guest_email"], made["role"]) == (patient, guest, role)


def test_body_without_person_needs_a_caller(start_httpd, certificates, issuer, postgres,
                                            client, live_session):
    site = servers.example_site(0, certificates, issuer, postgres)
    open_to_all = re.sub("Require oauth2_claim .*", "", site).replace(
        "Require valid-user", "Require all granted").replace("AuthType oauth2", "AuthType None").replace(
        "<VirtualHost *:${REGISTRATION_PORT}>", "<VirtualHost *:*>")
    anonymous = client(httpd=start_httpd(open_to_all))
    session = live_session()
    for body in ({}, {"role": "host"}):
        assert_error(anonymous.post(path(session), json=body), 400, "validation_error")
    assert anonymous.post(path(session), json={"patient_id": "p"}).status_code == 201


def test_ids_are_case_insensitive(registered, live_session):
    session = live_session()
    assert registered(session.upper(), {"patient_id": "p"})["session_id"] == session


@pytest.mark.parametrize("text", samples.TEXTS)
def test_texts_are_stored_exactly(registered, live_session, text, sql):
    session = live_session()
    assert registered(session, {"patient_id": text})["patient_id"] == text
    assert sql("SELECT patient_id FROM live_registrations WHERE session_id = %s",
               session) == [(text,)]


def test_valid_emails_are_accepted(registered, live_session):
    session = live_session()
    for email in samples.GOOD_EMAILS:
        assert registered(session, {"guest_email": email})["guest_email"] == email


@pytest.mark.parametrize("member", [
    '"id": 1', '"session_id": null', '"Patient_ID": 1', '"": ""', '"n": 1e999999999',
    '"n": ' + "9" * 5000, '"x": [{"patient_id": 1, "role": "boss"}]', '"x": "}]{[\\"\\\\"',
    '"x": "\\u0001"', '"日本": "\\ud83d\\ude00"'])
def test_unknown_keys_are_ignored(api, live_session, member):
    body = f'{{{member}, "patient_id": "p"}}'
    answer = api.post(path(live_session()), data=body.encode())
    assert answer.status_code == 201, answer.text
    assert (list(answer.json()), answer.json()["patient_id"]) == (KEYS, "p")


# --- 400 -----------------------------------------------------------------------------------

WRONG = [
    *[("patient_id", value) for value in (None, 1, 0.5, True, [], {}, ["p"], "")],
    *[("guest_email", value) for value in (None, 1, False, [], {}, ["a@b"], "")],
    *[("role", value) for value in (None, 1, True, [], {}, "", "admin", "Host", "HOST",
                                    " host", "host ", "hos", "hosts", "participant,guest")],
]


@pytest.mark.parametrize("field, value", WRONG)
def test_invalid_field_is_400(register, live_session, sql, field, value):
    session = live_session()
    answer = register(session, {"patient_id": "p", **{field: value}})
    assert field in assert_error(answer, 400, "validation_error")
    assert sql("SELECT registered_count FROM live_sessions WHERE id = %s", session) == [(0,)]


def test_message_names_exactly_the_invalid_fields(register, live_session):
    session = live_session()
    good = {"patient_id": "p", "guest_email": "g@x.org", "role": "host"}
    wrong = {"patient_id": 1, "guest_email": "nowhere", "role": "boss"}
    for at_fault in (["patient_id", "guest_email"], ["guest_email", "role"],
                     ["patient_id", "role"], list(wrong)):
        body = {**good, **{field: wrong[field] for field in at_fault}}
        message = assert_error(register(session, body), 400, "validation_error")
        assert [field for field in wrong if field in message] == at_fault


def test_invalid_emails_are_400(register, live_session):
    session = live_session()
    for email in samples.BAD_EMAILS:
        answer = register(session, {"guest_email": email})
        assert "guest_email" in assert_error(answer, 400, "validation_error"), email


def test_invalid_texts_are_400(register, live_session):
    session = live_session()
    for text in (*samples.TOO_LONG, *samples.CONTROLS):
        answer = register(session, {"patient_id": text})
        assert "patient_id" in assert_error(answer, 400, "validation_error"), text[:9]


# --- 404, 412, 409 -------------------------------------------------------------------------

@pytest.mark.parametrize("session", [
    "00000000-0000-0000-0000-000000000000", "00000000-0000-4000-8000-00000000dead",
    "x", "1", "-1", "null", "*", "%20", "%27",
    "1111111-1111-4111-8111-111111111111", "11111111-1111-4111-8111-1111111111111",
    "g1111111-1111-4111-8111-111111111111", "11111111_1111_4111_8111_111111111111",
    "%7B11111111-1111-4111-8111-111111111111%7D", "11111111-1111-4111-8111-111111111111%0A",
    "%2011111111-1111-4111-8111-111111111111", "urn:uuid:11111111-1111-4111-8111-111111111111",
    "%F0%9F%98%80", "x" * 2000])
def test_unknown_session_is_404(register, session):
    assert_error(register(session, {"patient_id": "p"}), 404, "not_found")


@pytest.mark.parametrize("status, joinable", [
    ("scheduled", True), ("live", True), ("ended", False), ("cancelled", False)])
def test_session_has_to_be_scheduled_or_live(register, live_session, status, joinable):
    answer = register(live_session(status=status), {"patient_id": "p"})
    if joinable:
        assert answer.status_code == 201
    else:
        assert_error(answer, 412, "session_not_joinable")


@pytest.mark.parametrize("session, status", [
    ("11111111-1111-4111-8111-111111111111", 201), ("22222222-2222-4222-8222-222222222222", 201),
    ("33333333-3333-4333-8333-333333333333", 412), ("44444444-4444-4444-8444-444444444444", 412),
    ("55555555-5555-4555-8555-555555555555", 201)])
def test_demo_sessions(register, sql, session, status):
    answer = register(session, {"guest_email": samples.new_email()})
    assert answer.status_code == status
    if status == 201:
        sql("SELECT cancel_live_registration(%s)", answer.json()["id"])


@pytest.mark.parametrize("first, second, status", [
    ({"patient_id": "p"}, {"patient_id": "p"}, 409),
    ({"patient_id": "p"}, {"patient_id": "p", "role": "host"}, 409),
    ({"patient_id": "p"}, {"patient_id": "p", "guest_email": "g@x.org"}, 409),
    ({"guest_email": "g@x.org"}, {"guest_email": "g@x.org"}, 409),
    ({"guest_email": "g@x.org"}, {"guest_email": "G@X.Org"}, 409),
    ({"guest_email": "G@X.Org"}, {"guest_email": "g@x.org"}, 409),
    ({"guest_email": "g@x.org"}, {"guest_email": "g@x.org", "patient_id": "p"}, 409),
    ({"patient_id": "p", "guest_email": "g@x.org"}, {"patient_id": "p"}, 409),
    ({"patient_id": "p", "guest_email": "g@x.org"}, {"guest_email": "g@x.org"}, 409),
    ({"patient_id": "p", "guest_email": "g@x.org"},
     {"patient_id": "q", "guest_email": "g@x.org"}, 409),
    ({"patient_id": "somebody"}, {}, 409),
    ({}, {}, 409),
    ({"patient_id": "p"}, {"patient_id": "q"}, 201),
    ({"patient_id": "p"}, {"patient_id": "P"}, 201),
    ({"patient_id": "p"}, {"patient_id": "p "}, 201),
    ({"patient_id": "\u00e9"}, {"patient_id": "e\u0301"}, 201),
    ({"patient_id": "p"}, {"guest_email": "p@x.org"}, 201),
    ({"patient_id": "g@x.org"}, {"guest_email": "g@x.org"}, 201),
    ({"guest_email": "g@x.org"}, {"guest_email": "g@y.org"}, 201),
])
def test_duplicate_in_session_is_409(register, live_session, first, second, status):
    session = live_session()
    assert register(session, first).status_code == 201
    answer = register(session, second)
    if status == 409:
        assert_error(answer, 409, "conflict")
    else:
        assert answer.status_code == 201
    # Duplicates are per session.
    assert register(live_session(), second).status_code == 201


@pytest.mark.parametrize("places", [0, 1, 3])
def test_full_session_is_412(register, live_session, sql, places):
    session = live_session(places)
    for n in range(places):
        assert register(session, {"patient_id": f"p{n}"}).status_code == 201
    assert_error(register(session, {"patient_id": "late"}), 412, "session_full")
    assert_error(register(session, {"guest_email": "late@x.org"}), 412, "session_full")
    assert sql("SELECT registered_count FROM live_sessions WHERE id = %s",
               session) == [(places,)]


def test_each_role_takes_a_place(register, live_session):
    session = live_session(3)
    for role in ("host", "participant", "guest"):
        assert register(session, {"patient_id": role, "role": role}).status_code == 201
    for role in ("host", "participant", "guest"):
        assert_error(register(session, {"patient_id": "late", "role": role}),
                     412, "session_full")


def test_session_without_max_participants_is_never_full(register, live_session):
    session = live_session(None)
    assert {register(session, {"patient_id": f"p{n}"}).status_code
            for n in range(20)} == {201}


def test_changed_capacity_applies_at_once(register, live_session, sql):
    session = live_session(1)
    register(session, {"patient_id": "p"})
    sql("UPDATE live_sessions SET max_participants = 2 WHERE id = %s", session)
    assert register(session, {"patient_id": "q"}).status_code == 201
    sql("UPDATE live_sessions SET max_participants = 1 WHERE id = %s", session)
    assert_error(register(session, {"patient_id": "r"}), 412, "session_full")


# --- Order of checks -----------------------------------------------------------------------

def test_fields_are_checked_before_session(register, live_session):
    for session in ("x", new_uuid(), live_session(status="ended"), live_session(0)):
        assert_error(register(session, {"role": "boss"}), 400, "validation_error")


def test_session_status_is_checked_before_duplicate(register, live_session, sql):
    for status in ("ended", "cancelled"):
        session = live_session(1)
        assert register(session, {"patient_id": "p"}).status_code == 201
        sql("UPDATE live_sessions SET status = %s WHERE id = %s", status, session)
        for patient in ("p", "q"):
            assert_error(register(session, {"patient_id": patient}),
                         412, "session_not_joinable")


@pytest.mark.parametrize("again", [
    {"patient_id": "p"}, {"guest_email": "G@x.org"}, {"patient_id": "q", "guest_email": "g@x.org"}])
def test_duplicate_is_checked_before_capacity(register, live_session, again):
    session = live_session(1)
    assert register(session, {"patient_id": "p", "guest_email": "g@x.org"}).status_code == 201
    assert_error(register(session, again), 409, "conflict")


# --- Authorization -------------------------------------------------------------------------

def test_refused_authorization_is_403(start_httpd, client, token, live_session):
    httpd = start_httpd(inside='<Location "/v1/sessions">\nRequire user chief\n</Location>')
    answer = client(token, httpd).post(path(live_session()), json={"patient_id": "p"})
    assert_error(answer, 403, "forbidden")


def test_caller_name_is_checked_like_patient_id(client, issuer, live_session):
    session = live_session()
    for name in ("x" * 256, "x\u0007y"):
        assert_error(client(issuer.token(name)).post(path(session), json={}),
                     400, "validation_error")


# --- Administrator's functions and tables --------------------------------------------------

def test_cancelling_frees_place_and_names(register, registered, live_session, sql):
    session = live_session(1)
    made = registered(session, {"patient_id": "p", "guest_email": "g@x.org"})
    assert sql("SELECT cancel_live_registration(%s)", made["id"]) == [(True,)]
    assert sql("SELECT registered_count FROM live_sessions WHERE id = %s", session) == [(0,)]
    assert registered(session, {"patient_id": "p", "guest_email": "g@x.org"})["id"] != made["id"]
    assert_error(register(session, {"patient_id": "q"}), 412, "session_full")


def test_cancelling_twice_frees_one_place(registered, live_session, sql):
    session = live_session(2)
    made = registered(session, {"patient_id": "p"})
    registered(session, {"patient_id": "q"})
    for cancelled, done in ((new_uuid(), False), (made["id"], True), (made["id"], False)):
        assert sql("SELECT cancel_live_registration(%s)", cancelled) == [(done,)]
    assert sql("SELECT registered_count FROM live_sessions WHERE id = %s", session) == [(1,)]


def test_session_needs_a_title_only(register, sql):
    session, = sql("INSERT INTO live_sessions (title) VALUES ('A session') RETURNING id")[0]
    assert register(session, {"patient_id": "p"}).status_code == 201


@pytest.mark.parametrize("column, value", [
    ("status", "'over'"), ("status", "''"), ("status", "NULL"), ("max_participants", "-1"),
    ("title", "NULL"), ("registered_count", "-1")])
def test_invalid_session_violates_constraint(sql, live_session, expect_log, column, value):
    import psycopg2
    expect_log(r"violates (check|not-null) constraint")
    with pytest.raises(psycopg2.IntegrityError):
        sql(f"UPDATE live_sessions SET {column} = {value} WHERE id = %s", live_session())
