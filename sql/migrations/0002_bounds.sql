-- SPDX-License-Identifier: Apache-2.0
--
-- Bounds for stored values. A request is limited by RegistrationMaxFields; these
-- constraints are the largest value that the directive takes, for every other writer.
-- NOT VALID: rows that exist already are not read while the tables are locked. A NOT VALID
-- constraint still holds for each update, of other columns too: a registration that is larger
-- could not be deleted or promoted any more, nor a member's account be locked. Where there is
-- one, the rows made until now are left out. Only values that may be larger are read: pglz and
-- lz4 compress to 1/255 at best.

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

-- What export_person() and erase_person() look for. Hash indexes, where a name has few rows:
-- they keep four bytes of a name. The audit's callers, below, and addresses in fields have
-- many rows of one name, which B-trees keep once. Group members are found by member_emails, event
-- users by their address in search_text. An index takes no entry of more than 2,704 bytes:
-- where a client may write more, it has the first 255 characters. Each reads its table under a
-- lock; where tables have more than a few million rows, make them before, as here but CREATE
-- INDEX CONCURRENTLY, the column fields_email before its index.
CREATE INDEX IF NOT EXISTS live_registrations_by_patient
    ON live_registrations USING hash (lower(patient_id)) WHERE patient_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS live_registrations_by_guest
    ON live_registrations USING hash (lower(guest_email)) WHERE guest_email IS NOT NULL;
CREATE INDEX IF NOT EXISTS families_by_username
    ON families USING hash (lower(username));
CREATE INDEX IF NOT EXISTS event_users_by_external_id
    ON event_users USING hash (lower(external_id));

-- An index of an expression of fields would make each change of fields write all indexes.
ALTER TABLE event_registrations ADD COLUMN IF NOT EXISTS fields_email text COLLATE "C";
CREATE INDEX IF NOT EXISTS event_registrations_by_fields_email
    ON event_registrations (fields_email) WHERE fields_email IS NOT NULL;
COMMENT ON COLUMN event_registrations.fields_email IS
    'The address in fields, in lower case, its first 255 characters, where it is not that of '
    'the user; kept by a trigger.';

-- install.sql fills the column in where there are rows already, after its transaction.
ALTER TABLE schema_version ADD COLUMN is_filled boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN schema_version.is_filled IS
    'Whether what this version has added to older rows is in all of them.';

CREATE FUNCTION event_fields_email(fields jsonb, email text)
RETURNS text
LANGUAGE sql IMMUTABLE
RETURN nullif(left(lower(fields ->> 'email' COLLATE "C"), 255), lower(email COLLATE "C"));

COMMENT ON FUNCTION event_fields_email IS
    'The value of the column fields_email for a registration with these fields, whose user '
    'has this address.';

CREATE FUNCTION events_fields_email()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.fields_email := registration.event_fields_email(NEW.fields, NEW.email);
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION events_fields_email IS 'Trigger: keeps fields_email.';

-- The condition is cheaper than a call, and most registrations do not meet it.
CREATE TRIGGER event_registrations_fields_email
    BEFORE INSERT OR UPDATE OF fields, email ON event_registrations
    FOR EACH ROW
    WHEN (NEW.fields_email IS DISTINCT FROM event_fields_email(NEW.fields, NEW.email))
    EXECUTE FUNCTION events_fields_email();

-- What the purges look for. Neither costs a registration anything.
CREATE INDEX IF NOT EXISTS event_registrations_deleted
    ON event_registrations (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS live_sessions_past
    ON live_sessions (scheduled_at) WHERE status IN ('ended', 'cancelled');

-- No name of a schema in it: an index's function may run without a search_path. In PL/pgSQL,
-- as each keyed registration calls it, and SQL would start an executor for that.
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
    'The names of a person, in lower case, and the ids of rows that an answer shows.';
CREATE INDEX idempotency_keys_by_name
    ON idempotency_keys USING gin (answer_names(body)) WITH (fastupdate = off);

-- One is a procedure now, the other one writes into the audit.
DROP FUNCTION IF EXISTS erase_person(text);
DROP FUNCTION IF EXISTS export_person(text);
DROP FUNCTION IF EXISTS person_rows(text);
DROP FUNCTION IF EXISTS person_is_caller(text, text);
DROP FUNCTION IF EXISTS person_answers(text, text[]);

-- The counters change with each registration: their dead versions have to go while they
-- are few. Tables that only grow are vacuumed as they do, so that index-only scans and
-- freezing keep up with it. Keys live for a day.
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

-- The audit by months, so that old months can be dropped. The table of version 1 becomes
-- the oldest partition, up to the end of this month (UTC). Attaching it reads all of it
-- under a lock, unless a constraint says the same as its bound. For a table of more than a
-- few million rows, make that before, with the first day of the next month; neither
-- statement holds up registrations:
--
--     ALTER TABLE registration.audit ADD CONSTRAINT audit_oldest
--         CHECK (at < '2027-01-01 00:00+00') NOT VALID;
--     ALTER TABLE registration.audit VALIDATE CONSTRAINT audit_oldest;
--     CREATE INDEX CONCURRENTLY audit_oldest_by_caller
--         ON registration.audit (left(lower(caller), 255)) WHERE caller IS NOT NULL;
--
-- The new values of the types must not be used in this transaction: only the body of a
-- PL/pgSQL function, which is not analyzed before it runs, may name one. New types instead
-- would rewrite the table.
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'listed';
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'exported';
ALTER TYPE audit_kind ADD VALUE IF NOT EXISTS 'person';
ALTER TYPE audit_kind ADD VALUE IF NOT EXISTS 'audit';

COMMENT ON TYPE audit_action IS
    'registered, changed, deleted: by an operation; promoted: from a waiting list; '
    'removed: by a function for administrators; erased: by erase_person() or a purge; '
    'listed: a page of a list was read; exported: a whole list or all about a person was.';

ALTER TABLE audit RENAME TO audit_oldest;
ALTER INDEX audit_by_id RENAME TO audit_oldest_by_id;
ALTER TABLE audit_oldest ADD COLUMN row_count bigint;
ALTER TABLE audit_oldest SET
    (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
-- Attaching clones the row trigger of the partitioned table under the same name.
DROP TRIGGER append_only ON audit_oldest;

CREATE TABLE audit (LIKE audit_oldest INCLUDING DEFAULTS INCLUDING COMMENTS)
    PARTITION BY RANGE (at);
CREATE INDEX audit_by_id ON audit (id);
-- Takes an index of audit_oldest that is like it. Also for export_person().
CREATE INDEX audit_by_caller ON audit (left(lower(caller), 255)) WHERE caller IS NOT NULL;

CREATE TRIGGER append_only
    BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();
-- A trigger of a statement is not cloned: each partition has its own.
CREATE TRIGGER append_only_all
    BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
ALTER TABLE audit ENABLE ALWAYS TRIGGER append_only,
    ENABLE ALWAYS TRIGGER append_only_all;

DO $$
BEGIN
    EXECUTE format(
        'ALTER TABLE audit ATTACH PARTITION audit_oldest FOR VALUES FROM (MINVALUE) TO (%L)',
        (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month')
            AT TIME ZONE 'UTC');
END
$$;
ALTER TABLE audit_oldest ENABLE ALWAYS TRIGGER append_only;

-- So that no request fails for want of a partition.
CREATE TABLE audit_default PARTITION OF audit DEFAULT;
CREATE TRIGGER append_only_all
    BEFORE TRUNCATE ON audit_default
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
ALTER TABLE audit_default ENABLE ALWAYS TRIGGER append_only,
    ENABLE ALWAYS TRIGGER append_only_all;

COMMENT ON TABLE audit IS
    'Who registered, changed or deleted what, and when; written in the transaction that '
    'did it, by the operations and the functions for administrators, and by the promotion '
    'that follows a raised capacity. Statements on other tables by hand are not in '
    'it. Entries are only added: a trigger refuses all else but that erase_person() puts '
    '"erased" in the place of a caller. Partitioned by month, in UTC.';
COMMENT ON COLUMN audit.row_count IS
    'How many rows were listed, exported or purged; null for an entry about one row.';
COMMENT ON TABLE audit_oldest IS
    'The entries from before the audit was partitioned, and of the rest of that month.';
COMMENT ON TABLE audit_default IS
    'Entries of months that have no partition; empty while maintenance runs.';

-- Names of time zones are taken in any case.
CREATE UNIQUE INDEX time_zones_name_lower_case ON time_zones (lower(name));

-- These have more parameters now, each with a default.
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

-- A search has more parameters, the last of them those of the audit: callers, request_ids.
DROP FUNCTION IF EXISTS events_search(
    integer[], integer[], text[], boolean[], uuid[], uuid[], text[], text[], text[],
    boolean[], uuid[], timestamptz[], uuid[]);
DROP FUNCTION IF EXISTS events_list_statement(
    text, text, text, text, text, boolean, boolean);

COMMENT ON COLUMN audit.id IS
    'To which: the id of a row, which may be gone by now. Of a list, the occurrence or else '
    'the event that it was asked for; empty for one of all.';
COMMENT ON COLUMN audit.belongs_to IS
    'The id of what that belongs to: a session, a group, an institution, an organization '
    'or an occurrence. Of a list, the organization that it is limited to; empty for none.';
COMMENT ON COLUMN audit.row_count IS
    'How many rows were listed, exported or purged; null for an entry about one row. A whole '
    'list has an entry for each part, added before the client gets the part: their sum, by '
    'request_id, is what the client got, though it went away in the middle; the last part may '
    'not have reached it.';
