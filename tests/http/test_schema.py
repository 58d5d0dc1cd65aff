# SPDX-License-Identifier: Apache-2.0
"""The command registration-schema, and the module with another version of the schema.

The next version of the schema is a copy of sql/ with one more migration.
"""

import concurrent.futures
import contextlib
import copy
import os
import pathlib
import re
import secrets
import shutil
import subprocess
import tempfile
import time

import pytest

import servers
from apis import check_error
from changed import changed_module
from conftest import new_uuid
from dumps import dump
from scratch import OnScratch
from traffic import Traffic

SQL = servers.ROOT / "sql"

# An upgrade that may run under load: a new column, and an operation that uses it.
MIGRATION = """
ALTER TABLE live_registrations ADD COLUMN note text;
COMMENT ON COLUMN live_registrations.note IS 'Made up.';
CREATE INDEX registered_since ON live_sessions (id) WHERE registered_count > 0;
"""
# One that may not: it holds its locks for seconds.
SLOW_MIGRATION = MIGRATION + "SELECT pg_sleep(7) AS waited \\gset\n"


def newest():
    return int(re.search(r"(?m)^\\set newest (\d+)$", (SQL / "install.sql").read_text())[1])


def next_version(directory, migration=MIGRATION):
    """A copy of sql/ with the next version of the schema and a changed operation."""
    version = newest() + 1
    shutil.copytree(SQL, directory)
    name = f"{version:04}_made_up.sql"
    (directory / "migrations" / name).write_text(migration)
    install = (directory / "install.sql").read_text()
    edited = re.sub(r"(?m)^\\set newest \d+$", rf"\\set newest {version}", install)
    edited = edited.replace("\\ir operations/schema_version.sql\n", (
        f"SELECT :installed < {version} AS missing \\gset\n"
        f"\\if :missing\n\\ir migrations/{name}\n\\endif\n\n"
        "\\ir operations/schema_version.sql\n"))
    assert edited.count(name) == 1
    (directory / "install.sql").write_text(edited)
    operation = directory / "operations" / "live_register.sql"
    text = operation.read_text()
    assert text.count("\nBEGIN\n") == 1
    operation.write_text(text.replace(
        "\nBEGIN\n", "\nBEGIN\n    PERFORM note FROM live_registrations LIMIT 1;\n"))
    return directory


def version_1(directory):
    """A copy of sql/ without the migrations: the tables of version 1. The bodies of functions
    are not checked against them."""
    shutil.copytree(SQL, directory)
    install = (directory / "install.sql").read_text()
    edited = re.sub(r"(?m)^\\set newest \d+$", r"\\set newest 1", install)
    edited = re.sub(r"(?m)^\\ir migrations/.*\n", "", edited)
    edited = edited.replace("SELECT make_audit_partitions() AS made \\gset\n", "")
    edited = re.sub(r"INSERT INTO schema_version .*\n.*;\n",
                    "INSERT INTO schema_version (version) VALUES (1);\n", edited)
    edited = re.sub(r"(?s)(?<=\nCOMMIT;\n).*", "", edited)
    edited = edited.replace("BEGIN ISOLATION", "SET check_function_bodies = off;\nBEGIN ISOLATION")
    (directory / "install.sql").write_text(edited)
    return directory


UNKNOWN_ZONES = re.compile(r"(?m)^.*WARNING:  PostgreSQL does not know these time zones, (.*)\n?")


def command(database, *arguments, sql=SQL, zones=False):
    """Runs registration-schema; returns its exit status and its output, without the warning of
    unknown time zones unless `zones`: it depends on the machine."""
    result = subprocess.run(
        [sql / "registration-schema", *arguments], text=True, stdin=subprocess.DEVNULL,
        env=servers.environment(**database.variables()), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=120)
    return result.returncode, result.stdout if zones else UNKNOWN_ZONES.sub("", result.stdout)


@pytest.fixture
def empty(postgres):
    """An empty database."""
    database = copy.copy(postgres)
    database.database = f"empty_{secrets.token_hex(4)}"
    database.install()
    return database


@pytest.fixture
def next_schema(tmp_path):
    return next_version(tmp_path / "sql")


def versions(database):
    return database.psql("-c", "SELECT version FROM registration.schema_version ORDER BY 1"
                         ).split()


def dump_schema(database):
    """The schema as text."""
    return dump(database, "-n", "registration", "-s")


# --- The command ---------------------------------------------------------------------------

def test_newest_version_is_the_same_in_sources_and_migrations():
    header = (servers.ROOT / "src" / "database" / "connection.h").read_text()
    migrations = sorted({int(path.name[:4]) for path in (SQL / "migrations").glob("*.sql")})
    assert f"#define REG_SCHEMA_VERSION {newest()}\n" in header
    assert migrations == list(range(2, newest() + 1))


def test_command_installs_upgrades_and_reports_status(empty, next_schema):
    version = newest()
    assert command(empty, "status") == (
        3, "registration-schema: there is no schema; run: registration-schema install\n")
    assert command(empty, "upgrade")[0] == 3
    for _ in range(2):
        assert command(empty, "install") == (0, f"The schema is at version {version}.\n")
    assert command(empty, "status") == (
        0, f"The schema is at version {version}, up to date.\n")
    assert command(empty, "status", sql=next_schema) == (
        3, f"registration-schema: the schema is at version {version} of {version + 1};"
           " run: registration-schema upgrade\n")
    assert command(empty, "install", sql=next_schema)[0] == 3
    before = versions(empty)
    for _ in range(2):
        assert command(empty, "upgrade", sql=next_schema) == (
            0, f"The schema is at version {version + 1}.\n")
        assert versions(empty) == [*before, str(version + 1)]


def test_install_equals_upgrade_from_older_version(empty, next_schema, postgres):
    assert command(empty, "install", sql=next_schema)[0] == 0
    upgraded = copy.copy(postgres)
    upgraded.database = f"empty_{secrets.token_hex(4)}"
    upgraded.install()
    assert command(upgraded, "install")[0] == 0
    assert command(upgraded, "upgrade", sql=next_schema)[0] == 0
    assert dump_schema(empty) == dump_schema(upgraded)


def test_command_with_newer_schema_refuses_and_changes_nothing(empty, next_schema,
                                                               expect_log):
    expect_log("ERROR:  the database has a newer schema than this installs")
    assert command(empty, "install", sql=next_schema)[0] == 0
    before = dump_schema(empty)
    for subcommand in ("install", "upgrade", "status"):
        status, text = command(empty, subcommand)
        assert status == 4
        assert f"version {newest() + 1}, newer than this command's {newest()}" in text
    with pytest.raises(servers.ServerError, match="newer schema"):
        empty.install("install.sql")
    assert dump_schema(empty) == before


def test_failed_migration_is_rolled_back(empty, tmp_path, expect_log):
    expect_log("ERROR:  division by zero")
    broken = next_version(tmp_path / "sql", MIGRATION + "SELECT 1 / 0;\n")
    assert command(empty, "install")[0] == 0
    before = dump_schema(empty)
    assert command(empty, "upgrade", sql=broken)[0] == 1
    assert dump_schema(empty) == before
    assert command(empty, "status")[0] == 0


def test_concurrent_commands_install_and_upgrade_once(empty, next_schema, at_once):
    assert at_once(4, lambda _: command(empty, "install")[0]) == [0] * 4
    assert at_once(4, lambda _: command(empty, "upgrade", sql=next_schema)[0]) == [0] * 4
    assert versions(empty) == [str(n) for n in range(1, newest() + 2)]


def test_control_without_lock_concurrent_installs_fail(empty, tmp_path, at_once,
                                                       expect_log):
    expect_log("ERROR:  ")
    unlocked = tmp_path / "sql"
    shutil.copytree(SQL, unlocked)
    text = (unlocked / "install.sql").read_text()
    edited = text.replace("SELECT pg_advisory_xact_lock", "SELECT -- ")
    edited = re.sub(r"SELECT -- .*\n", "", edited)
    # So that all find the database empty before one installs the schema.
    edited = edited.replace("\\ir schema/roles.sql", "SELECT pg_sleep(1) AS slept \\gset\n"
                                                      "\\ir schema/roles.sql")
    (unlocked / "install.sql").write_text(edited)
    assert 1 in at_once(4, lambda _: command(empty, "install", sql=unlocked)[0])


def test_command_takes_connection_string_and_creates_database(postgres, empty):
    name = f"made_{secrets.token_hex(4)}"
    for _ in range(2):
        assert command(postgres, "install", "--create", name)[0] == 0
    made = f"host=127.0.0.1 port={postgres.port} user=postgres dbname={name}"
    assert command(empty, "status", made)[0] == 0
    # In its own database the role may not create temporary tables.
    assert postgres.psql("-c", "SELECT has_database_privilege('registration', d, 'TEMP')"
                               f" FROM unnest(ARRAY['{name}', 'registration']) AS d"
                         ) == "f\nt"
    assert command(empty, "status", f"postgresql://postgres@127.0.0.1:{postgres.port}/{name}"
                   )[0] == 0
    assert command(empty, "status")[0] == 3


@pytest.mark.parametrize("arguments", [
    [], ["downgrade"], ["install", "--force"], ["install", "a", "b"], ["status", "--create"],
    ["install", "--create", "dbname=a"], ["a", "install"]])
def test_unknown_arguments_are_refused(empty, arguments):
    assert command(empty, *arguments)[0] == 2


@pytest.mark.skipif(not servers.IS_ROOT, reason="only root becomes another user")
@pytest.mark.parametrize("change", [None, "cd /   #"], ids=["as it is", "control"])
def test_command_in_unreadable_directory_gives_no_warning(tmp_path, change):
    """As with sudo -u postgres in root's directory; in the control it does not leave it."""
    with tempfile.TemporaryDirectory(prefix="registration-") as directory:
        os.chmod(directory, 0o755)
        copied = pathlib.Path(shutil.copytree(SQL, f"{directory}/sql"), "registration-schema")
        if change:
            text = copied.read_text()
            assert text.count(change) == 1
            copied.write_text(text.replace(change, ":   #"))
        tmp_path.chmod(0o700)

        def run(*arguments):
            return subprocess.run(
                ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                 *arguments], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, env=servers.environment(HOME="/"), timeout=60)
        result = run(copied, "status", "host=/nowhere")
        warns = "could not change directory" in run("psql", "-X", "host=/nowhere").stdout
    assert result.returncode == 1
    if change and not warns:
        pytest.skip("this psql, of PostgreSQL 17, warns in no directory")
    assert ("could not change directory" in result.stdout) == bool(change), result.stdout


def test_upgrade_from_version_1_keeps_audit_entries(empty, tmp_path):
    assert command(empty, "install", sql=version_1(tmp_path / "sql"))[0] == 0
    assert versions(empty) == ["1"]
    entries = """INSERT INTO registration.audit (at, action, kind, id, belongs_to, caller)
        SELECT at, 'registered', 'family', at::date, 'x', 'me'
          FROM unnest('{2020-02-03 04:05Z, 2024-10-31 23:59Z}'::timestamptz[] || now()) AS at"""
    empty.psql("-c", entries)
    read = "SELECT at, action, kind, id, belongs_to, caller FROM registration.audit ORDER BY at"
    before = empty.psql("-c", read)
    assert command(empty, "upgrade") == (0, f"The schema is at version {newest()}.\n")
    assert empty.psql("-c", read) == before and before.count("\n") == 2
    assert empty.psql("-c", "SELECT DISTINCT tableoid::regclass FROM registration.audit"
                      ) == "registration.audit_oldest"
    # The new values are allowed now.
    empty.psql("-c", "INSERT INTO registration.audit (action, kind, id, belongs_to, row_count)"
                     " VALUES ('listed', 'person', '', '', 1), ('exported', 'audit', '', '', 2)")


def statements_to_prepare():
    """The statements that the migrations' comments recommend to run before, for large tables."""
    text = "".join(path.read_text() for path in sorted((SQL / "migrations").glob("*.sql")))
    lines = re.findall(r"(?m)^--     (.*)$", text)
    indexes = re.findall(r"(?m)^CREATE INDEX (IF NOT EXISTS [^;]*;)", text)
    assert len(indexes) >= 12
    year, month = time.gmtime()[:2]
    next_month = f"{year + month // 12}-{month % 12 + 1:02}-01"
    statements = re.sub("2027-01-01", next_month, "\n".join(lines)).split(";")
    column = 'ALTER TABLE event_registrations ADD COLUMN fields_email text COLLATE "C"'
    assert column.replace("COLUMN", "COLUMN IF NOT EXISTS") in text
    return ([one for one in statements if one.strip()] + [column]
            + [f"CREATE INDEX CONCURRENTLY {index}" for index in indexes])


def test_upgrade_does_not_rebuild_prepared_indexes(empty, tmp_path):
    assert command(empty, "install", sql=version_1(tmp_path / "sql"))[0] == 0
    for statement in statements_to_prepare():
        empty.psql("-c", "SET search_path = registration, public", "-c", statement)
    oid = "SELECT string_agg(oid::text, ' ' ORDER BY relname) FROM pg_class WHERE relname IN" \
          " ('live_registrations_by_patient', 'live_sessions_past'," \
          " 'event_registrations_by_fields_email', 'audit_oldest_by_caller'," \
          " 'event_registrations_by_user_created', 'event_users_by_email')"
    before = empty.psql("-c", oid)
    assert command(empty, "upgrade")[0] == 0
    assert empty.psql("-c", oid) == before and before.count(" ") == 5
    assert empty.psql("-c", "SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid ="
                            " 'registration.audit_oldest_by_caller'::regclass"
                      ) == "registration.audit_by_caller"
    # With the constraint, attaching does not read the table.
    assert empty.psql("-c", "SELECT convalidated FROM pg_constraint WHERE conname ="
                            " 'audit_oldest'") == "t"


def test_upgrade_drops_old_overloads_of_functions(empty, tmp_path):
    """Functions of version 1 that have more parameters now are dropped."""
    assert command(empty, "install", sql=version_1(tmp_path / "sql"))[0] == 0
    migration = "".join(path.read_text() for path in (SQL / "migrations").glob("*.sql"))
    dropped = re.findall(r"DROP FUNCTION IF EXISTS (\w+)\(([^)]*)\);", migration)
    dropped = [one for one in dropped if "occurrence_answers" not in one[1]]
    assert ("events_delete" in dict(dropped)) and len(dropped) >= 10
    twice = "SELECT proname FROM pg_proc WHERE pronamespace = 'registration'::regnamespace" \
            " GROUP BY 1 HAVING count(*) > 1"
    for name, parameters in dropped:
        function = f"registration.{name}({parameters})"
        empty.psql("-c", f"DROP ROUTINE IF EXISTS {function}",
                   "-c", f"CREATE FUNCTION {function} RETURNS integer RETURN 0",
                   "-c", f"ALTER FUNCTION {function} OWNER TO registration_owner")
    assert "events_delete" in empty.psql("-c", twice).split()
    assert command(empty, "upgrade")[0] == 0
    assert empty.psql("-c", twice) == ""


def test_upgrade_makes_email_fields_of_version_1_searchable(empty, tmp_path):
    assert command(empty, "install", sql=version_1(tmp_path / "sql"))[0] == 0
    empty.install("demo.sql")
    empty.psql("-c", """SET search_path = registration;
        INSERT INTO event_users (id, organization_id, external_id, email)
        SELECT md5(n::text)::uuid, id, n, CASE n WHEN 1 THEN 'One@example.org' END
          FROM generate_series(1, 3) AS n, (SELECT id FROM organizations LIMIT 1) AS o;
        INSERT INTO event_registrations (id, occurrence_id, event_id, organization_id, user_id,
                                         status, email, fields)
        SELECT u.id, o.id, o.event_id, u.organization_id, u.id, 'CANCELLED', u.email,
               (ARRAY['{"email": "one@example.org"}', '{"email": "Jane@example.org"}',
                      '{}'])[u.external_id::integer]::jsonb
          FROM event_users AS u, (SELECT * FROM occurrences LIMIT 1) AS o
         WHERE u.external_id IN ('1', '2', '3')""")
    assert command(empty, "upgrade")[0] == 0
    assert empty.psql("-c", "SELECT fields_email FROM registration.event_registrations"
                            " WHERE fields_email IS NOT NULL") == "jane@example.org"


COUNT_FILLED = "SELECT count(fields_email) FROM registration.event_registrations"


def interrupt_upgrade(database):
    """Terminates an upgrade from version 1 after it has filled in one of three rows."""
    database.install("demo.sql")
    database.psql("-c", """SET search_path = registration;
        DELETE FROM event_registrations;
        INSERT INTO event_users (id, organization_id, external_id)
        SELECT md5(n::text)::uuid, id, n
          FROM generate_series(1, 3) AS n, (SELECT id FROM organizations LIMIT 1) AS o;
        INSERT INTO event_registrations (id, occurrence_id, event_id, organization_id, user_id,
                                         status, fields)
        SELECT ('00000000-0000-7000-8000-00000000000' || u.external_id)::uuid, o.id, o.event_id,
               u.organization_id, u.id, 'CANCELLED', '{"email": "jane@example.org"}'
          FROM event_users AS u, (SELECT * FROM occurrences LIMIT 1) AS o
         WHERE u.external_id IN ('1', '2', '3');
        CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
        CREATE TRIGGER hold BEFORE UPDATE ON event_registrations
            FOR EACH ROW WHEN (NEW.id = '00000000-0000-7000-8000-000000000002')
            EXECUTE FUNCTION public.hold()""")
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'" \
              f" AND datname = '{database.database}'"
    with contextlib.closing(database.connect()) as lock, \
            concurrent.futures.ThreadPoolExecutor(1) as pool:
        lock.cursor().execute("SELECT pg_advisory_lock(1)")
        upgrade = pool.submit(command, database, "upgrade")
        servers.wait_until(lambda: upgrade.done() or database.psql("-c", waiting), 60,
                           "the upgrade waits for no lock")
        database.psql("-c", f"SELECT pg_terminate_backend(pid, 5000) FROM ({waiting}) AS w")
        assert upgrade.result()[0] == 1
    database.psql("-c", "DROP FUNCTION public.hold CASCADE")
    assert database.psql("-c", COUNT_FILLED) == "1"


@pytest.fixture
def interrupted_upgrade(empty, tmp_path, expect_log):
    expect_log("FATAL:  terminating connection due to administrator command")
    assert command(empty, "install", sql=version_1(tmp_path / "sql"))[0] == 0
    interrupt_upgrade(empty)
    return empty


@pytest.mark.parametrize("repeated", ["upgrade", "install"])
def test_repeated_upgrade_continues_interrupted_one(interrupted_upgrade, repeated):
    status, text = command(interrupted_upgrade, "status")
    assert (status, "interrupted; run: registration-schema upgrade" in text) == (3, True)
    assert command(interrupted_upgrade, repeated)[0] == 0
    assert interrupted_upgrade.psql("-c", COUNT_FILLED) == "3"
    assert command(interrupted_upgrade, "status")[0] == 0


def test_control_repeated_upgrade_without_filling_leaves_rows_empty(interrupted_upgrade,
                                                                    tmp_path):
    once = tmp_path / "once"
    shutil.copytree(SQL, once)
    text = (once / "install.sql").read_text()
    condition = "EXISTS (SELECT FROM registration.schema_version WHERE NOT is_filled)"
    assert text.count(condition) == 1
    (once / "install.sql").write_text(text.replace(condition, ":installed = 1"))
    assert command(interrupted_upgrade, "upgrade", sql=once)[0] == 0
    assert interrupted_upgrade.psql("-c", COUNT_FILLED) == "1"


CHANGE_TIME_ZONES = """SET search_path = registration;
    DELETE FROM time_zones WHERE name IN ('Europe/Paris', 'Asia/Kathmandu');
    INSERT INTO time_zones VALUES ('Mars/Group'), ('Mars/Member'), ('Mars/Nobody');
    INSERT INTO groups (id, name, time_zone)
    VALUES ('00000000-0000-4000-8000-000000000001', 'A group', 'Mars/Group');
    INSERT INTO plans (id, group_id, name)
    VALUES ('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001', '');
    INSERT INTO invite_codes (code, plan_id)
    VALUES ('A', '00000000-0000-4000-8000-000000000002');
    INSERT INTO group_members (id, group_id, plan_id, invite_code, email, locale, time_zone,
                               start_date, created_at, updated_at)
    VALUES (gen_random_uuid(), '00000000-0000-4000-8000-000000000001',
            '00000000-0000-4000-8000-000000000002', 'A', 'a@example.org', 'en', 'Mars/Member',
            now(), now(), now())"""


@pytest.mark.parametrize("subcommand", ["install", "upgrade"])
def test_command_updates_time_zones_to_the_servers(empty, subcommand):
    zones = ["-c", "SELECT name FROM registration.time_zones ORDER BY name"]
    assert command(empty, "install")[0] == 0
    before = empty.psql(*zones).split()
    empty.psql("-c", CHANGE_TIME_ZONES)
    assert "Mars/Nobody" in empty.psql(*zones) and "Europe/Paris" not in empty.psql(*zones)
    assert command(empty, subcommand)[0] == 0
    assert empty.psql(*zones).split() == sorted([*before, "Mars/Group", "Mars/Member"])


# --- An upgrade while requests are served ----------------------------------------------------

class TestUpgradeUnderLoad(OnScratch):
    @pytest.fixture
    def traffic(self, admin, live_session, occurrence):
        return Traffic(admin, live_session(), occurrence())

    def test_upgrade_under_load_fails_no_request_and_loses_no_row(
            self, database, traffic, sql, next_schema, expect_log):
        # A call that waits for the migration is retried.
        expect_log("ERROR:  canceling statement due to lock timeout")
        with traffic.running():
            assert command(database, "install")[0] == 0     # again
            assert command(database, "upgrade", sql=next_schema)[0] == 0
        assert command(database, "status", sql=next_schema)[0] == 0
        assert set(traffic.statuses) == {200, 201}
        [[live]] = sql("SELECT count(*) FROM live_registrations WHERE session_id = %s",
                       traffic.session)
        [[events]] = sql("SELECT count(*) FROM event_registrations WHERE occurrence_id = %s",
                         traffic.occurrence)
        assert live + events == traffic.statuses.count(201)
        assert sql("SELECT * FROM recount()") == []


class TestControlOfUpgrades(OnScratch):
    def test_control_slow_migration_fails_requests(
            self, database, admin, live_session, occurrence, tmp_path, expect_log):
        expect_log("ERROR:  canceling statement due to lock timeout", "REG03(0|10)")
        slow = next_version(tmp_path / "sql", SLOW_MIGRATION)
        traffic = Traffic(admin, live_session(), occurrence())
        with traffic.running():
            assert command(database, "upgrade", sql=slow)[0] == 0
        assert 503 in traffic.statuses, set(traffic.statuses)


# --- The module ------------------------------------------------------------------------------

@pytest.fixture
def module_of_next_version(tmp_path):
    return changed_module(tmp_path / "next_version",
                          f"#define REG_SCHEMA_VERSION {newest()}",
                          f"#define REG_SCHEMA_VERSION {newest() + 1}")


def registration_succeeds(client, database):
    session = new_uuid()
    database.psql("-c", "INSERT INTO registration.live_sessions (id, title, status)"
                        f" VALUES ('{session}', 'A session', 'live')")
    answer = client.post(f"/v1/sessions/{session}/register", json={"patient_id": "p"})
    if answer.status_code != 201:
        check_error(answer, "live", 503)
    return answer.status_code == 201


def log_messages(httpd, tag):
    return re.findall(rf"{tag}: (.*)", httpd.log.text())


@pytest.fixture
def start_on(start_httpd, certificates, issuer, expect_log):
    """start_on(database) starts an httpd that uses the database."""
    expect_log("REG0311", "registration@empty_.* ERROR:  ", "REG0303")

    def start(database, **options):
        httpd = start_httpd(change=lambda site: re.sub(
            r"dbname=\w+", f"dbname={database.database}", site), **options)
        return httpd
    return start


def test_module_without_schema_logs_it_and_serves_after_install(start_on, client, token,
                                                                empty):
    httpd = start_on(empty)
    one = client(token, httpd)
    path = f"/v1/sessions/{new_uuid()}/register"
    check_error(one.post(path, json={"patient_id": "p"}), "live", 503)
    [message, *_] = log_messages(httpd, "REG0311")
    assert "run: registration-schema install" in message
    assert command(empty, "install")[0] == 0
    servers.wait_until(lambda: registration_succeeds(one, empty), 20, "no request succeeds")


def test_schema_dropped_while_running_is_503_until_reinstalled(start_on, client, token,
                                                               empty):
    empty.install("install.sql")
    httpd = start_on(empty)
    one = client(token, httpd)
    assert registration_succeeds(one, empty)
    empty.psql("-c", "DROP SCHEMA registration CASCADE")
    path = f"/v1/sessions/{new_uuid()}/register"
    servers.wait_until(
        lambda: one.post(path, json={"patient_id": "p"}).status_code == 503 and
        log_messages(httpd, "REG0311"), 20, "no REG0311")
    empty.install("install.sql")
    servers.wait_until(lambda: registration_succeeds(one, empty), 20, "no request succeeds")


def test_older_schema_is_503_until_upgraded(
        start_on, client, token, empty, next_schema, module_of_next_version):
    empty.install("install.sql")
    httpd = start_on(empty, registration=module_of_next_version)
    one = client(token, httpd)
    assert not registration_succeeds(one, empty)
    assert f"is at version {newest()} and this module needs {newest() + 1}; " \
           "run: registration-schema upgrade" in log_messages(httpd, "REG0311")[0]
    assert command(empty, "upgrade", sql=next_schema)[0] == 0
    servers.wait_until(lambda: registration_succeeds(one, empty), 20, "no request succeeds")


def test_newer_schema_serves_unless_it_requires_newer_module(start_on, client, token, empty,
                                                             next_schema):
    assert command(empty, "install", sql=next_schema)[0] == 0
    assert registration_succeeds(client(token, start_on(empty)), empty)
    empty.psql("-c", "CREATE OR REPLACE FUNCTION registration.schema_version("
                     f"OUT version integer, OUT oldest integer) RETURN ({newest() + 1},"
                     f" {newest() + 1})")
    httpd = start_on(empty)
    assert not registration_succeeds(client(token, httpd), empty)
    assert "install a newer module" in log_messages(httpd, "REG0311")[0]


def test_missing_right_to_schema_version_is_logged_with_user(start_on, client, token,
                                                             empty):
    empty.install("install.sql")
    empty.psql("-c", "REVOKE EXECUTE ON FUNCTION registration.schema_version"
                     " FROM registration")
    httpd = start_on(empty)
    assert not registration_succeeds(client(token, httpd), empty)
    assert "user=registration" in log_messages(httpd, "REG0311")[0]


def test_unsuitable_schema_is_logged_once_a_second(start_on, client, token, empty):
    httpd = start_on(empty)
    one = client(token, httpd)
    path, begin, requests = f"/v1/sessions/{new_uuid()}/register", time.monotonic(), 0
    while time.monotonic() < begin + 2:
        check_error(one.post(path, json={"patient_id": "p"}), "live", 503)
        requests += 1
    most = 2 * (time.monotonic() - begin + 1)   # two child processes
    assert 1 <= len(log_messages(httpd, "REG0311")) <= most < requests
