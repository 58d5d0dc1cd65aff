# SPDX-License-Identifier: Apache-2.0
"""Password hashing for families: refused requests hash nothing; others are not delayed."""

import concurrent.futures
import os
import time

import pytest

import changed
import servers
from conftest import new_object_id, new_uuid
from faults import (GRACE, MODULES, MOUNTS, OUTAGE, Caller, Meanwhile, children, database,
                    two_hosts)
from samples import family

PATH = "/v1/families"
CROWD = 100
TIMEOUT = 5
THREADS = 128

SITE = f"""
ServerLimit 1
StartServers 1
ThreadLimit {THREADS}
ThreadsPerChild {THREADS}
MaxRequestWorkers {THREADS}
MinSpareThreads 1
MaxSpareThreads {THREADS}
"""

# A password not hashed before the deadline, or too late for the database call.
LATE = ("REG0315: ", *OUTAGE, "REG0312")

# One hash of this cost takes longer than hundreds of requests without a hash.
EXPENSIVE = 14


@pytest.fixture
def site(start_httpd, postgres):
    """site(cost): a Caller of an httpd with one child process and that bcrypt cost."""
    def make(cost, hashing=1, timeout=TIMEOUT, **options):
        mounts = MOUNTS.replace("RegistrationPasswordCost 4", f"RegistrationPasswordCost {cost}")
        assert mounts != MOUNTS or cost == 4
        text = (SITE + mounts + database(postgres.dsn("registration"), timeout=timeout)
                + f"RegistrationHashing {hashing}\n")
        return Caller(start_httpd(text, modules=MODULES, **options))
    return make


@pytest.fixture
def school(institution, child):
    made = institution()
    return made, [child(made)]


def processor_time(httpd):
    """Seconds of processor time of the child process."""
    [pid] = children(httpd.pid())
    with open(f"/proc/{pid}/stat") as stat:
        times = stat.read().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def measure(one, function):
    """A function's result, and the processor time it took."""
    before = processor_time(one.httpd)
    result = function()
    return result, processor_time(one.httpd) - before


def send_refused(one, school, taken, key, body):
    """Sends each kind of request that is refused or replayed without a hash; the statuses."""
    institution, pupils = school
    answers = [
        one.post(PATH, json=family(institution, pupils, username=taken)),
        one.post(PATH, json=family(institution, [new_object_id()])),
        one.post(PATH, json=family(new_object_id(), pupils)),
        one.post(PATH, json=body, headers={"Idempotency-Key": key}),
        one.post(PATH, json={**body, "username": "another"}, headers={"Idempotency-Key": key})]
    return [answer.status_code for answer in answers]


def check_refusals_hash_nothing(site, school, **options):
    """Ten refused requests take less processor time than one hash."""
    cheap, expensive = site(4), site(EXPENSIVE, timeout=20, **options)
    key, body = new_uuid(), family(*school)
    assert cheap.post(PATH, json=body, headers={"Idempotency-Key": key}).status_code == 201

    def ask():
        for _ in range(2):
            assert send_refused(expensive, school, body["username"], key, body) == [
                409, 400, 400, 201, 422]
    _, refusals = measure(expensive, ask)
    answer, hash = measure(expensive, lambda: expensive.post(PATH, json=family(*school)))
    assert answer.status_code == 201
    assert refusals < hash


def test_refused_requests_hash_nothing(site, school):
    check_refusals_hash_nothing(site, school)


def test_control_hashing_first_makes_refusals_expensive(site, school, tmp_path):
    module = changed.changed_module(
        tmp_path / "hashed_first",
        "if (answer.outcome == REG_ACCEPTABLE) {\n        add_hash",
        "answer.outcome = REG_ACCEPTABLE;\n    {\n        add_hash")
    with pytest.raises(AssertionError):
        check_refusals_hash_nothing(site, school, registration=module)


def test_concurrent_refused_requests_are_answered_at_once(site, school, at_once):
    """Unknown children cost one database call."""
    one = site(EXPENSIVE)
    answers, seconds = measure(one, lambda: at_once(
        CROWD, lambda _: one.post(PATH, json=family(school[0], [new_object_id()]))))
    assert {answer.status_code for answer in answers} == {400}
    assert max(answer.seconds for answer in answers) < TIMEOUT
    assert seconds < CROWD * 0.02


def test_concurrent_requests_with_one_key_hash_few(site, school, at_once):
    one, body, key = site(EXPENSIVE, timeout=40), family(*school), new_uuid()
    _, hash = measure(one, lambda: one.post(PATH, json=family(*school)))
    answers, seconds = measure(one, lambda: at_once(
        20, lambda _: one.post(PATH, json=body, headers={"Idempotency-Key": key})))
    assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}
    assert seconds < 10 * hash


# --- Several hosts -------------------------------------------------------------------------

TWO_COSTS = """
<Location "/cheap">
    RegistrationAPI families
    RegistrationPasswordCost 4
    Require all granted
</Location>
<Location "/dear">
    RegistrationAPI families
    RegistrationPasswordCost 16
    Require all granted
</Location>
"""


def rest_of_expensive_hash(start_httpd, postgres, school, hashing):
    """While one host makes an expensive hash, another is asked for a cheap one. Returns the
    fraction of the expensive hash that is computed after the cheap one was answered."""
    site = f"RegistrationHashing {hashing}\n" + two_hosts(
        *2 * [postgres.dsn("registration")], TWO_COSTS, timeout=40)
    httpd = start_httpd(site, modules=MODULES)
    one, two = (Caller(httpd, f"{name}.example.org") for name in ("one", "two"))

    def register_at(caller, path):
        answer = caller.post(path, json=family(*school), timeout=60)
        assert answer.status_code == 201, answer.text
    _, hash = measure(one, lambda: register_at(one, "/dear"))
    register_at(two, "/cheap")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        before = processor_time(httpd)
        expensive = pool.submit(register_at, one, "/dear")
        servers.wait_until(lambda: processor_time(httpd) > before + hash / 20, 30,
                           "nothing was hashed")
        register_at(two, "/cheap")
        _, rest = measure(one, expensive.result)
    return rest / hash


def test_hosts_of_child_process_share_hashing_limit(start_httpd, postgres, school):
    """Negative control: with RegistrationHashing 2 both hash at the same time."""
    assert rest_of_expensive_hash(start_httpd, postgres, school, hashing=1) < 0.3
    assert rest_of_expensive_hash(start_httpd, postgres, school, hashing=2) > 0.3


# --- Other requests ------------------------------------------------------------------------

def register_crowd(one, school, at_once):
    """Registers CROWD families at once; the answers."""
    return at_once(CROWD, lambda _: one.post(PATH, json=family(*school)))


class Neighbour(Meanwhile):
    """Registers for a live session in a loop."""

    def __init__(self, one, session):
        self.one = one
        self.session = session
        self.took = []

    def go_on(self):
        while not self.ended.is_set():
            answer = self.one.register(self.session)
            assert answer.status_code == 201, answer.text
            self.took.append(answer.seconds)


def test_concurrent_families_are_answered_in_time(site, school, at_once, sql, expect_log):
    expect_log(*LATE)
    one = site(cost=13, timeout=3)
    answers = register_crowd(one, school, at_once)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {201, 503}
    assert statuses.count(201) >= 1
    # A hash that has begun is not cancelled, and takes longer on a busy machine.
    assert max(answer.seconds for answer in answers) < 3 + 3 * GRACE
    confirmed = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert confirmed <= {id for id, in sql("SELECT id FROM families WHERE institution_id = %s",
                                           school[0])}
    send_refused = next(answer for answer in answers if answer.status_code == 503)
    assert send_refused.json()["message"] == "Service unavailable."
    assert "Retry-After" in send_refused.headers


def register_beside_crowd(one, school, at_once, live_session, seconds=4):
    """The number of registrations for a live session during many requests for families."""
    end = time.monotonic() + seconds

    def ask(_):
        while time.monotonic() < end:
            one.post(PATH, json=family(*school))
    with Neighbour(Caller(one.httpd), live_session()) as neighbour:
        at_once(CROWD, ask)
    return len(neighbour.took)


def test_other_requests_are_not_delayed_by_hashing(site, school, at_once, live_session,
                                                   expect_log):
    """Negative control: without the limit they are."""
    expect_log(*LATE)
    unbounded = register_beside_crowd(site(10, hashing=1000), school, at_once, live_session)
    bounded = register_beside_crowd(site(10), school, at_once, live_session)
    assert bounded > 3 * unbounded
