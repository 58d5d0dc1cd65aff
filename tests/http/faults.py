# SPDX-License-Identifier: Apache-2.0
"""Fault injection: a PostgreSQL to break, a proxy in front of it, and an httpd that uses it."""

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

TIMEOUT = 3   # seconds: RegistrationTimeout, longer than connect_timeout
GRACE = 1.5   # seconds of tolerance for a busy machine

# Seconds until a child process tries to connect again after a failure, with tolerance.
RECOVERY = 1 + GRACE

# Log lines of httpd and PostgreSQL during an outage; no crashes and no internal errors.
OUTAGE = [r"\[dbd:(error|crit)\]", "REG030[2-8]", "REG031[025]",
          "FATAL:  (terminating connection due to administrator command"
          "|the database system is (starting up|shutting down|not yet accepting)"
          "|connection to client lost"
          # A session terminated before authentication.
          "|canceling authentication due to timeout)",
          "WARNING:  terminating connection because of crash of another server process",
          # It ended just before it was terminated.
          r"WARNING:  PID \d+ is not a PostgreSQL (backend|server) process",
          # PostgreSQL may report a lock timeout as "user request" if the lock is released then.
          "ERROR:  canceling statement due to (statement timeout|lock timeout|user request)"]

# One child process, so that counts per child process are known.
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

# All APIs, without authorization.
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

# The APIs for operators.
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
    """The directives for a database; `options` are session settings."""
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
    """The process ids of a process's children."""
    def parent_of(pid):
        try:
            status = pathlib.Path(f"/proc/{pid}/stat").read_text()
            return int(status.rpartition(")")[2].split()[1])
        except OSError:
            return None
    return [int(pid) for pid in os.listdir("/proc")
            if pid.isdigit() and parent_of(pid) == parent]


class BreakablePostgres(servers.Postgres):
    """A PostgreSQL with methods to break it and to inspect its sessions."""

    def processes(self):
        """The postmaster's process id, then its children's."""
        return [self.pid(), *children(self.pid())]

    @contextlib.contextmanager
    def frozen(self, *pids):
        """Stops all its processes, or the given ones, during the block."""
        pids = pids or self.processes()

        def send(number, pids):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):   # The process has ended.
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
        """The process ids of the module's sessions."""
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
        """The registered patients by the rows; checks the session's count."""
        rows = [patient for patient, in self.query(
            "SELECT patient_id FROM live_registrations WHERE session_id = %s", session)]
        [[count]] = self.query("SELECT registered_count FROM live_sessions WHERE id = %s",
                               session)
        assert count == len(rows)
        return set(rows)

    @contextlib.contextmanager
    def setting(self, name, value):
        """A setting of the module's role, for sessions that begin inside the block."""
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
        """Another transaction, as of an administrator, locks a row."""
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
        """Registering for these sessions takes that many seconds."""
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
        """A constraint that refuses this patient, which the module does not know."""
        self.query("ALTER TABLE live_registrations ADD CONSTRAINT refused"
                   " CHECK (patient_id <> %s)", patient)
        try:
            yield
        finally:
            self.query("ALTER TABLE live_registrations DROP CONSTRAINT refused")

    @contextlib.contextmanager
    def canary(self):
        """Opens an idle connection before the block, and checks that what the block does to
        the server breaks it: otherwise the block would have broken nothing."""
        connection = psycopg2.connect(self.dsn("postgres"))
        try:
            yield
            try:
                connection.cursor().execute("SELECT 1")
            except psycopg2.Error:
                return
            raise AssertionError("a connection survived the fault")
        finally:
            connection.close()


class Proxy:
    """A proxy between httpd and PostgreSQL. Its mode:

    "forward"   forwards connections
    "hole"      accepts connections and forwards nothing
    "mute"      forwards requests, and closes the connection when an answer arrives
    "refuse"    closes all connections

    `lost` is set when an answer was lost since the last change of the mode: its transaction is
    visible before the answer arrives here.
    """

    def __init__(self, port, address="127.0.0.1", own_port=0):
        self.target = port
        self.mode = "forward"
        self.lost = threading.Event()
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
                    self.lost.set()
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
        self.lost.clear()
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
    """A context manager that runs go_on() in a thread until the block ends. go_on() returns
    when `ended` is set; its exceptions are raised at the end of the block."""

    def __enter__(self):
        self.ended = threading.Event()
        self.going_on = concurrent.futures.ThreadPoolExecutor(1).submit(self.go_on)
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.going_on.result()


class Caller(requests.Session):
    """Sends requests to an httpd without TLS; each answer has its duration in `seconds`."""

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
        """Sends concurrent requests; the answers."""
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: self.register(session), range(count)))


def statuses(answers):
    return [answer.status_code for answer in answers]


# --- Fixtures, to be imported --------------------------------------------------------------

@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory):
    # Commits have to survive a crash of the server, unlike in other tests.
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
    """caller(): a Caller of its own httpd, whose database is the breakable one.

    The arguments are those of database(); `inside` is more of the same section. Requests are
    not batched unless `batching`, so that each uses a connection.
    """
    def make(port=None, inside="", batching=False, **options):
        dsn = postgres_to_break.dsn(**({"port": port} if port else {}))
        site = CHILD + MOUNTS + database(dsn, **options) + inside
        if not batching:
            site += "\nRegistrationBatchSize 1\n"
        return Caller(start_httpd(site, modules=MODULES))
    return make


# --- Common checks -------------------------------------------------------------------------

def check_unavailable(answer, api="live", seconds=TIMEOUT + 2 * GRACE):
    check_error(answer, api, 503)
    assert answer.seconds < seconds


def check_recovers(one, session):
    """Checks that requests soon succeed again, without intervention."""
    servers.wait_until(lambda: one.register(session).status_code == 201, RECOVERY,
                       "the service did not come back")


def warm_up(one, postgres, count=4):
    """Opens `count` connections with as many concurrent requests; their backends."""
    session = postgres.live_session()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with postgres.locked(session):
            answers = pool.submit(one.register_many, session, count)
            servers.wait_until(lambda: len(postgres.backends()) == count, TIMEOUT,
                               f"there were not {count} connections")
        assert statuses(answers.result()) == [201] * count
    return postgres.backends()
