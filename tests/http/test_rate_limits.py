# SPDX-License-Identifier: Apache-2.0
"""Rate limits of conf/rate-limit.conf, with Debian's mod_qos and mod_security2.

The tests lower the limits, and each has its own callers and addresses. A client can have any
address of 127.0.0.0/8.
"""

import os
import pathlib
import re
import secrets
import tempfile
import time

import pytest
import requests

import servers
from apis import APIS, check_error, good, post_path   # noqa: F401, a fixture
from conftest import ALL_SCOPES
from wire import message, wire   # noqa: F401, a fixture

PCRE = pathlib.Path("/usr/lib/x86_64-linux-gnu/libpcre.so.3")
MANY = 30000   # more requests than any test makes
QOS_REFUSES = r"\[qos:error\] .* mod_qos\(067\): access denied"


@pytest.fixture
def data():
    """A directory that httpd's own user can write to, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="registration-") as directory:
        os.chmod(directory, 0o777)
        yield directory


@pytest.fixture
def limited(data, start_httpd):   # In this order: httpd writes there until it is stopped.
    """limited(CALLER_LIMIT=3): an httpd whose site includes the example with these values;
    `change` modifies the site, and `more` adds directives."""
    def start(change=str, more="", modules=("qos", "security2"), **values):
        values = {"ADDRESS_LIMIT": MANY, "REFUSED_LIMIT": MANY, "CALLER_LIMIT": MANY,
                  "FAMILY_LIMIT": MANY, **values}
        example = (servers.ROOT / "conf" / "rate-limit.conf").read_text()
        for name, value in values.items():
            example, found = re.subn(rf"(?m)^(Define REGISTRATION_{name} +).*$",
                                     rf"\g<1>{value}", example)
            assert found == 1, name
        file = pathlib.Path(data, "rate-limit.conf")
        file.write_text(example)
        library = servers.apxs("LIBEXECDIR")
        loads = [f"LoadModule {name}_module {library}/mod_{name}.so" for name in modules]
        if PCRE.exists():
            loads.insert(0, f"LoadFile {PCRE}")

        def named(site):
            site, found = re.subn(r"(?m)^(Define REGISTRATION_RATE_LIMIT +).*$",
                                  rf'\g<1>"{file}"', site)
            assert found == 1
            data_directory = f"SecDataDir {data}" if "security2" in modules else ""
            return "\n".join([*loads, data_directory, change(site)])
        return start_httpd(change=named, inside=more)
    return start


@pytest.fixture
def caller(client, issuer):
    """caller(httpd): a client with all scopes and a unique name."""
    def make(httpd=None):
        token = issuer.token(secrets.token_hex(8), scope=ALL_SCOPES)
        return client(token, httpd) if httpd else client(token)
    return make


class At(requests.adapters.HTTPAdapter):
    """Sends from the given local address."""

    def __init__(self, address):
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments, **options):
        super().init_poolmanager(*arguments, source_address=(self.address, 0), **options)


def move(client, address):
    client.mount("https://", At(address))
    return client


@pytest.fixture
def rows(sql):
    """The number of registrations in all APIs."""
    return lambda: sql("SELECT (SELECT count(*) FROM live_registrations)"
                       " + (SELECT count(*) FROM group_members)"
                       " + (SELECT count(*) FROM families)"
                       " + (SELECT count(*) FROM event_registrations)")[0][0]


@pytest.fixture
def register(good):   # noqa: F811
    """register(client, "families"): sends a valid request of the API; the answer."""
    def send(client, api):
        one = good(api)
        return client.post(one.path, json=one.body)
    return send


def statuses(answers):
    return [answer.status_code for answer in answers]


# --- Callers -------------------------------------------------------------------------------

def test_caller_over_limit_is_429_without_effect(limited, caller, register, rows):
    httpd = limited(CALLER_LIMIT=3)
    for api in APIS:
        one = caller(httpd)
        assert statuses(register(one, api) for _ in range(3)) == [201] * 3
        before = rows()
        answer = register(one, api)
        check_error(answer, api, 429)
        assert answer.headers["Retry-After"] == "60"
        check_error(one.get(post_path(api)), api, 429)   # a GET counts as well
        assert rows() == before
        assert register(caller(httpd), api).status_code == 201


def test_control_without_limits_all_requests_succeed(caller, register):
    for api in APIS:
        one = caller()
        assert statuses(register(one, api) for _ in range(5)) == [201] * 5


def test_limit_applies_across_connections_and_child_processes(limited, caller, register):
    one = caller(limited(CALLER_LIMIT=20))
    one.headers["Connection"] = "close"
    assert statuses(register(one, "live") for _ in range(25)) == [201] * 20 + [429] * 5


def test_path_can_have_its_own_limit(limited, caller, register):
    one = caller(limited(FAMILY_LIMIT=2))
    assert statuses(register(one, "families") for _ in range(3)) == [201, 201, 429]
    assert statuses(register(one, "live") for _ in range(5)) == [201] * 5
    check_error(register(one, "families"), "families", 429)


def test_caller_is_accepted_again_after_retry_after(limited, caller, register):
    one = caller(limited(CALLER_LIMIT=2, LIMIT_SECONDS=3))
    assert statuses(register(one, "live") for _ in range(2)) == [201] * 2
    answer = register(one, "live")
    check_error(answer, "live", 429)
    time.sleep(int(answer.headers["Retry-After"]) + 1)
    assert register(one, "live").status_code == 201


def test_concurrent_callers_under_limit_are_not_refused(limited, caller, good,   # noqa: F811
                                                        at_once):
    httpd = limited(CALLER_LIMIT=10)
    callers = [(caller(httpd), [good("live") for _ in range(10)]) for _ in range(16)]

    def register_all(number):
        one, requests_ = callers[number]
        return statuses(one.post(each.path, json=each.body) for each in requests_)
    assert at_once(16, register_all) == [[201] * 10] * 16


def test_concurrent_requests_of_caller_are_limited(limited, caller, good,   # noqa: F811
                                                                    at_once):
    """mod_security2 counts a request a moment after its answer."""
    httpd = limited(CALLER_LIMIT=40)
    one = caller(httpd)
    todo = [[good("live") for _ in range(20)] for _ in range(16)]
    done = sum(at_once(16, lambda number: statuses(
        one.post(each.path, json=each.body) for each in todo[number])), [])
    assert set(done) == {201, 429}
    assert 40 <= done.count(201) <= 40 + 2 * 16


# --- Addresses -----------------------------------------------------------------------------

def test_address_over_limit_is_429_for_any_caller(limited, caller, register, client,
                                                  rows, expect_log):
    expect_log(QOS_REFUSES)
    httpd = limited(ADDRESS_LIMIT=5)
    for number, api in enumerate(APIS):
        here, there = f"127.0.1.{number}", f"127.0.2.{number}"
        assert statuses(register(move(caller(httpd), here), api)
                        for _ in range(4)) == [201] * 4
        before = rows()
        answer = register(move(caller(httpd), here), api)
        check_error(answer, api, 429)
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert rows() == before
        assert register(move(caller(httpd), there), api).status_code == 201


def test_request_with_invalid_token_counts(limited, client, expect_log):
    expect_log(QOS_REFUSES)
    one = move(client("nonsense", limited(ADDRESS_LIMIT=5)), "127.0.1.1")
    path = post_path("live")
    assert statuses(one.post(path, json={}) for _ in range(6)) == [401] * 4 + [429] * 2


def test_address_is_counted_exactly_over_child_processes(limited, caller, good,   # noqa: F811
                                                         at_once, expect_log):
    expect_log(QOS_REFUSES)
    httpd = limited(ADDRESS_LIMIT=41)
    callers = [(caller(httpd), [good("live") for _ in range(5)]) for _ in range(16)]

    def register_all(number):
        one, requests_ = callers[number]
        return statuses(one.post(each.path, json=each.body) for each in requests_)
    done = sum(at_once(16, register_all), [])
    assert (done.count(201), done.count(429)) == (40, 40)


def test_address_that_keeps_sending_is_accepted_again(limited, caller,
                                                      register, expect_log):
    expect_log(QOS_REFUSES)
    one = caller(limited(ADDRESS_LIMIT=3, LIMIT_SECONDS=3))
    seen = []
    deadline = time.monotonic() + 30
    while seen[-2:] != [429, 201] and time.monotonic() < deadline:
        seen.append(register(one, "live").status_code)
        time.sleep(0.2)
    assert seen[:2] == [201, 201] and seen[-2:] == [429, 201]


# --- Spellings of a path, and requests without a valid token -------------------------------

# Equivalent spellings of an API's path for httpd, and other paths.
SPELLINGS = ["/%76%31/sessions/{}/register", "/x/../v1/sessions/{}/register",
             "/./v1//sessions/{}/register", "//v1/sessions/{}/register", "/nothing/{}",
             "/%66amilies/{}", "/openapi.json?{}"]


def count_sent_paths(site):
    """The former example, which counted by the path as sent."""
    return site.replace('SetEnvIf Request_URI "."', 'SetEnvIf Request_URI "^/(v1|api/v1)/"')


def send_as_spelled(wire, httpd, spelling, times, token=None):
    """The statuses of that many requests, each on a new connection after the one before."""
    found = []
    for number in range(times):
        one = wire(httpd)
        one.send(message("GET", spelling.format(number), token=token, Connection="close"))
        found.append(one.answer().status)
        assert one.is_ended()   # then the request has been counted
    return found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_of_path_counts_for_address(limited, wire, expect_log, spelling):   # noqa: F811
    expect_log(QOS_REFUSES)
    found = send_as_spelled(wire, limited(ADDRESS_LIMIT=5), spelling, 7)
    assert 429 not in found[:4] and found[4:] == [429] * 3, found


@pytest.mark.parametrize("spelling", [spelling for spelling in SPELLINGS
                                      if not spelling.startswith("//")])   # merged by httpd
def test_control_counting_sent_paths_misses_requests(limited, wire, spelling):   # noqa: F811
    httpd = limited(change=count_sent_paths, ADDRESS_LIMIT=5)
    found = send_as_spelled(wire, httpd, spelling, 7)
    assert 429 not in found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_of_path_counts_for_caller(limited, wire, issuer, spelling):   # noqa: F811
    token = issuer.token(secrets.token_hex(8), scope=ALL_SCOPES)
    found = send_as_spelled(wire, limited(CALLER_LIMIT=3), spelling, 5, token)
    if "openapi" in spelling:   # It needs no token, so there is no caller.
        assert set(found) == {200}
    else:
        assert 429 not in found[:3] and found[3:] == [429] * 2, found


def is_connected(wire, httpd, token=None):   # noqa: F811
    """Is a request answered?"""
    try:
        return bool(send_as_spelled(wire, httpd, "/nothing/{}", 1, token))
    except OSError:
        return False


def test_address_without_valid_token_is_blocked(limited, wire, expect_log):   # noqa: F811
    expect_log(r"\[qos:error\] .* mod_qos\(060\): access denied")
    httpd = limited(REFUSED_LIMIT=5, LIMIT_SECONDS=4)
    assert send_as_spelled(wire, httpd, "/nothing/{}", 5, "forged") == [401] * 5
    # A request is counted a moment after its answer.
    servers.wait_until(lambda: not is_connected(wire, httpd, "forged"), 20, "it is not blocked")
    servers.wait_until(lambda: is_connected(wire, httpd), 20, "it is still blocked")


def test_control_without_block_invalid_tokens_are_not_limited(limited, wire):   # noqa: F811
    httpd = limited(change=lambda site: site.replace("QS_SetEnvIfStatus 401 QS_Block", ""),
                    REFUSED_LIMIT=5)
    assert send_as_spelled(wire, httpd, "/nothing/{}", 12, "forged") == [401] * 12


@pytest.mark.parametrize("modules", [(), ("qos",), ("security2",)], ids=str)
def test_site_starts_with_any_subset_of_modules(limited, caller, register, modules):
    assert register(caller(limited(modules=modules)), "live").status_code == 201
