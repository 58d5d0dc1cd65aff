# SPDX-License-Identifier: Apache-2.0
"""Base classes and functions of both servers."""

import contextlib
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = pathlib.Path(
    os.environ.get("REGISTRATION_MODULE", ROOT / "build" / "mod_registration.so"))
# The directory with the bin/postgres to test, or None.
POSTGRES = os.environ.get("REGISTRATION_POSTGRES") and pathlib.Path(
    os.environ["REGISTRATION_POSTGRES"]).resolve()
IS_ROOT = os.geteuid() == 0


class ServerError(Exception):
    """A server did not start or stop; the text says why."""


def free_port():
    """A port that is free until a server takes it: below the ephemeral ports, and not one of
    another worker."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8
    while True:
        port = random.randrange(11000 + worker, 32768, 8)
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ServerError(f"{what} within {seconds} seconds")
        time.sleep(0.02)


def environment(**more):
    """This process's environment without libpq's variables. The clients of the PostgreSQL that
    REGISTRATION_POSTGRES names come first in PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    if POSTGRES:
        kept["PATH"] = f"{POSTGRES}/bin:{kept['PATH']}"
    return {**kept, **more}


def can_bind(address):
    """Does this machine have that loopback address? Many containers lack IPv6."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.bind((address, 0))
        return True
    except OSError:
        return False


def private(path, flags):
    """An opener for files that only their owner may read."""
    return os.open(path, flags, 0o600)


def resident(pid, field="VmRSS"):
    """The resident memory of a process, in MiB; with VmHWM its peak."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024


class Log:
    """A server's log, and the offset up to which it was read."""

    def __init__(self, path, unwanted):
        self.path = pathlib.Path(path)
        self.unwanted = re.compile(unwanted)
        self.offset = self.size()

    def size(self):
        return self.path.stat().st_size if self.path.exists() else 0

    def text(self):
        return self.path.read_text(errors="replace") if self.path.exists() else ""

    def unread(self):
        """The complete lines written since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        data = data[:data.rfind(b"\n") + 1]
        self.offset += len(data)
        return data.decode(errors="replace").splitlines()

    def problems(self, expected=()):
        """Unread lines that are unwanted and match no pattern in `expected`."""
        return [line for line in self.unread()
                if self.unwanted.search(line)
                and not any(re.search(pattern, line) for pattern in expected)]


class Server:
    """A server: its directory, process and log.

    An earlier program may have started it: its process is found by its pid file, and
    recognized by is_own().
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
