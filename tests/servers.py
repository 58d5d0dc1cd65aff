# SPDX-License-Identifier: Apache-2.0
"""Private servers for the demo and the tests.

A PostgreSQL and an httpd that live in a directory of their own, listen on the loopback
only, and are stopped by their own process ids. Run as a program, this gives a command a
database of its own, and fails when PostgreSQL's log says anything unexpected:

    python3 tests/servers.py postgres -- command argument...
"""

import base64
import glob
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODULE = pathlib.Path(
    os.environ.get("REGISTRATION_MODULE", ROOT / "build" / "mod_registration.so"))
IS_ROOT = os.geteuid() == 0


class ServerError(Exception):
    """A server did not start or stop; the text says why."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"{what} within {seconds} seconds")
        time.sleep(0.02)


def environment(**more):
    """This process's environment without what libpq would read from it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, **more}


def can_bind(address):
    """Has this machine that loopback address? IPv6 is missing in many containers."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.bind((address, 0))
        return True
    except OSError:
        return False


class Log:
    """A server's log, and where reading it stopped last."""

    def __init__(self, path, unwanted):
        self.path = pathlib.Path(path)
        self.unwanted = re.compile(unwanted)
        self.offset = self.size()

    def size(self):
        return self.path.stat().st_size if self.path.exists() else 0

    def text(self):
        return self.path.read_text(errors="replace") if self.path.exists() else ""

    def unread(self):
        """The whole lines written since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        data = data[:data.rfind(b"\n") + 1]
        self.offset += len(data)
        return data.decode(errors="replace").splitlines()

    def problems(self, expected=()):
        """Of those, the ones no run should have and no pattern in `expected` allows."""
        return [line for line in self.unread()
                if self.unwanted.search(line)
                and not any(re.search(pattern, line) for pattern in expected)]


class Server:
    """What the two servers have in common: a directory, a process, a log.

    A server may have been started by an earlier program: its process is found through
    its pid file, and known to be that server by what is_own() looks at.
    """

    program = None

    def __init__(self, directory, port):
        self.directory = pathlib.Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.process = None

    def pid(self):
        """The id of the running server, or None."""
        if self.process:
            self.process.poll()
        try:
            pid = int(self.pid_file.read_text().split()[0])
            return pid if self.is_own(pid) else None
        except (OSError, IndexError, ValueError):
            return None

    def spawn(self, command, log, **options):
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, **options)

    def signal_and_wait(self, number, seconds):
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGCONT)   # A test may have frozen it.
        os.kill(pid, number)
        wait_until(lambda: self.pid() is None, seconds,
                   f"{self.program} {pid} did not stop")
        if self.process:
            self.process.wait()
            self.process = None


class Postgres(Server):
    """A PostgreSQL of the newest version installed, open to everybody on this machine.

    `durable` is for the demo, whose data must survive the machine; tests do without.
    """

    program = "postgres"
    database = "registration"
    administrator = "postgres"

    def __init__(self, directory, port=None, durable=False, settings=()):
        super().__init__(directory, port)
        self.data = self.directory / "data"
        self.pid_file = self.data / "postmaster.pid"
        self.durable = durable
        self.settings = settings
        self.log = Log(self.directory / "postgresql.log",
                       r" (WARNING|ERROR|FATAL|PANIC):  ")

    @staticmethod
    def binary(name):
        versions = glob.glob("/usr/lib/postgresql/*/bin")
        if not versions:
            raise ServerError("PostgreSQL's server is not installed")
        return str(pathlib.Path(max(versions, key=lambda v: float(v.split("/")[4]))) / name)

    def is_own(self, pid):
        return os.readlink(f"/proc/{pid}/cwd") == str(self.data)

    def as_owner(self, program, *arguments):
        """A command of the server's own user on its data directory.

        PostgreSQL refuses to run as root, and its user may not be allowed to enter the
        directories above this one (a checkout below /root). So the data directory is
        opened here and named by its descriptor, which needs no way to it.
        """
        descriptor = os.open(self.data, os.O_RDONLY | os.O_DIRECTORY)
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        command = [*(become if IS_ROOT else []), self.binary(program),
                   "-D", f"/proc/self/fd/{descriptor}", *arguments]
        return descriptor, command

    def create(self):
        """Makes the database cluster, unless it is there."""
        if (self.data / "registration.created").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        if IS_ROOT:
            shutil.chown(self.data, "postgres", "postgres")
        descriptor, command = self.as_owner(
            "initdb", "--username", self.administrator, "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C.UTF-8",
            *([] if self.durable else ["--no-sync"]))
        try:
            subprocess.run(command, cwd="/", check=True, pass_fds=[descriptor],
                           env=environment(), stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL)
        finally:
            os.close(descriptor)
        with open(self.data / "postgresql.conf", "a") as file:
            file.write("\n".join(self.configuration()) + "\n")
        (self.data / "registration.created").touch()

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
            return
        self.create()
        self.port = self.port or free_port()
        descriptor, command = self.as_owner("postgres", "-p", str(self.port))
        try:
            self.spawn(command, self.log.path, pass_fds=[descriptor], env=environment())
        finally:
            os.close(descriptor)
        wait_until(self.is_ready, 60, f"PostgreSQL did not start, see {self.log.path},")

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
        """What a libpq program needs in its environment to connect."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port),
                "PGUSER": user or self.administrator, "PGDATABASE": self.database}

    def dsn(self, user="registration", **more):
        """A connection string; by default for the service's own role."""
        values = {"host": "127.0.0.1", "port": self.port, "user": user,
                  "dbname": self.database, **more}
        return " ".join(f"{name}={value}" for name, value in values.items())

    def connect(self, user=None):
        """A psycopg2 connection, by default the administrator's, each statement by itself."""
        import psycopg2
        connection = psycopg2.connect(
            self.dsn(user or self.administrator, connect_timeout=10))
        connection.autocommit = True
        return connection

    def psql(self, *arguments, database=None):
        """Runs psql as the administrator and gives what it prints."""
        variables = self.variables()
        variables["PGDATABASE"] = database or self.database
        result = subprocess.run(
            ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *arguments],
            env=environment(**variables), stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode:
            raise ServerError(f"psql {' '.join(arguments)}: {result.stdout}")
        return result.stdout.strip()

    def install(self, *scripts):
        """Makes the database, unless it is there, and runs scripts of sql/ in it."""
        found = self.psql("-c", "SELECT 1 FROM pg_database WHERE datname = "
                                f"'{self.database}'", database="postgres")
        if not found:
            self.psql("-c", f"CREATE DATABASE {self.database}", database="postgres")
        for script in scripts:
            self.psql("-f", str(ROOT / "sql" / script))


def apxs(name):
    return subprocess.run(["apxs", "-q", name], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


# What example-site.conf needs, and what a site of tests is likely to.
MODULES = ("authn_core", "authz_core", "authz_host", "authz_user", "dbd", "env", "headers",
           "reqtimeout", "setenvif", "socache_shmcb", "ssl", "unique_id", "oauth2")


class Httpd(Server):
    """An httpd with this module, running the site whose configuration it is given.

    `modules` and `mpm` are names without mod_; `registration` is the module to load, or
    None for an httpd without it; `site` is configuration text; `descriptors` are of open
    files that it inherits. With `valgrind` it runs under that, with the options of the
    Makefile, and `findings` is where those are written.
    """

    program = "apache2"

    def __init__(self, directory, site, port=None, mpm="event", modules=MODULES,
                 registration=MODULE, log_level="warn", valgrind=False, descriptors=()):
        super().__init__(directory, port or free_port())
        self.valgrind = valgrind
        self.findings = Log(self.directory / "valgrind.log", r".")
        self.site = site
        self.mpm = mpm
        self.modules = modules
        self.registration = registration
        self.log_level = log_level
        self.descriptors = descriptors
        self.pid_file = self.directory / "httpd.pid"
        self.configuration_file = self.directory / "httpd.conf"
        self.console = self.directory / "console.log"
        # Warnings and worse, crashes, and whatever was not written by httpd's own logging.
        # Not AH01882: only tells that this machine's OpenSSL was updated; nor AH03093: a
        # connection was to be kept open while httpd was stopping.
        self.log = Log(self.directory / "error.log",
                       r"^\[[^]]*\] \[\w*:(warn|error|crit|alert|emerg)\](?!.* AH(01882|03093): )"
                       r"|^(?!\[)\S|AH00052")

    def configuration(self):
        library = apxs("LIBEXECDIR")
        yield f'ServerRoot "{self.directory}"'
        yield "ServerName https://localhost"   # As if a proxy before it had TLS.
        yield f'DefaultRuntimeDir "{self.directory}"'
        yield f'PidFile "{self.pid_file}"'
        yield f'ErrorLog "{self.log.path}"'
        if IS_ROOT:
            yield "User www-data"
            yield "Group www-data"
        yield f"Listen 127.0.0.1:{self.port}"
        if can_bind("::1"):
            yield f"Listen [::1]:{self.port}"
        for module in (f"mpm_{self.mpm}", *self.modules):
            yield f"LoadModule {module}_module {library}/mod_{module}.so"
        if self.registration:
            yield f'LoadModule registration_module "{self.registration}"'
        if self.mpm != "prefork":
            # Two child processes that stay: one that ends while there is little to do closes
            # kept connections just when a test uses them again. The other slots are for
            # graceful restarts.
            yield from ("ServerLimit 4", "StartServers 2", "ThreadsPerChild 64",
                        "MaxRequestWorkers 128", "MaxSpareThreads 128")
        if "mime" in self.modules:
            yield "TypesConfig /dev/null"
        yield f"LogLevel {self.log_level}"
        if "socache_shmcb" in self.modules and "ssl" in self.modules:
            yield f'SSLSessionCache "shmcb:{self.directory}/ssl_cache(512000)"'
        yield self.site

    def is_own(self, pid):
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return os.fsencode(self.configuration_file) in command

    def write_configuration(self):
        self.configuration_file.write_text("\n".join(self.configuration()) + "\n")

    def command(self, *arguments):
        valgrind = ["valgrind", f"--log-file={self.findings.path}"] if self.valgrind else []
        return [*valgrind, f"{apxs('SBINDIR')}/{apxs('progname')}", "-d", str(self.directory),
                "-f", str(self.configuration_file), *arguments]

    def environment(self):
        """A module built with AddressSanitizer needs its library loaded before all else."""
        more = {}
        if self.registration and b"__asan_init" in pathlib.Path(self.registration).read_bytes():
            library = subprocess.run(["gcc", "-print-file-name=libasan.so"], check=True,
                                     text=True, stdout=subprocess.PIPE).stdout.strip()
            # Leaks are valgrind's: mod_oauth2 has some, and whose one is cannot be told here
            # once the library it is from has been unloaded.
            options = os.environ.get("ASAN_OPTIONS", "")
            more = {"LD_PRELOAD": os.path.realpath(library),
                    "ASAN_OPTIONS": f"{options}:detect_leaks=0"}
        return environment(**more)

    def starts(self):
        """How often it has read its configuration and begun to serve, as its log tells."""
        return self.log.text().count("resuming normal operations")

    def start(self):
        if self.pid():
            return
        self.write_configuration()
        self.console.write_text("")
        before = self.starts()
        self.spawn(self.command("-DFOREGROUND"), self.console, env=self.environment(),
                   pass_fds=self.descriptors)
        wait_until(lambda: self.started_after(before), 60,
                   f"httpd did not start, see {self.log.path},")

    def started_after(self, before):
        if self.process.poll() is not None:
            raise ServerError("httpd did not start: " + self.console.read_text()
                              + "\n".join(self.log.unread()))
        return self.starts() > before and self.pid()

    def refusal(self):
        """What httpd says when it refuses to start; None when it does start."""
        try:
            self.start()
        except ServerError as error:
            return str(error)
        self.stop()
        return None

    def graceful(self):
        """Reads the configuration again, without a request lost; returns when it is read."""
        self.write_configuration()
        before = self.starts()
        os.kill(self.pid(), signal.SIGUSR1)
        wait_until(lambda: self.starts() > before, 30, "httpd did not restart")

    def stop(self):
        # Told to stop while its threads close connections, httpd 2.4 itself can crash: the
        # event MPM closes their sockets once more. Those of the last test are closed now.
        time.sleep(0.05)
        self.signal_and_wait(signal.SIGTERM, 30)


class Certificates:
    """A certificate authority and the certificate of localhost it signed, kept in files."""

    def __init__(self, directory):
        directory = pathlib.Path(directory)
        self.authority = directory / "ca.pem"
        self.certificate = directory / "localhost.pem"
        self.key = directory / "localhost.key"
        if not self.certificate.exists():
            directory.mkdir(parents=True, exist_ok=True)
            authority_key = directory / "ca.key"
            self.openssl("-subj", "/CN=mod_registration test authority",
                         "-keyout", authority_key, "-out", self.authority,
                         "-addext", "keyUsage=critical,keyCertSign")
            self.openssl("-subj", "/CN=localhost", "-CA", self.authority,
                         "-CAkey", authority_key, "-keyout", self.key,
                         "-out", self.certificate,
                         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1",
                         "-addext", "basicConstraints=critical,CA:FALSE",
                         "-addext", "extendedKeyUsage=serverAuth")
            authority_key.unlink()

    @staticmethod
    def openssl(*arguments):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-noenc", "-days", "825",
                        *map(str, arguments)],
                       check=True, stderr=subprocess.DEVNULL)


class TokenIssuer:
    """Signs bearer tokens with an RSA key of its own, kept in a file when one is named."""

    def __init__(self, path=None):
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
        if path and pathlib.Path(path).exists():
            self.key = serialization.load_pem_private_key(
                pathlib.Path(path).read_bytes(), None)
            return
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if path:
            pem = self.key.private_bytes(serialization.Encoding.PEM,
                                         serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption())
            with open(path, "wb", opener=private) as file:
                file.write(pem)

    def jwk(self):
        """The public key, as JSON on one line."""
        numbers = self.key.public_key().public_numbers()

        def encoded(number):
            octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
            return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
        return json.dumps({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "registration",
                           "n": encoded(numbers.n), "e": encoded(numbers.e)},
                          separators=(",", ":"))

    def token(self, sub, seconds=3600, **claims):
        """A token valid for that long; a claim given as None is left out."""
        import jwt
        now = int(time.time())
        claims = {"sub": sub, "iat": now, "exp": now + seconds, **claims}
        return jwt.encode({name: value for name, value in claims.items()
                           if value is not None},
                          self.key, algorithm="RS256", headers={"kid": "registration"})


# A second mount of the events API, beside those of example-site.conf: it shows only the
# organization that the token names.
TENANT_MOUNT = """
    <Location "/tenant/api/v1/event-registrations">
        RegistrationAPI events
        RegistrationOrganization %{reqenv:OAUTH2_CLAIM_org}
    </Location>
"""


def example_site(port, certificates, issuer, postgres):
    """conf/example-site.conf with its Define lines filled in, and the tenant mount."""
    values = {"HOST": "localhost", "PORT": port, "CERTIFICATE": certificates.certificate,
              "KEY": certificates.key, "ACCESS_LOG": "access.log",
              "DATABASE": postgres.dsn(),
              "TOKEN_KEYS": f"jwk '{issuer.jwk()}'"}
    site = (ROOT / "conf" / "example-site.conf").read_text()
    for name, value in values.items():
        quoted = str(value).replace("\\", "\\\\").replace('"', '\\"')
        site, found = re.subn(rf"(?m)^(Define REGISTRATION_{name} +).*$",
                              lambda match: f'{match[1]}"{quoted}"', site)
        if found != 1:
            raise ServerError(f"example-site.conf: no Define REGISTRATION_{name}")
    batch_size = os.environ.get("REGISTRATION_BATCH_SIZE")   # 1: nothing is combined
    combining = f"    RegistrationBatchSize {batch_size}\n" if batch_size else ""
    return site.replace("</VirtualHost>", combining + TENANT_MOUNT + "</VirtualHost>")


# Swagger UI as `make explorer` has unpacked it, and what of it the explorer's page takes.
SWAGGER_UI = ROOT / "build" / "explorer" / "package"
SWAGGER_UI_FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png", "LICENSE")

# What is served there may ask nobody else for anything.
EXPLORER_SITE = """
    Alias "/explorer" "{directory}"
    <Directory "{directory}">
        Options FollowSymLinks
    </Directory>
    <Location "/explorer">
        Require all granted
        DirectoryIndex index.html
        Header always set Content-Security-Policy "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        Header always set Cross-Origin-Resource-Policy same-origin
        Header always set Cache-Control no-cache
    </Location>
    AddType text/html;charset=utf-8 .html
    AddType text/javascript;charset=utf-8 .js
    AddType text/css;charset=utf-8 .css
    AddType image/png .png
    AddType application/json .json
"""
EXPLORER_MODULES = ("alias", "dir", "mime")


class Explorer:
    """A page to try the APIs on: Swagger UI, in a directory to be served.

    Whoever reaches the page has the token, so this is for a server that only this machine
    reaches, where the database is open to everybody too.

    httpd's own user may not be allowed to enter the directories above it (a checkout below
    /root). So httpd inherits it open, and finds it by its descriptor.
    """

    def __init__(self, directory, token):
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for file in (*(SWAGGER_UI / name for name in SWAGGER_UI_FILES),
                     *(ROOT / "tests" / "explorer").iterdir()):
            shutil.copyfile(file, directory / file.name)
        (directory / "token.json").write_text(json.dumps({"token": token}))
        self.descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    @staticmethod
    def is_there():
        """Has Swagger UI been fetched?"""
        return all((SWAGGER_UI / name).exists() for name in SWAGGER_UI_FILES)

    def added_to(self, site):
        """A virtual host with the page at /explorer/."""
        page = EXPLORER_SITE.format(directory=f"/proc/self/fd/{self.descriptor}")
        return site.replace("</VirtualHost>", page + "</VirtualHost>")


def private(path, flags):
    """An opener for files that only their owner may read."""
    return os.open(path, flags, 0o600)


def run_with_postgres(command):
    """Runs a command with a database of its own and gives its exit status."""
    with tempfile.TemporaryDirectory(prefix="registration-") as directory:
        os.chmod(directory, 0o755)
        postgres = Postgres(directory)
        postgres.start()
        try:
            postgres.install("install.sql", "demo.sql")
            status = subprocess.run(command, env=environment(
                **postgres.variables(), REGISTRATION_DSN=postgres.dsn())).returncode
        finally:
            postgres.stop("smart")
        problems = postgres.log.problems()
        for line in problems:
            print(f"unexpected in PostgreSQL's log: {line}", file=sys.stderr)
        return status or (1 if problems else 0)


if __name__ == "__main__":
    if sys.argv[1:3] != ["postgres", "--"] or len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(run_with_postgres(sys.argv[3:]))
