-- SPDX-License-Identifier: Apache-2.0
--
-- Makes or updates everything mod_registration needs in one database. Run it as a
-- superuser of a database in UTF-8; PostgreSQL 14 or later, with the contrib module
-- pg_trgm:
--
--     psql -X -d DATABASE -f sql/install.sql
--
-- It is one transaction, but for values of new columns, which are filled in after it. It
-- is safe to run again, also while requests are served: what the database has already is
-- not touched. What it makes is in schema "registration" and belongs to
-- registration_owner, a role nobody logs in as. The module connects as role
-- "registration", which may execute the operations and do nothing else; members of role
-- "registration_admin" may execute the functions for administrators. "registration" gets
-- no password here: set one, or let pg_hba.conf decide.
--
-- Version 1 is what schema/*.sql makes. What changes tables after that is a migration,
-- which is added below; see migrations/README.md.

\set ON_ERROR_STOP on
\set QUIET on

-- The version that a database has after this, and that the module asks for (src/database/connection.h).
\set newest 2

-- One at a time; and each statement sees what the one before has committed.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL client_min_messages = warning;
SELECT pg_advisory_xact_lock(hashtext('registration_schema')) AS locked \gset

\ir version.sql
SELECT :installed > :newest AS newer, :installed < 1 AS pending \gset
\if :newer
DO $$ BEGIN RAISE 'the database has a newer schema than this installs; nothing was changed'; END $$;
\endif

\ir schema/common.sql

SET LOCAL ROLE registration_owner;

-- What follows grants the operations, and nothing that somebody has granted before stays.
REVOKE ALL ON ALL ROUTINES IN SCHEMA registration FROM registration, registration_admin;

\ir operations/common.sql
\ir operations/health.sql

\if :pending
\ir schema/version.sql
\ir schema/audit.sql
\ir schema/live.sql
\ir schema/groups.sql
\ir schema/families.sql
\ir schema/events.sql
\ir schema/idempotency.sql
\endif

-- Migrations, in their order; each so:
--   SELECT :installed < 2 AS missing \gset
--   \if :missing
--   \ir migrations/0002_what_it_does.sql
--   \endif

SELECT :installed < 2 AS missing \gset
\if :missing
\ir migrations/0002_bounds.sql
\endif

\ir operations/schema_version.sql

\ir operations/audit_partitions.sql
SELECT make_audit_partitions() AS made \gset

\ir operations/live_register.sql
\ir operations/cancel_live_registration.sql

\ir operations/time_zones.sql
\ir operations/groups_support.sql
\ir operations/groups_register.sql
\ir operations/groups_get_group.sql
\ir operations/groups_get_plan.sql
\ir operations/groups_get_member.sql
\ir operations/remove_group_member.sql

\ir operations/families_register.sql
\ir operations/remove_family.sql

\ir operations/events_support.sql
\ir operations/events_create.sql
\ir operations/events_get.sql
\ir operations/events_update.sql
\ir operations/events_delete.sql
\ir operations/events_search.sql

\ir operations/idempotent.sql
\ir operations/forget_idempotency_keys.sql

\ir operations/purge.sql

\ir operations/status.sql
\ir operations/recount.sql
\ir operations/person.sql
\ir operations/export_person.sql
\ir operations/erase_person.sql

-- Version 2 has a column to fill in, below, where there were tables before.
INSERT INTO schema_version (version, is_filled)
SELECT added, added <> 2 OR :installed = 0 FROM generate_series(:installed + 1, :newest) AS added;

REVOKE ALL ON ALL ROUTINES IN SCHEMA registration FROM PUBLIC;
\ir operations/administrators.sql

RESET ROLE;

\ir schema/check_rights.sql

COMMIT;

-- Fills in fields_email, a column of version 2, row by row: each change is a transaction of its
-- own, as locks of several rows could deadlock with requests. It takes as long as reading the
-- table. An upgrade that was cut off here goes on when it is repeated.
SELECT EXISTS (SELECT FROM registration.schema_version WHERE NOT is_filled) AS unfilled \gset
\if :unfilled
DO $$
DECLARE
    last uuid := '00000000-0000-0000-0000-000000000000';
    part uuid[];
    one uuid;
BEGIN
    LOOP
        part := ARRAY(SELECT r.id FROM registration.event_registrations AS r
                       WHERE r.id > last ORDER BY r.id LIMIT 1000);
        EXIT WHEN part = '{}';
        FOR one IN
            SELECT r.id FROM registration.event_registrations AS r
             WHERE r.id = ANY (part)
               AND r.fields_email IS DISTINCT FROM
                   registration.event_fields_email(r.fields, r.email)
             ORDER BY r.id
        LOOP
            UPDATE registration.event_registrations AS r
               SET fields_email = registration.event_fields_email(r.fields, r.email)
             WHERE r.id = one;
            COMMIT;
        END LOOP;
        last := part[cardinality(part)];
        COMMIT;
    END LOOP;
END
$$;
UPDATE registration.schema_version SET is_filled = true WHERE NOT is_filled;
\endif
