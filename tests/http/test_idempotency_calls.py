# SPDX-License-Identifier: Apache-2.0
"""Batches of requests with an Idempotency-Key."""

import json
import time

import psycopg2
import pytest

from apis import each_api, good   # noqa: F401 (fixtures)
from conftest import new_uuid
from faults import caller, own_postgres, postgres_to_break, statuses   # noqa: F401
from idempotency import seen, send
from scratch import OnScratch

CROWD = 40


@pytest.fixture
def service(postgres):
    connection = postgres.connect("registration")
    yield connection
    connection.close()


def live_call(service, *requests, operation="live_register"):
    """Calls the operation once for requests of (key, fingerprint, session, patient). Returns
    for each request its outcome and the patient in the answer's body."""
    keys, prints, sessions, patients = (list(values) for values in zip(*requests))
    arrays = [[new_uuid() for _ in requests], sessions, patients, [None] * len(requests),
              ["host"] * len(requests), [None] * len(requests), [None] * len(requests)]
    texts = ["{" + ",".join("NULL" if value is None else f'"{value}"' for value in array) + "}"
             for array in arrays]
    with service.cursor() as cursor:
        cursor.execute("SELECT item, outcome, body::json->>'patient_id'"
                       "  FROM registration.idempotent(%s, %s, %s, %s, VARIADIC %s)",
                       (operation, keys, prints, [60] * len(requests), texts))
        answers = sorted(cursor.fetchall())
    assert [item for item, _, _ in answers] == list(range(1, len(requests) + 1))
    return [answer[1:] for answer in answers]


def test_each_keyed_request_of_batch_gets_its_own_answer(service, live_session):
    session, unknown = live_session(), new_uuid()
    stored, twice, reused, failed, corrected = (new_uuid() for _ in range(5))
    assert live_call(service, (stored, "f", session, "a")) == [("created", "a")]
    assert live_call(
        service,
        (new_uuid(), "f", session, "b"),
        (twice, "f", session, "c"),
        (stored, "other", session, "d"),     # stored with another fingerprint
        (reused, "f", session, "e"),
        (stored, "f", session, "a"),         # stored
        (twice, "f", session, "c"),        # repeats a request of this call
        (reused, "other", session, "g"),   # reuses a key of this call
        (failed, "f", unknown, "h"),
        (failed, "f", unknown, "h"),
        (corrected, "f", unknown, "i"),       # fails, which frees the key
        (corrected, "other", session, "j"),
        (new_uuid(), "f", session, "b"),
    ) == [("created", "b"), ("created", "c"), ("key_reused", None), ("created", "e"),
          ("created", "a"), ("created", "c"), ("key_reused", None), ("not_found", None),
          ("not_found", None), ("not_found", None), ("created", "j"), ("duplicate", None)]
    assert live_call(service, (failed, "new", session, "k"), (corrected, "other", session, "j"),
                     (twice, "f", session, "c")) == [
        ("created", "k"), ("created", "j"), ("created", "c")]


def test_free_json_of_batch_is_compared_by_request(service, group):
    """Each with the stored request of its own key."""
    made, keys = group(), [new_uuid() for _ in range(3)]

    def call(*attributes):
        arrays = [[new_uuid() for _ in keys], [made.id] * 3, ["/g"] * 3, [made.code] * 3,
                  [f"{key}@example.org" for key in keys], *[[None] * 3] * 8,
                  [json.dumps(value) if value is not None else None for value in attributes],
                  *[[None] * 3] * 4]
        with service.cursor() as cursor:
            texts = []
            for array in arrays:
                cursor.execute("SELECT %s::text[]::text", (array,))
                texts += cursor.fetchone()
            cursor.execute("SELECT outcome FROM registration.idempotent("
                           "'groups_register', %s, %s, %s, VARIADIC %s) ORDER BY item",
                           (keys, ["f"] * 3, [60] * 3, texts))
            return [outcome for outcome, in cursor.fetchall()]
    assert call({"a": 1, "b": 2}, None, {"c": [3]}) == ["created"] * 3
    assert call({"b": 2, "a": 1}, None, {"c": [3]}) == ["created"] * 3
    assert call({"a": 1}, {"a": 1}, {"c": [3]}) == ["key_reused", "key_reused", "created"]
    assert call(None, None, None) == ["key_reused", "created", "key_reused"]


@pytest.mark.parametrize("operation", ["events_delete", "recount", "forget_idempotency_keys",
                                       "live_register(NULL)", "", "LIVE_REGISTER"])
def test_other_functions_cannot_be_called_with_a_key(service, live_session, expect_log,
                                                     operation):
    expect_log("cannot be called with an Idempotency-Key")
    with pytest.raises(psycopg2.errors.RaiseException):
        live_call(service, (new_uuid(), "f", live_session(), "p"), operation=operation)


class TestBesideOverload(OnScratch):
    """An overload with one more parameter, which must not be called."""
    broken = """
        DO $$
        DECLARE one record;
        BEGIN
            FOR one IN SELECT proname, array_to_string(
                                  array_fill('text[]'::text, ARRAY[pronargs + 1]), ', ') AS types
                         FROM pg_proc
                        WHERE pronamespace = 'registration'::regnamespace
                          AND proname IN ('live_register', 'groups_register',
                                          'families_register', 'events_create')
            LOOP
                EXECUTE format('CREATE FUNCTION %I(%s) RETURNS TABLE (item integer,'
                               ' outcome text, detail text, body text) LANGUAGE sql'
                               ' AS $f$ SELECT 1, text ''full'', text '''', text '''' $f$',
                               one.proname, one.types);
            END LOOP;
        END $$;
    """

    def test_operation_is_found_beside_overload(self, admin, good, sql, each_api):
        assert sql("SELECT count(*) FROM pg_proc WHERE pronamespace = 'registration'::regnamespace"
                   " AND proname ~ '^(live_register|groups_register|families_register"
                   "|events_create)$'") == [(8,)]
        request, key = good(each_api), new_uuid()
        first = send(admin, request.path, request.body, key)
        assert first.status_code == 201, first.text
        assert seen(send(admin, request.path, request.body, key)) == seen(first)


class TestParameterWithDefault(OnScratch):
    """As after a migration, while modules of the version before still run."""
    broken = """
        DO $$ DECLARE old text := pg_get_functiondef('live_register'::regproc);
        BEGIN
            DROP FUNCTION live_register;
            EXECUTE replace(old, 'request_ids text[])',
                            'request_ids text[], more integer[] DEFAULT NULL)');
            GRANT EXECUTE ON FUNCTION live_register TO registration;
        END $$;"""

    def test_missing_parameter_gets_its_default(self, admin, good, sql):
        request, key = good("live"), new_uuid()
        first = send(admin, request.path, request.body, key)
        assert first.status_code == 201, first.text
        assert seen(send(admin, request.path, request.body, key)) == seen(first)


class TestControlLookupByName(OnScratch):
    """Negative control: looked up by name alone, the operation is ambiguous."""
    broken = TestBesideOverload.broken + """
        DO $$ BEGIN EXECUTE replace(pg_get_functiondef('idempotent'::regproc),
            'WHERE p.pronamespace = ''registration''::regnamespace',
            'WHERE p.oid = format(''registration.%I'', operation)::regproc'); END $$;"""

    def test_control_ambiguous_operation_is_an_error(self, admin, good, expect_log):
        expect_log("REG0303: .* 42725", "more than one function named")
        request = good("live")
        assert send(admin, request.path, request.body, new_uuid()).status_code == 500


def test_second_call_with_key_waits_for_first(service, postgres, live_session, expect_log):
    expect_log("canceling statement due to lock timeout")
    other = postgres.connect("registration")
    session, key = live_session(), new_uuid()
    other.cursor().execute("SET lock_timeout = '50ms'")
    try:
        service.autocommit = False
        for end in (service.rollback, service.commit):
            assert live_call(service, (key, "f", session, "p")) == [("created", "p")]
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                live_call(other, (key, "other", new_uuid(), "q"))
            assert live_call(other, (new_uuid(), "f", new_uuid(), "r")) == [
                ("not_found", None)]
            end()
        assert live_call(other, (key, "other", session, "q")) == [("key_reused", None)]
    finally:
        other.close()


def register_while_locked(one, postgres, pool, session, patients):
    """Registers the patients while the session is locked, so that their requests queue."""
    path, keys = f"/v1/sessions/{session}/register", [new_uuid() for _ in patients]
    with postgres.locked(session):
        answers = [pool.submit(send, one, path, {"patient_id": patient}, key)
                   for patient, key in zip(patients, keys)]
        time.sleep(0.5)
    return [answer.result() for answer in answers]


def test_keyed_requests_share_a_transaction(caller, postgres_to_break, pool):
    one, session = caller(batching=True), postgres_to_break.live_session()
    answers = register_while_locked(one, postgres_to_break, pool, session,
                                    [new_uuid() for _ in range(CROWD)])
    assert statuses(answers) == [201] * CROWD
    [[transactions]] = postgres_to_break.query(
        "SELECT count(DISTINCT k.xmin::text) FROM idempotency_keys AS k"
        " WHERE k.body::json->>'session_id' = %s", session)
    assert transactions <= CROWD / 4


def test_keyed_request_refused_by_constraint_fails_alone(caller, postgres_to_break, pool,
                                                         expect_log):
    expect_log("violates check constraint")
    one, session = caller(batching=True), postgres_to_break.live_session()
    patients = [new_uuid() for _ in range(20)]
    with postgres_to_break.refusing(patients[7]):
        answers = register_while_locked(one, postgres_to_break, pool, session, patients)
    assert statuses(answers) == [201] * 7 + [400] + [201] * 12
    stored = postgres_to_break.query("SELECT count(*) FROM idempotency_keys"
                                     " WHERE body::json->>'session_id' = %s", session)
    assert stored == [(19,)]
