# SPDX-License-Identifier: Apache-2.0
"""What example-site.conf promises beside who may do what (test_rights.py): that slow clients
and forged tokens hold up no other client, and that the issuer's keys are renewed."""

import concurrent.futures
import contextlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

import pytest

import servers
from wire import message, wire   # noqa: F401, a fixture

KEYS = servers.ROOT / "conf" / "registration-keys"
THREADS = 128     # of the servers that the tests start
PATIENCE = 6      # seconds within which a client is served while others are slow
BUSY = ("AH00484", "AH10159")   # all threads, or nearly, are in use


# --- An issuer -----------------------------------------------------------------------------

class Issuer:
    """Serves a set of keys over HTTP, counts who asks, and can be slow."""

    def __init__(self):
        self.keys = []
        self.asked = 0
        self.redirects = {}   # from a path, to an address
        self.released = threading.Event()
        self.released.set()
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):   # noqa: N802, the name it has there
                issuer.asked += 1
                issuer.released.wait(30)
                body = json.dumps({"keys": issuer.keys}).encode()
                target = issuer.redirects.get(self.path)
                with contextlib.suppress(OSError):
                    self.send_response(302 if target else 200)
                    if target:
                        self.send_header("Location", target)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def publisher():
    one = Issuer()
    yield one
    one.close()


@pytest.fixture
def key_file():
    """Where httpd's own user can read it."""
    with tempfile.TemporaryDirectory(prefix="registration-") as directory:
        os.chmod(directory, 0o755)
        yield f"{directory}/keys.conf"


def key_of(issuer, **changed):
    return {**json.loads(issuer.jwk()), **changed}


def renew(key_file, *arguments, text=None, expect=0, command=KEYS):
    """Runs registration-keys and gives what it says."""
    result = subprocess.run([sys.executable, "-B", command, "--file", key_file, *arguments],
                            input=text, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=60)
    assert result.returncode == expect, result.stdout
    return result.stdout


@pytest.fixture
def pinned(start_httpd, certificates, issuer, postgres, publisher, key_file):
    """An httpd with the example site, whose keys registration-keys has written."""
    publisher.keys = [key_of(issuer)]
    renew(key_file, publisher.url)

    def site(_):
        return servers.strict_site(port, certificates, issuer, postgres, key_file)
    port = servers.free_port()
    httpd = start_httpd(change=site, start=False)
    httpd.port = port
    httpd.start()
    return httpd


def status(client, httpd, token):
    return client(token, httpd).get("/api/v1/event-registrations").status_code


def good_token(issuer, **more):
    return issuer.token("somebody", org="987e6543-e21a-34b5-c678-426614174000",
                        scope=servers.ALL_SCOPES, **more)


# --- Keys ----------------------------------------------------------------------------------

def test_keys_are_renewed_and_no_request_fetches_them(pinned, publisher, key_file, client,
                                                      issuer):
    other, forger = servers.TokenIssuer(kid="next"), servers.TokenIssuer(kid="no")
    asked = publisher.asked
    library = [f"{name}={value}" for name, value in pinned.environment().items()
               if name in ("LD_PRELOAD", "ASAN_OPTIONS")]
    httpd = " ".join(["env", *library, *pinned.command()])
    assert status(client, pinned, good_token(issuer)) == 200
    for token in (good_token(other), good_token(forger)):
        assert status(client, pinned, token) == 401
    assert "no change" in renew(key_file, "--renew", "--httpd", httpd)
    assert publisher.asked == asked + 1

    publisher.keys = [key_of(issuer), key_of(other)]
    begins = pinned.starts()
    assert "2 keys" in renew(key_file, "--renew", "--httpd", httpd)
    servers.wait_until(lambda: pinned.starts() > begins, 30, "httpd did not read the keys")
    servers.wait_until(lambda: status(client, pinned, good_token(other)) == 200, 30,
                       "the new key is not taken")
    assert status(client, pinned, good_token(issuer)) == 200
    assert status(client, pinned, good_token(forger)) == 401


def test_what_is_no_set_of_keys_changes_nothing(pinned, publisher, key_file, issuer):
    with open(key_file) as file:
        before = file.read()
    good = key_of(issuer)
    for keys in ([], [{"kty": "oct", "k": "c2VjcmV0"}], [{**good, "use": "enc"}],
                 [{**good, "n": '"\nLoadModule x'}], [{**good, "kid": "${REGISTRATION_HOST}"}],
                 [{**good, "kid": 1}], [None], {"a": 1}, "text"):
        publisher.keys = keys
        said = renew(key_file, "--renew", expect=1)
        assert "registration-keys: " in said and "Traceback" not in said
    publisher.close()
    assert "registration-keys: " in renew(key_file, "--renew", expect=1)
    assert "https://" in renew(key_file, "http://id.example.org/", expect=1)
    with open(key_file) as file:
        assert file.read() == before


def test_each_redirect_has_to_be_trusted(publisher, key_file, issuer):
    publisher.keys = [key_of(issuer)]
    base = publisher.url.removesuffix("/jwks.json")
    # Not by its address: for what is known of a name, another machine.
    other = base.replace("127.0.0.1", "localhost")
    publisher.redirects = {"/good": f"{base}/next", "/next": publisher.url,
                           "/bad": f"{other}/back", "/back": publisher.url}
    assert "1 keys" in renew(key_file, f"{base}/good")
    with open(key_file) as file:
        before = file.read()
    said = renew(key_file, f"{base}/bad", expect=1)
    assert f"leads to {other}/back, which is not https://" in said
    said = renew(key_file, base.replace("127.0.0.1:", "127.0.0.1:x@localhost:"), expect=1)
    assert "https:// only" in said
    with open(key_file) as file:
        assert file.read() == before


# Commands in the place of httpd: one that fails with -t, and one that fails to reload.
FAILING = {"test": "false", "reload": "sh -c '[ $1 = -t ]' sh"}


def are_put_back(publisher, key_file, issuer, httpd, command=KEYS):
    """Whether the file is as before, after new keys that httpd was not told to read."""
    with open(key_file) as file:
        before = file.read()
    publisher.keys = [key_of(issuer, kid="another")]
    assert "as they were" in renew(key_file, "--renew", "--httpd", httpd, expect=1,
                                   command=command)
    with open(key_file) as file:
        return file.read() == before


@pytest.mark.parametrize("failing", FAILING)
def test_keys_that_httpd_does_not_read_are_put_back(pinned, publisher, key_file, issuer,
                                                    failing):
    assert are_put_back(publisher, key_file, issuer, FAILING[failing])


@pytest.mark.parametrize("failing", FAILING)
def test_control_keys_that_are_not_put_back_are_noticed(pinned, publisher, key_file, issuer,
                                                        failing, tmp_path):
    text = KEYS.read_text()
    assert text.count("replace(path, before)") == 2
    command = tmp_path / "registration-keys"
    command.write_text(text.replace("replace(path, before)", "pass"))
    assert not are_put_back(publisher, key_file, issuer, FAILING[failing], command)


def test_a_private_part_of_a_key_is_left_out(key_file, issuer):
    renew(key_file, text=json.dumps({"keys": [{**key_of(issuer), "d": "secret"}]}))
    with open(key_file) as file:
        text = file.read()
    assert "secret" not in text and text.count("OAuth2TokenVerify jwk") == 1


# --- Forged tokens, while the issuer is slow -----------------------------------------------

def with_address(site, publisher):
    """As it was: httpd asks the issuer for its keys."""
    return site.replace("Include ${REGISTRATION_TOKEN_KEYS}", "OAuth2TokenVerify jwks_uri "
                        f"{publisher.url} ${{REGISTRATION_TOKEN_OPTIONS}}")


def others_are_served(wire, httpd):   # noqa: F811
    """Is a request that needs no token answered?"""
    try:
        one = wire(httpd, timeout=PATIENCE)
        one.send(message("GET", "/openapi.json", Connection="close"))
        return one.answer().status == 200
    except OSError:
        return False


def at_once(count, function):
    """Calls it so often; a connection that no thread serves is given up."""
    def one(_):
        with contextlib.suppress(OSError):
            function()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))


def forge(wire, httpd):   # noqa: F811
    """A forged token for each thread."""
    forger = servers.TokenIssuer(kid="forged")
    at_once(THREADS, lambda: wire(httpd, timeout=PATIENCE).send(
        message("GET", "/nothing", token=good_token(forger))))


def test_forged_tokens_hold_up_nobody_while_the_issuer_is_slow(pinned, publisher, wire):   # noqa: F811
    publisher.released.clear()
    asked = publisher.asked
    forge(wire, pinned)
    assert others_are_served(wire, pinned)
    assert publisher.asked == asked


def test_control_with_an_address_they_do(pinned, publisher, wire, expect_log):   # noqa: F811
    expect_log(*BUSY)
    pinned.stop()
    pinned.site = with_address(pinned.site, publisher)
    pinned.start()
    publisher.released.clear()
    asked = publisher.asked
    forge(wire, pinned)
    servers.wait_until(lambda: publisher.asked >= asked + THREADS - 4, 30, "few were fetched")
    assert not others_are_served(wire, pinned)
    publisher.released.set()


# --- Slow bodies ---------------------------------------------------------------------------

class SlowBodies:
    """As many as there are threads: without a token, each with a body that never ends, at a
    rate above the least that was asked for before."""

    def __init__(self, wire, httpd):   # noqa: F811
        self.begin = lambda: self.open.append(begun(wire(httpd, timeout=PATIENCE)))
        self.open = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.go_on, daemon=True)

    def go_on(self):
        while not self.ended.wait(1):
            for one in list(self.open):
                with contextlib.suppress(OSError):
                    one.socket.sendall(b" " * 600)

    def __enter__(self):
        self.thread.start()
        at_once(THREADS, self.begin)
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        for one in self.open:
            with contextlib.suppress(OSError):
                one.send_no_more()


def begun(one):
    one.send(message("POST", "/v1/families", Content_Length="1000000",
                     Content_Type="application/json"))
    return one


def test_slow_bodies_hold_up_nobody_for_long(start_httpd, wire, expect_log):   # noqa: F811
    expect_log(*BUSY)
    httpd = start_httpd()
    with SlowBodies(wire, httpd):
        time.sleep(8)
        assert others_are_served(wire, httpd)


def test_control_without_an_end_they_do(start_httpd, wire, expect_log):   # noqa: F811
    expect_log(*BUSY)
    httpd = start_httpd(change=lambda site: site.replace(
        "body=5-20,MinRate=50000", "body=10,MinRate=500"))
    with SlowBodies(wire, httpd):
        time.sleep(8)
        assert not others_are_served(wire, httpd)


def test_a_body_that_could_not_be_read_is_not_waited_for(start_httpd, wire, admin_token):   # noqa: F811
    one = wire(start_httpd())
    one.send(message("POST", "/v1/families", Content_Length="1048577", token=admin_token,
                     Content_Type="application/json"))
    assert one.answer().status == 413


# --- Headers -------------------------------------------------------------------------------

def test_no_version_is_told_and_browsers_stay_with_tls(anonymous):
    answer = anonymous.get("/openapi.json")
    assert answer.headers["Server"] == "Apache"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
