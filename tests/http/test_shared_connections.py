# SPDX-License-Identifier: Apache-2.0
"""Other modules that use mod_dbd's connections, beside the module's own requests.

mod_authn_dbd, mod_session_dbd and mod_rewrite take a connection with their first query and hold
it until the request ends, so each thread may hold one while its request waits for the module.
"""

import base64
import concurrent.futures
import contextlib
import hashlib
import re
import time
import uuid

import pytest

import servers
from changed import changed_module
from faults import CHILD, GRACE, RECOVERY, TIMEOUT, Caller, database, statuses
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures

CLIENTS = THREADS = 64   # of faults.CHILD
CONNECTIONS = 4

MODULES = ("authn_core", "authz_core", "authz_user", "auth_basic", "authn_dbd", "dbd",
           "session", "session_dbd", "session_cookie", "env", "rewrite")

AUTHENTICATION = """
    AuthType Basic
    AuthName x
    AuthBasicProvider dbd
    AuthDBDUserPWQuery "SELECT password FROM passwords WHERE name = %s"
    Require valid-user
"""

SESSION = """
    Session On
    SessionDBDCookieName session path=/
    SessionDBDSelectLabel select_session
    SessionDBDInsertLabel insert_session
    SessionDBDUpdateLabel update_session
    SessionDBDDeleteLabel delete_session
    SessionHeader X-Session
    Require all granted
"""

STATEMENTS = """
DBDPrepareSQL "SELECT value FROM sessions WHERE key = %s AND (expiry = 0 OR expiry > %lld)" select_session
DBDPrepareSQL "INSERT INTO sessions (value, expiry, key) VALUES (%s, %lld, %s)" insert_session
DBDPrepareSQL "UPDATE sessions SET value = %s, expiry = %lld, key = %s WHERE key = %s" update_session
DBDPrepareSQL "DELETE FROM sessions WHERE key = %s" delete_session
"""


REWRITING = """
RewriteEngine On
RewriteMap passwords "dbd:SELECT password FROM passwords WHERE name = %s"
RewriteCond "${passwords:jane}" "SHA"
RewriteRule "^" "-" [env=known]
"""


def site(postgres, inside, most=THREADS + CONNECTIONS, extra=""):
    return f"""
{CHILD}
{database(postgres.dsn(), most=most, options="-c statement_timeout=0", timeout=2 * TIMEOUT)}
RegistrationConnections {CONNECTIONS}
{extra}
<Location "/v1/sessions">
    RegistrationAPI live
    {inside}
</Location>"""


USERS = {"authentication": (AUTHENTICATION, ""), "sessions": (SESSION, STATEMENTS),
         "rewriting": ("Require env known", REWRITING)}


@pytest.fixture(autouse=True)
def all_threads_are_busy(expect_log):
    expect_log("AH00484: server reached MaxRequestWorkers")


@pytest.fixture(scope="module")
def tables(own_postgres):
    own_postgres.query("""
        CREATE TABLE public.passwords (name text PRIMARY KEY, password text NOT NULL);
        CREATE TABLE public.sessions (key text PRIMARY KEY, value text, expiry bigint);
        CREATE TABLE public.visits (session int, settings text[]);
        CREATE FUNCTION public.password_of(asked text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO public.visits SELECT pg_backend_pid(), ARRAY(
                SELECT name FROM pg_settings WHERE source = 'session');
            PERFORM FROM public.passwords WHERE name = asked FOR UPDATE;
            RETURN (SELECT password FROM public.passwords WHERE name = asked);
        END $$;
        GRANT ALL ON public.passwords, public.sessions, public.visits TO registration""")
    sha = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
    own_postgres.query("INSERT INTO public.passwords VALUES ('jane', %s)", "{SHA}" + sha)


def clients_of(httpd, session, requests=10):
    """The statuses of all clients' requests, and the longest time of one."""
    one = Caller(httpd)
    one.auth = ("jane", "secret")
    one.headers["Connection"] = "close"   # A busy httpd closes idle connections.

    def go_on(_):
        return [one.register(session) for _ in range(requests)]
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        answers = [answer for some in pool.map(go_on, range(CLIENTS)) for answer in some]
    return statuses(answers), max(answer.seconds for answer in answers)


@pytest.mark.parametrize("user", USERS)
def test_requests_beside_other_modules_are_answered_in_time(start_httpd, postgres_to_break,
                                                            tables, user):
    inside, extra = USERS[user]
    httpd = start_httpd(site(postgres_to_break, inside, extra=extra), modules=MODULES)
    session = postgres_to_break.live_session()
    codes, slowest = clients_of(httpd, session)
    assert codes == [201] * len(codes)
    assert slowest < 2 * TIMEOUT + GRACE
    assert len(postgres_to_break.patients(session)) == len(codes)


@pytest.mark.parametrize("user", USERS)
def test_too_few_connections_are_refused_at_start(start_httpd, postgres_to_break, user):
    inside, extra = USERS[user]
    few = THREADS + CONNECTIONS - 1
    refusal = start_httpd(site(postgres_to_break, inside, few, extra), modules=MODULES,
                          start=False).refusal()
    for word in ("REG0101", f"DBDMax {few}", f"ThreadsPerChild {THREADS}",
                 f"RegistrationConnections {CONNECTIONS}", f"DBDMax {few + 1}"):
        assert word in refusal
    assert re.search(r"(AuthDBD|SessionDBD|DBDPrepare|Rewrite)\w+ \(.*httpd.conf:\d+\)", refusal)


def test_default_limit_leaves_connections_for_other_modules(start_httpd, postgres_to_break):
    def refusal(most):
        text = site(postgres_to_break, AUTHENTICATION, most)
        return start_httpd(text.replace(f"RegistrationConnections {CONNECTIONS}", ""),
                           modules=MODULES, start=False).refusal()
    assert refusal(THREADS + 1) is None
    assert f"DBDMax {THREADS + 1}" in refusal(THREADS)


def test_connections_of_other_host_are_not_shared(start_httpd, postgres_to_break):
    """Hosts with the same settings share one pool of mod_dbd."""
    def host(name, most, inside):
        return f"""
            <VirtualHost *:*>
                ServerName https://{name}.example.org
                {database(postgres_to_break.dsn(), most=most)}
                <Location "/v1/sessions">
                    {inside}
                </Location>
            </VirtualHost>"""

    def refusal(most):
        return start_httpd(host("one", 4, "RegistrationAPI live\nRequire all granted")
                           + host("two", most, AUTHENTICATION), modules=MODULES,
                           start=False).refusal()
    assert refusal(5) is None
    assert "AuthDBDUserPWQuery" in refusal(4)


# --- A restart of PostgreSQL ----------------------------------------------------------------

def test_after_postgresql_restart_other_module_needs_graceful_restart(
        start_httpd, postgres_to_break, tables, expect_log):
    """As registration.conf says; the APIs recover without it."""
    # With one child process, the next one starts before the last has ended.
    expect_log("AH03490: scoreboard is full", "AH01618: user jane not found",
               "prepared statement .* does not exist",
               r"\[(authn_dbd|dbd):error\]")
    extra = '<Location "/open">\nRegistrationAPI live\nRequire all granted\n</Location>'
    httpd = start_httpd(site(postgres_to_break, AUTHENTICATION, extra=extra), modules=MODULES)
    session = postgres_to_break.live_session()
    one, anonymous = Caller(httpd), Caller(httpd)
    one.auth = ("jane", "secret")

    def is_open():
        return anonymous.post(f"/open/{session}/register",
                              json={"patient_id": str(uuid.uuid4())}).status_code == 201
    assert one.register(session).status_code == 201 and is_open()
    postgres_to_break.stop("fast")
    postgres_to_break.start()
    servers.wait_until(is_open, RECOVERY, "the API did not come back")
    assert set(statuses(one.register(session) for _ in range(5))) == {401}
    httpd.graceful()
    servers.wait_until(lambda: one.register(session).status_code == 201, 30,
                       "mod_authn_dbd did not come back")
    assert is_open()


# --- Session settings ----------------------------------------------------------------------

WATCHED = AUTHENTICATION.replace("SELECT password FROM passwords WHERE name = %s",
                                 "SELECT public.password_of(%s)")


@contextlib.contextmanager
def older_schema(postgres):
    """The module finds a schema mismatch and returns each session to mod_dbd."""
    postgres.query("UPDATE schema_version SET version = -version")
    yield
    postgres.query("UPDATE schema_version SET version = -version")


@contextlib.contextmanager
def locked_passwords(postgres):
    connection = postgres.connect()
    connection.autocommit = False
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM public.passwords FOR UPDATE")
        yield


def long_waiting(postgres):
    """The module's sessions that have waited for a lock ten times longer than it would."""
    return {pid for pid, in postgres.query(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'mod_registration'"
        " AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '1 s'")}


@pytest.mark.parametrize("changed", [False, True], ids=["as it is", "control"])
def test_too_few_connections_would_make_requests_late(start_httpd, postgres_to_break, tables,
                                                      tmp_path, expect_log, changed):
    """The control is a module without the check at start: requests that have authenticated hold
    all connections, and none is left to register with."""
    most, module = THREADS + CONNECTIONS, servers.MODULE
    if changed:
        expect_log("REG0304", "REG0312", "AH0004[56]: child process .* still did not exit")
        most, module = CONNECTIONS, changed_module(
            tmp_path / "changed", "dbd->max >= threads + conf->connections", "dbd->max > 0")
    httpd = start_httpd(site(postgres_to_break, WATCHED, most), modules=MODULES,
                        registration=module)
    session = postgres_to_break.live_session()
    one = Caller(httpd)
    one.auth = ("jane", "secret")

    def is_registered(_):
        with contextlib.suppress(OSError):
            return one.post(f"/v1/sessions/{session}/register", timeout=4 * TIMEOUT,
                            json={"patient_id": str(uuid.uuid4())}).status_code == 201
        return False
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        with locked_passwords(postgres_to_break):
            answers = [pool.submit(is_registered, n) for n in range(CLIENTS)]
            servers.wait_until(
                lambda: len(long_waiting(postgres_to_break)) == min(most, CLIENTS), 30,
                "mod_authn_dbd did not query")
        assert all(answer.result() for answer in answers) is not changed


def authenticate_during_lock(start_httpd, postgres, **options):
    """The statuses of two requests for which mod_authn_dbd waits for a lock, in a session of
    its own and in one that the module has used before."""
    description = f'<Location "/openapi.json">\nRegistrationAPI openapi\n{WATCHED}</Location>'
    httpd = start_httpd(site(postgres, WATCHED, extra=description), modules=MODULES, **options)
    one = Caller(httpd)
    one.auth = ("jane", "secret")
    with older_schema(postgres):
        assert one.register(postgres.live_session()).status_code == 503
    sessions = postgres.backends()
    assert len(sessions) == 2
    postgres.query("TRUNCATE public.visits")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        with locked_passwords(postgres):
            answers = [pool.submit(one.get, "/openapi.json") for _ in range(2)]
            servers.wait_until(
                lambda: len(long_waiting(postgres)) + sum(map(concurrent.futures.Future.done,
                                                              answers)) == 2,
                20, "mod_authn_dbd did not query")
        answers = [answer.result() for answer in answers]
    assert postgres.backends() == sessions
    return sorted(statuses(answers))


def test_shared_session_has_no_setting_of_the_module(start_httpd, postgres_to_break,
                                                     tables, expect_log):
    expect_log("REG0311")
    assert authenticate_during_lock(start_httpd, postgres_to_break) == [200, 200]
    visits = postgres_to_break.query("SELECT session, settings FROM public.visits")
    assert sorted(visits) == [(session, []) for session in sorted(postgres_to_break.backends())]


def test_control_lock_timeout_in_shared_session_fails_other_module(
        start_httpd, postgres_to_break, tables, tmp_path, expect_log):
    expect_log("REG0311", "AH01618: user jane not found")
    module = changed_module(tmp_path / "changed", "set_config('lock_timeout', '%d', true)",
                            "set_config('lock_timeout', '%d', false)")
    assert authenticate_during_lock(start_httpd, postgres_to_break,
                                    registration=module) == [200, 401]
