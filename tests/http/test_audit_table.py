# SPDX-License-Identifier: Apache-2.0
"""The audit's table: its entries are there for good, in a partition for each month."""

import datetime

import psycopg2
import pytest

from conftest import new_uuid
from entries import entries   # noqa: F401 (a fixture)
from scratch import OnScratch

REFUSED = "entries of the audit are neither changed nor deleted"

CHANGES = ["UPDATE audit SET action = 'changed' WHERE id = %(id)s",
           "UPDATE audit SET caller = 'x' WHERE id = %(id)s",
           "UPDATE audit SET caller = NULL WHERE id = %(id)s",
           "UPDATE audit SET caller = 'erased', at = now() WHERE id = %(id)s",
           "UPDATE audit SET caller = 'erased', request_id = NULL WHERE id = %(id)s",
           "DELETE FROM audit WHERE id = %(id)s",
           "TRUNCATE audit"]


def attempt(connection, change, noted):
    """Whether a change is made; whatever comes of it is taken back."""
    connection.autocommit = False
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = registration")
            cursor.execute(change, {"id": noted})
        return True
    finally:
        connection.rollback()


@pytest.fixture
def noted(sql):
    """The id of an entry."""
    made = new_uuid()
    sql("INSERT INTO audit (action, kind, id, belongs_to, caller, request_id)"
        " VALUES ('registered', 'live_registration', %s, %s, 'me', 'request')",
        made, new_uuid())
    return made


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("change", CHANGES)
def test_not_even_a_superuser_changes_an_entry(postgres, noted, entries, expect_log, change,
                                               role):
    expect_log(REFUSED)
    connection = postgres.connect()
    try:
        connection.cursor().execute(f"SET session_replication_role = {role}")
        with pytest.raises(psycopg2.errors.RestrictViolation, match=REFUSED):
            attempt(connection, change, noted)
    finally:
        connection.close()
    assert len(entries(id=noted)) == 1


class TestWithoutTheTriggers(OnScratch):
    broken = """ALTER TABLE audit DISABLE TRIGGER USER;
        DO $$
        DECLARE
            partition regclass;
        BEGIN
            FOR partition IN SELECT name FROM audit_partitions() LOOP
                EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', partition);
            END LOOP;
        END
        $$"""

    def test_anybody_could(self, database, noted):
        for change in CHANGES:
            connection = database.connect()
            assert attempt(connection, change, noted)
            connection.close()

    def test_each_partition_could_be_changed(self, sql, database):
        for partition, moment in partitions(sql):
            for change in ON_A_PARTITION:
                connection = database.connect()
                assert attempt(connection, change.format(partition), note_at(sql, moment))
                connection.close()


# --- Its partitions ------------------------------------------------------------------------

ON_A_PARTITION = ["UPDATE {} SET action = 'changed' WHERE id = %(id)s",
                  "DELETE FROM {} WHERE id = %(id)s", "TRUNCATE {}"]


def partitions(sql):
    """Each partition and a moment of which it has the entries."""
    return [(name, upper and upper - datetime.timedelta(days=1) or datetime.datetime(
                9999, 1, 1, tzinfo=datetime.timezone.utc))
            for name, upper in sql("SELECT name::text, upper_bound FROM audit_partitions()")]


def note_at(sql, moment):
    """The id of an entry of that moment."""
    made = new_uuid()
    sql("INSERT INTO audit (at, action, kind, id, belongs_to)"
        " VALUES (%s, 'registered', 'live_registration', %s, 'x')", moment, made)
    return made


def test_there_are_partitions_for_this_month_and_the_next_twelve(sql):
    assert sql("SELECT make_audit_partitions()") == [(0,)]
    [[covered]] = sql("SELECT count(*) FROM generate_series(0, 12) AS ahead, audit_partitions()"
                      " AS p WHERE now() + make_interval(months => ahead) < p.upper_bound"
                      " AND (p.lower_bound IS NULL OR"
                      "      now() + make_interval(months => ahead) >= p.lower_bound)")
    assert covered == 13 and len(partitions(sql)) == 12 + 2


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_each_partition_takes_entries_and_lets_none_be_changed(postgres, sql, expect_log, role):
    expect_log(REFUSED)
    connection = postgres.connect()
    try:
        connection.cursor().execute(f"SET session_replication_role = {role}")
        for partition, moment in partitions(sql):
            made = note_at(sql, moment)
            assert sql("SELECT tableoid::regclass::text FROM audit WHERE id = %s",
                       made) == [(partition,)]
            for change in ON_A_PARTITION:
                with pytest.raises(psycopg2.errors.RestrictViolation, match=REFUSED):
                    attempt(connection, change.format(partition), made)
    finally:
        connection.close()


class TestWhereNoPartitionIsLeft(OnScratch):
    # As if nothing had made one for a long time.
    broken = """ALTER TABLE audit DETACH PARTITION audit_oldest;
        DO $$
        DECLARE
            partition regclass;
        BEGIN
            FOR partition IN SELECT name FROM audit_partitions() WHERE upper_bound IS NOT NULL
            LOOP
                EXECUTE format('DROP TABLE %s', partition);
            END LOOP;
        END
        $$"""

    def test_registrations_go_on_and_later_months_get_one(self, client, admin_token, httpd, sql,
                                                          live_session):
        answer = client(admin_token, httpd).post(
            f"/v1/sessions/{live_session()}/register", json={"patient_id": "p"})
        assert answer.status_code == 201
        assert sql("SELECT count(*) FROM audit_default") == [(1,)]
        assert sql("SELECT make_audit_partitions()") == [(12,)]

    def test_control_without_the_default_partition_they_fail(
            self, client, admin_token, httpd, sql, live_session, expect_log, database):
        expect_log('no partition of relation "audit"')
        sql("ALTER TABLE audit DETACH PARTITION audit_default")
        session = live_session()
        answer = client(admin_token, httpd).post(
            f"/v1/sessions/{session}/register", json={"patient_id": "p"})
        assert answer.status_code == 400    # as of any constraint that a row breaks


def test_a_caller_can_be_erased_and_nothing_else(sql, noted, entries):
    [before] = entries(id=noted)
    for _ in range(2):
        sql("UPDATE audit SET caller = 'erased' WHERE id = %s", noted)
        [after] = entries(id=noted)
        assert vars(after) == {**vars(before), "caller": "erased"}


def test_who_was_nobody_cannot_become_erased(sql, noted, expect_log):
    expect_log(REFUSED)
    sql("INSERT INTO audit (action, kind, id, belongs_to)"
        " VALUES ('registered', 'family', %s, 'x')", f"{noted} too")
    with pytest.raises(psycopg2.errors.RestrictViolation):
        sql("UPDATE audit SET caller = 'erased' WHERE id = %s", f"{noted} too")


@pytest.mark.parametrize("statement", [
    "SELECT 1 FROM audit", "SELECT 1 FROM audit FOR SHARE",
    "INSERT INTO audit (action, kind, id, belongs_to)"
    " VALUES ('registered', 'family', %(id)s, 'x')",
    "COPY audit TO STDOUT", "ALTER TABLE audit DISABLE TRIGGER ALL",
    "SELECT audit_erased(true, 'family', %(id)s, 'x')", *CHANGES])
def test_the_service_s_role_has_no_right_on_it(postgres, noted, expect_log, statement):
    expect_log("permission denied for ", "must be owner of table audit")
    connection = postgres.connect("registration")
    try:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            attempt(connection, statement, noted)
    finally:
        connection.close()


def test_what_was_done_to_one_row_is_found_without_reading_all(sql):
    sql("SET enable_seqscan = off")
    plan = str(sql("EXPLAIN SELECT * FROM audit WHERE id = %s", new_uuid()))
    sql("RESET enable_seqscan")
    assert plan.count("Index Cond: (id = ") == len(partitions(sql))
    assert "Seq Scan" not in plan
