# SPDX-License-Identifier: Apache-2.0
"""Calls that are in progress while the schema is upgraded."""

import concurrent.futures
import contextlib
import pathlib
import shutil

import psycopg2
import pytest

import servers
from test_schema import SQL, command, empty, newest, version_1, versions   # noqa: F401, a fixture

# A function of version 1, which reads a view of version 1 after it has waited.
OLD_FUNCTION = """CREATE FUNCTION registration.old_function() RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(1);
        PERFORM a.event FROM registration.occurrence_answers AS a;
    END $$;
    ALTER FUNCTION registration.old_function() SECURITY DEFINER
        SET search_path = registration, pg_catalog, pg_temp;
    ALTER FUNCTION registration.old_function() OWNER TO registration_owner"""


CALLS_THAT_WAIT, UPGRADES_THAT_WAIT = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    f" AND wait_event = '{event}'" for event in ("advisory", "PgSleep"))


def upgrade_during_call(database, sql):
    """Upgrades version 1 while a call of the module's role waits in OLD_FUNCTION."""
    database.psql("-c", OLD_FUNCTION)
    with contextlib.closing(database.connect()) as holding, \
            contextlib.closing(database.connect("registration")) as calling, \
            concurrent.futures.ThreadPoolExecutor() as pool:
        holding.cursor().execute("SELECT pg_advisory_lock(1)")
        calling.cursor().execute("SET statement_timeout = 0")
        call = pool.submit(calling.cursor().execute, "SELECT registration.old_function()")
        servers.wait_until(lambda: database.psql("-c", CALLS_THAT_WAIT) == "1", 10, "no call waits")
        upgrade = pool.submit(command, database, "upgrade", sql=sql)
        servers.wait_until(lambda: versions(database)[-1] == str(newest()) and
                           (upgrade.done() or database.psql("-c", UPGRADES_THAT_WAIT) == "1"),
                           60, "the upgrade was not committed")
        holding.cursor().execute("SELECT pg_advisory_unlock(1)")
        call.result()
        assert upgrade.result()[0] == 0


def test_upgrade_during_call_drops_its_functions_afterwards(empty, tmp_path):
    assert command(empty, "install", sql=version_1(tmp_path / "sql"))[0] == 0
    upgrade_during_call(empty, SQL)
    assert empty.psql("-c", "SELECT to_regclass('registration.occurrence_answers')") == ""


def test_control_upgrade_that_awaits_no_call_is_detected(empty, tmp_path, expect_log):
    expect_log('relation "registration.occurrence_answers" does not exist')
    assert command(empty, "install", sql=version_1(tmp_path / "sql"))[0] == 0
    hasty = pathlib.Path(shutil.copytree(SQL, tmp_path / "hasty"))
    path = hasty / "migrations" / "0003_unused.sql"
    text = path.read_text()
    assert text.count("AND EXISTS (") == 1
    path.write_text(text.replace("AND EXISTS (", "AND false AND EXISTS ("))
    with pytest.raises(psycopg2.errors.UndefinedTable):
        upgrade_during_call(empty, hasty)
