-- SPDX-License-Identifier: Apache-2.0
--
-- Deletes rows whose retention time has passed. Each call deletes up to a number of them in one
-- transaction and skips rows that are locked; a later call deletes those.

CREATE OR REPLACE FUNCTION audit_purged(kind audit_kind, purged bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF purged > 0 THEN
        INSERT INTO audit (action, kind, id, belongs_to, caller, row_count)
        VALUES ('erased', kind, 'purge', 'purge', session_user, purged);
    END IF;
END
$$;

COMMENT ON FUNCTION audit_purged IS 'Adds an entry to the audit: the number of purged rows.';

-- A concurrent registration of such a user waits for the lock and then creates a new user.
CREATE OR REPLACE FUNCTION purge_event_users(users uuid[])
RETURNS integer
LANGUAGE plpgsql
AS $$
DECLARE
    locked uuid[] := ARRAY(SELECT u.id FROM event_users AS u
                            WHERE u.id = ANY (users)
                              AND NOT EXISTS (SELECT FROM event_registrations AS r
                                               WHERE r.user_id = u.id)
                            ORDER BY u.id
                              FOR UPDATE SKIP LOCKED);
    registrations integer := coalesce(cardinality(users), 0);
    purged bigint;
BEGIN
    PERFORM audit_purged('event_registration', registrations);
    DELETE FROM event_users AS u
     WHERE u.id = ANY (locked)
       AND NOT EXISTS (SELECT FROM event_registrations AS r WHERE r.user_id = u.id);
    GET DIAGNOSTICS purged = ROW_COUNT;
    PERFORM audit_purged('event_user', purged);
    RETURN registrations;
END
$$;

COMMENT ON FUNCTION purge_event_users IS
    'Completes the purge of event registrations, given the user of each: adds the entries to '
    'the audit and deletes the users without a registration. Returns the number of '
    'registrations.';

CREATE OR REPLACE FUNCTION purge_deleted(before timestamptz, most integer DEFAULT 1000)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    users uuid[];
BEGIN
    WITH old AS MATERIALIZED (
        SELECT r.id, r.occurrence_id
          FROM event_registrations AS r
         WHERE r.deleted_at < before
         ORDER BY r.deleted_at
         LIMIT most
           FOR UPDATE SKIP LOCKED),
    purged AS (
        DELETE FROM event_registrations AS r
         USING old
         WHERE r.id = old.id AND r.occurrence_id = old.occurrence_id
        RETURNING r.user_id)
    SELECT array_agg(p.user_id) INTO users FROM purged AS p;
    RETURN purge_event_users(users);
END
$$;

COMMENT ON FUNCTION purge_deleted IS
    'Removes up to `most` event registrations that were deleted before that time, and their '
    'users without another registration. Returns the number of registrations; call it until '
    'that is 0. For administrators.';

-- The waiting list is deleted first: it must be empty when a place becomes free.
CREATE OR REPLACE FUNCTION purge_past_occurrence(before timestamptz, most integer DEFAULT 1000)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    past uuid;
    users uuid[];
    places integer;
    purged integer;
BEGIN
    SELECT o.id INTO past
      FROM occurrences AS o
     WHERE o.start_date < before AND coalesce(o.end_date, o.start_date) < before
     ORDER BY o.start_date
     LIMIT 1
       FOR UPDATE SKIP LOCKED;
    IF past IS NULL THEN
        RETURN 0;
    END IF;

    WITH old AS MATERIALIZED (
        SELECT r.id
          FROM event_registrations AS r
         WHERE r.occurrence_id = past
         ORDER BY r.waiting_number IS NULL
         LIMIT most),
    purged AS (
        DELETE FROM event_registrations AS r
         USING old
         WHERE r.id = old.id AND r.occurrence_id = past
        RETURNING r.user_id,
                  r.deleted_at IS NULL AND event_status_holds_place(r.status) AS held)
    SELECT array_agg(p.user_id), count(*) FILTER (WHERE p.held)
      INTO users, places
      FROM purged AS p;

    purged := purge_event_users(users);
    IF purged < most THEN
        DELETE FROM occurrences AS o WHERE o.id = past;
    ELSIF places > 0 THEN
        UPDATE occurrences AS o SET registrations = o.registrations - places WHERE o.id = past;
    END IF;
    RETURN purged + 1;
END
$$;

COMMENT ON FUNCTION purge_past_occurrence IS
    'Deletes up to `most` registrations of an occurrence that ended before that time, and their '
    'users without another registration; with the last registration, the occurrence. Call it '
    'until it returns 0. For administrators.';

CREATE OR REPLACE FUNCTION purge_past_session(before timestamptz, most integer DEFAULT 1000)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    past uuid;
    purged integer;
BEGIN
    SELECT s.id INTO past
      FROM live_sessions AS s
     WHERE s.status IN ('ended', 'cancelled') AND s.scheduled_at < before
     ORDER BY s.scheduled_at
     LIMIT 1
       FOR UPDATE SKIP LOCKED;
    IF past IS NULL THEN
        RETURN 0;
    END IF;

    DELETE FROM live_registrations AS r
     WHERE r.session_id = past
       AND r.id = ANY (ARRAY(SELECT l.id FROM live_registrations AS l
                              WHERE l.session_id = past LIMIT most));
    GET DIAGNOSTICS purged = ROW_COUNT;
    PERFORM audit_purged('live_registration', purged);
    IF purged < most THEN
        DELETE FROM live_sessions AS s WHERE s.id = past;
    ELSE
        UPDATE live_sessions AS s SET registered_count = s.registered_count - purged
         WHERE s.id = past;
    END IF;
    RETURN purged + 1;
END
$$;

COMMENT ON FUNCTION purge_past_session IS
    'Deletes up to `most` registrations of a session that is ended or cancelled and was '
    'scheduled before that time; with the last registration, the session. Call it until it '
    'returns 0. For administrators.';

-- Runs with the rights of its caller and without a search_path setting: otherwise it could not
-- commit.
CREATE OR REPLACE PROCEDURE maintain(
    keep_audit interval DEFAULT NULL,
    keep_deleted interval DEFAULT NULL,
    keep_past interval DEFAULT NULL,
    INOUT purged jsonb DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    keys bigint := 0;
    deleted bigint := 0;
    past bigint := 0;
    partitions bigint := 0;
    done integer;
    dropped text;
BEGIN
    PERFORM registration.make_audit_partitions();
    COMMIT;
    LOOP
        done := registration.forget_idempotency_keys();
        COMMIT;
        EXIT WHEN done = 0;
        keys := keys + done;
    END LOOP;
    LOOP
        EXIT WHEN keep_deleted IS NULL;
        done := registration.purge_deleted(now() - keep_deleted);
        COMMIT;
        EXIT WHEN done = 0;
        deleted := deleted + done;
    END LOOP;
    LOOP
        EXIT WHEN keep_past IS NULL;
        done := registration.purge_past_occurrence(now() - keep_past)
                + registration.purge_past_session(now() - keep_past);
        COMMIT;
        EXIT WHEN done = 0;
        past := past + done;
    END LOOP;
    LOOP
        EXIT WHEN keep_audit IS NULL;
        dropped := registration.drop_audit_partition(now() - keep_audit);
        COMMIT;
        EXIT WHEN dropped IS NULL OR dropped = 'busy';
        partitions := partitions + 1;
    END LOOP;
    IF dropped = 'busy' THEN
        RAISE WARNING 'the audit is being read: an old partition could not be dropped'
            USING HINT = 'The next call of maintain() tries again.';
    END IF;
    purged := json_build_object('idempotency_keys', keys, 'deleted', deleted, 'past', past,
                                'audit_partitions', partitions);
END
$$;

COMMENT ON PROCEDURE maintain IS
    'Creates missing partitions of the audit and deletes expired idempotency keys. With an '
    'interval also: event registrations deleted longer ago, occurrences and sessions that ended '
    'longer ago with their registrations, and months of the audit that ended longer ago. '
    'Commits many short transactions. Returns the numbers of deleted rows. For administrators, '
    'to be called every hour.';
