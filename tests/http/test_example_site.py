# SPDX-License-Identifier: Apache-2.0
"""example-site.conf, beside its access rules (test_rights.py): slow clients and forged tokens
delay no other client, and the issuer's keys are renewed."""

import concurrent.futures
import contextlib
import glob
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

import servers
from wire import message, wire   # noqa: F401, a fixture

KEYS = servers.ROOT / "conf" / "registration-keys"
THREADS = 128     # of each httpd
PATIENCE = 6      # seconds within which a client is served beside slow ones
BUSY = ("AH00484", "AH10159")   # MaxRequestWorkers reached, or nearly


# --- An issuer -----------------------------------------------------------------------------

class Issuer:
    """Serves a set of keys over HTTP, counts its requests, and can be slow."""

    def __init__(self):
        self.keys = []
        self.requests = 0
        self.redirects = {}   # path: target URL
        self.released = threading.Event()
        self.released.set()
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):   # noqa: N802, name given by the base class
                issuer.requests += 1
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
    """A path that httpd's own user can read."""
    with tempfile.TemporaryDirectory(prefix="registration-") as directory:
        os.chmod(directory, 0o755)
        yield f"{directory}/keys.conf"


def key_of(issuer, **changed):
    return {**json.loads(issuer.jwk()), **changed}


def renew(key_file, *arguments, text=None, expect=0, command=KEYS):
    """Runs registration-keys; its output."""
    result = subprocess.run([sys.executable, "-B", command, "--file", key_file, *arguments],
                            input=text, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=60)
    assert result.returncode == expect, result.stdout
    return result.stdout


def httpd_command(httpd):
    """The command of an httpd, for --httpd."""
    library = [f"{name}={value}" for name, value in httpd.environment().items()
               if name in ("LD_PRELOAD", "ASAN_OPTIONS")]
    return " ".join(["env", *library, *httpd.command()])


@pytest.fixture
def pinned(start_httpd, certificates, issuer, postgres, publisher, key_file):
    """An httpd with the example site, and keys written by registration-keys."""
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

def test_keys_are_renewed_and_not_fetched_by_requests(pinned, publisher, key_file, client,
                                                      issuer):
    other, forger = servers.TokenIssuer(kid="next"), servers.TokenIssuer(kid="no")
    requests = publisher.requests
    httpd = httpd_command(pinned)
    assert status(client, pinned, good_token(issuer)) == 200
    for token in (good_token(other), good_token(forger)):
        assert status(client, pinned, token) == 401
    assert "no change" in renew(key_file, "--renew", "--httpd", httpd)
    assert publisher.requests == requests + 1

    publisher.keys = [key_of(issuer), key_of(other)]
    begins = pinned.starts()
    assert "2 keys" in renew(key_file, "--renew", "--httpd", httpd)
    servers.wait_until(lambda: pinned.starts() > begins, 30, "httpd did not read the keys")
    servers.wait_until(lambda: status(client, pinned, good_token(other)) == 200, 30,
                       "the new key is not accepted")
    assert status(client, pinned, good_token(issuer)) == 200
    assert status(client, pinned, good_token(forger)) == 401


def test_invalid_key_set_changes_nothing(pinned, publisher, key_file, issuer):
    with open(key_file) as file:
        before = file.read()
    good = key_of(issuer)
    for keys in ([], [{"kty": "oct", "k": "c2VjcmV0"}], [{**good, "use": "enc"}],
                 [{**good, "n": '"\nLoadModule x'}], [{**good, "kid": "${REGISTRATION_HOST}"}],
                 [{**good, "kid": 1}], [None], {"a": 1}, "text"):
        publisher.keys = keys
        output = renew(key_file, "--renew", expect=1)
        assert "registration-keys: " in output and "Traceback" not in output
    publisher.close()
    assert "registration-keys: " in renew(key_file, "--renew", expect=1)
    assert "https://" in renew(key_file, "http://id.example.org/", expect=1)
    with open(key_file) as file:
        assert file.read() == before


def test_each_redirect_target_is_checked(publisher, key_file, issuer):
    publisher.keys = [key_of(issuer)]
    base = publisher.url.removesuffix("/jwks.json")
    # Refused: a host name may resolve to another machine.
    other = base.replace("127.0.0.1", "localhost")
    publisher.redirects = {"/good": f"{base}/next", "/next": publisher.url,
                           "/bad": f"{other}/back", "/back": publisher.url}
    assert "1 keys" in renew(key_file, f"{base}/good")
    with open(key_file) as file:
        before = file.read()
    output = renew(key_file, f"{base}/bad", expect=1)
    assert f"leads to {other}/back, which is not https://" in output
    output = renew(key_file, base.replace("127.0.0.1:", "127.0.0.1:x@localhost:"), expect=1)
    assert "https:// only" in output
    with open(key_file) as file:
        assert file.read() == before


# Commands instead of httpd: one that fails with -t, one that fails to reload.
FAILING = {"test": "false", "reload": "sh -c '[ $1 = -t ]' sh"}


def keys_are_restored(publisher, key_file, issuer, httpd, command=KEYS):
    """Whether the file is unchanged after a renewal whose reload of httpd fails."""
    with open(key_file) as file:
        before = file.read()
    publisher.keys = [key_of(issuer, kid="another")]
    assert "as they were" in renew(key_file, "--renew", "--httpd", httpd, expect=1,
                                   command=command)
    with open(key_file) as file:
        return file.read() == before


@pytest.mark.parametrize("failing", FAILING)
def test_failed_reload_restores_old_keys(pinned, publisher, key_file, issuer, failing):
    assert keys_are_restored(publisher, key_file, issuer, FAILING[failing])


@pytest.mark.parametrize("failing", FAILING)
def test_control_unrestored_keys_are_detected(pinned, publisher, key_file, issuer,
                                              failing, tmp_path):
    text = KEYS.read_text()
    assert text.count("replace(path, before)") == 2
    command = tmp_path / "registration-keys"
    command.write_text(text.replace("replace(path, before)", "pass"))
    assert not keys_are_restored(publisher, key_file, issuer, FAILING[failing], command)


def test_private_part_of_key_is_not_written(key_file, issuer):
    renew(key_file, text=json.dumps({"keys": [{**key_of(issuer), "d": "secret"}]}))
    with open(key_file) as file:
        text = file.read()
    assert "secret" not in text and text.count("OAuth2TokenVerify jwk") == 1


# --- Keys for mod_auth_openidc -------------------------------------------------------------

def key_files(key_file):
    """The files that a file of registration-keys names, and those that are there."""
    with open(key_file) as file:
        named = re.findall(r'(?m)^OIDCOAuthVerifyCertFiles "(?:[^#"]*#)?(.*)"$', file.read())
    return sorted(named), sorted(glob.glob(f"{os.path.dirname(key_file)}/*.pem"))


def test_rsa_keys_are_files_for_mod_auth_openidc(key_file, issuer):
    anonymous = key_of(servers.TokenIssuer())
    del anonymous["kid"]
    curve = {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "curve"}
    said = renew(key_file, "--openidc",
                 text=json.dumps({"keys": [key_of(issuer), anonymous, curve]}))
    assert "2 keys" in said
    with open(key_file) as file:
        text = file.read()
    assert text.count("OIDCOAuthVerifyCertFiles") == text.count('.pem"') == 2
    assert f'"{issuer.kid}#{key_file[:-5]}-' in text and "OAuth2" not in text
    named, there = key_files(key_file)
    assert named == there and len(there) == 2
    texts = [pathlib.Path(name).read_bytes() for name in there]
    assert issuer.public_pem() in texts


@pytest.mark.parametrize("exponent, size", [(3, 1024), (65537, 2048), (65537, 3072)])
def test_key_is_written_as_openssl_writes_it(key_file, exponent, size):
    issuer = servers.TokenIssuer()
    issuer.key = rsa.generate_private_key(public_exponent=exponent, key_size=size)
    renew(key_file, "--openidc", text=json.dumps({"keys": [key_of(issuer)]}))
    [name] = key_files(key_file)[1]
    assert pathlib.Path(name).read_bytes() == issuer.public_pem()


def test_invalid_keys_for_mod_auth_openidc_change_nothing(key_file, issuer):
    good = key_of(issuer)
    renew(key_file, "--openidc", text=json.dumps({"keys": [good]}))
    with open(key_file) as file:
        before = file.read()
    for keys in ([{**good, "n": "~~~~"}], [{**good, "n": "A"}], [{**good, "e": "=="}], [],
                 [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]):
        said = renew(key_file, text=json.dumps({"keys": keys}), expect=1)
        assert "registration-keys: " in said and "Traceback" not in said
    with open(key_file) as file:
        assert file.read() == before
    named, there = key_files(key_file)
    assert named == there and len(there) == 1


@pytest.mark.parametrize("failing", FAILING)
def test_failed_reload_restores_old_key_files(publisher, key_file, issuer, failing):
    publisher.keys = [key_of(issuer)]
    renew(key_file, "--openidc", publisher.url)
    before = key_files(key_file)
    publisher.keys = [key_of(servers.TokenIssuer())]
    assert "as they were" in renew(key_file, "--renew", "--httpd", FAILING[failing], expect=1)
    assert key_files(key_file) == before and before[0] == before[1]


# --- Forged tokens while the issuer is slow ------------------------------------------------

def with_jwks_uri(site, publisher):
    """The site as it was once: httpd fetches the issuer's keys itself."""
    return site.replace("Include ${REGISTRATION_TOKEN_KEYS}", "OAuth2TokenVerify jwks_uri "
                        f"{publisher.url} ${{REGISTRATION_TOKEN_OPTIONS}}")


def is_served(wire, httpd):   # noqa: F811
    """Is a request without token answered?"""
    try:
        one = wire(httpd, timeout=PATIENCE)
        one.send(message("GET", "/openapi.json", Connection="close"))
        return one.answer().status == 200
    except OSError:
        return False


def at_once(count, function):
    """Calls the function `count` times; a connection without a thread times out."""
    def one(_):
        with contextlib.suppress(OSError):
            function()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))


def send_forged_tokens(wire, httpd):   # noqa: F811
    """Sends one forged token per thread of httpd."""
    forger = servers.TokenIssuer(kid="forged")
    at_once(THREADS, lambda: wire(httpd, timeout=PATIENCE).send(
        message("GET", "/nothing", token=good_token(forger))))


def test_forged_tokens_delay_no_request(pinned, publisher, wire):   # noqa: F811
    publisher.released.clear()
    requests = publisher.requests
    send_forged_tokens(wire, pinned)
    assert is_served(wire, pinned)
    assert publisher.requests == requests


def test_control_forged_tokens_with_jwks_uri_block_all_threads(pinned, publisher, wire,
                                                               expect_log):   # noqa: F811
    expect_log(*BUSY)
    pinned.stop()
    pinned.site = with_jwks_uri(pinned.site, publisher)
    pinned.start()
    publisher.released.clear()
    requests = publisher.requests
    send_forged_tokens(wire, pinned)
    servers.wait_until(lambda: publisher.requests >= requests + THREADS - 4, 30,
                       "few were fetched")
    assert not is_served(wire, pinned)
    publisher.released.set()


# --- Slow bodies ---------------------------------------------------------------------------

class SlowBodies:
    """One request without token per thread, whose body never ends. Its rate is above the
    former MinRate."""

    def __init__(self, wire, httpd):   # noqa: F811
        self.begin = lambda: self.open.append(begin_post(wire(httpd, timeout=PATIENCE)))
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


def begin_post(one):
    one.send(message("POST", "/v1/families", Content_Length="1000000",
                     Content_Type="application/json"))
    return one


def test_slow_bodies_block_threads_only_briefly(start_httpd, wire, expect_log):   # noqa: F811
    expect_log(*BUSY)
    httpd = start_httpd()
    with SlowBodies(wire, httpd):
        time.sleep(8)
        assert is_served(wire, httpd)


def test_control_slow_bodies_without_time_limit_block_all_threads(start_httpd, wire,
                                                                  expect_log):   # noqa: F811
    expect_log(*BUSY)
    httpd = start_httpd(change=lambda site: site.replace(
        "body=5-20,MinRate=50000", "body=10,MinRate=500"))
    with SlowBodies(wire, httpd):
        time.sleep(8)
        assert not is_served(wire, httpd)


def test_body_over_limit_is_413_at_once(start_httpd, wire, admin_token):   # noqa: F811
    one = wire(start_httpd())
    one.send(message("POST", "/v1/families", Content_Length="1048577", token=admin_token,
                     Content_Type="application/json"))
    assert one.answer().status == 413


# --- Headers -------------------------------------------------------------------------------

def test_server_header_has_no_version_and_hsts_is_set(anonymous):
    answer = anonymous.get("/openapi.json")
    assert answer.headers["Server"] == "Apache"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
