# SPDX-License-Identifier: Apache-2.0
"""Which connections are kept alive where a child process is short of threads: the event MPM
closes kept-alive connections when all threads are busy, also one with an unread request."""

import concurrent.futures
import http.client
import http.server
import json
import pathlib
import subprocess
import threading
import time

import pytest

import servers
from changed import changed_module
from conftest import new_uuid
from faults import CHILD, MODULES, MOUNTS, database, own_postgres, postgres_to_break   # noqa: F401

THREADS = 8
ROOM = 6        # connections that are kept when threads are short
WAITING = 20    # connections that wait to be accepted

CLIENTS = 3 * THREADS
REQUESTS = 40   # of each


@pytest.fixture
def start(start_httpd, postgres_to_break, expect_log):
    """start(): an httpd with one child process that has few threads."""
    expect_log("AH00484: ", "AH10159: ")    # MaxRequestWorkers reached, or almost

    def start(more="", modules=(), **options):
        site = (CHILD.replace("64", str(THREADS)) + MOUNTS + database(postgres_to_break.dsn())
                + f"RegistrationBatchSize {THREADS}\nMaxKeepAliveRequests 0\n{more}")
        return start_httpd(site, modules=(*MODULES, *modules), **options)
    return start


class Client:
    """A connection to an httpd; a new one after each that was closed."""

    def __init__(self, httpd, session):
        self.path = f"/v1/sessions/{session}/register"
        self.connection = http.client.HTTPConnection("127.0.0.1", httpd.port, timeout=30)

    def send(self):
        self.connection.request("POST", self.path, json.dumps({"patient_id": new_uuid()}),
                                {"Content-Type": "application/json", "Host": "localhost"})

    def receive(self):
        """Whether the answer closes the connection."""
        answer = self.connection.getresponse()
        answer.read()
        assert answer.status == 201
        return answer.getheader("Connection") == "close"

    def register(self):
        self.send()
        return self.receive()

    def lost(self, requests):
        """How many of these requests meet a closed connection."""
        lost = 0
        for _ in range(requests):
            try:
                self.register()
            except (http.client.RemoteDisconnected, ConnectionError):
                lost += 1
                self.connection.close()
        return lost


def clients(httpd, session, count):
    return [Client(httpd, session) for _ in range(count)]


def unread(httpd, state):
    """What httpd has not read, of each of its sockets in this state, as Linux shows it."""
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[4].split(":")[1], 16) for row in rows
            if row[1] == f"0100007F:{httpd.port:04X}" and row[3] == state]


def waiting(httpd):
    """The number of connections that wait to be accepted."""
    [number] = unread(httpd, "0A")      # LISTEN
    return number


def has_read(httpd, requests):
    """Whether httpd has read so many requests, one of each connection."""
    return unread(httpd, "01") == [0] * requests    # ESTABLISHED


def register_at_once(httpd, postgres, session, busy):
    """Registers by all these clients at a time; for each whether its answer closes its
    connection."""
    with postgres.locked(session):
        for client in busy:
            client.send()
        servers.wait_until(lambda: has_read(httpd, len(busy)), 10, "requests were not read")
        time.sleep(0.1)     # until they are queued
    return [client.receive() for client in busy]


def test_idle_process_keeps_more_connections_than_threads(start, postgres_to_break):
    httpd, session = start(), postgres_to_break.live_session()
    many = clients(httpd, session, THREADS + 4)
    assert [client.register() for client in 2 * many] == [False] * 2 * len(many)


def test_process_short_of_threads_keeps_fewer_connections_than_threads(start,
                                                                       postgres_to_break):
    httpd, session = start(), postgres_to_break.live_session()
    busy = clients(httpd, session, THREADS)
    assert not any([client.register() for client in busy])
    closed = register_at_once(httpd, postgres_to_break, session, busy)
    # Two that decide at the same time may both close.
    assert THREADS - ROOM <= sum(closed) <= THREADS - ROOM + 2
    kept = [client for client, is_closed in zip(busy, closed) if not is_closed]
    assert not any([client.register() for client in kept])


class Backend(http.server.BaseHTTPRequestHandler):
    """A server behind mod_proxy, which answers ROOM requests at a time."""
    protocol_version = "HTTP/1.1"
    together = threading.Barrier(ROOM)

    def do_GET(self):   # noqa: N802, the name that http.server calls
        self.together.wait(30)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def backend():
    """The port of a server that keeps connections."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_connections_to_backends_are_not_counted(start, postgres_to_break, backend):
    httpd = start(f'ProxyPass "/other" "http://127.0.0.1:{backend}/"\n',
                  modules=("proxy", "proxy_http"))
    session = postgres_to_break.live_session()
    busy = clients(httpd, session, ROOM)
    for client in busy:
        client.connection.request("GET", "/other", headers={"Host": "localhost"})
    for client in busy:
        assert client.connection.getresponse().read() == b""
    assert register_at_once(httpd, postgres_to_break, session, busy) == [False] * ROOM


# A library that sets httpd's clock back by an hour when a file is not empty. It opens the file
# before httpd changes its user.
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
static int file;
__attribute__((constructor)) static void open_file(void)
{
    file = open("%s", O_RDONLY);
}
int gettimeofday(struct timeval *time, void *zone)
{
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int rv = real(time, zone);
    struct stat status;

    time->tv_sec -= fstat(file, &status) == 0 && status.st_size > 0 ? 3600 : 0;
    return rv;
}
"""


def test_process_is_not_short_of_threads_after_clock_is_set_back(start, postgres_to_break,
                                                                 tmp_path):
    file, source, library = (tmp_path / name for name in ("set_back", "clock.c", "clock.so"))
    file.touch()
    source.write_text(CLOCK % file)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    httpd, session = start(start=False), postgres_to_break.live_session()
    variables = httpd.environment()
    variables["LD_PRELOAD"] = f"{variables.get('LD_PRELOAD', '')} {library}"
    httpd.environment = lambda: variables
    httpd.start()
    busy = clients(httpd, session, THREADS)
    assert any(register_at_once(httpd, postgres_to_break, session, busy))
    file.write_text("set back")
    assert [client.register() for client in 2 * busy] == [False] * 2 * THREADS


def test_process_short_of_threads_keeps_no_connection_while_others_wait(start,
                                                                        postgres_to_break):
    httpd, session = start(), postgres_to_break.live_session()
    busy = clients(httpd, session, THREADS)
    others = clients(httpd, session, WAITING)
    with postgres_to_break.locked(session):
        for client in busy:
            client.send()
        # All threads are busy when the first of the others is not accepted.
        for client in others:
            client.send()
        servers.wait_until(lambda: waiting(httpd) == WAITING, 10, "connections were accepted")
    assert [client.receive() for client in busy] == [True] * THREADS
    for client in others:
        client.receive()


def share_lost(httpd, postgres):
    """The share of requests that meet a closed connection, of more clients than threads."""
    session = postgres.live_session()
    with postgres.slow(0.02, session), concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        lost = pool.map(lambda client: client.lost(REQUESTS), clients(httpd, session, CLIENTS))
        return sum(lost) / (CLIENTS * REQUESTS)


def test_requests_of_more_clients_than_threads_meet_no_closed_connection(start,
                                                                         postgres_to_break):
    assert share_lost(start(), postgres_to_break) <= 0.01


def test_control_without_the_decision_requests_meet_closed_connections(
        start, postgres_to_break, tmp_path):
    module = changed_module(tmp_path / "changed", "if (threads == 0 || !connection",
                            "if (1 || !connection")
    assert share_lost(start(registration=module), postgres_to_break) > 0.03
