# SPDX-License-Identifier: Apache-2.0
"""Outages: the database is stopped, refuses, is unreachable or does not answer in time.

A client gets its answer or, within RegistrationTimeout, 503 with Retry-After; when the
database is back, the service recovers. Each test has a control which shows that its outage
is real.
"""

import concurrent.futures
import re
import threading
import time

import pytest

import servers
from apis import APIS, check_error, post_path
from conftest import new_uuid
from event_registrations import MOUNT
from faults import (GRACE, RECOVERY, check_recovers, check_unavailable, statuses, warm_up)
from faults import caller, own_postgres, postgres_to_break, proxy   # noqa: F401, fixtures

GOOD = {"users": {"inviteCode": "x", "groupMember": {"user": {"email": "one@example.org"}}},
        "families": {"username": "one", "password": "secret", "institution_id": "0" * 24,
                     "children": ["0" * 24]},
        "events": {"occurrenceId": new_uuid(), "externalUserId": "one"},
        "live": {"patient_id": "one"}}
GOOD["groups"] = GOOD["users"]


# --- Restarts -------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restart_between_requests_fails_no_request(caller, postgres_to_break, mode):
    one = caller()
    before = warm_up(one, postgres_to_break)
    with postgres_to_break.canary():
        postgres_to_break.restart(mode)
    after = warm_up(one, postgres_to_break)   # asserts that every answer was 201
    assert len(after) == 4 and not before & after


def test_terminated_idle_connections_fail_no_request(caller, postgres_to_break):
    one = caller()
    before = warm_up(one, postgres_to_break)
    for terminated in (set(list(before)[:1]), before):
        postgres_to_break.terminate(terminated & postgres_to_break.backends())
        assert not warm_up(one, postgres_to_break) & terminated


def test_control_connection_lost_during_request_is_an_error(caller, proxy,
                                                            postgres_to_break):
    """The checks above detect an error: here the connection breaks during a request, and
    then no other can be made."""
    one = caller(proxy.port)
    session = postgres_to_break.live_session()
    assert one.register(session).status_code == 201
    proxy.change("mute")
    assert one.register(session).status_code in (201, 503)
    proxy.change("refuse")
    check_unavailable(one.register(session))


def test_reinstalling_schema_fails_no_request(caller, postgres_to_break):
    one = caller()
    warm_up(one, postgres_to_break)
    postgres_to_break.install("install.sql")
    warm_up(one, postgres_to_break)


def test_restarts_under_load_lose_no_confirmed_registration(caller, postgres_to_break):
    one = caller()
    session = postgres_to_break.live_session()
    stop = threading.Event()

    def register_repeatedly(number):
        answers = {}
        while not stop.is_set():
            patient = f"{number} {len(answers)}"
            answers[patient] = one.register(session, patient)
        return answers

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(register_repeatedly, number) for number in range(8)]
        for mode in ("fast", "immediate"):
            time.sleep(0.3)
            with postgres_to_break.canary():
                postgres_to_break.restart(mode)
            check_recovers(one, postgres_to_break.live_session())
        stop.set()
        answers = {}
        for worker in workers:
            answers.update(worker.result())
    for answer in answers.values():
        if answer.status_code != 201:
            check_unavailable(answer)
    assert 503 in statuses(answers.values())   # Some requests met a restart.

    def lost():
        rows = {patient for patient, in postgres_to_break.query(
            "SELECT patient_id FROM live_registrations WHERE session_id = %s", session)}
        assert rows <= set(answers)
        (count,), = postgres_to_break.query(
            "SELECT registered_count FROM live_sessions WHERE id = %s", session)
        assert count == len(rows)
        return {patient for patient, answer in answers.items()
                if answer.status_code == 201} - rows
    assert lost() == set()
    # Negative control: a lost registration is found.
    postgres_to_break.query("SELECT cancel_live_registration(id) FROM live_registrations"
                            " WHERE session_id = %s AND patient_id = '0 0'", session)
    assert lost() == {"0 0"}


# --- Stopped -------------------------------------------------------------------------------

def test_stopped_database_is_503_in_every_api(caller, postgres_to_break):
    one = caller()
    assert one.get(post_path("events")).status_code == 200
    assert one.post("/v1/families", json=GOOD["families"]).status_code == 400
    postgres_to_break.stop()
    for api in APIS:
        check_unavailable(one.post(post_path(api), json=GOOD[api]), api)
    for api, path in [("groups", f"/api/v1/groups/{new_uuid()}"),
                      ("events", post_path("events")),
                      ("events", f"{post_path('events')}/{new_uuid()}")]:
        check_unavailable(one.get(path), api)


def test_stopped_database_is_503_at_once_until_it_is_back(caller, postgres_to_break):
    one = caller()
    session = postgres_to_break.live_session()
    assert statuses(one.register_many(session, 30)) == [201] * 30
    postgres_to_break.stop()
    for answer in one.register_many(session, 30):
        check_unavailable(answer)
    check_unavailable(one.register(session), seconds=0.5)   # The circuit breaker is open.
    postgres_to_break.start()
    check_recovers(one, session)
    assert statuses(one.register_many(session, 30)) == [201] * 30


def test_requests_without_database_call_succeed_while_it_is_stopped(caller,
                                                                    postgres_to_break):
    one = caller()
    postgres_to_break.stop()
    assert one.options("/v1/families").status_code == 204
    for answer, api, status in [
            (one.get("/v1/families"), "families", 405),
            (one.post("/v1/families", json={}), "families", 400),
            (one.post("/v1/sessions/nonsense/register", json={"patient_id": "x"}), "live",
             404),
            (one.post("/api/v1/users", json={}), "users", 422)]:
        check_error(answer, api, status)


def test_httpd_starts_while_database_is_stopped(caller, postgres_to_break):
    session = postgres_to_break.live_session()
    postgres_to_break.stop()
    one = caller()
    check_unavailable(one.register(session))
    postgres_to_break.start()
    check_recovers(one, session)


REFUSALS = [
    ("no login", "ALTER ROLE registration NOLOGIN", "ALTER ROLE registration LOGIN"),
    ("connection limit", "ALTER ROLE registration CONNECTION LIMIT 0",
     "ALTER ROLE registration CONNECTION LIMIT -1"),
    ("no connections", "ALTER DATABASE registration ALLOW_CONNECTIONS false",
     "ALTER DATABASE registration ALLOW_CONNECTIONS true"),
    ("read-only", "ALTER ROLE registration SET default_transaction_read_only = on",
     "ALTER ROLE registration RESET default_transaction_read_only"),
]


@pytest.mark.parametrize("refuse, allow", [refusal[1:] for refusal in REFUSALS],
                         ids=[refusal[0] for refusal in REFUSALS])
def test_refusing_database_is_503_until_it_accepts(caller, postgres_to_break, expect_log,
                                                   refuse, allow):
    expect_log("FATAL:  (role .* is not permitted to log in|too many connections for role)",
               "FATAL:  database .* is not currently accepting connections",
               "ERROR:  cannot execute .* in a read-only transaction")
    def alter(statement):
        """Holds for new connections only, so this terminates the old ones."""
        for command in (statement, "SELECT pg_terminate_backend(pid, 5000)"
                                   " FROM pg_stat_activity"
                                   " WHERE application_name = 'mod_registration'"):
            postgres_to_break.psql("-c", command, database="postgres")

    one = caller()
    session = postgres_to_break.live_session()
    assert one.register(session).status_code == 201
    try:
        alter(refuse)
        for _ in range(3):
            check_unavailable(one.register(session))
    finally:
        alter(allow)
    check_recovers(one, session)


def test_lists_on_read_only_server_are_503_and_logged(caller, postgres_to_break,
                                                      expect_log):
    """Each list writes an audit entry; a read by id does not."""
    expect_log("ERROR:  cannot execute INSERT in a read-only transaction")
    one = caller()
    [[occurrence]] = postgres_to_break.query(
        "INSERT INTO occurrences (event_id) SELECT id FROM events LIMIT 1 RETURNING id")
    made = one.post(MOUNT, json={"occurrenceId": occurrence, "externalUserId": "x"})
    listed = "SELECT count(*) FROM audit WHERE action = 'listed'"
    before = postgres_to_break.query(listed)
    with postgres_to_break.setting("default_transaction_read_only", "on"):
        postgres_to_break.terminate(postgres_to_break.backends())
        assert one.get(made.headers["Location"]).json() == made.json()
        for accept in ("application/json", "text/csv", "application/x-ndjson"):
            check_unavailable(one.get(MOUNT, headers={"Accept": accept}), "events")
    assert re.search("REG0303: operation events_search.*25006", one.httpd.log.text())
    postgres_to_break.terminate(postgres_to_break.backends())
    assert postgres_to_break.query(listed) == before
    servers.wait_until(lambda: one.get(MOUNT).status_code == 200, RECOVERY, "no list")
    assert postgres_to_break.query(listed) == [(before[0][0] + 1,)]


# --- Not answering -------------------------------------------------------------------------

def test_frozen_database_delays_no_request_beyond_timeout(caller, postgres_to_break):
    one = caller()
    session = postgres_to_break.live_session()
    warm_up(one, postgres_to_break)
    with postgres_to_break.frozen():
        for answer in one.register_many(session, 20):
            check_unavailable(answer)
        for answer in one.register_many(session, 20):
            check_unavailable(answer)
    check_recovers(one, session)


def test_frozen_connection_fails_one_request(caller, postgres_to_break):
    one = caller(most=2)
    session = postgres_to_break.live_session()
    assert one.register(session).status_code == 201
    backend, = postgres_to_break.backends()
    with postgres_to_break.frozen(backend):
        check_unavailable(one.register(session))
        answer = one.register(session)
        assert (answer.status_code, answer.seconds < GRACE) == (201, True)


@pytest.mark.parametrize("more", ["connect_timeout=2", ""], ids=["a timeout", "no timeout"])
def test_unreachable_database_delays_no_request_beyond_timeout(caller, proxy,
                                                               postgres_to_break, more):
    """Without connect_timeout libpq would wait for ever: httpd refuses to start, or limits
    the wait itself."""
    session = postgres_to_break.live_session()
    proxy.change("hole")
    try:
        one = caller(proxy.port, more=more)
    except servers.ServerError as error:
        assert more == "" and "connect_timeout" in str(error)
        return
    for answer in one.register_many(session, 12):
        check_unavailable(answer)
    check_unavailable(one.register(session), seconds=0.5)   # The circuit breaker is open.
    proxy.change("forward")   # Negative control: it was the hole.
    check_recovers(one, session)


def test_silent_connection_delays_no_request_beyond_timeout(caller, proxy, postgres_to_break):
    """As when a cable is pulled: open connections stay open and nothing arrives any more."""
    one = caller(proxy.port)
    session = postgres_to_break.live_session()
    warm_up(one, postgres_to_break)
    proxy.change("hole")
    for answer in one.register_many(session, 12):
        check_unavailable(answer)
    proxy.change("forward")
    check_recovers(one, session)


def test_lost_result_does_not_register_twice(caller, proxy, postgres_to_break):
    one = caller(proxy.port)
    session = postgres_to_break.live_session()
    warm_up(one, postgres_to_break, 1)
    proxy.change("mute")
    answer = one.register(session, "one")
    proxy.change("forward")
    assert answer.status_code in (201, 503)
    servers.wait_until(lambda: one.register(session, "two").status_code in (201, 409),
                       RECOVERY, "the service did not come back")
    again = one.register(session, "one").status_code
    assert again == 409 if answer.status_code == 201 else again in (201, 409)
    assert postgres_to_break.query(
        "SELECT patient_id, count(*) FROM live_registrations WHERE session_id = %s"
        " GROUP BY 1 ORDER BY 1", session) == [("one", 1), ("two", 1)]


# --- Settings of the service's role --------------------------------------------------------

OTHER_SETTINGS = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0",
                  "default_transaction_isolation": "'repeatable read'", "jit": "on",
                  "enable_seqscan": "on", "plan_cache_mode": "auto"}
NOT_SERIALIZED = "could not serialize access due to concurrent update"


@pytest.fixture
def other_settings(postgres_to_break):
    """The database, with default settings other than the role needs."""
    for name, value in OTHER_SETTINGS.items():
        postgres_to_break.query(f"ALTER DATABASE registration SET {name} = {value}")
    yield postgres_to_break
    for name in OTHER_SETTINGS:
        postgres_to_break.query(f"ALTER DATABASE registration RESET {name}")


def shown(postgres):
    connection = postgres.connect("registration")
    with connection.cursor() as cursor:
        values = {}
        for name in OTHER_SETTINGS:
            cursor.execute(f"SHOW {name}")
            values[name] = cursor.fetchone()[0]
    connection.close()
    return values


def test_role_settings_override_database_settings(other_settings):
    assert shown(other_settings) == {
        "statement_timeout": "4s", "idle_in_transaction_session_timeout": "10s",
        "default_transaction_isolation": "read committed", "jit": "off",
        "enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}
    other_settings.install("install.sql")   # an upgrade sets them again
    assert shown(other_settings)["statement_timeout"] == "4s"


def test_stricter_default_isolation_fails_no_request(caller, other_settings):
    one = caller(most=8, timeout=8)
    session = other_settings.live_session()
    before = other_settings.log.text().count(NOT_SERIALIZED)
    for _ in range(3):
        assert statuses(one.register_many(session, 40)) == [201] * 40
    assert other_settings.log.text().count(NOT_SERIALIZED) == before


def test_control_without_role_setting_calls_conflict(caller, other_settings, expect_log):
    expect_log(NOT_SERIALIZED)
    other_settings.query("ALTER ROLE registration RESET default_transaction_isolation")
    one = caller(most=8, timeout=8)
    session = other_settings.live_session()
    before = other_settings.log.text().count(NOT_SERIALIZED)

    def conflicts():
        one.register_many(session, 40)
        return other_settings.log.text().count(NOT_SERIALIZED) > before
    try:
        servers.wait_until(conflicts, 30, "there was no conflict")
    finally:
        other_settings.query("ALTER ROLE registration SET default_transaction_isolation"
                             " = 'read committed'")
