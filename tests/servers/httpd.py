# SPDX-License-Identifier: Apache-2.0
"""An httpd."""

import os
import pathlib
import signal
import subprocess
import time

from .common import (IS_ROOT, MODULE, Log, Server, ServerError, can_bind, environment,
                     free_port, private, wait_until)


def apxs(name):
    return subprocess.run(["apxs", "-q", name], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


# Modules for example-site.conf, and for most sites of tests.
MODULES = ("authn_core", "authz_core", "authz_host", "authz_user", "dbd", "env", "headers",
           "reqtimeout", "setenvif", "socache_shmcb", "ssl", "unique_id", "oauth2")


def is_sanitized(module):
    """Was the module built with AddressSanitizer?"""
    return b"__asan_init" in pathlib.Path(module).read_bytes()


class Httpd(Server):
    """An httpd with this module and a given site.

    `modules` and `mpm` are names without mod_; `registration` is the module to load, or None;
    `site` is configuration text; `descriptors` are open files that httpd inherits; `within` is
    a command that runs it. With `valgrind` it runs under valgrind, with the Makefile's options,
    and `findings` is its log.
    """

    program = "apache2"

    def __init__(self, directory, site, port=None, mpm="event", modules=MODULES,
                 registration=MODULE, log_level="warn", valgrind=False, descriptors=(),
                 within=()):
        super().__init__(directory, port or free_port())
        self.valgrind = valgrind
        self.findings = Log(self.directory / "valgrind.log", r".")
        self.site = site
        self.mpm = mpm
        self.modules = modules
        self.registration = registration
        self.log_level = log_level
        self.descriptors = descriptors
        self.within = within
        self.pid_file = self.directory / "httpd.pid"
        self.configuration_file = self.directory / "httpd.conf"
        self.console = self.directory / "console.log"
        # Warnings and worse, crashes, and lines not written by httpd's own logging. Except
        # AH01882, which says that OpenSSL was updated, and AH03093: a connection was to be
        # kept open while httpd was stopping.
        self.log = Log(self.directory / "error.log",
                       r"^\[[^]]*\] \[\w*:(warn|error|crit|alert|emerg)\](?!.* AH(01882|03093): )"
                       r"|^(?!\[)\S|AH0005[12]")

    def configuration(self):
        library = apxs("LIBEXECDIR")
        yield f'ServerRoot "{self.directory}"'
        yield "ServerName https://localhost"   # As if behind a TLS proxy.
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
            # Two permanent child processes: one that ends for lack of load closes its idle
            # connections just when a test reuses them. The other slots are for graceful
            # restarts.
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
        # It contains the database's password.
        self.configuration_file.unlink(missing_ok=True)
        with open(self.configuration_file, "w", opener=private) as file:
            file.write("\n".join(self.configuration()) + "\n")

    def command(self, *arguments):
        valgrind = ["valgrind", f"--log-file={self.findings.path}"] if self.valgrind else []
        return [*self.within, *valgrind, f"{apxs('SBINDIR')}/{apxs('progname')}", "-d", str(self.directory),
                "-f", str(self.configuration_file), *arguments]

    def environment(self):
        """Preloads the library of AddressSanitizer if the module needs it."""
        more = {}
        if self.registration and is_sanitized(self.registration):
            library = subprocess.run(["gcc", "-print-file-name=libasan.so"], check=True,
                                     text=True, stdout=subprocess.PIPE).stdout.strip()
            # valgrind looks for leaks: mod_oauth2 has some, and AddressSanitizer cannot
            # attribute them after that library was unloaded.
            options = os.environ.get("ASAN_OPTIONS", "")
            more = {"LD_PRELOAD": os.path.realpath(library),
                    "ASAN_OPTIONS": f"{options}:detect_leaks=0"}
        return environment(**more)

    def starts(self):
        """How often it has loaded its configuration and begun to serve, by its log."""
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
        """The error with which httpd refuses to start, or None if it starts."""
        try:
            self.start()
        except ServerError as error:
            return str(error)
        self.stop()
        return None

    def graceful(self):
        """Reloads the configuration without losing a request; returns when it is loaded."""
        self.write_configuration()
        before = self.starts()
        os.kill(self.pid(), signal.SIGUSR1)
        wait_until(lambda: self.starts() > before, 30, "httpd did not restart")

    def stop(self):
        # httpd 2.4 can crash if it is stopped while its threads close connections: the event
        # MPM closes their sockets twice. This gives the last test's connections time to close.
        time.sleep(0.05)
        self.signal_and_wait(signal.SIGTERM, 30)
