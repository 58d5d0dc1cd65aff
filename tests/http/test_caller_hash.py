# SPDX-License-Identifier: Apache-2.0
"""Logs identify a caller by a keyed hash, never by name."""

import re
import secrets
import struct

import pytest

import servers
from apis import MOUNTS
from conftest import ORGANIZATION, new_uuid

KEY = "000102030405060708090a0b0c0d0e0f"
FORMAT = 'ErrorLogFormat "[%t] [%-m:%l] [%L] %M"\n'


MASK = (1 << 64) - 1


def rotate(number, bits):
    return (number << bits | number >> (64 - bits)) & MASK


def mix(v, count):
    """Rounds of SipHash."""
    for _ in range(count):
        v[0] = (v[0] + v[1]) & MASK
        v[1] = rotate(v[1], 13) ^ v[0]
        v[0] = rotate(v[0], 32)
        v[2] = (v[2] + v[3]) & MASK
        v[3] = rotate(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & MASK
        v[3] = rotate(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & MASK
        v[1] = rotate(v[1], 17) ^ v[2]
        v[2] = rotate(v[2], 32)


def siphash(key, text):
    """SipHash-2-4 as its paper defines it, in hex."""
    k0, k1 = struct.unpack("<QQ", bytes.fromhex(key))
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
         k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]
    octets = text.encode()
    padded = octets + bytes(7 - len(octets) % 8) + bytes([len(octets) & 255])
    for word, in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        mix(v, 2)
        v[0] ^= word
    v[2] ^= 255
    mix(v, 4)
    return f"{v[0] ^ v[1] ^ v[2] ^ v[3]:016x}"


def test_siphash_matches_test_vector_of_paper():
    """Appendix A: the message is the octets 0 to 14."""
    assert siphash(KEY, bytes(range(15)).decode()) == "a129ca6149be45e5"


def logged(httpd, answer):
    """The caller's hash in the access log, in front of the request id."""
    found = rf" (\S+) {re.escape(answer.headers['X-Request-Id'])} "
    servers.wait_until(lambda: re.search(found, (httpd.directory / "access.log").read_text()),
                       10, "nothing was logged")
    return re.search(found, (httpd.directory / "access.log").read_text())[1]


@pytest.fixture
def ask(client, issuer):
    """ask(name, httpd): an error answer to the caller of that name."""
    def ask(name, httpd, scope=""):
        return client(issuer.token(name, org=ORGANIZATION, scope=scope), httpd).post(
            f"/v1/sessions/{new_uuid()}/register", json={"patient_id": "p"})
    return ask


def test_access_log_has_caller_hash_of_configured_key(start_httpd, ask):
    httpd = start_httpd(inside=f"RegistrationLogKey {KEY}")
    for name in ("me", secrets.token_hex(20), "Jos\u00e9"):
        assert logged(httpd, ask(name, httpd)) == siphash(KEY, name)
    other = start_httpd(inside=f"RegistrationLogKey {KEY[::-1]}")
    assert logged(other, ask("me", other)) == siphash(KEY[::-1], "me") != siphash(KEY, "me")


def test_hash_without_configured_key_is_the_same_until_httpd_stops(start_httpd, ask,
                                                                   anonymous, client):
    httpd = start_httpd()
    mine = {logged(httpd, ask("me", httpd)) for _ in range(10)}
    assert len(mine) == 1 and re.fullmatch("[0-9a-f]{16}", *mine)
    assert logged(httpd, ask("you", httpd)) not in mine
    assert logged(httpd, client(None, httpd).get("/api/v1/event-registrations")) == "-"
    httpd.graceful()
    mine |= {logged(httpd, ask("me", httpd)) for _ in range(10)}
    assert len(mine) == 1
    # Negative control: another key gives another hash.
    other = start_httpd()
    assert logged(other, ask("me", other)) not in mine


def refusals(httpd):
    return [line for line in httpd.log.text().splitlines() if "REG0206" in line]


def test_denied_request_is_logged_with_request_id_and_caller_hash(start_httpd, client,
                                                                  issuer, ask):
    """Under the example site's LogLevel, though the server's own is Debian's warn."""
    httpd = start_httpd(inside=f"{FORMAT}RegistrationLogKey {KEY}", log_level="warn")
    name = secrets.token_hex(8)
    one = client(issuer.token(name, org=ORGANIZATION), httpd)
    answer = one.post(MOUNTS["families"], json={"username": secrets.token_hex(8)})
    assert answer.status_code == 403
    servers.wait_until(lambda: refusals(httpd), 10, "REG0206 was not logged")
    [line] = refusals(httpd)
    assert "registration:info" in line and f"[{answer.headers['X-Request-Id']}]" in line
    assert siphash(KEY, name) in line and name not in line
    assert logged(httpd, answer) == siphash(KEY, name)
    # Other errors are not logged as denied.
    assert ask(name, httpd).status_code == 404
    assert client(None, httpd).post(MOUNTS["families"], json={}).status_code == 401
    assert len(refusals(httpd)) == 1


def test_denied_request_with_error_document_is_logged(start_httpd, client, issuer):
    httpd = start_httpd(inside=f"{FORMAT}RegistrationLogKey {KEY}\nErrorDocument 403 /refused")
    answer = client(issuer.token("me", org=ORGANIZATION), httpd).post(
        MOUNTS["families"], json={})
    assert answer.status_code == 403
    servers.wait_until(lambda: refusals(httpd), 10, "REG0206 was not logged")
    assert siphash(KEY, "me") in (httpd.directory / "access.log").read_text()
