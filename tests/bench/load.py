# SPDX-License-Identifier: Apache-2.0
"""Load generators: wrk for httpd, pgbench for PostgreSQL."""

import dataclasses
import http.client
import json
import pathlib
import re
import signal
import ssl
import statistics
import subprocess
import threading
import time

import servers

SCRIPT = pathlib.Path(__file__).with_name("load.lua")
LONGEST = 60        # seconds that a run may exceed its time
SLOWEST = 1000      # lowest expected requests per second
SETTLED = 6         # seconds after which no answer is on its way: RegistrationTimeout

# Placeholders in a request, with an example of the same length.
PLACES = {"{unique}": "00000000-0000-4000-8000-000000000000", "{next}": "00000000",
          "{pick}": "000000000000"}


class Wrong(Exception):
    """The run is invalid; the text describes why."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that wrk repeats, with placeholders: see load.lua."""

    method: str
    path: str
    body: str = ""
    expected: int = 201     # the status of its answers
    pick: int = 1
    words: tuple = ()

    def filled(self, text):
        """The text with its placeholders replaced, for a request sent here."""
        if not text:
            return text
        for place, example in PLACES.items():
            text = text.replace(place, example)
        return text.replace("{word}", self.words[0] if self.words else "")

    def headers(self, token=None):
        headers = {"Host": "localhost"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if self.body:
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(self.filled(self.body)))
        return headers

    def text(self, token=None):
        lines = [f"{self.method} {self.path} HTTP/1.1",
                 *(f"{name}: {value}" for name, value in self.headers(token).items())]
        return "\r\n".join(lines) + "\r\n\r\n" + self.body

    def probe(self, port, token=None, tls=False):
        """Sends the request once and checks the status; the body of the answer."""
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request(self.method, self.filled(self.path),
                           self.filled(self.body) or None,
                           self.headers(self.filled(token)))
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        if answer.status != self.expected:
            raise Wrong(f"{self.method} {self.path}: {answer.status} {body}")
        return body


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a run of wrk; each request was answered, or met a closed connection."""

    rate: float         # answers per second
    median: float       # median seconds of an answer
    p99: float          # seconds that one answer of a hundred exceeds
    closed: float       # share of the requests that met a closed connection
    answered: int
    refused: int        # answers with status 400 or above
    created: int        # answers with status 201, if counted


def run_wrk(port, request, directory, seconds=0, warmup=0, requests=0, connections=64,
            token=None, tls=False, statuses=False, closes=False):
    """Sends a request for some seconds, or a number of times, on all connections.

    With `closes`, httpd may close many connections to which a request has been sent.
    """
    threads = min(2, connections)
    options = {"request": directory / "request", "warmup": warmup, "seconds": seconds,
               "threads": threads, "connections": connections // threads,
               "pick": request.pick}
    options["request"].write_text(request.text(token))
    if request.words:
        options["words"] = directory / "words"
        options["words"].write_text("".join(f"{word}\n" for word in request.words))
    for name, value in (("requests", requests), ("tls", tls), ("statuses", statuses)):
        if value:
            options[name] = int(value)
    command = ["wrk", "-t", threads, "-c", connections, "-d", 3600, "--timeout", LONGEST,
               "-s", SCRIPT, f"{'https' if tls else 'http'}://127.0.0.1:{port}", "--",
               *(f"{name}={value}" for name, value in options.items())]
    process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=servers.environment())
    guard = threading.Timer(warmup + seconds + requests / SLOWEST + LONGEST, process.kill)
    guard.start()
    try:
        wait_for_quiet(process, threads)
        if closes:
            # wrk takes an idle connection that is closed for two: it may be quiet too early.
            time.sleep(SETTLED)
        process.send_signal(signal.SIGINT)      # makes wrk end early, with a summary
        output = process.communicate(timeout=LONGEST)[0]
    finally:
        guard.cancel()
        process.kill()
        process.wait()
    result = json.loads(re.search(r"^RESULT (.*)$", output, re.M)[1])
    # httpd may close an idle connection just when the next request is sent. Such a request is
    # never read, as the rows show.
    lost = result["sent"] - result["answered"]
    if (result["broken"] or not 0 <= lost <= result["closed"]
            or (result["closed"] > result["answered"] / 100 and not closes)):
        raise Wrong(f"not every request was answered: {result}")
    if result["refused"] and not statuses:
        raise Wrong(f"{result['refused']} of {result['answered']} answers were errors")
    rate = result["counted"] / seconds * result["answered"] / result["sent"] if seconds else 0
    return Outcome(rate, result["median"], result["p99"], lost / result["sent"],
                   result["answered"], result["refused"], result["created"])


def wait_for_quiet(process, threads):
    """Waits until each thread of wrk has the answers to all its requests."""
    for _ in range(threads):
        line = process.stderr.readline()
        if line != "quiet\n":
            raise Wrong("wrk did not get all its answers, or failed: "
                        + line + process.stderr.read())


def run_pgbench(postgres, script, directory, seconds, warmup, clients=32):
    """Runs a statement for some seconds, each in a transaction.

    Returns the rate per second after the warm-up, and the total number.
    """
    file = directory / "pgbench.sql"
    file.write_text(script)
    result = subprocess.run(
        [postgres.binary("pgbench"), "-n", "-M", "prepared", "-c", str(clients), "-j", "2",
         "-T", str(warmup + seconds), "-P", "1", "-D", "n=0", "-f", str(file)],
        env=servers.environment(**postgres.variables()), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        raise Wrong(f"pgbench: {result.stderr[-1000:]}")
    rates = [float(rate) for rate in
             re.findall(r"^progress: [\d.]+ s, ([\d.]+) tps", result.stderr, re.M)]
    done = int(re.search(r"transactions actually processed: (\d+)", result.stdout)[1])
    return statistics.mean(rates[warmup:]), done
