# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the HTTP tests: a private PostgreSQL and a private httpd, shared by all tests.

The httpd runs conf/example-site.conf with the demo's tenant mount. A test that needs another
configuration starts its own httpd with `start_httpd`. The database is shared too, so a test
makes its own rows (`live_session`, `group`, `occurrence`...), with new ids.

A warning or an error in a server's log fails the test that caused it, unless the test allowed
it with `expect_log`. A test file that leaves a wrong count of registrations fails, too.
"""

import concurrent.futures
import contextlib
import http.client
import os
import secrets
import socket
import ssl
import threading
import types
import uuid

import pytest
import requests

import log_leaks
import openapi
import servers

ORGANIZATION = "987e6543-e21a-34b5-c678-426614174000"   # Tech Corp of the demo data
ALL_SCOPES = servers.ALL_SCOPES

# What authentication and authorization log for each refused request.
REFUSALS = [r"\[oauth2:(warn|error)\] ", r"\[authz_core:error\] .* AH01(629|630|631): ",
            r"\[registration:warn\] .* REG0202: "]


# --- The servers ---------------------------------------------------------------------------

@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return servers.Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def issuer():
    return servers.TokenIssuer()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """With unusual settings, on which the SQL must not depend."""
    postgres = servers.Postgres(tmp_path_factory.mktemp("postgres"), settings=(
        "timezone = 'Asia/Kathmandu'", "datestyle = 'SQL, DMY'",
        "default_transaction_isolation = 'read committed'"))
    postgres.start()
    postgres.install("install.sql", "demo.sql")
    yield postgres
    # Not fast: a session whose client has just closed it would log its termination.
    postgres.stop("smart")
    fail_on(postgres.log.problems())


@pytest.fixture(scope="session")
def httpd(tmp_path_factory, certificates, issuer, postgres):
    """The shared httpd; `make check-valgrind` runs it under valgrind. It traces each request,
    so that no_log_has_sent_values searches all traced lines."""
    port = servers.free_port()
    site = servers.example_site(port, certificates, issuer, postgres).replace(
        "LogLevel registration:info", "LogLevel registration:trace1")
    httpd = servers.Httpd(tmp_path_factory.mktemp("httpd"), site, port, log_level="info",
                          valgrind="REGISTRATION_VALGRIND" in os.environ)
    httpd.start()
    yield httpd
    httpd.stop()
    fail_on(httpd.log.problems() + httpd.findings.problems())


@pytest.fixture
def start_httpd(tmp_path, certificates, issuer, postgres, watched_logs):
    """Starts an httpd for this test: start_httpd(mpm="worker", inside="...").

    It runs the shared site, unless `site` is another; `change` modifies the site. `inside` is
    added at the end of the virtual host, `extra` after it; other arguments go to
    servers.Httpd. With start=False it is not started.
    """
    started = []

    def start_one(site=None, change=None, inside="", extra="", start=True, **options):
        port = servers.free_port()
        if site is None:
            site = servers.example_site(port, certificates, issuer, postgres)
        if change:
            site = change(site)
        site = site.replace("</VirtualHost>", f"{inside}\n</VirtualHost>")
        httpd = servers.Httpd(tmp_path / f"httpd{len(started)}", f"{site}\n{extra}", port,
                              **{"log_level": "info", **options})
        started.append(httpd)
        watched_logs.append(httpd.log)
        if start:
            httpd.start()
        return httpd

    yield start_one
    for httpd in started:
        httpd.stop()


# --- Logs ----------------------------------------------------------------------------------

def fail_on(problems):
    if problems:
        pytest.fail("unexpected in a log:\n" + "\n".join(problems), pytrace=False)


@pytest.fixture
def watched_logs(httpd, postgres):
    return [httpd.log, postgres.log]


@pytest.fixture
def expected_lines():
    return list(REFUSALS)


@pytest.fixture
def expect_log(expected_lines):
    """expect_log(pattern, ...): allows log lines that match."""
    return lambda *patterns: expected_lines.extend(patterns)


@pytest.fixture(scope="session", autouse=True)
def no_log_has_sent_values(tmp_path_factory):
    """At the end, searches all logs at level info for values that clients sent."""
    yield
    fail_on([f"sent by a client: {leak}"
             for leak in log_leaks.leaks(tmp_path_factory.getbasetemp())])


@pytest.fixture(autouse=True)
def quiet_logs(watched_logs, expected_lines):
    yield
    fail_on([line for log in watched_logs for line in log.problems(expected_lines)])


# --- Clients -------------------------------------------------------------------------------

class Client(requests.Session):
    """Sends requests to one httpd, with one token or none.

    Checks that answers of the shared httpd conform to openapi.json.
    """

    def __init__(self, httpd, certificates, token=None):
        super().__init__()
        self.mount("https://", log_leaks.Adapter(pool_maxsize=64))
        self.base = f"https://localhost:{httpd.port}"
        self.verify = str(certificates.authority)
        self.trust_env = False
        self.is_described = False
        if token:
            self.headers["Authorization"] = f"Bearer {token}"

    def request(self, method, path, **options):
        options.setdefault("timeout", 30)
        answer = super().request(method, self.base + path, **options)
        if self.is_described:
            openapi.check(answer)
        return answer


@pytest.fixture
def client(httpd, certificates):
    """client(token, httpd): a Client of the shared or another httpd, with any token."""
    made = []

    def make(token=None, httpd=httpd, shared=httpd):
        made.append(Client(httpd, certificates, token))
        made[-1].is_described = httpd is shared
        if httpd is shared:   # its site logs no Referer
            made[-1].headers["Referer"] = log_leaks.REFERER
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def token(issuer):
    """The token of an ordinary caller of Tech Corp, without scopes."""
    return issuer.token("somebody", org=ORGANIZATION)


@pytest.fixture(scope="session")
def admin_token(issuer):
    return issuer.token("admin", org=ORGANIZATION, scope=ALL_SCOPES)


@pytest.fixture
def api(client, token):
    return client(token)


@pytest.fixture
def admin(client, admin_token):
    return client(admin_token)


@pytest.fixture
def anonymous(client):
    return client()


@pytest.fixture
def raw(httpd, certificates):
    """raw(octets): sends these octets over TLS; status, headers and body of the answer.

    For what a client library cannot send. Ask for `Connection: close`, unless the answer has
    Content-Length. With half_close the sending side is closed afterwards.
    """
    context = ssl.create_default_context(cafile=str(certificates.authority))

    def send(octets, httpd=httpd, half_close=False, timeout=30):
        with socket.create_connection(("127.0.0.1", httpd.port), timeout) as plain, \
                context.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(octets)
            log_leaks.record(octets)
            if half_close:
                # Below TLS, whose shutdown would end reading too.
                socket.socket.shutdown(connection, socket.SHUT_WR)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return types.SimpleNamespace(status=response.status, headers=response.headers,
                                         body=response.read())
    return send


@pytest.fixture
def at_once():
    """at_once(40, function): the results of concurrent calls function(0), function(1)..."""
    def run(count, function):
        barrier = threading.Barrier(count)

        def one(number):
            barrier.wait(30)
            return function(number)
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, range(count)))
    return run


@pytest.fixture
def pool():
    """Threads for concurrent requests."""
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        yield pool


# --- Data ----------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def administrator(postgres):
    """Holds the administrator's connection, which is reopened after a restart of PostgreSQL."""
    holder = types.SimpleNamespace(connection=None)
    yield holder
    if holder.connection:
        holder.connection.close()


@pytest.fixture
def sql(postgres, administrator):
    """sql(query, *parameters): runs it as the administrator; the rows."""
    import psycopg2

    def run(query, *parameters):
        if administrator.connection is None or administrator.connection.closed:
            administrator.connection = postgres.connect()
            administrator.connection.cursor().execute(
                "SET search_path = registration, public")
        with administrator.connection.cursor() as cursor:
            try:
                cursor.execute(query, parameters or None)
            except psycopg2.OperationalError:
                if administrator.connection.closed:   # PostgreSQL was restarted
                    return run(query, *parameters)
                raise
            return cursor.fetchall() if cursor.description else None
    return run


def check_counts(postgres):
    """Fails if recount() finds a wrong count in the shared database, and corrects it."""
    corrected = postgres.psql("-c", "SELECT * FROM registration.recount()")
    if corrected:
        pytest.fail(f"wrong counts:\n{corrected}", pytrace=False)


@pytest.fixture(scope="module", autouse=True)
def correct_counts(postgres):
    """After each file all counts are right, so that the order of the files does not matter."""
    yield
    check_counts(postgres)


@pytest.fixture
def changed_functions(sql):
    """changed_functions((name, text, replacement), ...): changes definitions of functions until
    the end of the block."""
    @contextlib.contextmanager
    def change(*changes):
        before = {name: sql("SELECT pg_get_functiondef(%s::regproc)", name)[0][0]
                  for name, _, _ in changes}
        after = dict(before)
        for name, text, replacement in changes:
            assert text in after[name]
            after[name] = after[name].replace(text, replacement)
        try:
            for definition in after.values():
                sql(definition)
            yield
        finally:
            for definition in before.values():
                sql(definition)
    return change


def new_uuid():
    return str(uuid.uuid4())


def new_object_id():
    return secrets.token_hex(12)


@pytest.fixture
def live_session(sql):
    """live_session(max_participants=2): the id of a new session."""
    def make(max_participants=None, status="scheduled"):
        session = new_uuid()
        sql("INSERT INTO live_sessions (id, title, status, max_participants)"
            " VALUES (%s, 'A session', %s, %s)", session, status, max_participants)
        return session
    return make


@pytest.fixture
def group(sql):
    """group(max_uses=1): the ids of a new group and its plan, and an invite code."""
    def make(max_uses=None, expires_at=None, duration_days=None, locale=None,
             time_zone=None):
        made = types.SimpleNamespace(id=new_uuid(), plan=new_uuid(),
                                     code=secrets.token_hex(6).upper())
        sql("INSERT INTO groups (id, name, locale, time_zone) VALUES (%s, 'A group', %s, %s)",
            made.id, locale, time_zone)
        sql("INSERT INTO plans (id, group_id, name, duration_days)"
            " VALUES (%s, %s, 'A plan', %s)", made.plan, made.id, duration_days)
        sql("INSERT INTO invite_codes (code, plan_id, expires_at, max_uses)"
            " VALUES (%s, %s, %s, %s)", made.code, made.plan, expires_at, max_uses)
        return made
    return make


@pytest.fixture
def institution(sql):
    """institution(): the id of a new institution."""
    def make():
        made = new_object_id()
        sql("INSERT INTO institutions (id, name) VALUES (%s, 'A school')", made)
        return made
    return make


@pytest.fixture
def child(sql):
    """child(institution): the id of a new child."""
    def make(institution, username="BR0009", gender="female", age=7):
        made = new_object_id()
        sql("INSERT INTO children (id, username, institution_id, gender, age)"
            " VALUES (%s, %s, %s, %s, %s)", made, username, institution, gender, age)
        return made
    return make


@pytest.fixture
def organization(sql):
    """organization(): the id of a new organization."""
    def make(name="An organization"):
        made = new_uuid()
        sql("INSERT INTO organizations (id, name) VALUES (%s, %s)", made, name)
        return made
    return make


@pytest.fixture
def event(sql):
    """event(organization): the id of a new event, by default of Tech Corp."""
    def make(organization=ORGANIZATION, name="An event"):
        made = new_uuid()
        sql("INSERT INTO events (id, organization_id, name, slug, description)"
            " VALUES (%s, %s, %s, %s, 'What it is about')", made, organization, name,
            f"event-{made}")
        return made
    return make


@pytest.fixture
def occurrence(sql, event):
    """occurrence(capacity=1): the id of a new occurrence of a new event of Tech Corp."""
    def make(capacity=None, waiting_list=True, event_id=None,
             start_date="2030-12-25T10:00:00Z", end_date="2030-12-25T18:00:00Z"):
        made = new_uuid()
        sql("INSERT INTO occurrences (id, event_id, start_date, end_date, capacity,"
            " waiting_list) VALUES (%s, %s, %s, %s, %s, %s)", made, event_id or event(),
            start_date, end_date, capacity, waiting_list)
        return made
    return make
