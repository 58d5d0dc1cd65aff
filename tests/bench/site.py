# SPDX-License-Identifier: Apache-2.0
"""The measured servers, with the example configuration."""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import tempfile
import time

import servers
from bench.load import Wrong
from changed import changed_module
from servers import ROOT

# More threads than connections: event closes idle connections when all threads of a child are
# busy. One child has 80; four have 25 each, so that none can accept all connections. No child
# starts or ends under load.
EVENT = """
ThreadLimit 80
ThreadsPerChild {threads}
StartServers {children}
ServerLimit {children}
MaxRequestWorkers {workers}
MinSpareThreads 1
MaxSpareThreads {workers}
MaxKeepAliveRequests 0
"""

# What a Debian has before the module is installed: its mpm_event.conf, apache2.conf and
# status.conf.
DEBIAN = """
ServerLimit 16
ThreadLimit 64
ThreadsPerChild 25
StartServers 2
MinSpareThreads 25
MaxSpareThreads 75
MaxRequestWorkers 150
MaxKeepAliveRequests 100
ExtendedStatus On
"""

# Handled by mod_empty.c.
EMPTY = '<Location "/empty">\nSetHandler empty\n</Location>'

ORGANIZATION = "00000000-0000-4000-8000-000000000003"

TOKEN_MODULES = ("oauth2", "auth_openidc")
PLAIN_MODULES = tuple(name for name in servers.MODULES
                      if name not in ("ssl", "socache_shmcb", *TOKEN_MODULES))

# A child with many threads takes long to stop; MaxRequestWorkers reached, or almost; too many
# searches; no TLS and no Require; few threads; mod_auth_openidc's deprecation of its support for
# APIs.
EXPECTED = [r" AH00045: ", r" AH00484: ", r" AH10159: ", r" REG0313: ", r" REG010[34]: ",
            r" REG0113: ", r"\[auth_openidc:(warn|error)\] "]

# Without batching, 32 connections queue for one row; on a busy machine longer than the lock
# timeout.
LOCK_TIMEOUTS = ["canceling statement due to lock timeout"]


class BenchPostgres(servers.Postgres):
    """PostgreSQL with its defaults, fsync and synchronous_commit on, on a Unix socket."""

    def __init__(self, directory):
        # The path of a socket must be short.
        self.sockets = tempfile.mkdtemp(prefix="registration-bench-")
        os.chmod(self.sockets, 0o755)
        if servers.IS_ROOT:
            shutil.chown(self.sockets, "postgres")
        super().__init__(directory, durable=True, settings=(
            f"unix_socket_directories = '{self.sockets}'", "max_wal_size = '4GB'"))

    def dsn(self, user="registration", **more):
        return super().dsn(user, **{"host": self.sockets, **more})

    def variables(self, user=None):
        return {**super().variables(user), "PGHOST": self.sockets}

    def sql(self, *statements, database=None):
        """Runs statements in the schema; the rows of the last."""
        arguments = [part for statement in statements for part in ("-c", statement)]
        return self.psql("-c", "SET search_path = registration, public", *arguments,
                         database=database)

    def remove(self):
        """Stops and deletes all but the log: the data may be gigabytes."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)


def plain(site):
    """The example site without TLS and without tokens."""
    for pattern, other in ((r"(?m)^ *(?:OAuth2\w+|LogLevel oauth2:).*\n", ""),
                           (r"(?m)^ *SSL\w+ .*\n", ""), (r"(?m)^ *Require .*\n", ""),
                           (r'(?s)<Location "/">.*?</Location>\n',
                            '<Location "/">\nRequire all granted\n</Location>\n')):
        site, found = re.subn(pattern, other, site)
        if not found:
            raise Wrong(f"example-site.conf has nothing like {pattern}")
    return site


def shipped_mpm(threads):
    """Debian's settings and those of registration-mpm.conf after them, as installed; with
    another number of threads if one is given."""
    text = (ROOT / "conf" / "registration-mpm.conf").read_text()
    text, found = re.subn(r"(?m)^(Define REGISTRATION_THREADS) +(\d+)$",
                          lambda match: f"{match[1]} {threads or match[2]}", text)
    if found != 1:
        raise Wrong("registration-mpm.conf has no Define REGISTRATION_THREADS")
    return DEBIAN + text


class Stage:
    """A PostgreSQL, and an httpd for each run."""

    def __init__(self, options):
        self.directory = options.directory.resolve()
        self.seconds = options.seconds
        self.warmup = options.warmup
        self.requests = options.requests
        self.rows = options.rows
        self.directives = options.directive
        self.empty_module = options.empty_module.resolve()
        self.done = set()       # see once()
        for leftover in ("postgresql", "httpd"):
            shutil.rmtree(self.directory / leftover, ignore_errors=True)
        self.certificates = servers.Certificates(self.directory / "tls")
        self.issuer = servers.TokenIssuer(self.directory / "token.key")
        self.token_certificate = self.directory / "token.pem"
        self.issuer.write_certificate(self.token_certificate)
        self.postgres = BenchPostgres(self.directory / "postgresql")

    def __enter__(self):
        try:
            self.postgres.start()
            self.postgres.install("install.sql")
        except BaseException:
            self.postgres.remove()
            raise
        return self

    def __exit__(self, *_):
        self.postgres.remove()

    @functools.cache
    def uncounted_module(self):
        """A module without metrics and without notes for logs."""
        sources = self.directory / "uncounted"
        shutil.rmtree(sources, ignore_errors=True)
        return changed_module(
            sources, "if (memory || !is_mounted_anywhere(main_server)) {", "if (1) {",
            "ap_hook_log_transaction(count_request, NULL, NULL, APR_HOOK_FIRST);",
            "(void)count_request;")

    def once(self, what, prepare, *arguments):
        """Prepares something the first time."""
        if what not in self.done:
            prepare(self, *arguments)
            self.done.add(what)

    @functools.cache
    def tokens(self, number):
        """Different tokens with all rights in the example site."""
        return tuple(self.issuer.token(f"bench-{i}", scope=servers.ALL_SCOPES, org=ORGANIZATION)
                     for i in range(number))

    def mpm(self, name, children, threads):
        """The event MPM as the other runs have it, or as Debian or the module ships it."""
        if name == "debian":
            return DEBIAN
        if name == "shipped":
            return shipped_mpm(threads)
        threads = 80 if children == 1 else 25
        return EVENT.format(children=children, threads=threads, workers=children * threads)

    def site(self, port, token_module, database, directives):
        make = servers.strict_site if token_module else servers.example_site
        site = make(port, self.certificates, self.issuer, self.postgres)
        site = re.sub(r"(?m)^ *CustomLog .*\n", "", site)   # measure the handler, not the disk
        if database:
            site = site.replace(f"dbname={self.postgres.database}", f"dbname={database}")
        if not token_module:
            site = plain(site)
        elif token_module == "auth_openidc":
            site = servers.with_openidc(site, self.token_certificate)
        lines = "\n".join((*directives, *self.directives))
        return site.replace("</VirtualHost>", f"{lines}\n</VirtualHost>")

    @contextlib.contextmanager
    def httpd(self, children=1, batch_size=None, token_module=None, database=None,
              counted=True, mpm=None, threads=None):
        """A new httpd: plain HTTP, or the example site with TLS if a token module is named;
        without metrics unless `counted`; see mpm() for the others."""
        port = servers.free_port()
        directives = [EMPTY]
        if batch_size:
            directives.append(f"RegistrationBatchSize {batch_size}")
        modules = PLAIN_MODULES
        if token_module:
            modules = tuple(name for name in servers.MODULES
                            if name not in TOKEN_MODULES) + (token_module,)
        if mpm:
            modules += ("status",)      # as on Debian
        httpd = servers.Httpd(
            self.directory / "httpd",
            "\n".join((f'LoadModule empty_module "{self.empty_module}"',
                       self.mpm(mpm, children, threads),
                       self.site(port, token_module, database, directives))),
            port, modules=modules,
            registration=servers.MODULE if counted else self.uncounted_module())
        httpd.start()
        try:
            yield httpd
        finally:
            time.sleep(0.5)     # for the connections to be closed: see Httpd.stop()
            httpd.stop()
        problems = httpd.log.problems(EXPECTED) + self.postgres.log.problems(LOCK_TIMEOUTS)
        if problems:
            raise Wrong("unexpected in a log:\n" + "\n".join(problems))


def children(httpd):
    """The process ids of an httpd's child processes."""
    pid = httpd.pid()
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def processor_time(httpd):
    """The processor time of an httpd's child processes, in seconds."""
    stats = [pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
             for pid in children(httpd)]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")
