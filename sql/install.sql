-- SPDX-License-Identifier: Apache-2.0
--
-- Installs or upgrades everything that mod_registration needs in a database. Run it as a superuser
-- in a database with encoding UTF-8; PostgreSQL 14 or later with the contrib module pg_trgm:
--
--     psql -X -d DATABASE -f sql/install.sql
--
-- It is one transaction, except that values of new columns are filled in afterwards, and then what
-- calls in progress may still use is dropped. It can be repeated, also while requests are served: it
-- does not change existing data. It creates schema "registration", owned by registration_owner, a
-- role without login. The module connects as role "registration", which may execute the operations
-- and has no other rights; members of role "registration_admin" may execute the functions for
-- administrators. Set a password for "registration", or let pg_hba.conf decide.
--
-- Version 1 of the schema is what schema/*.sql creates. Later changes of tables are migrations,
-- which are added below; see migrations/README.md. Functions are replaced by each run.

\set ON_ERROR_STOP on
\set QUIET on

\ir server_version.sql

-- The version that this installs, and that the module needs (src/database/connection.h).
\set newest 3

-- One installation at a time. READ COMMITTED, so that after the wait for the lock it sees what
-- another one committed.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL client_min_messages = warning;
SELECT pg_advisory_xact_lock(hashtext('registration_schema')) AS locked \gset

\ir version.sql
SELECT :installed > :newest AS newer, :installed < 1 AS is_new \gset
\if :newer
DO $$ BEGIN RAISE 'the database has a newer schema than this installs; nothing was changed'; END $$;
\endif

\ir schema/roles.sql

SET LOCAL ROLE registration_owner;

-- Revokes all grants on functions; the files below grant the right ones.
REVOKE ALL ON ALL ROUTINES IN SCHEMA registration FROM registration, registration_admin;

\ir operations/common.sql

\if :is_new
\ir schema/version.sql
\ir schema/audit.sql
\ir schema/live.sql
\ir schema/groups.sql
\ir schema/families.sql
\ir schema/events.sql
\ir schema/events_answers.sql
\ir schema/events_triggers.sql
\ir schema/idempotency.sql
\endif

-- The migrations in their order, each as follows:
--   SELECT :installed < 2 AS missing \gset
--   \if :missing
--   \ir migrations/0002_what_it_does.sql
--   \endif

SELECT :installed < 2 AS missing \gset
\if :missing
\ir migrations/0002_bounds.sql
\endif
SELECT :installed < 3 AS missing \gset
\if :missing
\ir migrations/0003_fewer_indexes.sql
\endif

\ir operations/schema_version.sql

\ir operations/health.sql
\ir operations/status.sql
\ir operations/live_register.sql
\ir operations/groups_common.sql
\ir operations/groups_register.sql
\ir operations/groups_get_group.sql
\ir operations/groups_get_plan.sql
\ir operations/groups_get_member.sql
\ir operations/families_register.sql
\ir operations/events_common.sql
\ir operations/events_create.sql
\ir operations/events_get.sql
\ir operations/events_update.sql
\ir operations/events_delete.sql
\ir operations/events_search.sql
\ir operations/idempotent.sql

\ir administration/cancel_live_registration.sql
\ir administration/remove_group_member.sql
\ir administration/remove_family.sql
\ir administration/recount.sql
\ir administration/person.sql
\ir administration/export_person.sql
\ir administration/erase_person.sql
\ir administration/forget_idempotency_keys.sql
\ir administration/purge.sql
\ir administration/time_zones.sql
\ir administration/audit_partitions.sql
SELECT make_audit_partitions() AS made \gset

-- If the tables existed before version 2, its column fields_email is filled in below.
INSERT INTO schema_version (version, is_filled)
SELECT added, added <> 2 OR :installed = 0 FROM generate_series(:installed + 1, :newest) AS added;

REVOKE ALL ON ALL ROUTINES IN SCHEMA registration FROM PUBLIC;
\ir administration/grants.sql

RESET ROLE;

\ir administration/check_rights.sql

COMMIT;

-- Also after an upgrade that was interrupted here.
SELECT to_regclass('registration.occurrence_answers') IS NOT NULL AS unused \gset
\if :unused
\ir migrations/0003_unused.sql
\endif

-- Fills in fields_email, a column of version 2. Each row is its own transaction, as locks of
-- several rows could deadlock with requests. Takes as long as reading the table. An upgrade that
-- was interrupted here is continued by the next one.
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
