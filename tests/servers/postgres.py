# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL."""

import atexit
import functools
import glob
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import tempfile

from .common import (IS_ROOT, POSTGRES, ROOT, Log, Server, ServerError, environment, free_port,
                     private, wait_until)

# PostgreSQL refuses to run as root.
AS_OWNER = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if IS_ROOT else []


def newest_installed():
    versions = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    if not versions:
        raise ServerError("PostgreSQL's server is not installed")
    return pathlib.Path(max(versions, key=lambda v: float(v.split("/")[4]))).parents[1]


@functools.cache
def accessible(directory):
    """The directory of a PostgreSQL, or a copy where the server's user may not enter it, as in
    a checkout below /root."""
    if not (directory / "bin" / "postgres").exists():
        raise ServerError(f"there is no {directory}/bin/postgres")
    if not subprocess.run([*AS_OWNER, "test", "-x", directory / "bin" / "postgres"]).returncode:
        return directory
    copy = tempfile.TemporaryDirectory(prefix="registration-")
    atexit.register(copy.cleanup)
    os.chmod(copy.name, 0o755)
    return pathlib.Path(shutil.copytree(directory, f"{copy.name}/postgres", symlinks=True))


class Postgres(Server):
    """A PostgreSQL on the loopback only: that of `programs`, a directory with bin/postgres, else
    of REGISTRATION_POSTGRES, else of the newest installed version.

    Its roles share a generated password, stored in the file `pgpass`, which only its owner may
    read: otherwise each user of this machine could be superuser and act as its system user.
    `durable` is for the demo, whose data must survive a crash of the machine.
    """

    program = "postgres"
    database = "registration"
    administrator = "postgres"

    def __init__(self, directory, port=None, durable=False, settings=(), programs=POSTGRES):
        super().__init__(directory, port)
        self.programs = programs
        self.data = self.directory / "data"
        self.pid_file = self.data / "postmaster.pid"
        self.passfile = self.directory / "pgpass"
        self.durable = durable
        self.settings = settings
        # Autovacuum may be cancelled by a lock or a restart at any time. Each installation warns
        # of unknown time zones where Debian's package tzdata-legacy is missing.
        self.log = Log(self.directory / "postgresql.log",
                       r" (WARNING|ERROR|FATAL|PANIC):  "
                       r"(?!(terminating autovacuum process|canceling autovacuum task|"
                       r"PostgreSQL does not know these time zones,) )")

    def binary(self, name):
        return str(accessible(self.programs or newest_installed()) / "bin" / name)

    def is_own(self, pid):
        return os.readlink(f"/proc/{pid}/cwd") == str(self.data)

    def as_owner(self, program, *arguments):
        """A command of the server's own user on its data directory.

        Its user may not be allowed to enter the directories above this one (a checkout below
        /root). So the data directory is opened here and passed as a descriptor, which needs no
        path.
        """
        descriptor = os.open(self.data, os.O_RDONLY | os.O_DIRECTORY)
        command = [*AS_OWNER, self.binary(program), "-D", f"/proc/self/fd/{descriptor}",
                   *arguments]
        return descriptor, command

    @property
    def password(self):
        """Generated on first use."""
        if not self.passfile.exists():
            with open(self.passfile, "w", opener=private) as file:
                file.write(f"*:*:*:*:{secrets.token_hex(20)}\n")
        return self.passfile.read_text().rpartition(":")[2].strip()

    def create(self):
        """Makes the database cluster, unless it is there."""
        if (self.data / "registration.created").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        if IS_ROOT:
            shutil.chown(self.data, "postgres", "postgres")
        with tempfile.NamedTemporaryFile("w") as file:   # readable by initdb's user
            file.write(self.password)
            file.flush()
            if IS_ROOT:
                shutil.chown(file.name, "postgres")
            self.initdb(file.name)
        with open(self.data / "postgresql.conf", "a") as file:
            file.write("\n".join(self.configuration()) + "\n")
        (self.data / "registration.created").touch()

    def initdb(self, password_file):
        descriptor, command = self.as_owner(
            "initdb", "--username", self.administrator, "--auth", "scram-sha-256",
            "--pwfile", password_file, "--encoding", "UTF8", "--locale", "C.UTF-8",
            *([] if self.durable else ["--no-sync"]))
        try:
            subprocess.run(command, cwd="/", check=True, pass_fds=[descriptor],
                           env=environment(), stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL)
        finally:
            os.close(descriptor)

    def take_passwords(self):
        """Requires passwords in a server of an earlier version, which trusted all users."""
        rules = self.data / "pg_hba.conf"
        if "trust" in rules.read_text():
            self.set_password(self.administrator)
            rules.write_text(rules.read_text().replace("trust", "scram-sha-256"))
            os.kill(self.pid(), signal.SIGHUP)

    def set_password(self, role):
        """Unless it has one. Not as an argument, which each user of this machine could see."""
        self.psql(database="postgres", text=f"""
            SELECT format('ALTER ROLE %I PASSWORD %L', rolname, '{self.password}')
              FROM pg_authid WHERE rolname = '{role}' AND rolpassword IS NULL \\gexec\n""")

    def configuration(self):
        yield "listen_addresses = '127.0.0.1'"
        yield "unix_socket_directories = ''"
        yield "max_connections = 200"
        yield "log_line_prefix = '%m [%p] %q%u@%d '"
        yield "log_checkpoints = off"
        if not self.durable:
            yield from ("fsync = off", "synchronous_commit = off", "full_page_writes = off")
        yield from self.settings

    def start(self):
        if self.pid():
            self.port = int(self.pid_file.read_text().splitlines()[3])
            self.take_passwords()
            return
        self.create()
        self.port = self.port or free_port()
        descriptor, command = self.as_owner("postgres", "-p", str(self.port))
        try:
            self.spawn(command, self.log.path, pass_fds=[descriptor], env=environment())
        finally:
            os.close(descriptor)
        wait_until(self.is_ready, 60, f"PostgreSQL did not start, see {self.log.path},")
        self.take_passwords()

    def is_ready(self):
        if self.process.poll() is not None:
            raise ServerError("PostgreSQL did not start: " + self.log.text()[-2000:])
        # The eighth line is the state; connecting to find out would leave lines in the log.
        return self.pid() and self.pid_file.read_text().splitlines()[7:] == ["ready   "]

    def stop(self, mode="fast"):
        """Modes as pg_ctl's: fast ends the sessions, immediate is a crash."""
        numbers = {"smart": signal.SIGTERM, "fast": signal.SIGINT,
                   "immediate": signal.SIGQUIT}
        self.signal_and_wait(numbers[mode], 60)

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def variables(self, user=None):
        """The environment variables with which a libpq program connects."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port),
                "PGUSER": user or self.administrator, "PGDATABASE": self.database,
                "PGPASSFILE": str(self.passfile)}

    def dsn(self, user="registration", **more):
        """A connection string; by default for the service's own role."""
        values = {"host": "127.0.0.1", "port": self.port, "user": user,
                  "password": self.password, "dbname": self.database, **more}
        return " ".join(f"{name}={value}" for name, value in values.items())

    def connect(self, user=None):
        """A psycopg2 connection, by default the administrator's, in autocommit mode."""
        import psycopg2
        connection = psycopg2.connect(
            self.dsn(user or self.administrator, connect_timeout=10))
        connection.autocommit = True
        return connection

    def psql(self, *arguments, database=None, text=""):
        """Runs psql as the administrator; its output. `text` is its input."""
        variables = self.variables()
        variables["PGDATABASE"] = database or self.database
        result = subprocess.run(
            ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *arguments],
            env=environment(**variables), input=text, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode:
            raise ServerError(f"psql {' '.join(arguments)}: {result.stdout}")
        return result.stdout.strip()

    def install(self, *scripts):
        """Creates the database if necessary, and runs scripts of sql/ in it."""
        found = self.psql("-c", "SELECT 1 FROM pg_database WHERE datname = "
                                f"'{self.database}'", database="postgres")
        if not found:
            self.psql("-c", f"CREATE DATABASE {self.database}", database="postgres")
            # As registration-schema install --create does.
            self.psql("-c", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        for script in scripts:
            self.psql("-f", str(ROOT / "sql" / script))
        if scripts:
            self.set_password("registration")
