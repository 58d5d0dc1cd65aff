# SPDX-License-Identifier: Apache-2.0
"""Purging old rows: the command in docs/operating.md deletes them and delays no request."""

import contextlib
import re
import secrets
import subprocess
import threading
import time

import pytest

import servers
from conftest import new_uuid
from scratch import OnScratch

# More seconds than any request takes that is not blocked, also on a busy machine.
LONG = 2

EXPIRED = """INSERT INTO idempotency_keys (key, fingerprint, body, expires_at)
    SELECT sha256(n::text::bytea), sha256(n::text::bytea), '{}', now() - interval '1 hour'
      FROM generate_series(1, %s) AS n"""


def cron_line():
    text = (servers.ROOT / "docs" / "operating.md").read_text()
    return re.search(r"(?m)^17 \* \* \* \* postgres (.*)$", text)[1]


def timer_line():
    text = (servers.ROOT / "conf" / "registration-maintain.service").read_text()
    return re.search(r"(?m)^ExecStart=/usr/bin/(.*)$", text)[1]


def run(line, database, user):
    """Runs a command as cron or systemd does, with the scripts in PATH as if installed."""
    path = f"{servers.ROOT / 'sql'}:/usr/bin:/bin"
    result = subprocess.run(
        ["sh", "-c", line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.STDOUT, env={**database.variables(user), "PATH": path})
    return result.returncode, result.stdout


@pytest.fixture
def clerk(sql, postgres):
    """A login role whose only right is membership in registration_admin."""
    role = f"clerk_{secrets.token_hex(4)}"
    sql(f"CREATE ROLE {role} LOGIN PASSWORD '{postgres.password}' IN ROLE registration_admin")
    yield role
    sql(f"DROP ROLE {role}")


def test_timer_runs_the_same_command_hourly():
    assert timer_line() in cron_line()
    timer = (servers.ROOT / "conf" / "registration-maintain.timer").read_text()
    assert "OnCalendar=hourly" in timer


@pytest.mark.parametrize("user", ["clerk", "postgres"])
@pytest.mark.parametrize("line", [cron_line(), timer_line()], ids=["cron", "timer"])
def test_documented_command_deletes_expired_keys(postgres, sql, clerk, line, user):
    assert line.endswith(f" {postgres.database}")
    sql(EXPIRED, 25000)
    status, out = run(line, postgres, clerk if user == "clerk" else user)
    assert status == 0, out
    assert '"idempotency_keys": 25' in out
    assert sql("SELECT count(*) FROM idempotency_keys WHERE expires_at < now()") == [(0,)]


def test_role_without_membership_is_denied(postgres, sql, expect_log):
    expect_log('permission denied to set role "registration_admin"', "permission denied for")
    status, out = run("registration-schema maintain", postgres, "registration")
    assert status == 1 and "permission denied" in out


@pytest.mark.parametrize("arguments", ["--keep-audit", "--keep-audit x", "--keep-audit '1;'",
                                       "--keep-audit -1", "--keep-audit ''", "--keep-past",
                                       "--keep 1", "--create", "--keep-audit 10000000"])
def test_invalid_arguments_do_nothing(postgres, arguments):
    for command in (f"maintain {arguments}", f"status {arguments}"):
        assert run(f"registration-schema {command}", postgres, "postgres")[0] == 2


PAST = """
    INSERT INTO occurrences (id, event_id, start_date, end_date, capacity)
    SELECT md5('past' || n)::uuid, id, now() - n * interval '1 month',
           now() - n * interval '1 month' + interval '1 day', 1
      FROM generate_series(1, 3) AS n, (SELECT id FROM events LIMIT 1) AS e;
    INSERT INTO live_sessions (id, title, status, scheduled_at)
    SELECT md5('past' || n)::uuid, 'Past', CASE n WHEN 2 THEN 'live' ELSE 'ended' END,
           now() - interval '2 months'
      FROM generate_series(1, 2) AS n;
    INSERT INTO live_sessions (id, title, status, scheduled_at)
    VALUES (md5('past3')::uuid, 'Recent', 'ended', now());
"""


class TestPurge(OnScratch):
    broken = PAST

    def registered(self, sql, n):
        """Two registrations for an occurrence, one of them waiting, and one for a session."""
        for user in ("first", "second"):
            sql("SELECT events_create(ARRAY[%s::uuid], ARRAY[md5('past' || %s)::uuid], ARRAY[%s],"
                " '{\"{}\"}', ARRAY[%s::uuid], '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}',"
                " '{me}', '{NULL}')", new_uuid(), n, f"{user} {n}", new_uuid())
        sql("INSERT INTO live_registrations (id, session_id, patient_id, role)"
            " VALUES (%s, md5('past' || %s)::uuid, 'p', 'host')", new_uuid(), n)
        sql("UPDATE live_sessions SET registered_count = 1 WHERE id = md5('past' || %s)::uuid", n)

    def test_past_occurrences_are_purged_with_registrations(self, sql, database):
        for n in (1, 2, 3):
            self.registered(sql, n)
        users = sql("SELECT count(*) FROM event_users WHERE external_id LIKE '%%st _'"
                    " OR external_id LIKE 'second _'")
        assert users == [(6,)]
        status, out = run("registration-schema maintain --keep-past 1 " + database.database,
                          database, "postgres")
        assert status == 0, out
        # The first began a month ago and lasted a day.
        assert sql("SELECT DISTINCT external_id FROM event_users WHERE external_id LIKE '%% 1'"
                   " OR external_id LIKE '%% 2' OR external_id LIKE '%% 3' ORDER BY 1") == [
                       ("first 1",), ("second 1",)]
        assert sql("SELECT count(*) FROM occurrences WHERE id = ANY (ARRAY[md5('past1'),"
                   " md5('past2'), md5('past3')]::uuid[])") == [(1,)]
        assert {row for row, in sql("SELECT title || status FROM live_sessions WHERE id = ANY ("
                                    "ARRAY[md5('past1'), md5('past2'), md5('past3')]::uuid[])")
                } == {"Pastlive", "Recentended"}
        assert sql("SELECT kind, sum(row_count) FROM audit WHERE action = 'erased'"
                   " AND id = 'purge' GROUP BY kind ORDER BY kind") == [
                       ("live_registration", 1), ("event_user", 4), ("event_registration", 4)]
        assert sql("SELECT * FROM recount()") == []

    def test_purge_in_parts_keeps_counts_and_order(self, sql):
        place = new_uuid()
        sql("INSERT INTO occurrences (id, event_id, start_date, capacity)"
            " SELECT %s, id, now() - interval '20 years', 2 FROM events LIMIT 1", place)
        for n in range(5):
            sql("SELECT events_create(ARRAY[%s::uuid], ARRAY[%s::uuid], ARRAY[%s], '{\"{}\"}',"
                " ARRAY[%s::uuid], '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{me}',"
                " '{NULL}')", new_uuid(), place, f"part {n}", new_uuid())
        seen = []
        while sql("SELECT purge_past_occurrence(now() - interval '19 years', 1)") != [(0,)]:
            assert sql("SELECT * FROM recount()") == []
            seen += sql("SELECT registrations FROM occurrences WHERE id = %s", place)
        assert seen == [(2,), (2,), (2,), (1,), (0,)]

    def test_deleted_registrations_are_purged(self, sql, database):
        def register(name):
            registration = new_uuid()
            sql("SELECT events_create(ARRAY[%s::uuid], ARRAY[id], ARRAY[%s], '{\"{}\"}',"
                " ARRAY[%s::uuid], '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{me}',"
                " '{NULL}') FROM occurrences ORDER BY start_date DESC LIMIT 1", registration,
                name, new_uuid())
            return registration
        kept, young, old = register("kept"), register("young"), register("old")
        for one, age in ((young, "5 days"), (old, "40 days")):
            sql("UPDATE event_registrations SET deleted_at = now() - %s::interval,"
                " waiting_number = NULL WHERE id = %s", age, one)
        sql("SELECT recount()")
        status, out = run("registration-schema maintain --keep-deleted 1 " + database.database,
                          database, "postgres")
        assert status == 0, out
        assert {row for row, in sql("SELECT id FROM event_registrations WHERE id = ANY ("
                                    "%s::uuid[])", [kept, young, old])} == {kept, young}
        assert sql("SELECT external_id FROM event_users WHERE external_id IN"
                   " ('kept', 'young', 'old') ORDER BY 1") == [("kept",), ("young",)]
        assert sql("SELECT * FROM recount()") == []


OLD_PARTITIONS = """
    SET ROLE registration_owner;
    ALTER TABLE audit DETACH PARTITION audit_oldest;
    DROP TABLE audit_oldest;
    CREATE TABLE audit_oldest PARTITION OF audit
        FOR VALUES FROM (MINVALUE) TO ('2020-02-01 00:00Z');
    CREATE TABLE audit_2020_02 PARTITION OF audit
        FOR VALUES FROM ('2020-02-01 00:00Z') TO ('2020-03-01 00:00Z');
    SELECT guard_audit_partition('audit_oldest'), guard_audit_partition('audit_2020_02');
    SELECT make_audit_partitions();
    INSERT INTO audit (at, action, kind, id, belongs_to)
    SELECT at, 'registered', 'family', 'old', 'x'
      FROM unnest('{2019-02-03 Z, 2020-01-31 23:59:59Z, 2020-02-01 Z}'::timestamptz[]) AS at;
    RESET ROLE;
"""


class OldAudit(OnScratch):
    broken = OLD_PARTITIONS

    @staticmethod
    def partitions(sql):
        return {name for name, in sql("SELECT name::text FROM audit_partitions()")}

    @pytest.fixture
    def register(self, client, admin_token, httpd, live_session):
        one, session = client(admin_token, httpd), live_session()

        def register():
            begin = time.monotonic()
            answer = one.post(f"/v1/sessions/{session}/register",
                              json={"patient_id": new_uuid()})
            assert answer.status_code == 201
            return time.monotonic() - begin
        return register

    @contextlib.contextmanager
    def being_read(self, database):
        reader = database.connect()
        reader.autocommit = False
        reader.cursor().execute("SELECT count(*) FROM registration.audit")
        try:
            yield
        finally:
            reader.close()

    def longest_wait_during_drop(self, database, register):
        """The longest time of a registration while a partition is to be dropped and a reader
        holds a lock on the audit."""
        with self.being_read(database):
            dropping = threading.Thread(target=run, args=(
                f"registration-schema maintain --keep-audit 12 {database.database}", database,
                "postgres"))
            dropping.start()
            end = time.monotonic() + 2
            waits = []
            try:
                while time.monotonic() < end:
                    waits.append(register())
            except AssertionError:      # a 503
                waits.append(end)
        dropping.join(30)
        return max(waits)


class TestOldAudit(OldAudit):
    def test_old_partitions_are_dropped_with_entry_and_without_delay(self, sql, database,
                                                                     register, expect_log):
        expect_log("canceling statement due to lock timeout", "the audit is being read")
        before = self.partitions(sql)
        assert self.longest_wait_during_drop(database, register) < LONG
        status, out = run(f"registration-schema maintain --keep-audit 12 {database.database}",
                          database, "postgres")
        assert status == 0, out
        assert before - self.partitions(sql) == {"audit_oldest", "audit_2020_02"}
        assert sql("SELECT 1 FROM audit WHERE id = 'old'") == []
        assert sql("SELECT id, row_count FROM audit WHERE kind = 'audit' ORDER BY at") == [
            ("audit_oldest", 2), ("audit_2020_02", 1)]
        # Newer partitions are kept.
        assert run(f"registration-schema maintain --keep-audit 0 {database.database}", database,
                   "postgres")[0] == 0
        assert len(self.partitions(sql)) == len(before) - 2

    def test_old_default_partition_is_replaced(self, sql, expect_log):
        expect_log("entries of the audit cannot be changed or deleted")
        while sql("SELECT drop_audit_partition('2020-04-01')") != [(None,)]:
            pass
        sql("INSERT INTO audit (at, action, kind, id, belongs_to)"
            " VALUES ('2010-01-01', 'registered', 'family', 'old', 'x')")
        assert sql("SELECT drop_audit_partition('2015-01-01')") == [("dropped",)]
        assert sql("SELECT drop_audit_partition('2015-01-01')") == [(None,)]
        assert sql("SELECT count(*) FROM audit_default") == [(0,)]
        with pytest.raises(Exception, match="cannot be changed or deleted"):
            sql("TRUNCATE audit_default")

    def test_entry_of_dropped_default_partition_is_in_new_one(self, sql):
        """If the current month has no partition."""
        while sql("SELECT drop_audit_partition('2020-04-01')") != [(None,)]:
            pass
        for name, in sql("SELECT name::text FROM audit_partitions()"
                         " WHERE upper_bound IS NOT NULL"):
            sql(f"ALTER TABLE audit DETACH PARTITION {name}")
        sql("INSERT INTO audit (at, action, kind, id, belongs_to)"
            " VALUES ('2010-01-01', 'registered', 'family', 'old', 'x')")
        assert sql("SELECT drop_audit_partition('2015-01-01')") == [("dropped",)]
        assert sql("SELECT tableoid::regclass::text, action::text, id, row_count FROM audit") == [
            ("audit_default", "erased", "audit_default", 1)]


class TestControlWithoutLockTimeout(OldAudit):
    broken = OLD_PARTITIONS + """
        ALTER FUNCTION drop_audit_partition(timestamptz) SET lock_timeout = 0;"""

    def test_control_without_lock_timeout_registrations_wait(self, database, register,
                                                             expect_log):
        expect_log("canceling statement due to (lock timeout|user request)", "REG03")
        assert self.longest_wait_during_drop(database, register) > LONG


class TestPurgeUnderLoad(OnScratch):
    """Registrations while many rows are purged."""

    broken = """
        INSERT INTO idempotency_keys (key, fingerprint, body, expires_at)
        SELECT sha256(n::text::bytea), sha256(n::text::bytea), '{}', now() - interval '1 hour'
          FROM generate_series(1, 30000) AS n;
        INSERT INTO live_sessions (id, title, status, scheduled_at)
        VALUES (md5('past')::uuid, 'Past', 'ended', now() - interval '1 year');
        INSERT INTO live_registrations (id, session_id, patient_id, role)
        SELECT gen_random_uuid(), md5('past')::uuid, n, 'participant'
          FROM generate_series(1, 5000) AS n;
        UPDATE live_sessions SET registered_count = 5000 WHERE title = 'Past';"""

    def test_purge_delays_no_request(self, client, admin_token, httpd, live_session, sql,
                                     database):
        session, waits, stop = live_session(), [], threading.Event()
        statuses = set()

        def register():
            one = client(admin_token, httpd)
            while not stop.is_set():
                begin = time.monotonic()
                answer = one.post(f"/v1/sessions/{session}/register",
                                  json={"patient_id": new_uuid()},
                                  headers={"Idempotency-Key": new_uuid()})
                waits.append(time.monotonic() - begin)
                statuses.add(answer.status_code)
        threads = [threading.Thread(target=register) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            status, out = run("registration-schema maintain --keep-past 6 --keep-audit 12"
                              f" --keep-deleted 6 {database.database}", database, "postgres")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert status == 0, out
        assert statuses == {201} and max(waits) < LONG
        assert sql("SELECT count(*) FROM idempotency_keys WHERE expires_at < now()") == [(0,)]
        assert sql("SELECT count(*) FROM live_sessions WHERE title = 'Past'") == [(0,)]
        assert sql("SELECT * FROM recount()") == []
