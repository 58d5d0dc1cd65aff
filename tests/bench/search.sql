-- SPDX-License-Identifier: Apache-2.0
--
-- Fills an empty database with :rows event registrations: 1000 in each occurrence, 10
-- occurrences in each event, events in 10 categories, 10 registrations of each user, 10 users of
-- each last name.

\set ON_ERROR_STOP on
\set QUIET on
\set tables '''event_registrations'', ''event_users'''

SET search_path = registration, public;
SET maintenance_work_mem = '256MB';

-- No triggers and foreign keys, because the rows are valid. Indexes are created afterwards,
-- which takes a fraction of the time.
SET session_replication_role = replica;
CREATE TEMP TABLE dropped AS
    SELECT i.indexname, i.indexdef
      FROM pg_indexes AS i
     WHERE i.schemaname = 'registration'
       AND i.tablename IN (:tables)
       AND i.indexname NOT IN (SELECT conname FROM pg_constraint);
SELECT format('DROP INDEX %I', indexname) FROM dropped \gexec

-- A pronounceable name: four syllables, made from the bits of a hash.
CREATE FUNCTION pg_temp.name(number bigint) RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT initcap(string_agg(
               substr('bdfghklmnprstvwz', 1 + (h >> (6 * i) & 15)::integer, 1)
               || substr('aeio', 1 + (h >> (6 * i + 4) & 3)::integer, 1), '' ORDER BY i))
      FROM generate_series(0, 3) AS i, hashint8extended(number, 0) AS h
$$;

CREATE FUNCTION pg_temp.id(number bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE
AS $$
    SELECT ('00000000-0000-4000-8000-' || lpad(number::text, 12, '0'))::uuid
$$;

INSERT INTO organizations (id, name)
VALUES (pg_temp.id(0), 'Benchmark');

INSERT INTO events (id, organization_id, name, slug, description)
SELECT pg_temp.id(i), pg_temp.id(0), pg_temp.name(-1 - i) || ' ' || i, 'event-' || i,
       'An event among others.'
  FROM generate_series(0, :rows / 10000 - 1) AS i;

INSERT INTO categories (id, organization_id, name)
SELECT pg_temp.id(i), pg_temp.id(0), 'Category ' || i FROM generate_series(0, 9) AS i;

INSERT INTO event_categories (event_id, category_id)
SELECT pg_temp.id(i), pg_temp.id(i % 10) FROM generate_series(0, :rows / 10000 - 1) AS i;

INSERT INTO occurrences (id, event_id, start_date)
SELECT pg_temp.id(i), pg_temp.id(i / 10),
       '2026-01-01 10:00+00'::timestamptz + i * interval '1 hour'
  FROM generate_series(0, :rows / 1000 - 1) AS i;

INSERT INTO event_users (organization_id, external_id, first_name, last_name, email)
SELECT pg_temp.id(0), i, f, l, format('%s.%s.%s@example.org', lower(f), lower(l), i)
  FROM generate_series(0, :rows / 10 - 1) AS i,
       LATERAL (SELECT pg_temp.name(1000000000 + i % 500) AS f,
                       pg_temp.name(i / 10) AS l) AS n;

INSERT INTO event_registrations
       (id, occurrence_id, event_id, organization_id, user_id, status, fields,
        waiting_number, email, first_name, last_name, created_at, updated_at)
SELECT gen_random_uuid(), pg_temp.id(o), pg_temp.id(o / 10), pg_temp.id(0), u.id, status,
       '{"company": "Tech Corp", "role": "Developer"}',
       CASE status WHEN 'WAITING_LIST' THEN nextval('event_waiting_numbers') END,
       u.email, u.first_name, u.last_name, moment, moment
  FROM event_users AS u,
       generate_series(0, 9) AS i,
       LATERAL (SELECT (u.external_id::bigint * 10 + i) % (:rows / 1000) AS o,
                       CASE WHEN random() < 0.9 THEN 'CONFIRMED'
                            WHEN random() < 0.5 THEN 'WAITING_LIST'
                            WHEN random() < 0.6 THEN 'CANCELLED'
                            ELSE 'ATTENDED' END AS status,
                       '2025-01-01 00:00+00'::timestamptz
                       + random() * interval '300 days' AS moment) AS r;

UPDATE occurrences AS o
   SET registrations = held.number
  FROM (SELECT occurrence_id, count(*) AS number
          FROM event_registrations
         WHERE status IN ('PENDING', 'CONFIRMED', 'ATTENDED')
         GROUP BY occurrence_id) AS held
 WHERE o.id = held.occurrence_id;

SELECT indexdef FROM dropped \gexec

VACUUM (ANALYZE);
CHECKPOINT;
