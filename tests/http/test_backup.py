# SPDX-License-Identifier: Apache-2.0
"""A backup, made and restored with the commands of docs/operating.md, in another cluster of
PostgreSQL: the module serves it, with every registration and the right counts of places.

In tests/package.py the same commands run as printed, with sudo, on one cluster.
"""

import re
import subprocess
import sys

import pytest

import servers
from apis import APIS, good   # noqa: F401, a fixture
from conftest import new_uuid
from dumps import dump, need_pg_dump
from faults import CHILD, MODULES, MOUNTS, OPERATING, Caller, database

sys.path.insert(1, str(servers.ROOT / "tests"))
import documents  # noqa: E402

# Runs what `sudo -u postgres` would, as this user, to whom PG* variables name the cluster. The
# service and the files of httpd are the machine's own.
SUDO = """
sudo() {
    case $1 in -u) shift 2; "$@" ;; *) true ;; esac
}
curl() { true; }
"""


def commands():
    """The blocks of the section: the first makes the backup, the others restore it."""
    found = documents.chosen("docs/operating.md", "Back up and restore", "tests/package.py")
    backup, *restore = [block.text for block, _ in found]
    assert "pg_dumpall" in backup and "pg_restore" in "".join(restore)
    return backup, "".join(restore)


def run(script, cluster, directory):
    """Runs commands against a cluster, with files in a directory."""
    script = script.replace("/var/backups/registration", str(directory))
    variables = {**cluster.variables(), "PGDATABASE": "postgres"}
    result = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", SUDO + script], cwd="/", text=True,
        env={**servers.environment(**variables),
             "PATH": f"{servers.ROOT / 'sql'}:{servers.environment()['PATH']}"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout
    return result.stdout


def definition(cluster):
    """The statements that create the database, with its rights and settings. Without brackets,
    as a restored expression can have fewer."""
    return re.sub("[()]", "", dump(cluster, "--create", "--schema-only", "registration"))


def content(cluster):
    """All rows of all tables, as text, except the time zones of PostgreSQL."""
    tables = cluster.psql("-c", "SELECT c.oid::regclass FROM pg_class AS c"
                          " WHERE c.relnamespace = 'registration'::regnamespace"
                          " AND c.relkind = 'r' AND NOT c.relispartition ORDER BY 1").split()
    assert {"registration.live_sessions", "registration.families"} <= set(tables)
    return {table: cluster.psql("-c", "SET timezone = 'UTC'", "-c",
                                f"SELECT to_jsonb(t) FROM {table} AS t ORDER BY 1")
            for table in [*tables, "registration.audit"] if not table.endswith("time_zones")}


@pytest.fixture
def another(tmp_path, postgres, watched_logs, expect_log):
    """Another cluster, without roles of the module, whose superuser has the same password:
    roles.sql sets every role's."""
    need_pg_dump(postgres, restores=True)
    expect_log('ERROR:  role "postgres" already exists')
    cluster = servers.Postgres(tmp_path / "another")
    cluster.passfile.write_text(postgres.passfile.read_text())
    cluster.passfile.chmod(0o600)
    cluster.start()
    cluster.psql("-c", "CREATE DATABASE registration", database="postgres")
    watched_logs.append(cluster.log)
    yield cluster
    cluster.stop("smart")


@pytest.fixture
def served(start_httpd):
    def start(cluster):
        site = CHILD + MOUNTS + database(cluster.dsn()) + OPERATING
        return Caller(start_httpd(site, modules=MODULES))
    return start


def test_restored_backup_has_all_registrations_and_counts(
        postgres, another, served, good, live_session, occurrence, tmp_path):
    before = served(postgres)
    requests = [(one.path, one.body, {"Idempotency-Key": new_uuid()})
                for one in map(good, APIS)]
    sessions, events = live_session(max_participants=2), occurrence(capacity=1)
    requests += [(f"/v1/sessions/{sessions}/register", {"patient_id": "first"}, {}),
                 *(("/api/v1/event-registrations",
                    {"occurrenceId": events, "externalUserId": name}, {}) for name in "ab")]
    answers = [before.post(path, json=body, headers=headers)
               for path, body, headers in requests]
    assert {answer.status_code for answer in answers} == {201}
    assert [answer.json()["status"] for answer in answers[-2:]] == ["CONFIRMED", "WAITING_LIST"]

    backup, restore = commands()
    directory = tmp_path / "backup"
    directory.mkdir()
    run(backup, postgres, directory)
    assert {path.name for path in directory.iterdir()} == {"roles.sql", "registration.dump"}
    said = run(restore, another, directory)
    assert "(0 rows)" in said
    assert content(another) == content(postgres)
    assert definition(another) == definition(postgres)

    after = served(another)
    assert after.get("/health/ready").status_code == 200
    # Answers under a key are the same, and no place is given twice.
    for (path, body, headers), answer in zip(requests, answers):
        again = after.post(path, json=body, headers=headers)
        assert (again.status_code, again.content) == (201, answer.content) if headers \
            else again.status_code == 409
    assert after.register(sessions).status_code == 201
    assert after.register(sessions).status_code == 412
    # The place of the first goes to the one that waits, in the restored database only.
    first, waiting = [f"/api/v1/event-registrations/{a.json()['id']}" for a in answers[-2:]]
    assert after.delete(first).status_code in (200, 204)
    assert after.get(waiting).json()["status"] == "CONFIRMED"
    assert before.get(waiting).json()["status"] == "WAITING_LIST"


def test_wrong_count_in_backup_is_corrected(postgres, another, live_session, sql, tmp_path):
    """The control: recount() reports a wrong count."""
    session = live_session()
    sql("UPDATE live_sessions SET registered_count = 3 WHERE id = %s", session)
    backup, restore = commands()
    directory = tmp_path / "backup"
    directory.mkdir()
    run(backup, postgres, directory)
    sql("UPDATE live_sessions SET registered_count = 0 WHERE id = %s", session)
    said = run(restore, another, directory)
    assert re.search(rf"live_sessions +\| {session} +\| +3 \| +0\b", said), said
