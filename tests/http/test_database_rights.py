# SPDX-License-Identifier: Apache-2.0
"""The service's database role can call the operations, and do nothing else.

Tables and functions are listed from the catalog and the operations from the C sources, so that
a new one is covered automatically. Each statement runs in a transaction that is rolled back,
because the controls grant too much and let it succeed.
"""

import re

import psycopg2
import pytest

import servers
from conftest import new_object_id, new_uuid
from scratch import OnScratch


def operations():
    """The names of the functions that the module calls, from the C sources."""
    sources = "".join(path.read_text() for path in (servers.ROOT / "src").rglob("*.c"))
    keyed = re.findall(r'REG_KEYED_OPERATION\(\s*"(\w+)"', sources)
    plain = re.findall(r'reg_operation_t \w+ = {\s*\.name =\s*"(\w+)"', sources)
    declared = re.findall(r"static const reg_operation_t \w+ =", sources)
    assert len(keyed + plain) == len(declared)
    for other in ('"idempotent(', "registration.schema_version()"):
        assert other in sources
    return {*keyed, *plain, "idempotent", "schema_version"}


# Statements to try on every relation, by its relkind.
ON_TABLES = [
    "SELECT * FROM {name}", "SELECT count(*) FROM {name}", "SELECT 1 FROM {name} FOR SHARE",
    "SELECT {column} FROM {name}", "SELECT t FROM {name} AS t", "TABLE {name}",
    "INSERT INTO {name} DEFAULT VALUES",
    "INSERT INTO {name} ({column}) SELECT {column} FROM {name}",
    "INSERT INTO {name} ({column}) VALUES (NULL)", "UPDATE {name} SET {column} = {column}",
    "UPDATE {name} SET {column} = NULL", "DELETE FROM {name}",
    "LOCK TABLE {name} IN ACCESS SHARE MODE", "COPY {name} TO STDOUT",
    "COPY (SELECT * FROM {name}) TO STDOUT", "ALTER TABLE {name} RENAME TO stolen",
    "ALTER TABLE {name} OWNER TO registration", "COMMENT ON COLUMN {name}.{column} IS 'x'",
    "GRANT SELECT ON {name} TO PUBLIC", "CREATE TEMP TABLE stolen AS TABLE {name}",
    "CREATE TEMP VIEW stolen AS TABLE {name}; TABLE stolen",
    "DO $$ BEGIN PERFORM * FROM {name}; END $$"]
ON_KINDS = {
    "r": [*ON_TABLES, "TRUNCATE {name}", "TRUNCATE {name} CASCADE", "DROP TABLE {name} CASCADE",
          "COPY {name} FROM STDIN",
          "CREATE INDEX ON {name} ({column})", "ALTER TABLE {name} DISABLE TRIGGER ALL",
          "CREATE TRIGGER x BEFORE UPDATE ON {name}"
          " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
          "CREATE RULE x AS ON INSERT TO {name} DO INSTEAD NOTHING",
          "CREATE TEMP TABLE x () INHERITS ({name})",
          "MERGE INTO {name} USING (SELECT 1) AS x ON true WHEN MATCHED THEN DELETE"],
    "v": [*ON_TABLES, "DROP VIEW {name} CASCADE", "CREATE OR REPLACE VIEW {name} AS SELECT 1"],
    "S": ["SELECT nextval('{name}')", "SELECT setval('{name}', 1)", "SELECT currval('{name}')",
          "SELECT * FROM {name}", "SELECT last_value FROM {name}", "DROP SEQUENCE {name}",
          "ALTER SEQUENCE {name} RESTART"],
}
# A partitioned table and a partition cannot be inherited from, by any role.
ON_KINDS["p"] = [statement for statement in ON_KINDS["r"] if "INHERITS" not in statement]
ON_KINDS["m"] = [*ON_KINDS["v"], "REFRESH MATERIALIZED VIEW {name}"]

ELSEWHERE = [
    "CREATE TABLE registration.x (y integer)", "CREATE VIEW registration.x AS SELECT 1",
    "CREATE FUNCTION registration.x() RETURNS integer RETURN 1",
    "CREATE SEQUENCE registration.x", "CREATE TYPE registration.x AS (y integer)",
    "DROP SCHEMA registration CASCADE", "ALTER SCHEMA registration RENAME TO x",
    "CREATE SCHEMA x", "CREATE TABLE public.x (y integer)",
    "CREATE FUNCTION public.x() RETURNS integer RETURN 1",
    "CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = uuid_ne)",
    "CREATE TABLE pg_catalog.x (y integer)", "CREATE EXTENSION dblink", "CREATE ROLE x",
    "CREATE DATABASE x", "SET ROLE registration_owner", "SET ROLE postgres",
    "SET SESSION AUTHORIZATION registration_owner", "ALTER ROLE registration SUPERUSER",
    "ALTER ROLE registration BYPASSRLS", "GRANT registration_owner TO registration",
    "ALTER FUNCTION registration.recount() OWNER TO registration",
    "SELECT * FROM pg_authid", "SELECT * FROM pg_statistic", "SELECT * FROM pg_user_mapping",
    "SELECT pg_read_file('postgresql.conf')", "SELECT pg_ls_dir('.')",
    "COPY (SELECT 1) TO '/nowhere'", "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT lo_import('/etc/hostname')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    "SELECT pg_reload_conf()", "ALTER SYSTEM SET log_statement = 'all'", "CHECKPOINT",
    "SET session_replication_role = replica", "SET log_statement = 'all'", "LOAD 'plpgsql'",
]

NOT_ALLOWED = (psycopg2.errors.InsufficientPrivilege,
               psycopg2.errors.ObjectNotInPrerequisiteState,   # currval() before nextval()
               psycopg2.errors.UndefinedFile)                  # an extension not installed


class Service:
    """A connection with the module's role."""

    def __init__(self, database, role="registration"):
        self.connection = database.connect(role)

    def rows(self, query, *parameters):
        with self.connection.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else None

    def error_of(self, statement):
        """The error of a refused statement, or None; its effects are rolled back."""
        alone = re.match("CREATE DATABASE|ALTER SYSTEM", statement)
        self.connection.autocommit = bool(alone)
        try:
            with self.connection.cursor() as cursor:
                if "STDIN" in statement or "STDOUT" in statement:
                    cursor.copy_expert(statement, open("/dev/null", "r+"))
                else:
                    cursor.execute(statement)
        except psycopg2.Error as error:
            return error
        finally:
            self.connection.rollback()
            self.connection.autocommit = True
        return None

    def allowed(self, statements):
        """The statements that are not refused for lack of rights."""
        return [statement for statement in statements
                if not isinstance(self.error_of(statement), NOT_ALLOWED)]


class DatabaseRights(OnScratch):
    @pytest.fixture(autouse=True)
    def refusals_are_logged(self, expect_log):
        expect_log(r"registration@scratch_\w+ (ERROR|WARNING):  ")

    @pytest.fixture
    def service(self, database):
        service = Service(database)
        yield service
        service.connection.close()

    @pytest.fixture
    def relations(self, sql):
        """Kind, name and a column of each table, view and sequence in the schema."""
        found = sql("SELECT CASE WHEN c.relispartition THEN 'p' ELSE c.relkind::text END,"
                    " c.oid::regclass::text, quote_ident(a.attname)"
                    " FROM pg_class AS c LEFT JOIN pg_attribute AS a"
                    " ON a.attrelid = c.oid AND a.attnum = 1"
                    " WHERE c.relnamespace = 'registration'::regnamespace"
                    " AND c.relkind NOT IN ('i', 'I', 'c', 't') ORDER BY 2")
        return [(kind, f"registration.{name}", column) for kind, name, column in found]

    @pytest.fixture
    def on_relations(self, relations, service):
        """The statements to try on all relations."""
        version = service.connection.server_version
        assert {kind for kind, *_ in relations} >= {"r", "p", "v", "S"}
        return [statement.format(name=name, column=column)
                for kind, name, column in relations for statement in ON_KINDS[kind]
                if version >= 150000 or not statement.startswith("MERGE")]

    @pytest.fixture
    def functions(self, sql):
        """A call of each function of the schema except operations. The nulls are subqueries:
        the planner answers a strict function with constant nulls without calling it."""
        found = sql("SELECT proname, CASE prokind WHEN 'p'"
                    " THEN format('CALL registration.%I(%s)', proname, ("
                    "  SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ')"
                    "    FROM unnest(proargtypes) AS t))"
                    " ELSE format('SELECT registration.%I(%s)', proname, ("
                    "  SELECT string_agg(format('(SELECT NULL::%s)', format_type(t, NULL)), ', ')"
                    "    FROM unnest(proargtypes) AS t)) END"
                    " FROM pg_proc WHERE pronamespace = 'registration'::regnamespace"
                    " AND prorettype <> 'trigger'::regtype")
        names = {name for name, _ in found}
        assert operations() < names and {"recount", "remove_family"} < names
        return [call for name, call in found if name not in operations()]


class TestServiceRole(DatabaseRights):
    def test_relations_are_refused(self, service, on_relations):
        assert service.allowed(on_relations) == []

    def test_other_statements_are_refused(self, service):
        assert service.allowed(ELSEWHERE) == []

    def test_functions_except_operations_are_refused(self, service, functions):
        assert service.allowed(functions) == []

    def test_execute_right_is_on_operations_only(self, service):
        may = service.rows("SELECT proname FROM pg_proc"
                           " WHERE pronamespace = 'registration'::regnamespace"
                           " AND has_function_privilege(oid, 'EXECUTE')")
        assert sorted(name for name, in may) == sorted(operations())

    def test_role_has_no_own_grants_in_other_schemas(self, service):
        assert service.rows(
            "SELECT p.oid::regprocedure::text FROM pg_proc AS p, aclexplode(p.proacl) AS a"
            " WHERE a.grantee = 'registration'::regrole"
            " AND p.pronamespace <> 'registration'::regnamespace") == []

    def test_role_has_no_attributes_and_no_memberships(self, service):
        assert service.rows(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,"
            " (SELECT count(*) FROM pg_auth_members WHERE member = r.oid)"
            " FROM pg_roles AS r WHERE rolname = 'registration'") == [
                (False, False, False, False, False, 0)]

    def test_other_roles_have_no_rights(self, sql, database, on_relations, functions):
        role = f"other_{new_object_id()}"
        sql(f"CREATE ROLE {role} LOGIN PASSWORD '{database.password}'")
        connection = database.connect(role)
        try:
            for statement in ("SELECT * FROM registration.live_sessions",
                              "SELECT registration.recount()"):
                with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                    connection.cursor().execute(statement)
        finally:
            connection.close()
        assert sql("SELECT proname FROM pg_proc"
                   " WHERE pronamespace = 'registration'::regnamespace"
                   " AND has_function_privilege(%s, oid, 'EXECUTE')", role) == []
        sql(f"DROP ROLE {role}")

    @pytest.fixture(autouse=True)
    def others_are_logged(self, expect_log):
        expect_log(r"other_\w+@scratch_\w+ ERROR:  permission denied")


def administrators():
    """The functions that the installation grants to registration_admin."""
    text = (servers.ROOT / "sql" / "administration" / "grants.sql").read_text()
    return set(re.findall(r"\w+", re.search(r"ON ROUTINE(.*)TO registration_admin", text,
                                            re.DOTALL)[1]))


class TestAdministratorRole(DatabaseRights):
    """A role that is a member of registration_admin and has nothing else."""

    @pytest.fixture
    def clerk(self, sql, database, expect_log):
        expect_log(r"clerk_\w+@scratch_\w+ (ERROR|WARNING):  ")
        role = f"clerk_{new_object_id()}"
        sql(f"CREATE ROLE {role} LOGIN PASSWORD '{database.password}'"
            " IN ROLE registration_admin")
        clerk = Service(database, role)
        yield clerk
        clerk.connection.close()
        sql(f"DROP ROLE {role}")

    def test_relations_and_other_statements_are_refused(self, clerk, on_relations):
        assert clerk.allowed(on_relations) == []
        assert clerk.allowed(ELSEWHERE) == []

    def test_execute_right_is_on_administrator_functions_only(self, clerk):
        may = clerk.rows("SELECT proname FROM pg_proc"
                         " WHERE pronamespace = 'registration'::regnamespace"
                         " AND has_function_privilege(oid, 'EXECUTE')")
        assert {name for name, in may} == administrators() > {"erase_person", "recount"}
        assert not administrators() & operations()

    def test_administrator_exports_and_erases_a_person(self, clerk, sql, live_session):
        sql("SELECT live_register(%s::uuid[], %s::uuid[], '{jane@example.org}', '{NULL}',"
            " '{host}', '{me}', '{NULL}')", f"{{{new_uuid()}}}", f"{{{live_session()}}}")
        [[exported]] = clerk.rows("SELECT registration.export_person('jane@example.org')")
        assert set(exported) == {"live_registrations", "audit"}
        clerk.connection.autocommit = True
        [[erased]] = clerk.rows("CALL registration.erase_person('jane@example.org')")
        assert erased["live_registrations"] == 1
        assert sql("SELECT 1 FROM live_registrations") == []
        assert sql("SELECT DISTINCT caller LIKE 'clerk_%%' FROM audit WHERE action = 'erased'"
                   ) == [(True,)]


# Rights granted by mistake.
MISTAKES = [
    *(f"GRANT {right} ON live_registrations TO registration" for right in
      ("SELECT", "SELECT (id)", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER")),
    "GRANT SELECT ON live_registrations TO PUBLIC",
    "GRANT SELECT ON occurrence_json TO registration",
    "GRANT USAGE ON SEQUENCE event_waiting_numbers TO registration",
    "GRANT EXECUTE ON FUNCTION recount TO registration",
    "GRANT EXECUTE ON FUNCTION iso_timestamp TO PUBLIC",
    "GRANT CREATE ON SCHEMA registration TO registration",
    "GRANT registration_owner TO registration",
    "ALTER ROLE registration SUPERUSER",
]


def revoked(grant):
    return (grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM ")
            .replace(" SUPERUSER", " NOSUPERUSER"))


class TestControlMistakenGrants(DatabaseRights):
    """Each is detected by the tests above; the installation revokes it or stops."""

    @pytest.fixture
    def mistake(self, sql, request):
        sql(request.param)
        yield request.param
        sql(revoked(request.param))

    @pytest.mark.parametrize("mistake", MISTAKES, indirect=True)
    def test_control_mistaken_grant_is_detected(self, service, database, mistake,
                                                on_relations, functions, expect_log):
        everything = on_relations + functions
        if "SCHEMA" in mistake or "GRANT registration_owner" in mistake:
            # Not as a superuser: its effects could not all be rolled back.
            everything += ELSEWHERE
        assert service.allowed(everything) != []
        if "FUNCTION" in mistake:
            # The installation resets the rights on functions; for others it stops.
            database.install("install.sql")
            assert service.allowed(everything) == []
        else:
            expect_log("postgres@scratch_")
            with pytest.raises(servers.ServerError, match="role registration must not"):
                database.install("install.sql")


class TestControlMistakenGrantsToAdministrators(DatabaseRights):
    @pytest.mark.parametrize("mistake", [
        "GRANT SELECT ON live_registrations TO registration_admin",
        "GRANT registration_owner TO registration_admin"])
    def test_control_installation_stops_on_mistaken_grant(self, sql, database, expect_log,
                                                          mistake):
        expect_log("postgres@scratch_")
        sql(mistake)
        try:
            with pytest.raises(servers.ServerError, match="role registration_admin must"):
                database.install("install.sql")
        finally:
            sql(revoked(mistake))


class TestSchemaOfAnotherOwner(DatabaseRights):
    def test_installation_stops_if_schema_has_another_owner(self, sql, database,
                                                            expect_log):
        expect_log("postgres@scratch_")
        sql("ALTER SCHEMA registration OWNER TO postgres;"
            " GRANT ALL ON SCHEMA registration TO registration_owner")
        with pytest.raises(servers.ServerError, match="must belong to registration_owner"):
            database.install("install.sql")
        sql("ALTER SCHEMA registration OWNER TO registration_owner")
        database.install("install.sql")


# --- search_path ---------------------------------------------------------------------------

# Objects that an operation uses, planted in a schema that other roles may write to.
PLANTED_SESSIONS = """
CREATE TABLE {0}.live_sessions
    (id uuid, status text, max_participants integer, registered_count integer);
INSERT INTO {0}.live_sessions VALUES ('{1}', 'live', 9, 0), ('{2}', 'live', 9, 0);
GRANT ALL ON {0}.live_sessions TO PUBLIC;
"""
PLANTED = PLANTED_SESSIONS + """
CREATE FUNCTION {0}.lower(text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'planted'; END $$;
CREATE FUNCTION {0}.iso_timestamp(timestamptz) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'planted'; END $$;
CREATE FUNCTION {0}.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'planted'; END $$;
CREATE FUNCTION {0}.not_equal(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'planted'; END $$;
CREATE OPERATOR {0}.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = {0}.not_equal);
CREATE TABLE {0}.live_registrations (id uuid, session_id uuid, patient_id text,
    guest_email text, role text, registered_at timestamptz);
CREATE TYPE {0}.live_answer AS (planted text);
"""


def register(session):
    return ("SELECT outcome FROM registration.live_register("
            f"'{{{new_uuid()}}}', '{{{session}}}', '{{{new_uuid()}}}', '{{NULL}}', '{{host}}',"
            " '{NULL}', '{NULL}')")


class TestPlantedObjects(DatabaseRights):
    """The operations do not use objects planted in other schemas."""

    def test_planted_objects_are_not_used(self, sql, service, live_session):
        """Neither in public nor in the temporary schema, which is searched first unless
        search_path names it."""
        full, free = live_session(0), live_session(3)
        sql(PLANTED.format("public", full, free))
        service.rows(PLANTED.format("pg_temp", full, free))
        for path in ("public, registration", "pg_temp, public, pg_catalog, registration",
                     "registration, public"):
            service.rows(f"SET search_path = {path}")
            assert service.rows(register(full)) == [("full",)]
            assert service.rows(register(free)) == [("created",)]
        assert sql("SELECT registered_count FROM live_sessions WHERE id = %s", free) == [(3,)]

    def test_security_definer_functions_set_search_path(self, sql):
        found = dict(sql("SELECT proname, proconfig FROM pg_proc WHERE prosecdef"
                         " AND pronamespace = 'registration'::regnamespace"))
        assert operations() < set(found)
        for name, settings in found.items():
            assert "search_path=registration, pg_catalog, pg_temp" in settings, name

    def test_control_without_search_path_planted_table_is_used(self, sql, service,
                                                               live_session):
        full = live_session(0)
        sql("ALTER FUNCTION live_register RESET search_path")
        try:
            service.rows(PLANTED_SESSIONS.format("pg_temp", full, full))
            service.rows("SET search_path = registration, pg_catalog")
            assert service.rows(register(full)) == [("created",)]
        finally:
            sql("ALTER FUNCTION live_register"
                " SET search_path = registration, pg_catalog, pg_temp")

    def test_control_installation_stops_at_function_without_search_path(self, sql, database,
                                                                        expect_log):
        expect_log("postgres@scratch_")
        sql("CREATE FUNCTION careless() RETURNS integer SECURITY DEFINER RETURN 1;"
            "ALTER FUNCTION careless() OWNER TO registration_owner;"
            "REVOKE ALL ON FUNCTION careless() FROM PUBLIC")
        try:
            with pytest.raises(servers.ServerError, match="without a search_path: .*careless"):
                database.install("install.sql")
        finally:
            sql("DROP FUNCTION careless()")
