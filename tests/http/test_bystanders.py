# SPDX-License-Identifier: Apache-2.0
"""One client that asks for much does not slow down others."""

import concurrent.futures
import time

import pytest

from changed import changed_module
from faults import CHILD, GRACE, MODULES, MOUNTS, Caller, database, statuses
from faults import own_postgres, postgres_to_break   # noqa: F401, fixtures

# As in example-site.conf: PostgreSQL gives up a second before the module does.
PATIENT, STATEMENT = 5, "-c statement_timeout=4000"


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        yield pool


@pytest.fixture
def site(start_httpd, postgres_to_break):
    """site(): a Caller of an httpd with one child and the breakable database."""
    def make(*directives, most=8, **httpd):
        return Caller(start_httpd(
            CHILD + MOUNTS
            + database(postgres_to_break.dsn(), most=most, timeout=PATIENT,
                       options=STATEMENT)
            + "".join(f"{line}\n" for line in directives), modules=MODULES, **httpd))
    return make


# --- A call that takes long -----------------------------------------------------------------

def neighbours_of_slow_ones(one, postgres, pool):
    """Requests that wait behind one that is too slow, and in a batch with another; and the
    answers of these two."""
    slow, other, *quick = (postgres.live_session() for _ in range(5))
    assert one.register(quick[0]).status_code == 201
    with postgres.slow(10, slow, other):
        culprits = [pool.submit(one.register, slow)]
        time.sleep(0.3)
        neighbours = [pool.submit(one.register, quick[n % 3]) for n in range(5)]
        time.sleep(0.1)
        culprits.append(pool.submit(one.register, other))
        time.sleep(0.1)
        neighbours += [pool.submit(one.register, quick[n % 3]) for n in range(20)]
        return ([answer.result() for answer in neighbours],
                [answer.result() for answer in culprits])


def test_a_slow_request_fails_alone(site, postgres_to_break, pool):
    neighbours, culprits = neighbours_of_slow_ones(site(), postgres_to_break, pool)
    assert statuses(neighbours) == [201] * 25
    assert statuses(culprits) == [503] * 2
    assert all(answer.seconds < PATIENT + GRACE for answer in neighbours + culprits)


def test_control_without_a_limit_it_takes_its_neighbours_with_it(
        site, postgres_to_break, pool, tmp_path):
    module = changed_module(tmp_path / "changed", "way == SHARED ? shared_limit(deadline) : 0",
                            "0")
    neighbours, _ = neighbours_of_slow_ones(site(registration=module), postgres_to_break,
                                            pool)
    assert statuses(neighbours).count(503) > 10
