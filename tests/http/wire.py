# SPDX-License-Identifier: Apache-2.0
"""Raw connections, on which a test sends any octets at any time."""

import http.client
import io
import socket
import ssl
import types

import pytest

import log_leaks


class KeptOpen(io.BufferedReader):
    """A reader for consecutive answers, which an answer must not close."""

    def close(self):
        pass


class Wire:
    """A raw connection to an httpd. Answers are read in order.

    Without the certificate of an authority it is plain TCP.
    """

    def __init__(self, httpd, authority=None, timeout=30, receive_buffer=None):
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(timeout)
        plain.connect(("127.0.0.1", httpd.port))
        if authority:
            context = ssl.create_default_context(cafile=str(authority))
            self.socket = context.wrap_socket(plain, server_hostname="localhost")
        else:
            self.socket = plain
        self.file = KeptOpen(self.socket.makefile("rb", buffering=0))

    def send(self, octets):
        log_leaks.record(octets)
        self.socket.sendall(octets)

    def send_no_more(self):
        """Closes the sending side, below TLS, whose shutdown would end reading too."""
        socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def answer(self, method="GET"):
        """The next final answer: status, headers, body."""
        response = http.client.HTTPResponse(self, method=method)
        response.begin()
        return types.SimpleNamespace(status=response.status, headers=response.headers,
                                     body=response.read())

    def is_continued(self):
        """Is the next answer 100? Then it is consumed."""
        if not self.file.peek(12).startswith(b"HTTP/1.1 100"):
            return False
        while self.file.readline() != b"\r\n":
            pass
        return True

    def is_ended(self):
        """Has the server closed the connection without sending more?"""
        try:
            return self.file.read(1) == b""
        except (ConnectionResetError, ssl.SSLEOFError):
            return True

    def makefile(self, *_):
        return self.file

    def close(self):
        self.socket.close()


@pytest.fixture
def wire(httpd, certificates):
    """wire(): a Wire to the shared httpd; wire(httpd): to another httpd, over TLS."""
    made = []

    def make(httpd=httpd, authority=certificates.authority, **options):
        made.append(Wire(httpd, authority, **options))
        return made[-1]
    yield make
    for one in made:
        one.close()


def message(method, path, body=None, token=None, version="HTTP/1.1", **headers):
    """A whole request. `_` in a header's name stands for `-`; None omits the header.

    A body gets a Content-Length unless the headers say otherwise.
    """
    lines = {"Host": "localhost", "Referer": log_leaks.REFERER}
    if token:
        lines["Authorization"] = f"Bearer {token}"
    if body is not None and "Transfer_Encoding" not in headers:
        lines["Content-Length"] = str(len(body))
    lines.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = [f"{method} {path} {version}",
            *(f"{name}: {value}" for name, value in lines.items() if value is not None)]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + (body or b"")


def chunked(body, size=1000):
    """A chunked body."""
    chunks = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
