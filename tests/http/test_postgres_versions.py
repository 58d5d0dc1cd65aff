# SPDX-License-Identifier: Apache-2.0
"""What depends on the installation of PostgreSQL: a version before 14 is refused, up to 14 all
roles may create objects in schema public, and it may lack old names of time zones.

`make check-postgres` runs the tests on another version, `make build/postgres-13` fetches the one
that is refused.
"""

import copy
import re
import secrets
import shutil
import subprocess
import sys

import pytest

import servers
from test_schema import (CHANGE_TIME_ZONES, SQL, UNKNOWN_ZONES, command,   # noqa: F401
                         empty, newest)   # a fixture

sys.path.insert(1, str(servers.ROOT / "tests"))
import documents  # noqa: E402

INSTALLED = (0, f"The schema is at version {newest()}.\n")


@pytest.mark.skipif(not servers.POSTGRES, reason="for make check-postgres")
def test_server_has_the_requested_version(sql):
    said = subprocess.run([f"{servers.POSTGRES}/bin/postgres", "--version"], check=True,
                          text=True, stdout=subprocess.PIPE).stdout
    requested = re.search(r"\(PostgreSQL\) (\S+)", said)[1]
    assert sql("SELECT version()")[0][0].startswith(f"PostgreSQL {requested} ")


def changed_sql(directory, file, text, replacement):
    """A copy of sql/ with another text in one file."""
    shutil.copytree(SQL, directory)
    before = (directory / file).read_text()
    assert before.count(text) == 1
    (directory / file).write_text(before.replace(text, replacement))
    return directory


# --- Before 14 -----------------------------------------------------------------------------

POSTGRES_13 = servers.ROOT / "build" / "postgres-13"
REFUSAL = (r"psql:\S+/server_version\.sql:\d+: ERROR:  mod_registration needs PostgreSQL 14 or"
           r" newer, and this is PostgreSQL 13\.\d+; nothing was changed")


def content(postgres):
    """The names of the databases and roles, and of schemas and extensions in `postgres`."""
    return postgres.psql("-c", """
        SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles
        UNION ALL SELECT nspname FROM pg_namespace UNION ALL SELECT extname FROM pg_extension
        ORDER BY 1""", database="postgres")


@pytest.mark.skipif(not POSTGRES_13.exists(), reason="make build/postgres-13 fetches it")
class TestPostgres13:
    @pytest.fixture(scope="class")
    def old(self, tmp_path_factory):
        old = servers.Postgres(tmp_path_factory.mktemp("old"), programs=POSTGRES_13)
        old.start()
        yield old
        old.stop()

    @pytest.mark.parametrize("arguments", [
        ["install", "--create", "made"], ["install", "postgres"]], ids=" ".join)
    def test_command_refuses_and_changes_nothing(self, old, arguments):
        before = content(old)
        status, text = command(old, *arguments)
        refusal, *rest = text.splitlines()
        assert status == 1 and re.fullmatch(REFUSAL, refusal), text
        assert rest == ["registration-schema: psql failed, see the message above"]
        assert content(old) == before

    def test_psql_refuses_and_changes_nothing(self, old):
        before = content(old)
        with pytest.raises(servers.ServerError) as error:
            old.psql("-f", str(SQL / "install.sql"), database="postgres")
        assert re.fullmatch(rf"psql \S+ \S+: {REFUSAL}\n", str(error.value))
        assert content(old) == before

    def test_control_without_check_installation_fails_later(self, old, tmp_path):
        unchecked = changed_sql(tmp_path / "sql", "server_version.sql", "140000", "130000")
        status, text = command(old, "install", "postgres", sql=unchecked)
        assert status == 1 and "syntax error" in text


# --- Schema public -------------------------------------------------------------------------

def can_create(database, schema):
    """Whether a role of the module creates a table in the schema; it is rolled back."""
    created = []
    for role in ("registration", "registration_admin"):
        try:
            database.psql("-c", f"BEGIN; SET LOCAL ROLE {role}; CREATE TABLE {schema}.x ();"
                                " ROLLBACK")
            created.append(role)
        except servers.ServerError as error:
            assert "permission denied for schema" in str(error)
    return created != []


def documented():
    return documents.commands("docs/operating.md", "Versions of PostgreSQL",
                              "tests/http/test_postgres_versions.py")


def warning(database, subcommand="install"):
    """The schema, the steps and the statement of the warning."""
    status, text = command(database, subcommand)
    assert status == 0
    [named] = re.findall(r"(?m)WARNING:  .* in schema (\S+); to revoke it, (.*)run: (.*)$", text)
    return named


@pytest.mark.parametrize("schema", ["public", '"Shared"'])
@pytest.mark.parametrize("role", ["PUBLIC", "registration", "registration_admin"])
def test_installation_warns_of_schema_with_right_to_create(empty, expect_log, schema, role):
    expect_log("WARNING:  roles of mod_registration have the right to create objects in schema ",
               "ERROR:  permission denied for schema")
    empty.psql("-c", 'CREATE SCHEMA "Shared"')
    assert command(empty, "install") == INSTALLED
    assert not can_create(empty, schema)
    empty.psql("-c", f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}")
    assert can_create(empty, schema)
    for subcommand in ("install", "upgrade"):
        named, steps, statement = warning(empty, subcommand)
        assert (named, steps) == (schema, "")
    if schema == "public":
        assert documented() == f"{statement};\n"
    empty.psql("-c", statement)
    assert not can_create(empty, schema)
    assert command(empty, "install") == INSTALLED


# How a role of the module comes to the right, the step that the warning names, and its statement.
WAYS = {
    "membership": (["GRANT CREATE ON SCHEMA shared TO {other}", "GRANT {other} TO registration"],
                   "end their membership in {other}", "REVOKE {other} FROM registration"),
    "owner of the database": (
        ["ALTER DATABASE {database} OWNER TO registration",
         "REVOKE CREATE ON SCHEMA public FROM pg_database_owner",
         "GRANT CREATE ON SCHEMA shared TO pg_database_owner"],
        "give the database another owner", "ALTER DATABASE {database} OWNER TO postgres"),
    "another grantor": (
        ["GRANT ALL ON SCHEMA shared TO {other} WITH GRANT OPTION",
         "SET ROLE {other}; GRANT CREATE ON SCHEMA shared TO PUBLIC"],
        "revoke the grant of {other}",
        "SET ROLE {other}; REVOKE CREATE ON SCHEMA shared FROM PUBLIC"),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_warning_names_step_that_its_statement_needs(empty, expect_log, way):
    expect_log("WARNING:  roles of mod_registration have the right to create objects in schema ",
               "ERROR:  permission denied for schema")
    assert command(empty, "install") == INSTALLED
    names = {"database": empty.database, "other": f"other_{secrets.token_hex(4)}"}
    grants, step, end = way
    for statement in ("CREATE ROLE {other}", "CREATE SCHEMA shared",
                      "GRANT USAGE, CREATE ON SCHEMA shared TO PUBLIC", *grants):
        empty.psql("-c", statement.format(**names))
    named, steps, statement = warning(empty)
    assert (named, steps) == ("shared", step.format(**names) + ", then ")
    empty.psql("-c", statement, "-c", "GRANT USAGE ON SCHEMA shared TO PUBLIC")
    assert can_create(empty, "shared")
    assert warning(empty) == (named, steps, statement)
    empty.psql("-c", end.format(**names))
    assert not can_create(empty, "shared")
    assert command(empty, "install") == INSTALLED
    empty.psql("-c", "DROP SCHEMA shared CASCADE", "-c", f"DROP ROLE {names['other']}")


@pytest.fixture
def as_in_14(tmp_path):
    """A cluster whose new databases let all roles create objects in schema public, as those of
    PostgreSQL 14 do."""
    cluster = servers.Postgres(tmp_path / "as_in_14")
    cluster.start()
    cluster.psql("-c", "ALTER DATABASE template0 ALLOW_CONNECTIONS true", database="postgres")
    cluster.psql("-c", "GRANT CREATE ON SCHEMA public TO PUBLIC", database="template0")
    yield cluster
    cluster.stop()


REVOKE = "REVOKE CREATE ON SCHEMA public FROM PUBLIC;\n"


@pytest.mark.parametrize("revokes", [True, False], ids=["as it is", "control"])
def test_roles_cannot_create_in_public_of_created_database(as_in_14, tmp_path, revokes):
    """In the control, without the REVOKE, they can."""
    sql = SQL if revokes else changed_sql(tmp_path / "sql", "registration-schema", REVOKE, "")
    status, text = command(as_in_14, "install", "--create", "made", sql=sql)
    assert status == 0 and ("WARNING" in text) != revokes
    made = copy.copy(as_in_14)
    made.database = "made"
    assert can_create(made, "public") != revokes


# --- Time zones ----------------------------------------------------------------------------

ZONES_SQL = "administration/time_zones.sql"


def unknown_zones(database, subcommand, sql=SQL):
    """The time zones that the command warns of."""
    status, text = command(database, subcommand, sql=sql, zones=True)
    assert status == 0
    warnings = UNKNOWN_ZONES.findall(text)
    assert len(warnings) <= 1 and all("package tzdata-legacy" in one for one in warnings)
    return [name for one in warnings
            for name in re.search("register: ([^;]*); ", one)[1].split(", ")]


@pytest.mark.parametrize("subcommand", ["install", "upgrade"])
def test_command_warns_of_time_zones_that_server_does_not_know(empty, tmp_path, subcommand):
    """Of those that browsers send, and those that a group or a member has."""
    known = set(empty.psql("-c", "SELECT name FROM pg_timezone_names").split())
    sent = re.search("'{(Africa/Asmera,[^}]*)}'", (SQL / ZONES_SQL).read_text())[1]
    sent = re.split(r",\s+", sent)
    assert {"Asia/Calcutta", "Europe/Kiev"} < set(sent)
    missing = [name for name in sent if name not in known]
    assert unknown_zones(empty, "install") == missing
    # The control: one more name that browsers could send.
    another = changed_sql(tmp_path / "sql", ZONES_SQL, "{Africa/Asmera,",
                          "{Africa/Asmera, Mars/Browser,")
    assert unknown_zones(empty, subcommand, another) == sorted([*missing, "Mars/Browser"])
    empty.psql("-c", CHANGE_TIME_ZONES)
    assert unknown_zones(empty, subcommand) == sorted([*missing, "Mars/Group", "Mars/Member"])
