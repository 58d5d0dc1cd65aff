# SPDX-License-Identifier: Apache-2.0
"""Lists of registrations that were imported, before the first ANALYZE."""

import contextlib

import pytest

from test_schema import empty   # noqa: F401, a fixture

ROWS = 1000
FILL = f"""SET search_path = registration, public;
ALTER TABLE event_users SET (autovacuum_enabled = off);
ALTER TABLE event_registrations SET (autovacuum_enabled = off);
INSERT INTO organizations (id, name) VALUES (md5('one')::uuid, 'An organization');
INSERT INTO events (id, organization_id, name) VALUES (md5('one')::uuid, md5('one')::uuid, '');
INSERT INTO occurrences (id, event_id) VALUES (md5('one')::uuid, md5('one')::uuid);
INSERT INTO event_users (organization_id, external_id, email)
SELECT md5('one')::uuid, n, 'user' || n || '@example.org' FROM generate_series(1, {ROWS}) AS n;
INSERT INTO event_registrations (id, occurrence_id, event_id, organization_id, user_id, status,
                                 email)
SELECT gen_random_uuid(), md5('one')::uuid, md5('one')::uuid, md5('one')::uuid, u.id,
       'CONFIRMED', u.email
  FROM event_users AS u"""
LIST = """EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON)
SELECT * FROM events_search('{10}', '{1}', '{email}', '{true}', ARRAY[NULL]::uuid[],
    ARRAY[NULL]::uuid[], ARRAY[%s], ARRAY[NULL], ARRAY[NULL], '{false}', ARRAY[%s]::uuid[],
    ARRAY[NULL]::timestamptz[], ARRAY[NULL]::uuid[])"""


@pytest.mark.parametrize("status", [None, "CONFIRMED"])
def test_list_by_address_without_statistics_reads_each_registration_once(empty, status):  # noqa: F811
    empty.install("install.sql")
    with contextlib.closing(empty.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(FILL)
        cursor.execute("SELECT pg_get_functiondef('events_find'::regproc),"
                       " md5('one')::uuid::text")
        [[definition, organization]] = cursor.fetchall()
        many = definition.replace("integer := 10000", f"integer := {ROWS // 2}")
        assert many != definition
        cursor.execute(many)
        cursor.execute(LIST, (status, organization))
        [[[explained]]] = cursor.fetchall()
    pages = sum(explained["Plan"][f"Shared {kind} Blocks"] for kind in ("Hit", "Read"))
    assert ROWS < pages < 30 * ROWS
