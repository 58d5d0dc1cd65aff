# SPDX-License-Identifier: Apache-2.0
"""Idempotency-Key: a repeated request gets the stored answer and is not executed again."""

import json
import secrets
import socket
import time

import psycopg2
import pytest

import samples
import servers
from apis import MOUNTS, check_error, each_api, good   # noqa: F401 (fixtures)
from conftest import ORGANIZATION, new_uuid
from event_registrations import OTHER_ORGANIZATION, TENANT_MOUNT
from faults import caller, own_postgres, postgres_to_break, statuses   # noqa: F401
from idempotency import seen, send
from scratch import OnScratch

CROWD = 40

# Table, column and field of the body that identify a registration.
ROWS = {"live": ("live_registrations", "patient_id", "patient_id"),
        "groups": ("group_members", "invite_code", "inviteCode"),
        "users": ("group_members", "invite_code", "inviteCode"),
        "families": ("families", "username", "username"),
        "events": ("event_registrations", "occurrence_id", "occurrenceId")}


def other_body(body):
    """A body that asks for something else."""
    other = json.loads(json.dumps(body))
    if "groupMember" in body:
        other["groupMember"]["user"]["firstName"] = "Another"
    elif "username" in body:
        other["username"] += " another"
    elif "externalUserId" in body:
        other["fields"] = {"another": True}
    else:
        other["role"] = "host"
    return other


@pytest.fixture
def rows(sql):
    """rows("live", body): the number of registrations of this body."""
    def count(api, body):
        table, column, field = ROWS[api]
        return sql(f"SELECT count(*) FROM {table} WHERE {column} = %s", body[field])[0][0]
    return count


# --- Repeated requests ---------------------------------------------------------------------

def test_repeated_request_gets_the_same_answer(admin, good, rows, each_api):
    request, key = good(each_api), new_uuid()
    first = send(admin, request.path, request.body, key)
    assert first.status_code == 201
    assert ("Location" in first.headers) == (each_api in ("groups", "users", "events"))
    assert ("ETag" in first.headers) == (each_api == "events")
    for again in (key, key, f'"{key}"'):
        assert seen(send(admin, request.path, request.body, again)) == seen(first)
    assert rows(each_api, request.body) == 1


def test_control_request_with_other_key_is_executed(admin, good, each_api):
    """Shows that the repeated requests above would be errors without the key."""
    request = good(each_api)
    assert send(admin, request.path, request.body, new_uuid()).status_code == 201
    assert send(admin, request.path, request.body, new_uuid()).status_code in (409, 422)
    assert admin.post(request.path, json=request.body).status_code in (409, 422)


def test_key_is_known_to_every_child_process(admin, good):
    request, key = good("live"), new_uuid()
    first = send(admin, request.path, request.body, key)
    for _ in range(12):   # a new connection each, to any of the child processes
        assert seen(send(admin, request.path, request.body, key,
                         Connection="close")) == seen(first)


def test_replayed_location_is_that_of_first_registration(api, good):
    request, key = good("events"), new_uuid()
    first, again = (send(api, request.path, request.body, key) for _ in range(2))
    found = api.get(again.headers["Location"])
    assert found.json()["id"] == first.json()["id"]
    assert found.headers["ETag"] == again.headers["ETag"]


def test_stored_answer_does_not_change(admin, sql, good):
    """Whatever has happened to the registration since."""
    requests, key = {api: good(api) for api in MOUNTS}, new_uuid()
    first = {api: send(admin, one.path, one.body, key) for api, one in requests.items()}
    assert statuses(first.values()) == [201] * len(MOUNTS)

    def check_all():
        for api, one in requests.items():
            assert seen(send(admin, one.path, one.body, key)) == seen(first[api])
    address = first["events"].headers["Location"]
    assert admin.put(address, json={"fields": {"more": 1}}).status_code == 200
    sql("UPDATE group_members SET first_name = 'Another' WHERE id = %s",
        first["groups"].headers["Location"].split("/")[-1])
    check_all()
    assert admin.delete(address).status_code == 200
    sql("SELECT cancel_live_registration(%s)", first["live"].json()["id"])
    sql("SELECT remove_family(%s)", first["families"].json()["id"])
    for api in ("groups", "users"):
        assert sql("SELECT remove_group_member(%s)",
                   first[api].headers["Location"].split("/")[-1]) == [(True,)]
    check_all()


def test_repeated_request_is_replayed_where_a_new_one_is_refused(api, sql, live_session, group):
    """The session is full, then ended; the code is used up, then expired."""
    session, made, key = live_session(1), group(max_uses=1), new_uuid()
    for path, bodies, change, where in [
            (f"/v1/sessions/{session}/register", [{"patient_id": "p"}, {"patient_id": "q"}],
             "live_sessions SET status = 'ended' WHERE id", session),
            (f"/api/v1/groups/{made.id}/members", [samples.member(made.code) for _ in range(2)],
             "invite_codes SET expires_at = now() WHERE code", made.code)]:
        first = send(api, path, bodies[0], key)
        assert first.status_code == 201, first.text
        for _ in range(2):
            assert seen(send(api, path, bodies[0], key)) == seen(first)
            assert send(api, path, bodies[1], new_uuid()).status_code in (412, 422)
            sql(f"UPDATE {change} = %s", where)


def test_password_is_not_part_of_fingerprint(admin, good):
    request, key = good("families"), new_uuid()
    first = send(admin, request.path, request.body, key)
    assert seen(send(admin, request.path, {**request.body, "password": "an0ther"}, key)) == \
        seen(first)


def test_key_order_and_unknown_keys_are_not_part_of_fingerprint(admin, good):
    request, key = good("families"), new_uuid()
    first = send(admin, request.path, request.body, key)
    body = {"ignored": 1, **dict(reversed(request.body.items()))}
    assert seen(send(admin, request.path, body, key)) == seen(first)


@pytest.mark.parametrize("first, again", [
    ({"role": "participant"}, {}),
    ({"firstName": None}, {}), ({"timeZone": "UTC"}, {"timezone": "UTC"}),
    ({"timeZone": "UTC"}, {"timezone": "Asia/Tokyo", "timeZone": "UTC"})], ids=str)
def test_equivalent_bodies_have_the_same_fingerprint(admin, good, first, again):
    """An explicit default, a null in groups, the alternative key for the time zone."""
    request, key = good("live" if "role" in first else "groups"), new_uuid()

    def answer(more):
        body = json.loads(request.text)
        body.get("groupMember", {"user": body})["user"].update(more)
        return send(admin, request.path, body, key)
    made = answer(first)
    assert made.status_code == 201, made.text
    assert seen(answer(again)) == seen(made)


@pytest.mark.parametrize("parameters", ["; b=1", ";b", ';b="x, \\"y\\"";  c=?0'])
def test_parameters_after_quoted_key_are_ignored(api, good, parameters):
    request, key = good("live"), new_uuid()
    first = send(api, request.path, request.body, f'"{key}"{parameters}')
    assert first.status_code == 201
    assert seen(send(api, request.path, request.body, key)) == seen(first)


def reformatted(value):
    """The same JSON with its keys in another order, and with blanks."""
    def reordered(value):
        if isinstance(value, dict):
            return {key: reordered(value[key]) for key in reversed(value)}
        return [reordered(item) for item in value] if isinstance(value, list) else value
    return json.dumps(reordered(value), indent=3)


FREE = {"b": [1, {"y": 0.5, "x": None}], "a": {"k": "é", "j": {"": 12345678901234567890}}}


@pytest.fixture
def free(good):
    """free("events"): a request with free JSON, and the object that contains it."""
    def make(name):
        request = good(name)
        place = request.body.setdefault("groupMember", {}) if "inviteCode" in request.body \
            else request.body
        place["attributes" if "inviteCode" in request.body else "fields"] = \
            json.loads(json.dumps(FREE))
        return request, place
    return make


@pytest.mark.parametrize("name", ["groups", "users", "events"])
def test_notation_of_free_json_is_not_part_of_fingerprint(admin, free, rows, name):
    (request, _), key = free(name), new_uuid()
    first = send(admin, request.path, request.body, key)
    assert first.status_code == 201, first.text
    again = admin.post(request.path, data=reformatted(request.body).encode(),
                       headers={"Content-Type": "application/json", "Idempotency-Key": key})
    assert seen(again) == seen(first)
    assert rows(name, request.body) == 1


@pytest.mark.parametrize("name, change", [
    ("groups", {"attributes": {**FREE, "b": [1, {"y": 0.6, "x": None}]}}),
    ("groups", {"attributes": {**FREE, "b": [{"y": 0.5, "x": None}, 1]}}),
    ("groups", {"attributes": {}}), ("groups", {"attributes": None}), ("groups", {"tags": ["t"]}),
    ("users", {"attributes": {"a": FREE["a"]}}),
    ("events", {"fields": {**FREE, "a": {"k": "é", "j": {"": 12345678901234567891}}}}),
    ("events", {"fields": {}}), ("events", {"fields": {**FREE, "c": None}})])
def test_different_free_json_is_another_request(admin, free, name, change):
    """Also numbers that are equal as doubles."""
    (request, place), key = free(name), new_uuid()
    first = send(admin, request.path, request.body, key)
    assert first.status_code == 201, first.text
    place.update(change)
    check_error(send(admin, request.path, request.body, key), name, 422)


@pytest.mark.parametrize("name", ["live", "groups"])
def test_case_of_id_in_path_is_not_part_of_fingerprint(admin, good, rows, name):
    request, key = good(name), new_uuid()
    id = request.path.split("/")[-2]
    first = send(admin, request.path, request.body, key)
    assert first.status_code == 201, first.text
    path = request.path.replace(id, id.upper())
    assert path != request.path
    assert seen(send(admin, path, request.body, key)) == seen(first)
    assert rows(name, request.body) == 1


@pytest.mark.parametrize("name", ["families", "events"])
def test_case_of_id_in_body_is_not_part_of_fingerprint(admin, good, name):
    request, key = good(name), new_uuid()
    first = send(admin, request.path, request.body, key)
    assert first.status_code == 201, first.text
    for field in ("occurrenceId", "institution_id"):
        if field in request.body:
            request.body[field] = request.body[field].upper()
    if "children" in request.body:
        request.body["children"] = [id.upper() for id in request.body["children"]]
    assert seen(send(admin, request.path, request.body, key)) == seen(first)


def test_keyed_request_accepts_any_value(api, good):
    """The values are passed as text, in an array of arrays."""
    request = good("events")
    fields = {"firstName": "'; DROP TABLE x; --", "lastName": "\\\"{},NULL\\", "email": "é@b",
              "other": ["", "NULL", "{\"a\"}", "日本 \U0001f600", 0.10, None, {"\\": "\"'"}]}
    request.body.update(fields=fields, externalUserId="{\"\\'$1,NULL}")
    key = new_uuid()
    first = send(api, request.path, request.body, key)
    assert (first.status_code, first.json()["fields"]) == (201, fields)
    assert first.json()["user"]["lastName"] == fields["lastName"]
    assert seen(send(api, request.path, request.body, key)) == seen(first)


# --- Different requests --------------------------------------------------------------------

def test_different_request_with_same_key_is_422(admin, good, rows, each_api):
    request, key = good(each_api), new_uuid()
    first = send(admin, request.path, request.body, key)
    body = check_error(send(admin, request.path, other_body(request.body), key), each_api, 422)
    assert "Idempotency-Key" in body["message"]
    assert rows(each_api, request.body) == 1
    assert seen(send(admin, request.path, request.body, key)) == seen(first)


NO_KEYS = ["", '""', '"', '"open', "a b", '"a" b', '"a", "b"', '"\\a"', "k" * 256,
           '"a"; b=1, "b"', '"a";', '"' + "k" * 256 + '"', "é".encode(), b"\xff", "a\tb"]


@pytest.mark.parametrize("key", NO_KEYS, ids=ascii)
def test_invalid_key_is_400(admin, good, rows, each_api, key):
    request = good(each_api)
    body = check_error(send(admin, request.path, request.body, key), each_api, 400)
    assert "Idempotency-Key" in body["message"]
    assert rows(each_api, request.body) == 0


def test_two_keys_are_400(raw, good, token):
    request = good("live")
    check_error(raw((f"POST {request.path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     f"Authorization: Bearer {token}\r\nContent-Length: {len(request.text)}\r\n"
                     f"Idempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n{request.text}").encode()),
                "live", 400)


@pytest.mark.parametrize("key", ["k", "!~", "k" * 255, '"' + "k" * 255 + '"', '"a\\"b\\\\"',
                                 "';--", "%s$1{}[],&="])
def test_valid_keys_are_accepted(api, good, key):
    request = good("live")
    first = send(api, request.path, request.body, key)
    assert first.status_code == 201
    assert seen(send(api, request.path, request.body, key)) == seen(first)


# --- Scope of a key ------------------------------------------------------------------------

def test_key_is_scoped_by_caller(client, issuer, good, rows):
    request, key = good("live"), new_uuid()
    callers = [client(issuer.token(name)) for name in ("one", "another", "one&", "ONE")]
    assert send(callers[0], request.path, request.body, key).status_code == 201
    for other in callers[1:]:
        check_error(send(other, request.path, request.body, key), "live", 409)
        body = {"patient_id": secrets.token_hex(8)}
        assert send(other, request.path, body, key).status_code == 201


def test_key_is_scoped_by_path(api, good):
    key, body = new_uuid(), {"patient_id": secrets.token_hex(8)}
    ids = {send(api, good("live").path, body, key).json()["id"] for _ in range(3)}
    assert len(ids) == 3


def test_key_is_scoped_by_organization(client, issuer, occurrence, sql, event):
    one, other = (client(issuer.token("somebody", org=organization))
                  for organization in (ORGANIZATION, OTHER_ORGANIZATION))
    key = new_uuid()
    body = {"occurrenceId": occurrence(), "externalUserId": "somebody"}
    first = send(one, TENANT_MOUNT, body, key)
    assert first.status_code == 201
    # The stored answer of another organization is not disclosed.
    check_error(send(other, TENANT_MOUNT, body, key), "events", 404)
    body["occurrenceId"] = occurrence(event_id=event(OTHER_ORGANIZATION))
    assert send(other, TENANT_MOUNT, body, key).status_code == 201


# --- Failed requests -----------------------------------------------------------------------

def test_failed_request_can_be_retried(api, live_session, sql):
    session, key = live_session(0), new_uuid()
    path, body = f"/v1/sessions/{session}/register", {"patient_id": "p"}
    check_error(send(api, path, body, key), "live", 412)
    sql("UPDATE live_sessions SET max_participants = 1 WHERE id = %s", session)
    first = send(api, path, body, key)
    assert first.status_code == 201
    assert seen(send(api, path, body, key)) == seen(first)


def test_failed_request_can_be_corrected(admin, good, each_api):
    request, key = good(each_api), new_uuid()
    wrong = {"live": {"role": "nobody"}, "families": {"institution_id": "0" * 24},
             "events": {"occurrenceId": new_uuid()}}.get(each_api, {"inviteCode": "unknown"})
    assert send(admin, request.path, {**request.body, **wrong}, key).status_code in (
        400, 404, 422)
    assert send(admin, request.path, request.body, key).status_code == 201


# --- Expiry of keys ------------------------------------------------------------------------

def seconds_to_expiry(sql, answer):
    [[seconds]] = sql("SELECT extract(epoch FROM expires_at - now())::float"
                      " FROM idempotency_keys WHERE body = %s", answer.text)
    return seconds


def test_key_expires_after_a_day(admin, good, sql, each_api):
    request = good(each_api)
    answer = send(admin, request.path, request.body, new_uuid())
    assert 86400 - 60 < seconds_to_expiry(sql, answer) <= 86400


def test_ttl_is_set_by_directive(start_httpd, client, token, good, sql):
    """A <Location> overrides its host."""
    httpd = start_httpd(inside='RegistrationIdempotencyTTL 600\n<Location "/v1/sessions">\n'
                               "RegistrationIdempotencyTTL 7200\n</Location>")
    for name, seconds in (("live", 7200), ("events", 600)):
        request = good(name)
        answer = send(client(token, httpd), request.path, request.body, new_uuid())
        assert seconds - 60 < seconds_to_expiry(sql, answer) <= seconds


def test_expired_key_is_free(admin, good, sql, each_api):
    request, key = good(each_api), new_uuid()
    first = send(admin, request.path, request.body, key)
    assert first.status_code == 201
    sql("UPDATE idempotency_keys SET expires_at = now() WHERE body = %s", first.text)
    assert send(admin, request.path, request.body, key).status_code in (409, 422)
    other = good(each_api)
    if each_api in ("live", "groups"):   # The path is part of the key.
        other.path = request.path
        other.body["inviteCode"] = request.body.get("inviteCode")
    second = send(admin, request.path, other.body, key)
    assert second.status_code == 201
    assert seconds_to_expiry(sql, second) > 86000
    assert seen(send(admin, request.path, other.body, key)) == seen(second)
    check_error(send(admin, request.path, request.body, key), each_api, 422)


def expire(connection, count):
    """Inserts that many expired keys."""
    connection.cursor().execute(
        "INSERT INTO registration.idempotency_keys (key, fingerprint, body, expires_at)"
        " SELECT sha256(gen_random_uuid()::text::bytea), sha256(''), '{}', now() - '1 s'::interval"
        "   FROM generate_series(1, %s)", (count,))


def delete_expired(connection, *most):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT registration.forget_idempotency_keys({'%s' * len(most)})", most)
        return cursor.fetchone()[0]


def delete_concurrently(database):
    """The numbers that two concurrent clean-ups delete of 7 expired keys."""
    one, other = database.connect(), database.connect()
    try:
        while delete_expired(one):
            pass
        expire(one, 7)
        one.autocommit = False
        other.cursor().execute("SET lock_timeout = '5s'")
        return delete_expired(one, 5), delete_expired(other, 5), delete_expired(other)
    finally:
        one.close()
        other.close()


def test_clean_up_skips_locked_keys(postgres):
    assert delete_concurrently(postgres) == (5, 2, 0)


class TestControlWithoutSkipLocked(OnScratch):
    broken = """DO $$ BEGIN EXECUTE replace(pg_get_functiondef(
        'forget_idempotency_keys'::regproc), 'SKIP LOCKED', ''); END $$;"""

    def test_control_clean_up_waits_for_lock(self, database, expect_log):
        expect_log("canceling statement due to lock timeout")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            delete_concurrently(database)


def test_clean_up_delays_no_request(postgres, admin, good, each_api, sql):
    kept, new, key = good(each_api), good(each_api), new_uuid()
    first = send(admin, kept.path, kept.body, key)
    connection = postgres.connect()
    try:
        expire(connection, 20000)
        connection.autocommit = False
        assert delete_expired(connection) == 10000
        # While the transaction is open.
        assert seen(send(admin, kept.path, kept.body, key)) == seen(first)
        assert send(admin, new.path, new.body, new_uuid()).status_code == 201
        connection.commit()
        assert delete_expired(connection, 20000) >= 10000
        connection.commit()
    finally:
        connection.close()
    assert sql("SELECT count(*) FROM idempotency_keys WHERE expires_at < now()") == [(0,)]
    assert seen(send(admin, kept.path, kept.body, key)) == seen(first)


# --- Concurrent requests -------------------------------------------------------------------

def send_concurrently(at_once, api, request, key):
    """Sends CROWD concurrent copies of one request with one key; the answers."""
    api.close()   # A busy httpd closes idle connections.
    return at_once(CROWD, lambda _: send(api, request.path, request.body, key))


def check_one_registration(answers):
    assert set(statuses(answers)) == {201}
    assert len({seen(answer) for answer in answers}) == 1


@pytest.mark.parametrize("directive", ["", "RegistrationBatchSize 1"],
                         ids=["batched", "one by one"])
def test_concurrent_repeats_register_once(start_httpd, client, admin_token, at_once, good,
                                          rows, expect_log, directive):
    """With two child processes, one of which waits for the key's lock held by the other."""
    expect_log("ERROR:  canceling statement due to lock timeout")
    admin = client(admin_token, start_httpd(inside=directive))
    for name in MOUNTS:
        for _ in range(3):
            request = good(name)
            check_one_registration(send_concurrently(at_once, admin, request, new_uuid()))
            assert rows(name, request.body) == 1


def test_concurrent_different_requests_with_one_key_execute_one(admin, at_once,
                                                                live_session):
    session, key = live_session(), new_uuid()
    answers = at_once(CROWD, lambda n: send(admin, f"/v1/sessions/{session}/register",
                                            {"patient_id": f"p{n % 10}"}, key))
    won = [answer for answer in answers if answer.status_code == 201]
    assert len({seen(answer) for answer in won}) == 1
    assert len(won) == CROWD / 10
    assert statuses(answers).count(422) == CROWD - len(won)


class TestControlWithoutLocks(OnScratch):
    # A key is looked up while the first request with it is still running.
    broken = r"""
        DO $$ BEGIN EXECUTE replace(pg_get_functiondef('idempotent'::regproc),
                                    'PERFORM pg_advisory_xact_lock(lock);', 'NULL;'); END $$;
        CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$;
        CREATE TRIGGER pause BEFORE INSERT ON idempotency_keys
            FOR EACH ROW EXECUTE FUNCTION pause();
    """
    # Passwords are hashed quickly, so that the requests arrive together.
    directives = """RegistrationBatchSize 1
        <Location "/v1/families">
            RegistrationPasswordCost 4
        </Location>"""

    def test_control_concurrent_repeats_are_detected(self, admin, at_once, good, each_api,
                                                     expect_log):
        expect_log("REG03(04|10)", "canceling statement due to lock timeout")
        answers = send_concurrently(at_once, admin, good(each_api), new_uuid())
        with pytest.raises(AssertionError):
            check_one_registration(answers)


# --- Lost connections ----------------------------------------------------------------------

@pytest.mark.parametrize("key, status", [("a-key", 201), (None, 409)])
def test_repeat_after_lost_connection_is_replayed(caller, postgres_to_break, key, status):
    one, session = caller(), postgres_to_break.live_session()
    path, body = f"/v1/sessions/{session}/register", b'{"patient_id": "p"}'
    header = f"Idempotency-Key: {key}\r\n" if key else ""
    with postgres_to_break.locked(session):
        with socket.create_connection(("127.0.0.1", one.httpd.port)) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{header}"
                               f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            time.sleep(0.3)
    servers.wait_until(lambda: postgres_to_break.query(
        "SELECT 1 FROM live_registrations WHERE session_id = %s", session), 10, "no row")
    again = one.post(path, data=body, headers={"Idempotency-Key": key} if key else {})
    assert again.status_code == status


# --- Logs ----------------------------------------------------------------------------------

def test_values_of_keyed_request_are_in_no_log(caller, postgres_to_break):
    """PostgreSQL logs an error with the context of its statement."""
    one, session, patient = caller(), postgres_to_break.live_session(), new_uuid()
    key = secrets.token_hex(8)
    before = len(postgres_to_break.log.text())
    postgres_to_break.query("ALTER ROLE registration SET log_error_verbosity = 'default'")
    try:
        with postgres_to_break.locked(session):
            answer = send(one, f"/v1/sessions/{session}/register", {"patient_id": patient},
                          key)
    finally:
        postgres_to_break.install("install.sql")
    assert answer.status_code == 503
    log = postgres_to_break.log.text()[before:] + one.httpd.log.text()
    assert "PL/pgSQL function idempotent(" in log
    assert patient not in log and key not in log
