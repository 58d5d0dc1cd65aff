# SPDX-License-Identifier: Apache-2.0
"""Other users of the machine cannot use the servers of the demo and the tests."""

import json
import stat
import subprocess

import pytest

import servers

NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def psql_as_nobody(postgres, user, **more):
    """The exit status of psql, run by a user of this machine without any rights."""
    become = NOBODY if servers.IS_ROOT else []
    variables = {**postgres.variables(user), "PGPASSFILE": "/nonexistent", **more}
    return subprocess.run([*become, "psql", "-X", "-w", "-c", "SELECT 1"], cwd="/",
                          env=servers.environment(HOME="/nonexistent", **variables),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


@pytest.mark.parametrize("user", ["postgres", "registration"])
def test_other_system_user_cannot_log_in(postgres, user, expect_log):
    expect_log("FATAL:  password authentication failed")
    assert psql_as_nobody(postgres, user) == 2
    assert psql_as_nobody(postgres, user, PGPASSWORD="wrong") == 2
    # Negative control: with the password it can.
    assert psql_as_nobody(postgres, user, PGPASSWORD=postgres.password) == 0


def test_older_server_with_trust_authentication_is_fixed(tmp_path):
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
        servers.wait_until(lambda: psql_as_nobody(postgres, "postgres", PGDATABASE="postgres")
                           == 2, 10, "no password is required")
    finally:
        postgres.stop()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_secret_files_are_not_world_readable(postgres, httpd, tmp_path):
    assert mode(postgres.passfile) == mode(httpd.configuration_file) == 0o600
    if servers.Explorer.is_there():
        servers.Explorer(tmp_path / "explorer", "secret")
        token = tmp_path / "explorer" / "token.json"
        assert json.loads(token.read_text()) == {"token": "secret"}
        assert mode(token) == (0o640 if servers.IS_ROOT else 0o600)
