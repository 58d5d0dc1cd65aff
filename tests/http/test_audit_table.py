# SPDX-License-Identifier: Apache-2.0
"""The audit table: its entries are immutable and partitioned by month."""

import datetime

import psycopg2
import pytest

from conftest import new_uuid
from audit_entries import entries   # noqa: F401 (a fixture)
from scratch import OnScratch

REFUSED = "entries of the audit cannot be changed or deleted"

CHANGES = ["UPDATE audit SET action = 'changed' WHERE id = %(id)s",
           "UPDATE audit SET caller = 'x' WHERE id = %(id)s",
           "UPDATE audit SET caller = NULL WHERE id = %(id)s",
           "UPDATE audit SET caller = 'erased', at = now() WHERE id = %(id)s",
           "UPDATE audit SET caller = 'erased', request_id = NULL WHERE id = %(id)s",
           "DELETE FROM audit WHERE id = %(id)s",
           "TRUNCATE audit"]


def try_change(connection, change, entry_id):
    """Runs a change and rolls it back; True unless it raises."""
    connection.autocommit = False
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = registration")
            cursor.execute(change, {"id": entry_id})
        return True
    finally:
        connection.rollback()


@pytest.fixture
def entry_id(sql):
    """The id of a new entry."""
    made = new_uuid()
    sql("INSERT INTO audit (action, kind, id, belongs_to, caller, request_id)"
        " VALUES ('registered', 'live_registration', %s, %s, 'me', 'request')",
        made, new_uuid())
    return made


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("change", CHANGES)
def test_entry_change_by_superuser_is_refused(postgres, entry_id, entries, expect_log,
                                              change, role):
    expect_log(REFUSED)
    connection = postgres.connect()
    try:
        connection.cursor().execute(f"SET session_replication_role = {role}")
        with pytest.raises(psycopg2.errors.RestrictViolation, match=REFUSED):
            try_change(connection, change, entry_id)
    finally:
        connection.close()
    assert len(entries(id=entry_id)) == 1


class TestControlWithoutTriggers(OnScratch):
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

    def test_control_entry_can_be_changed(self, database, entry_id):
        for change in CHANGES:
            connection = database.connect()
            assert try_change(connection, change, entry_id)
            connection.close()

    def test_control_entry_of_each_partition_can_be_changed(self, sql, database):
        for partition, moment in partitions(sql):
            for change in ON_A_PARTITION:
                connection = database.connect()
                assert try_change(connection, change.format(partition), insert_at(sql, moment))
                connection.close()


# --- Partitions ----------------------------------------------------------------------------

ON_A_PARTITION = ["UPDATE {} SET action = 'changed' WHERE id = %(id)s",
                  "DELETE FROM {} WHERE id = %(id)s", "TRUNCATE {}"]


def partitions(sql):
    """Each partition and a moment within its bounds."""
    return [(name, upper and upper - datetime.timedelta(days=1) or datetime.datetime(
                9999, 1, 1, tzinfo=datetime.timezone.utc))
            for name, upper in sql("SELECT name::text, upper_bound FROM audit_partitions()")]


def insert_at(sql, moment):
    """Inserts an entry of that moment; its id."""
    made = new_uuid()
    sql("INSERT INTO audit (at, action, kind, id, belongs_to)"
        " VALUES (%s, 'registered', 'live_registration', %s, 'x')", moment, made)
    return made


def test_partitions_exist_for_this_month_and_next_twelve(sql):
    assert sql("SELECT make_audit_partitions()") == [(0,)]
    [[covered]] = sql("SELECT count(*) FROM generate_series(0, 12) AS ahead, audit_partitions()"
                      " AS p WHERE now() + make_interval(months => ahead) < p.upper_bound"
                      " AND (p.lower_bound IS NULL OR"
                      "      now() + make_interval(months => ahead) >= p.lower_bound)")
    assert covered == 13 and len(partitions(sql)) == 12 + 2


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_each_partition_takes_entries_and_refuses_changes(postgres, sql, expect_log, role):
    expect_log(REFUSED)
    connection = postgres.connect()
    try:
        connection.cursor().execute(f"SET session_replication_role = {role}")
        for partition, moment in partitions(sql):
            made = insert_at(sql, moment)
            assert sql("SELECT tableoid::regclass::text FROM audit WHERE id = %s",
                       made) == [(partition,)]
            for change in ON_A_PARTITION:
                with pytest.raises(psycopg2.errors.RestrictViolation, match=REFUSED):
                    try_change(connection, change.format(partition), made)
    finally:
        connection.close()


class TestWithoutMonthlyPartitions(OnScratch):
    # As after a year without the maintenance timer.
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

    def test_registration_is_audited_in_default_partition_and_later_months_get_partitions(
            self, client, admin_token, httpd, sql, live_session):
        answer = client(admin_token, httpd).post(
            f"/v1/sessions/{live_session()}/register", json={"patient_id": "p"})
        assert answer.status_code == 201
        assert sql("SELECT count(*) FROM audit_default") == [(1,)]
        assert sql("SELECT make_audit_partitions()") == [(12,)]

    def test_control_registration_without_default_partition_fails(
            self, client, admin_token, httpd, sql, live_session, expect_log, database):
        expect_log('no partition of relation "audit"')
        sql("ALTER TABLE audit DETACH PARTITION audit_default")
        session = live_session()
        answer = client(admin_token, httpd).post(
            f"/v1/sessions/{session}/register", json={"patient_id": "p"})
        assert answer.status_code == 400    # as for any violated constraint


def test_caller_can_be_erased_and_no_other_column_changed(sql, entry_id, entries):
    [before] = entries(id=entry_id)
    for _ in range(2):
        sql("UPDATE audit SET caller = 'erased' WHERE id = %s", entry_id)
        [after] = entries(id=entry_id)
        assert vars(after) == {**vars(before), "caller": "erased"}


def test_entry_without_caller_cannot_be_erased(sql, entry_id, expect_log):
    expect_log(REFUSED)
    sql("INSERT INTO audit (action, kind, id, belongs_to)"
        " VALUES ('registered', 'family', %s, 'x')", f"{entry_id} too")
    with pytest.raises(psycopg2.errors.RestrictViolation):
        sql("UPDATE audit SET caller = 'erased' WHERE id = %s", f"{entry_id} too")


@pytest.mark.parametrize("statement", [
    "SELECT 1 FROM audit", "SELECT 1 FROM audit FOR SHARE",
    "INSERT INTO audit (action, kind, id, belongs_to)"
    " VALUES ('registered', 'family', %(id)s, 'x')",
    "COPY audit TO STDOUT", "ALTER TABLE audit DISABLE TRIGGER ALL",
    "SELECT audit_purged('family', 1)", *CHANGES])
def test_service_role_has_no_right_on_audit(postgres, entry_id, expect_log, statement):
    expect_log("permission denied for ", "must be owner of table audit")
    connection = postgres.connect("registration")
    try:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            try_change(connection, statement, entry_id)
    finally:
        connection.close()


def test_lookup_by_id_uses_index_of_each_partition(sql):
    sql("SET enable_seqscan = off")
    plan = str(sql("EXPLAIN SELECT * FROM audit WHERE id = %s", new_uuid()))
    sql("RESET enable_seqscan")
    assert plan.count("Index Cond: (id = ") == len(partitions(sql))
    assert "Seq Scan" not in plan
