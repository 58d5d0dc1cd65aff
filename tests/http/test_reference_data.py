# SPDX-License-Identifier: Apache-2.0
"""What the database is besides the operations: comments, counts, installation."""

import pytest

import samples
import servers
from conftest import new_uuid
from scratch import OnScratch

# What an administrator gives; everything else has a default.
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

def test_every_table_and_column_is_commented(sql):
    assert sql(
        "SELECT c.relname, a.attname FROM pg_class c"
        " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        "  AND NOT a.attisdropped"
        " WHERE c.relnamespace = 'registration'::regnamespace AND c.relkind IN ('r', 'p', 'v')"
        " AND NOT c.relispartition"
        " AND (obj_description(c.oid, 'pg_class') IS NULL"
        "  OR col_description(c.oid, a.attnum) IS NULL)") == []


@pytest.mark.parametrize("table", GIVEN)
def test_the_columns_an_administrator_gives_are_all_that_have_to_be_given(sql, table):
    columns = sql("SELECT column_name, is_nullable = 'NO' AND column_default IS NULL"
                  " AND is_generated = 'NEVER' FROM information_schema.columns"
                  " WHERE table_schema = 'registration' AND table_name = %s", table)
    given = set(GIVEN[table].split())
    assert given <= {name for name, _ in columns}
    assert {name for name, needed in columns if needed} <= given


def test_a_live_registration_s_columns_are_the_answer_s_keys(sql):
    assert sql("SELECT column_name FROM information_schema.columns WHERE table_schema ="
               " 'registration' AND table_name = 'live_registrations'"
               " ORDER BY ordinal_position") == [
        ("id",), ("session_id",), ("patient_id",), ("guest_email",), ("role",),
        ("registered_at",)]


# --- recount() -----------------------------------------------------------------------------

def test_recount_reports_and_mends(api, sql, live_session, group, occurrence):
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
        """What it says of these three: by key, the count it found and the true one."""
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


# --- Installing ----------------------------------------------------------------------------

class TestInstallingAgain(OnScratch):
    def test_nothing_is_lost(self, database, api, admin, sql, live_session, group, institution,
                             child, occurrence):
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
        # The connections that httpd has kept go on working.
        for path, body, status in requests:
            assert admin.post(path, json=body).status_code == status
        assert sql("SELECT * FROM recount()") == []

    def test_it_says_nothing(self, database):
        for script in ("install.sql", "demo.sql"):
            assert database.psql("-f", str(servers.ROOT / "sql" / script)) == ""
