# SPDX-License-Identifier: Apache-2.0
"""The database besides the operations: comments, defaults, constraints, installation."""

import psycopg2
import pytest

import samples
import servers
from conftest import check_counts, new_uuid
from scratch import OnScratch
from test_schema import UNKNOWN_ZONES

# The columns that an administrator fills in; all others have a default.
GIVEN = {
    "live_sessions": "id title status max_participants scheduled_at",
    "groups": "id name locale time_zone",
    "plans": "id group_id name duration_days",
    "invite_codes": "code plan_id expires_at max_uses",
    "institutions": "id name",
    "children": "id username institution_id gender age",
    "organizations": "id name",
    "events": "id organization_id name slug description",
    "categories": "id organization_id name",
    "event_categories": "event_id category_id",
    "occurrences": "id event_id start_date end_date capacity waiting_list",
    "event_users": "id organization_id external_id email first_name last_name phone role"
                   " avatar is_active",
}


# --- Tables --------------------------------------------------------------------------------

def test_tables_and_columns_have_comments(sql):
    assert sql(
        "SELECT c.relname, a.attname FROM pg_class c"
        " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        "  AND NOT a.attisdropped"
        " WHERE c.relnamespace = 'registration'::regnamespace AND c.relkind IN ('r', 'p', 'v')"
        " AND NOT c.relispartition"
        " AND (obj_description(c.oid, 'pg_class') IS NULL"
        "  OR col_description(c.oid, a.attnum) IS NULL)") == []


@pytest.mark.parametrize("table", GIVEN)
def test_only_columns_of_administrator_are_mandatory(sql, table):
    columns = sql("SELECT column_name, is_nullable = 'NO' AND column_default IS NULL"
                  " AND is_generated = 'NEVER' FROM information_schema.columns"
                  " WHERE table_schema = 'registration' AND table_name = %s", table)
    given = set(GIVEN[table].split())
    assert given <= {name for name, _ in columns}
    assert {name for name, needed in columns if needed} <= given


def test_columns_of_live_registration_are_keys_of_answer(sql):
    assert sql("SELECT column_name FROM information_schema.columns WHERE table_schema ="
               " 'registration' AND table_name = 'live_registrations'"
               " ORDER BY ordinal_position") == [
        ("id",), ("session_id",), ("patient_id",), ("guest_email",), ("role",),
        ("registered_at",)]


# --- The demo's rows -----------------------------------------------------------------------

SCHOOL = "5a62be07de34500146d9c624"
DEMO = {
    "SELECT id, status, max_participants FROM live_sessions": [
        ("11111111-1111-4111-8111-111111111111", "scheduled", 100),
        ("22222222-2222-4222-8222-222222222222", "live", 2),
        ("33333333-3333-4333-8333-333333333333", "ended", 100),
        ("44444444-4444-4444-8444-444444444444", "cancelled", 100),
        ("55555555-5555-4555-8555-555555555555", "scheduled", None)],
    "SELECT g.id, g.name, g.locale, g.time_zone, p.name, p.duration_days, c.code, c.max_uses,"
    " c.expires_at < now() FROM invite_codes c JOIN plans p ON p.id = c.plan_id"
    " JOIN groups g ON g.id = p.group_id": [
        ("5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10", "Group 1", None, None, "Plan 1", 365,
         "EXAMPLE123", None, None),
        *(("6a1b2c3d-4e5f-4a6b-8c7d-8e9f0a1b2c3d", "Group 2", None, None, "Plan 2", None, *code)
          for code in (("EXAMPLE456", None, None), ("EXPIRED789", None, True),
                       ("ONCE000", 1, None)))],
    "SELECT id FROM plans WHERE name = 'Plan 1'": [("7c1d2e3f-4a5b-4c6d-8e7f-901234567890",)],
    "SELECT id FROM institutions": [(SCHOOL,)],
    "SELECT id, username, institution_id, gender, age FROM children": [
        ("5a62be07de34500146d9c544", "BR0001", SCHOOL, "female", 7),
        ("5a70be07de34500146d9c380", "BR0002", SCHOOL, "male", 11)],
}


class TestDemo(OnScratch):
    @pytest.mark.parametrize("query", DEMO)
    def test_demo_has_exactly_these_rows(self, sql, query):
        assert sorted(sql(query), key=str) == sorted(DEMO[query], key=str)


# --- Constraints ---------------------------------------------------------------------------

# A row of each table, besides the demo's rows, to which it refers.
ROWS = """
INSERT INTO live_registrations (id, session_id, patient_id, guest_email, role)
VALUES (gen_random_uuid(), '11111111-1111-4111-8111-111111111111', 'p', 'g@x.org', 'host');
INSERT INTO group_members (id, group_id, plan_id, invite_code, email, locale, time_zone,
                           start_date, end_date, created_at, updated_at)
VALUES (gen_random_uuid(), '5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10',
        '7c1d2e3f-4a5b-4c6d-8e7f-901234567890', 'EXAMPLE123', 'g@x.org', 'en', 'UTC',
        '2022-01-01', '2022-01-01', now(), now());
INSERT INTO member_emails SELECT email, id, group_id FROM group_members;
INSERT INTO families (id, username, password_hash, institution_id)
VALUES (repeat('a', 24), 'f', 'x', '5a62be07de34500146d9c624');
INSERT INTO family_children (family_id, username, position, child_id)
VALUES (repeat('a', 24), 'f', 1, '5a62be07de34500146d9c544');"""

TABLES = ["live_sessions", "live_registrations", "time_zones", "groups", "plans", "invite_codes",
          "group_members", "member_emails", "institutions", "children", "families",
          "family_children"]

# What violates exactly this constraint: a table and an assignment to one of its columns, or a
# whole statement. Primary keys are tested separately.
BROKEN = {
    "live_sessions_status_known": [f"live_sessions SET status = '{value}'"
                                   for value in ("", "Live", "over")],
    "live_sessions_max_participants_not_negative": "live_sessions SET max_participants = -1",
    "live_sessions_registered_count_not_negative": "live_sessions SET registered_count = -1",
    "live_registrations_session_fkey": "live_registrations SET session_id = gen_random_uuid()",
    "live_registrations_somebody":
        "live_registrations SET patient_id = NULL, guest_email = NULL",
    "live_registrations_patient_not_empty": "live_registrations SET patient_id = ''",
    "live_registrations_role_known": ["live_registrations SET role = 'Host'",
                                      "live_registrations SET role = ''"],
    "live_registrations_patient_once":
        "INSERT INTO live_registrations (id, session_id, patient_id, role)"
        " SELECT gen_random_uuid(), session_id, 'p', 'guest' FROM live_registrations",
    "live_registrations_guest_once":
        "INSERT INTO live_registrations (id, session_id, guest_email, role)"
        " SELECT gen_random_uuid(), session_id, 'G@X.org', 'guest' FROM live_registrations",
    "time_zones_name_lower_case": "INSERT INTO time_zones VALUES ('utc')",
    "groups_time_zone_fkey": "groups SET time_zone = 'Mars/Olympus'",
    "plans_group_fkey": "plans SET group_id = gen_random_uuid()",
    "plans_duration_days_in_range": ["plans SET duration_days = -1",
                                     "plans SET duration_days = 365251"],
    "invite_codes_plan_fkey": "invite_codes SET plan_id = gen_random_uuid()",
    "invite_codes_code_not_empty": "invite_codes SET code = '' WHERE code = 'ONCE000'",
    "invite_codes_max_uses_not_negative": "invite_codes SET max_uses = -1",
    "invite_codes_uses_not_negative": "invite_codes SET uses = -1",
    "group_members_group_fkey": "group_members SET group_id = gen_random_uuid()",
    "group_members_plan_fkey": "group_members SET plan_id = gen_random_uuid()",
    "group_members_invite_code_fkey": "group_members SET invite_code = 'example123'",
    "group_members_gender_known": ["group_members SET gender = 'Male'",
                                   "group_members SET gender = ''"],
    "group_members_account_status_known": "group_members SET account_status = 'Active'",
    "group_members_type_known": "group_members SET type = 'admin'",
    "group_members_tags_array": "group_members SET tags = '{}'",
    "group_members_attributes_object": "group_members SET attributes = '[]'",
    "group_members_settings_object": "group_members SET settings = '1'",
    "group_members_notification_settings_object":
        "group_members SET notification_settings = 'null'",
    "group_members_dates_in_order": "group_members SET end_date = '2021-12-31'",
    "group_members_attributes_size":
        "group_members SET attributes = jsonb_build_object('a', repeat('x', 1048576))",
    "group_members_tags_size":
        "group_members SET tags = jsonb_build_array(repeat('x', 1048576))",
    "member_emails_lower_case": "member_emails SET email = 'G@x.org'",
    "institutions_id_lower_case_hex": [
        f"INSERT INTO institutions VALUES ({id}, 'x')" for id in (
            "repeat('A', 24)", "repeat('a', 23)", "repeat('a', 25)", "repeat('g', 24)",
            "repeat('a', 24) || chr(10)")],
    "children_id_lower_case_hex":
        "INSERT INTO children (id, username, institution_id)"
        " SELECT repeat('A', 24), 'x', id FROM institutions",
    "children_institution_fkey": "children SET institution_id = repeat('0', 24)",
    "children_age_not_negative": "children SET age = -1",
    "families_id_lower_case_hex":
        "INSERT INTO families (id, username, password_hash, institution_id)"
        " SELECT repeat('A', 24), 'g', 'x', id FROM institutions",
    "families_username_not_empty":
        "INSERT INTO families (id, username, password_hash, institution_id)"
        " SELECT repeat('b', 24), '', 'x', id FROM institutions",
    "families_username_once":
        "INSERT INTO families (id, username, password_hash, institution_id)"
        " SELECT repeat('b', 24), 'f', 'x', id FROM institutions",
    "families_institution_fkey": "families SET institution_id = repeat('0', 24)",
    "family_children_family_fkey": "family_children SET family_id = repeat('b', 24)",
    "family_children_child_fkey": "family_children SET child_id = repeat('0', 24)",
    "family_children_child_once":
        "INSERT INTO family_children SELECT family_id, username, 2, child_id"
        " FROM family_children",
}


class TestConstraints(OnScratch):
    broken = ROWS

    def names(self, sql, primary):
        return {name for name, in sql(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indrelid = ANY(%s::regclass[]) AND i.indisunique AND i.indisprimary = %s"
            " UNION SELECT conname FROM pg_constraint"
            " WHERE conrelid = ANY(%s::regclass[]) AND contype IN ('c', 'f') AND NOT %s",
            TABLES, primary, TABLES, primary)}

    def refused_by(self, sql, statement):
        with pytest.raises(psycopg2.IntegrityError) as refusal:
            sql(statement)
        return refusal.value.diag.constraint_name

    def test_each_constraint_has_a_case(self, sql):
        assert self.names(sql, False) == set(BROKEN)

    @pytest.mark.parametrize("name", BROKEN)
    def test_constraint_is_enforced(self, sql, expect_log, name):
        expect_log("violates (check|foreign key|unique) constraint")
        statements = BROKEN[name] if isinstance(BROKEN[name], list) else [BROKEN[name]]
        for statement in statements:
            if not statement.startswith("INSERT"):
                statement = f"UPDATE {statement}"
            assert self.refused_by(sql, statement) == name, statement

    def test_primary_keys_are_enforced(self, sql, expect_log):
        expect_log("violates unique constraint")
        refused = {self.refused_by(sql, f"INSERT INTO {table} SELECT * FROM {table} LIMIT 1")
                   for table in TABLES}
        assert refused == self.names(sql, True) and len(refused) == len(TABLES)


# --- recount() -----------------------------------------------------------------------------

def test_recount_reports_and_corrects(api, sql, live_session, group, occurrence):
    session, made, event = live_session(5), group(max_uses=5), occurrence(5)
    for n in range(2):
        for path, body in [
                (f"/v1/sessions/{session}/register", {"patient_id": f"p{n}"}),
                (f"/api/v1/groups/{made.id}/members", samples.member(made.code)),
                ("/api/v1/event-registrations",
                 {"occurrenceId": event, "externalUserId": f"u{n}"})]:
            assert api.post(path, json=body).status_code == 201
    keys = {session, made.code, event}

    def recount():
        """Its rows for these three: by key, the wrong and the correct count."""
        return {row[1]: row[2:] for row in sql("SELECT * FROM recount()") if row[1] in keys}

    assert recount() == {}
    for wrong in (0, 5):
        sql("UPDATE live_sessions SET registered_count = %s WHERE id = %s", wrong, session)
        sql("UPDATE invite_codes SET uses = %s WHERE code = %s", wrong, made.code)
        sql("UPDATE occurrences SET registrations = %s WHERE id = %s", wrong, event)
        assert recount() == dict.fromkeys(keys, (wrong, 2))
        assert recount() == {}
        assert sql("SELECT s.registered_count, c.uses, o.registrations"
                   " FROM live_sessions s, invite_codes c, occurrences o"
                   " WHERE s.id = %s AND c.code = %s AND o.id = %s",
                   session, made.code, event) == [(2, 2, 2)]


def test_recount_ignores_unlimited_codes(api, sql, group):
    """Their uses are not counted."""
    made = group()
    assert api.post("/api/v1/users", json=samples.member(made.code)).status_code == 201
    assert made.code not in {key for _, key, *_ in sql("SELECT * FROM recount()")}


def test_control_wrong_count_fails_test_file(postgres, sql, live_session):
    """The check at the end of each file."""
    session = live_session()
    sql("UPDATE live_sessions SET registered_count = 1 WHERE id = %s", session)
    with pytest.raises(pytest.fail.Exception, match=session):
        check_counts(postgres)
    check_counts(postgres)


# --- Installing ----------------------------------------------------------------------------

class TestReinstallation(OnScratch):
    def test_reinstallation_keeps_all_rows(self, database, api, admin, sql, live_session,
                                           group, institution, child, occurrence):
        session, made, school = live_session(1), group(max_uses=1), institution()
        requests = [
            (f"/v1/sessions/{session}/register", {"patient_id": "p"}, 409),
            (f"/api/v1/groups/{made.id}/members", samples.member(made.code), 422),
            ("/v1/families", samples.family(school, [child(school)]), 409),
            ("/api/v1/event-registrations",
             {"occurrenceId": occurrence(1), "externalUserId": "u"}, 409)]
        for path, body, _ in requests:
            assert admin.post(path, json=body).status_code == 201
        for _ in range(2):
            database.install("install.sql", "demo.sql")
        # The connections of httpd still work.
        for path, body, status in requests:
            assert admin.post(path, json=body).status_code == status
        assert sql("SELECT * FROM recount()") == []

    def test_reinstallation_prints_nothing(self, database):
        for script in ("install.sql", "demo.sql"):
            said = database.psql("-f", str(servers.ROOT / "sql" / script))
            assert UNKNOWN_ZONES.sub("", said) == ""
