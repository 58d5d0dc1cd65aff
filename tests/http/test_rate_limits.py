# SPDX-License-Identifier: Apache-2.0
"""Rate limits by conf/rate-limit.conf, with Debian's own mod_qos and mod_security2.

Limits are made small here, and each test has callers and addresses of its own. Any address
of 127.0.0.0/8 can be a client's.
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
MANY = 30000   # more requests than a test makes
QOS_REFUSES = r"\[qos:error\] .* mod_qos\(067\): access denied"


@pytest.fixture
def data():
    """A directory that httpd's own user can enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="registration-") as directory:
        os.chmod(directory, 0o777)
        yield directory


@pytest.fixture
def limited(data, start_httpd):   # In this order: httpd writes there until it is stopped.
    """limited(CALLER_LIMIT=3): an httpd with these of the example's values, which the site
    includes by itself; `change` makes the site from that, and `more` are directives."""
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
    """caller(httpd): a client with all scopes, by a name nobody else has."""
    def make(httpd=None):
        token = issuer.token(secrets.token_hex(8), scope=ALL_SCOPES)
        return client(token, httpd) if httpd else client(token)
    return make


class At(requests.adapters.HTTPAdapter):
    """Sends from one local address."""

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
    """How many registrations there are, of all APIs."""
    return lambda: sql("SELECT (SELECT count(*) FROM live_registrations)"
                       " + (SELECT count(*) FROM group_members)"
                       " + (SELECT count(*) FROM families)"
                       " + (SELECT count(*) FROM event_registrations)")[0][0]


@pytest.fixture
def register(good):   # noqa: F811
    """register(client, "families"): a good request of the API, and its answer."""
    def send(client, api):
        one = good(api)
        return client.post(one.path, json=one.body)
    return send


def statuses(answers):
    return [answer.status_code for answer in answers]


# --- Callers -------------------------------------------------------------------------------

def test_a_caller_over_the_limit_is_429_in_the_shape_of_the_api_and_nothing_is_done(
        limited, caller, register, rows):
    httpd = limited(CALLER_LIMIT=3)
    for api in APIS:
        one = caller(httpd)
        assert statuses(register(one, api) for _ in range(3)) == [201] * 3
        before = rows()
        answer = register(one, api)
        check_error(answer, api, 429)
        assert answer.headers["Retry-After"] == "60"
        check_error(one.get(post_path(api)), api, 429)   # a GET is a request as well
        assert rows() == before
        assert register(caller(httpd), api).status_code == 201


def test_without_the_limits_as_many_requests_are_done(caller, register):
    for api in APIS:
        one = caller()
        assert statuses(register(one, api) for _ in range(5)) == [201] * 5


def test_a_limit_holds_over_connections_and_child_processes(limited, caller, register):
    one = caller(limited(CALLER_LIMIT=20))
    one.headers["Connection"] = "close"
    assert statuses(register(one, "live") for _ in range(25)) == [201] * 20 + [429] * 5


def test_a_path_can_have_a_limit_of_its_own(limited, caller, register):
    one = caller(limited(FAMILY_LIMIT=2))
    assert statuses(register(one, "families") for _ in range(3)) == [201, 201, 429]
    assert statuses(register(one, "live") for _ in range(5)) == [201] * 5
    check_error(register(one, "families"), "families", 429)


def test_who_has_waited_as_long_as_told_is_let_in_again(limited, caller, register):
    one = caller(limited(CALLER_LIMIT=2, LIMIT_SECONDS=3))
    assert statuses(register(one, "live") for _ in range(2)) == [201] * 2
    answer = register(one, "live")
    check_error(answer, "live", 429)
    time.sleep(int(answer.headers["Retry-After"]) + 1)
    assert register(one, "live").status_code == 201


def test_of_many_callers_at_once_none_is_refused_under_the_limit(limited, caller, good,   # noqa: F811
                                                                 at_once):
    httpd = limited(CALLER_LIMIT=10)
    callers = [(caller(httpd), [good("live") for _ in range(10)]) for _ in range(16)]

    def register_all(number):
        one, requests_ = callers[number]
        return statuses(one.post(each.path, json=each.body) for each in requests_)
    assert at_once(16, register_all) == [[201] * 10] * 16


def test_of_one_callers_many_requests_at_once_few_pass_beyond_the_limit(limited, caller, good,   # noqa: F811
                                                                    at_once):
    """mod_security2 counts a request when it has been answered, a moment after that."""
    httpd = limited(CALLER_LIMIT=40)
    one = caller(httpd)
    todo = [[good("live") for _ in range(20)] for _ in range(16)]
    done = sum(at_once(16, lambda number: statuses(
        one.post(each.path, json=each.body) for each in todo[number])), [])
    assert set(done) == {201, 429}
    assert 40 <= done.count(201) <= 40 + 2 * 16


# --- Addresses -----------------------------------------------------------------------------

def test_an_address_over_the_limit_is_429_whoever_calls(limited, caller, register, client,
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


def test_a_bad_token_is_counted_as_well(limited, client, expect_log):
    expect_log(QOS_REFUSES)
    one = move(client("nonsense", limited(ADDRESS_LIMIT=5)), "127.0.1.1")
    path = post_path("live")
    assert statuses(one.post(path, json={}) for _ in range(6)) == [401] * 4 + [429] * 2


def test_an_address_is_counted_exactly_by_all_child_processes(limited, caller, good,   # noqa: F811
                                                              at_once, expect_log):
    expect_log(QOS_REFUSES)
    httpd = limited(ADDRESS_LIMIT=41)
    callers = [(caller(httpd), [good("live") for _ in range(5)]) for _ in range(16)]

    def register_all(number):
        one, requests_ = callers[number]
        return statuses(one.post(each.path, json=each.body) for each in requests_)
    done = sum(at_once(16, register_all), [])
    assert (done.count(201), done.count(429)) == (40, 40)


def test_an_address_that_goes_on_asking_is_let_in_again_all_the_same(limited, caller,
                                                                     register, expect_log):
    expect_log(QOS_REFUSES)
    one = caller(limited(ADDRESS_LIMIT=3, LIMIT_SECONDS=3))
    seen = []
    deadline = time.monotonic() + 30
    while seen[-2:] != [429, 201] and time.monotonic() < deadline:
        seen.append(register(one, "live").status_code)
        time.sleep(0.2)
    assert seen[:2] == [201, 201] and seen[-2:] == [429, 201]


# --- All requests, and those without a good token ------------------------------------------

# Ways to write the path of an API that httpd takes for the same, and others.
SPELLINGS = ["/%76%31/sessions/{}/register", "/x/../v1/sessions/{}/register",
             "/./v1//sessions/{}/register", "//v1/sessions/{}/register", "/nothing/{}",
             "/%66amilies/{}", "/openapi.json?{}"]


def without_counting(site):
    """As it was: what counts is the path as it was sent."""
    return site.replace('SetEnvIf Request_URI "."', 'SetEnvIf Request_URI "^/(v1|api/v1)/"')


def send_as_spelled(wire, httpd, spelling, times, token=None):
    """The statuses of so many requests, each on a connection of its own."""
    found = []
    for number in range(times):
        one = wire(httpd)
        one.send(message("GET", spelling.format(number), token=token, Connection="close"))
        found.append(one.answer().status)
    return found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_of_a_path_counts_for_its_address(limited, wire, expect_log, spelling):   # noqa: F811
    expect_log(QOS_REFUSES)
    found = send_as_spelled(wire, limited(ADDRESS_LIMIT=5), spelling, 7)
    assert 429 not in found[:4] and found[4:] == [429] * 3, found


@pytest.mark.parametrize("spelling", [spelling for spelling in SPELLINGS
                                      if not spelling.startswith("//")])   # merged by httpd
def test_control_counted_by_the_path_as_sent_they_pass(limited, wire, spelling):   # noqa: F811
    found = send_as_spelled(wire, limited(change=without_counting, ADDRESS_LIMIT=5), spelling, 7)
    assert 429 not in found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_of_a_path_counts_for_its_caller(limited, wire, issuer, spelling):   # noqa: F811
    token = issuer.token(secrets.token_hex(8), scope=ALL_SCOPES)
    found = send_as_spelled(wire, limited(CALLER_LIMIT=3), spelling, 5, token)
    if "openapi" in spelling:   # It takes no token, so it has no caller.
        assert set(found) == {200}
    else:
        assert 429 not in found[:3] and found[3:] == [429] * 2, found


def is_connected(wire, httpd, token=None):   # noqa: F811
    """Does it get an answer?"""
    try:
        return bool(send_as_spelled(wire, httpd, "/nothing/{}", 1, token))
    except OSError:
        return False


def test_an_address_without_a_good_token_is_refused_at_last(limited, wire, expect_log):   # noqa: F811
    expect_log(r"\[qos:error\] .* mod_qos\(060\): access denied")
    httpd = limited(REFUSED_LIMIT=5, LIMIT_SECONDS=4)
    assert send_as_spelled(wire, httpd, "/nothing/{}", 5, "forged") == [401] * 5
    # A request is counted when it has been answered, which the client may see before.
    servers.wait_until(lambda: not is_connected(wire, httpd, "forged"), 20, "it is let in")
    servers.wait_until(lambda: is_connected(wire, httpd), 20, "it was not let in again")


def test_control_without_the_limit_it_goes_on(limited, wire):   # noqa: F811
    httpd = limited(change=lambda site: site.replace("QS_SetEnvIfStatus 401 QS_Block", ""),
                    REFUSED_LIMIT=5)
    assert send_as_spelled(wire, httpd, "/nothing/{}", 12, "forged") == [401] * 12


@pytest.mark.parametrize("modules", [(), ("qos",), ("security2",)], ids=str)
def test_the_site_starts_with_any_of_the_modules(limited, caller, register, modules):
    assert register(caller(limited(modules=modules)), "live").status_code == 201
