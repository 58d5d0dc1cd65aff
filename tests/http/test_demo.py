# SPDX-License-Identifier: Apache-2.0
"""Another user of this machine gets nothing from the servers of the demo and the tests."""

import json
import stat
import subprocess

import pytest

import servers

NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def asks_as_nobody(postgres, user, **more):
    """The exit status of psql, run by a user of this machine who has nothing."""
    become = NOBODY if servers.IS_ROOT else []
    variables = {**postgres.variables(user), "PGPASSFILE": "/nonexistent", **more}
    return subprocess.run([*become, "psql", "-X", "-w", "-c", "SELECT 1"], cwd="/",
                          env=servers.environment(HOME="/nonexistent", **variables),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


@pytest.mark.parametrize("user", ["postgres", "registration"])
def test_another_user_is_not_let_into_the_database(postgres, user, expect_log):
    expect_log("FATAL:  password authentication failed")
    assert asks_as_nobody(postgres, user) == 2
    assert asks_as_nobody(postgres, user, PGPASSWORD="wrong") == 2
    # The control: who has the password is.
    assert asks_as_nobody(postgres, user, PGPASSWORD=postgres.password) == 0


def test_an_older_one_that_lets_everybody_in_is_closed(tmp_path):
    postgres = servers.Postgres(tmp_path / "old")
    try:
        postgres.start()
        postgres.psql("-c", "ALTER ROLE postgres PASSWORD NULL", database="postgres")
        rules = postgres.data / "pg_hba.conf"
        rules.write_text(rules.read_text().replace("scram-sha-256", "trust"))
        postgres.stop()
        postgres.passfile.unlink()
        postgres.start()
        assert postgres.psql("-c", "SELECT 1", database="postgres") == "1"
        servers.wait_until(lambda: asks_as_nobody(postgres, "postgres", PGDATABASE="postgres")
                           == 2, 10, "everybody is let in")
    finally:
        postgres.stop()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_secret_is_not_for_all_to_read(postgres, httpd, tmp_path):
    assert mode(postgres.passfile) == mode(httpd.configuration_file) == 0o600
    if servers.Explorer.is_there():
        servers.Explorer(tmp_path / "explorer", "secret")
        token = tmp_path / "explorer" / "token.json"
        assert json.loads(token.read_text()) == {"token": "secret"}
        assert mode(token) == (0o640 if servers.IS_ROOT else 0o600)
