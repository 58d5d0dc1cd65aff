-- SPDX-License-Identifier: Apache-2.0
--
-- The limits of stored values. RegistrationMaxFields limits requests; these constraints are the
-- maximum of the directive, for other writers. NOT VALID: existing rows are not read while the
-- tables are locked. A NOT VALID constraint is checked for each update, also of other columns: a
-- larger registration could no longer be deleted or promoted, nor a larger member's account be
-- locked. If there is a larger row, the constraint excludes the existing rows. Only values that
-- can be larger are decompressed: pglz and lz4 compress to 1/255 at best. A DO block, as each
-- constraint depends on what its table contains.

DO $$
DECLARE
    bounded record;
    is_exceeded boolean;
BEGIN
    FOR bounded IN
        SELECT * FROM (VALUES ('event_registrations', 'fields'), ('group_members', 'attributes'),
                              ('group_members', 'tags')) AS b (name, value)
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I AS t WHERE pg_column_size(t.%2$I) > 4000
                            AND octet_length(t.%2$I::text) > 1048576)',
                       bounded.name, bounded.value) INTO is_exceeded;
        EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I
                            CHECK (octet_length(%I::text) <= 1048576%s) NOT VALID',
                       bounded.name, concat_ws('_', bounded.name, bounded.value, 'size'),
                       bounded.value, CASE WHEN is_exceeded
                           THEN format(' OR created_at < %L', clock_timestamp()) END);
    END LOOP;
END
$$;

-- Indexes for export_person() and erase_person(). Hash indexes for names with few rows, as they
-- store four bytes of a name. B-trees for callers in the audit, below, and for addresses in fields,
-- as many rows have the same name, which a B-tree stores once. Group members are found by
-- member_emails, event users by the address in search_text. A B-tree entry has at most 2,704 bytes:
-- an index of longer values has the first 255 characters.
--
-- CREATE INDEX reads its table under a lock. If tables have more than a few million rows, create
-- the indexes before the upgrade with CREATE INDEX CONCURRENTLY, and the column fields_email
-- before its index. So these statements have IF NOT EXISTS.
CREATE INDEX IF NOT EXISTS live_registrations_by_patient
    ON live_registrations USING hash (lower(patient_id)) WHERE patient_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS live_registrations_by_guest
    ON live_registrations USING hash (lower(guest_email)) WHERE guest_email IS NOT NULL;
CREATE INDEX IF NOT EXISTS families_by_username
    ON families USING hash (lower(username));
CREATE INDEX IF NOT EXISTS event_users_by_external_id
    ON event_users USING hash (lower(external_id));

-- A column and not an index of an expression of fields: with that, each change of fields would
-- write all indexes.
ALTER TABLE event_registrations ADD COLUMN IF NOT EXISTS fields_email text COLLATE "C";
CREATE INDEX IF NOT EXISTS event_registrations_by_fields_email
    ON event_registrations (fields_email) WHERE fields_email IS NOT NULL;
COMMENT ON COLUMN event_registrations.fields_email IS
    'The address in fields, in lower case, the first 255 characters; null if it is the user''s; '
    'set by a trigger.';

-- install.sql fills in the column of existing rows after its transaction.
ALTER TABLE schema_version ADD COLUMN is_filled boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN schema_version.is_filled IS
    'Whether the columns that this version added are filled in for all existing rows.';

CREATE FUNCTION event_fields_email(fields jsonb, email text)
RETURNS text
LANGUAGE sql IMMUTABLE
RETURN nullif(left(lower(fields ->> 'email' COLLATE "C"), 255), lower(email COLLATE "C"));

COMMENT ON FUNCTION event_fields_email IS
    'The value of column fields_email of a registration with these fields and this address of '
    'the user.';

CREATE FUNCTION events_fields_email()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.fields_email := registration.event_fields_email(NEW.fields, NEW.email);
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION events_fields_email IS 'Trigger: sets fields_email.';

-- The condition costs less than a call of the trigger, and is false for most registrations.
CREATE TRIGGER event_registrations_fields_email
    BEFORE INSERT OR UPDATE OF fields, email ON event_registrations
    FOR EACH ROW
    WHEN (NEW.fields_email IS DISTINCT FROM event_fields_email(NEW.fields, NEW.email))
    EXECUTE FUNCTION events_fields_email();

-- Indexes for the purges. A registration writes neither.
CREATE INDEX IF NOT EXISTS event_registrations_deleted
    ON event_registrations (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS live_sessions_past
    ON live_sessions (scheduled_at) WHERE status IN ('ended', 'cancelled');

-- Uses functions of pg_catalog only, as the function of an index may run without a search_path. In
-- PL/pgSQL, whose simple expressions need no executor: each keyed registration calls it.
CREATE FUNCTION answer_names(body text)
RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    answer CONSTANT jsonb := body::jsonb;
    "user" CONSTANT jsonb := answer -> 'user';
BEGIN
    RETURN array_remove(ARRAY[
        lower(answer ->> 'patient_id' COLLATE "C"),
        lower(answer ->> 'guest_email' COLLATE "C"),
        lower(answer ->> 'username' COLLATE "C"),
        lower("user" ->> 'email' COLLATE "C"),
        left(lower(answer -> 'fields' ->> 'email' COLLATE "C"), 255),
        answer ->> 'id', "user" ->> 'id', "user" ->> 'uuid'], NULL);
END
$$;
COMMENT ON FUNCTION answer_names IS
    'The names of a person, in lower case, and the ids of rows that an answer contains.';
CREATE INDEX idempotency_keys_by_name
    ON idempotency_keys USING gin (answer_names(body)) WITH (fastupdate = off);

-- Functions of version 1 whose parameters, result or kind have changed: CREATE OR REPLACE would
-- keep both. IF EXISTS, as a new database does not have them.
DROP FUNCTION IF EXISTS erase_person(text);
DROP FUNCTION IF EXISTS export_person(text);
DROP FUNCTION IF EXISTS person_rows(text);
DROP FUNCTION IF EXISTS person_is_caller(text, text);
DROP FUNCTION IF EXISTS person_answers(text, text[]);
DROP FUNCTION IF EXISTS events_create(
    uuid[], uuid[], text[], jsonb[], uuid[], text[], text[], text[], text[], uuid[], text[],
    text[]);
DROP FUNCTION IF EXISTS events_update(
    uuid[], text[], jsonb[], text[], uuid[], uuid[], text[], text[]);
DROP FUNCTION IF EXISTS events_delete(
    uuid[], boolean[], text[], uuid[], uuid[], text[], text[]);
DROP FUNCTION IF EXISTS groups_register(
    uuid[], uuid[], text[], text[], text[], date[], text[], text[], text[], text[], text[],
    text[], jsonb[], jsonb[], date[], date[], text[], text[]);
DROP FUNCTION IF EXISTS events_search(
    integer[], integer[], text[], boolean[], uuid[], uuid[], text[], text[], text[],
    boolean[], uuid[], timestamptz[], uuid[]);
DROP FUNCTION IF EXISTS events_list_statement(
    text, text, text, text, text, boolean, boolean);

-- Each registration updates a counter: their dead row versions must be vacuumed early. Tables that
-- only grow are vacuumed by inserts, for index-only scans and freezing. Keys expire after a day.
ALTER TABLE live_sessions SET
    (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE invite_codes SET
    (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE occurrences SET
    (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE live_registrations SET
    (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE event_registrations SET
    (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE group_members SET
    (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE idempotency_keys SET
    (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- The audit is partitioned by month, so that old months can be dropped. The table of version 1
-- becomes the oldest partition, up to the end of this month (UTC). ATTACH PARTITION reads the table
-- under a lock, unless a constraint implies the bound of the partition. For a table of more than a
-- few million rows, add it before the upgrade, with the first day of the next month. None of these
-- statements blocks registrations:
--
--     ALTER TABLE registration.audit ADD CONSTRAINT audit_oldest
--         CHECK (at < '2027-01-01 00:00+00') NOT VALID;
--     ALTER TABLE registration.audit VALIDATE CONSTRAINT audit_oldest;
--     CREATE INDEX CONCURRENTLY audit_oldest_by_caller
--         ON registration.audit (left(lower(caller), 255)) WHERE caller IS NOT NULL;
--
-- New values of an enumeration cannot be used in the transaction that adds them: only the body of
-- a PL/pgSQL function, which is analyzed when it is executed, may contain one. New types would
-- rewrite the table.
ALTER TYPE audit_action ADD VALUE 'listed';
ALTER TYPE audit_action ADD VALUE 'exported';
ALTER TYPE audit_kind ADD VALUE 'person';
ALTER TYPE audit_kind ADD VALUE 'audit';

COMMENT ON TYPE audit_action IS
    'registered, changed, deleted: by an operation; promoted: from a waiting list; '
    'removed: by a function for administrators; erased: by erase_person() or a purge; '
    'listed: a page of a list was read; exported: a whole list or all data of a person was read.';

ALTER TABLE audit RENAME TO audit_oldest;
ALTER INDEX audit_by_id RENAME TO audit_oldest_by_id;
ALTER TABLE audit_oldest ADD COLUMN row_count bigint;
ALTER TABLE audit_oldest SET
    (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- ATTACH PARTITION clones the row trigger of the partitioned table, which has this name.
DROP TRIGGER append_only ON audit_oldest;

CREATE TABLE audit (LIKE audit_oldest INCLUDING DEFAULTS INCLUDING COMMENTS)
    PARTITION BY RANGE (at);
CREATE INDEX audit_by_id ON audit (id);
-- For export_person() and erase_person(). ATTACH PARTITION uses an equal index of audit_oldest.
CREATE INDEX audit_by_caller ON audit (left(lower(caller), 255)) WHERE caller IS NOT NULL;

CREATE TRIGGER append_only
    BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();
-- Statement triggers are not cloned: each partition has its own.
CREATE TRIGGER append_only_all
    BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
ALTER TABLE audit ENABLE ALWAYS TRIGGER append_only,
    ENABLE ALWAYS TRIGGER append_only_all;

ALTER TABLE audit ATTACH PARTITION audit_oldest FOR VALUES FROM (MINVALUE) TO (
    (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC');
ALTER TABLE audit_oldest ENABLE ALWAYS TRIGGER append_only;

-- So that no request fails if the partition of its month is missing.
CREATE TABLE audit_default PARTITION OF audit DEFAULT;
CREATE TRIGGER append_only_all
    BEFORE TRUNCATE ON audit_default
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
ALTER TABLE audit_default ENABLE ALWAYS TRIGGER append_only,
    ENABLE ALWAYS TRIGGER append_only_all;

COMMENT ON TABLE audit IS
    'Who registered, changed or deleted what, and when. An entry is added in the transaction of '
    'the change: by the operations, by the functions for administrators, and by the promotion '
    'after a capacity was raised. Statements that an administrator executes on other tables add '
    'no entry. Entries cannot be changed or deleted: a trigger allows only the replacement of a '
    'caller by "erased", for erase_person(). Partitioned by month, in UTC.';
COMMENT ON TABLE audit_oldest IS
    'The entries up to the end of the month in which the audit was partitioned.';
COMMENT ON TABLE audit_default IS
    'Entries of months without a partition; empty if maintain() is called regularly.';

-- Names of time zones are compared without regard to case.
CREATE UNIQUE INDEX time_zones_name_lower_case ON time_zones (lower(name));

COMMENT ON COLUMN audit.id IS
    'The id of the row, which may have been deleted since. Of a list: the occurrence or the '
    'event that it was filtered by, or empty.';
COMMENT ON COLUMN audit.belongs_to IS
    'The id of the session, group, institution, organization or occurrence that the row '
    'belongs to. Of a list: the organization that it was limited to, or empty.';
COMMENT ON COLUMN audit.row_count IS
    'The number of rows that were listed, exported or purged; null for an entry about one row. '
    'A whole list has an entry for each part, added before the client gets the part. Their sum, '
    'by request_id, is the number of rows that the client got, even if it disconnected; it may '
    'not have got the last part.';
