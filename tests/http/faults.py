# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL to break, a proxy in front of it, and an httpd that has to live with it."""

import concurrent.futures
import contextlib
import os
import pathlib
import signal
import socket
import threading
import time

import psycopg2
import pytest
import requests

import log_leaks
import servers
from apis import check_error
from conftest import new_uuid

TIMEOUT = 3   # seconds: RegistrationTimeout, which has to be longer than connect_timeout
GRACE = 1.5   # what a busy machine may take besides

# How long a child waits before it tries again what has failed, and some more.
RECOVERY = 1 + GRACE

# What httpd and PostgreSQL log about an outage. Crashes and bugs are not among it.
OUTAGE = [r"\[dbd:(error|crit)\]", "REG030[2-8]", "REG031[025]",
          "FATAL:  (terminating connection due to administrator command"
          "|the database system is (starting up|shutting down|not yet accepting)"
          "|connection to client lost"
          # What a session says that is ended before the client has proved who it is.
          "|canceling authentication due to timeout)",
          "WARNING:  terminating connection because of crash of another server process",
          # It has ended by itself just before it was to be terminated.
          r"WARNING:  PID \d+ is not a PostgreSQL (backend|server) process",
          # The last is what a lock_timeout may come to at the moment the lock is free.
          "ERROR:  canceling statement due to (statement timeout|lock timeout|user request)"]

# One child process, so that what is per child can be counted.
CHILD = """
ErrorLogFormat "[%t] [%-m:%l] [pid %P:tid %T] [%L] %E: %M"
ServerLimit 1
StartServers 1
ThreadLimit 64
ThreadsPerChild 64
MaxRequestWorkers 64
MinSpareThreads 1
MaxSpareThreads 64
"""

# Every API, for any caller.
MOUNTS = """
<Location "/">
    Require all granted
</Location>
<Location "/v1/sessions">
    RegistrationAPI live
</Location>
<Location "/api/v1/groups">
    RegistrationAPI groups
</Location>
<Location "/api/v1/users">
    RegistrationAPI users
</Location>
<Location "/v1/families">
    RegistrationAPI families
    RegistrationPasswordCost 4
</Location>
<Location "/api/v1/event-registrations">
    RegistrationAPI events
</Location>
"""

# And what those who operate the service ask for.
OPERATING = """
<Location "/metrics">
    RegistrationAPI metrics
</Location>
<Location "/health">
    RegistrationAPI health
</Location>
<Location "/status">
    RegistrationAPI status
</Location>
"""

DATABASE = """
DBDriver pgsql
DBDParams "{dsn} application_name=mod_registration {more}"
DBDMin 0
DBDKeep {most}
DBDMax {most}
DBDExptime 0
RegistrationTimeout {timeout}
"""

MODULES = ("authn_core", "authz_core", "dbd")


def database(dsn, more="connect_timeout=2", options="", most=4, timeout=TIMEOUT):
    """The directives for one database; `options` are session settings."""
    if options:
        more += f" options='{options}'"
    return DATABASE.format(dsn=dsn, more=more, most=most, timeout=timeout)


def two_hosts(first, second, inside="", **options):
    """A site of two virtual hosts, one.example.org and two.example.org."""
    return CHILD + "".join(f"""
        <VirtualHost *:*>
            ServerName https://{name}.example.org
            {database(dsn, **options)}
            {inside}
            <Location "/v1/sessions">
                RegistrationAPI live
                Require all granted
            </Location>
        </VirtualHost>""" for name, dsn in [("one", first), ("two", second)])


def children(parent):
    """The ids of a process's children."""
    def parent_of(pid):
        try:
            status = pathlib.Path(f"/proc/{pid}/stat").read_text()
            return int(status.rpartition(")")[2].split()[1])
        except OSError:
            return None
    return [int(pid) for pid in os.listdir("/proc")
            if pid.isdigit() and parent_of(pid) == parent]


class BreakablePostgres(servers.Postgres):
    """A PostgreSQL that can also be frozen, and tells who is connected."""

    def processes(self):
        """The postmaster's id, then its children's."""
        return [self.pid(), *children(self.pid())]

    @contextlib.contextmanager
    def frozen(self, *pids):
        """All of it stands still, or just those processes of it."""
        pids = pids or self.processes()

        def send(number, pids):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):   # It has just ended.
                    os.kill(pid, number)
        try:
            send(signal.SIGSTOP, pids)
            yield
        finally:
            send(signal.SIGCONT, reversed(pids))

    def query(self, text, *parameters):
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET search_path = registration, public")
                cursor.execute(text, parameters or None)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def backends(self):
        """The process ids of the module's connections."""
        return {pid for pid, in self.query(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'mod_registration'")}

    def terminate(self, pids):
        for pid in pids:
            self.query("SELECT pg_terminate_backend(%s)", pid)
        servers.wait_until(lambda: not self.backends() & set(pids), 10, "no backend ended")

    def live_session(self, max_participants=None, session=None):
        session = session or new_uuid()
        self.query("INSERT INTO live_sessions (id, title, status, max_participants)"
                   " VALUES (%s, 'A session', 'live', %s)", session, max_participants)
        return session

    def patients(self, session):
        """Who is registered, by the rows; the session's own count has to agree."""
        rows = [patient for patient, in self.query(
            "SELECT patient_id FROM live_registrations WHERE session_id = %s", session)]
        [[count]] = self.query("SELECT registered_count FROM live_sessions WHERE id = %s",
                               session)
        assert count == len(rows)
        return set(rows)

    @contextlib.contextmanager
    def setting(self, name, value):
        """A setting of the module's sessions, of those that begin inside the block."""
        before = self.query("SELECT substr(setting, length(%s) + 2)"
                            "  FROM pg_roles, unnest(rolconfig) AS setting"
                            " WHERE rolname = 'registration' AND starts_with(setting, %s)",
                            name, f"{name}=")
        self.query(f"ALTER ROLE registration SET {name} = '{value}'")
        try:
            yield
        finally:
            self.query(f"ALTER ROLE registration SET {name} = '{before[0][0]}'" if before
                       else f"ALTER ROLE registration RESET {name}")

    @contextlib.contextmanager
    def locked(self, row, table="live_sessions", key="id"):
        """Somebody, an administrator in psql, keeps a row to himself."""
        connection = self.connect()
        connection.autocommit = False
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT 1 FROM registration.{table} WHERE {key} = %s"
                               " FOR UPDATE", (row,))
            yield
        finally:
            connection.close()

    @contextlib.contextmanager
    def slow(self, seconds, *sessions):
        """Registering for these sessions takes that long."""
        self.query(f"""
            CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$;
            CREATE TRIGGER dawdle BEFORE INSERT ON live_registrations FOR EACH ROW
                WHEN (NEW.session_id IN ({', '.join(f"'{s}'" for s in sessions)}))
                EXECUTE FUNCTION dawdle()""")
        try:
            yield
        finally:
            self.query("DROP FUNCTION dawdle CASCADE")

    @contextlib.contextmanager
    def refusing(self, patient):
        """The database takes no registration of this patient, which only it knows."""
        self.query("ALTER TABLE live_registrations ADD CONSTRAINT refused"
                   " CHECK (patient_id <> %s)", patient)
        try:
            yield
        finally:
            self.query("ALTER TABLE live_registrations DROP CONSTRAINT refused")

    @contextlib.contextmanager
    def canary(self):
        """A connection nobody takes care of, opened before what the block does to the
        server. It has to die of it: else the block would have broken nothing."""
        connection = psycopg2.connect(self.dsn("postgres"))
        try:
            yield
            try:
                connection.cursor().execute("SELECT 1")
            except psycopg2.Error:
                return
            raise AssertionError("a connection has survived what the test does")
        finally:
            connection.close()


class Proxy:
    """Between httpd and PostgreSQL. Its mode says what becomes of connections:

    "forward"   they are passed on;
    "hole"      what is open or is opened now stays open, but nothing is passed on;
    "mute"      requests are passed on, and when an answer comes the connection is closed;
    "refuse"    what is open or is opened now is closed.
    """

    def __init__(self, port, address="127.0.0.1", own_port=0):
        self.target = port
        self.mode = "forward"
        self.sockets = []
        self.listener = socket.create_server(
            (address, own_port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.sockets.append(client)
                if self.mode == "refuse":
                    self.end(client)
                else:
                    threading.Thread(target=self.serve, args=[client], daemon=True).start()

    def wait_while_hole(self):
        while self.mode == "hole":
            time.sleep(0.01)

    def serve(self, client):
        self.wait_while_hole()
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            self.end(client)
            return
        self.sockets.append(server)
        threading.Thread(target=self.pump, args=[client, server], daemon=True).start()
        self.pump(server, client, answers=True)

    def pump(self, source, sink, answers=False):
        with contextlib.suppress(OSError):
            while octets := source.recv(65536):
                self.wait_while_hole()
                if self.mode == "mute" and answers:
                    break
                sink.sendall(octets)
        self.end(source)
        self.end(sink)

    @staticmethod
    def end(one):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()

    def change(self, mode):
        self.mode = mode
        if mode == "refuse":
            for one in self.sockets:
                self.end(one)

    def close(self):
        self.change("refuse")
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Meanwhile:
    """Something that goes on in a thread of its own as long as the block lasts: go_on(),
    which returns when `ended` is set. What it raises is raised at the end of the block."""

    def __enter__(self):
        self.ended = threading.Event()
        self.going_on = concurrent.futures.ThreadPoolExecutor(1).submit(self.go_on)
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.going_on.result()


class Caller(requests.Session):
    """Sends requests to an httpd without TLS, each answer with its time in `seconds`."""

    def __init__(self, httpd, host="localhost"):
        super().__init__()
        self.mount("http://", log_leaks.Adapter(pool_maxsize=64))
        self.httpd = httpd
        self.base = f"http://127.0.0.1:{httpd.port}"
        self.trust_env = False
        self.headers["Host"] = host

    def request(self, method, path, **options):
        options.setdefault("timeout", 30)
        begin = time.monotonic()
        answer = super().request(method, self.base + path, **options)
        answer.seconds = time.monotonic() - begin
        return answer

    def register(self, session, patient=None):
        return self.post(f"/v1/sessions/{session}/register",
                         json={"patient_id": patient or new_uuid()})

    def register_many(self, session, count):
        """All at once; the answers."""
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: self.register(session), range(count)))


def statuses(answers):
    return [answer.status_code for answer in answers]


# --- Fixtures, to be imported ---------------------------------------------------------------

@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory):
    # Commits that survive a crash of the server, which tests else do without.
    postgres = BreakablePostgres(tmp_path_factory.mktemp("breakable"),
                                 settings=("synchronous_commit = on",))
    postgres.start()
    postgres.install("install.sql", "demo.sql")
    yield postgres
    postgres.stop()


@pytest.fixture
def postgres_to_break(own_postgres, watched_logs, expect_log):
    expect_log(*OUTAGE)
    watched_logs.append(own_postgres.log)
    yield own_postgres
    own_postgres.start()


@pytest.fixture
def proxy(postgres_to_break):
    proxy = Proxy(postgres_to_break.port)
    yield proxy
    proxy.close()


@pytest.fixture
def caller(start_httpd, postgres_to_break):
    """caller(): a Caller of an httpd of its own, whose database is the breakable one.

    The arguments are those of faults.database; `inside` is more of the same section.
    Requests are not combined unless that is asked for, so that as many connections are in
    use as there are requests.
    """
    def make(port=None, inside="", combining=False, **options):
        dsn = postgres_to_break.dsn(**({"port": port} if port else {}))
        site = CHILD + MOUNTS + database(dsn, **options) + inside
        if not combining:
            site += "\nRegistrationBatchSize 1\n"
        return Caller(start_httpd(site, modules=MODULES))
    return make


# --- What is checked again and again -------------------------------------------------------

def check_unavailable(answer, api="live", seconds=TIMEOUT + 2 * GRACE):
    check_error(answer, api, 503)
    assert answer.seconds < seconds


def check_recovers(one, session):
    """Nobody does anything, and soon there is an answer again."""
    servers.wait_until(lambda: one.register(session).status_code == 201, RECOVERY,
                       "the service did not come back")


def warm_up(one, postgres, count=4):
    """Has `count` connections made by holding up as many requests; their backends."""
    session = postgres.live_session()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with postgres.locked(session):
            answers = pool.submit(one.register_many, session, count)
            servers.wait_until(lambda: len(postgres.backends()) == count, TIMEOUT,
                               f"there were not {count} connections")
        assert statuses(answers.result()) == [201] * count
    return postgres.backends()
