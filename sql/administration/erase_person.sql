-- SPDX-License-Identifier: Apache-2.0
--
-- Erases a person row by row, each row in its own transaction: a session, an invite code or an
-- occurrence is locked only while one of its rows is deleted, and no search runs under that
-- lock. After an interruption, another call of erase_person() erases the rest.

-- Deletes it as a client does, so that the waiting list gets the place, and then the row.
CREATE OR REPLACE FUNCTION erase_event_registration(registration_id uuid, occurrence uuid)
RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM events_delete(
        ARRAY[registration_id], NULL, NULL, NULL, ARRAY[gen_random_uuid()],
        ARRAY[session_user::text], NULL);
    DELETE FROM event_registrations AS r
     WHERE r.id = registration_id AND r.occurrence_id = occurrence;
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION erase_event_registration IS
    'Removes the row of an event registration; false: there is none.';

-- A concurrent registration of the user waits for the lock and then creates a new user.
CREATE OR REPLACE FUNCTION erase_event_user(event_user_id uuid)
RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM event_users AS u WHERE u.id = event_user_id FOR UPDATE;
    DELETE FROM event_users AS u
     WHERE u.id = event_user_id
       AND NOT EXISTS (SELECT FROM event_registrations AS r WHERE r.user_id = event_user_id);
    RETURN FOUND;
END
$$;

COMMENT ON FUNCTION erase_event_user IS
    'Deletes an event user; false: there is none, or it has registrations.';

CREATE OR REPLACE FUNCTION erase_person_row(kind audit_kind, id text, belongs_to text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    is_erased boolean := coalesce(CASE kind
        WHEN 'live_registration' THEN cancel_live_registration(id::uuid)
        WHEN 'group_member' THEN remove_group_member(id::uuid)
        WHEN 'family' THEN remove_family(id)
        WHEN 'event_registration' THEN erase_event_registration(id::uuid, belongs_to::uuid)
        WHEN 'event_user' THEN erase_event_user(id::uuid)
    END, false);
BEGIN
    IF is_erased THEN
        INSERT INTO audit (action, kind, id, belongs_to, caller)
        VALUES ('erased', kind, id, belongs_to, session_user);
    END IF;
    RETURN is_erased;
END
$$;

COMMENT ON FUNCTION erase_person_row IS
    'Erases one of the rows that person_rows() returns; false: it no longer exists, or it is an '
    'event user with registrations. For administrators.';

CREATE OR REPLACE FUNCTION erase_person_answers(person text, row_ids text[])
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    erased bigint;
BEGIN
    DELETE FROM idempotency_keys AS k
     WHERE k.key = ANY (ARRAY(
               SELECT e.key
                 FROM idempotency_keys AS e
                WHERE e.key = ANY (ARRAY(
                          SELECT a.key FROM person_answers(person, row_ids) AS a LIMIT 1000))
                ORDER BY e.key
                  FOR UPDATE));
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END
$$;

COMMENT ON FUNCTION erase_person_answers IS
    'Deletes up to 1000 answers stored under an Idempotency-Key that contain the person or one '
    'of the rows. Returns their number. For administrators.';

CREATE OR REPLACE FUNCTION erase_person_as_caller(person text)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    name text COLLATE "C" := lower(person COLLATE "C");
    erased bigint;
BEGIN
    UPDATE audit AS a SET caller = 'erased'
      FROM (SELECT e.tableoid, e.ctid
              FROM audit AS e
             WHERE left(lower(e.caller), 255) = left(name, 255)
               AND person_is(person, e.caller, NULL)
               AND e.caller <> 'erased'
             LIMIT 1000
               FOR UPDATE) AS found
     WHERE a.tableoid = found.tableoid AND a.ctid = found.ctid;
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END
$$;

COMMENT ON FUNCTION erase_person_as_caller IS
    'Replaces the person by "erased" as the caller of up to 1000 entries of the audit. Returns '
    'their number. For administrators.';

-- Runs with the rights of its caller and without a search_path setting: otherwise it could not
-- commit. Answers are erased first, while the ids of the rows in them are known, and again for
-- answers that were stored meanwhile. Rows are searched until none is found. An event user is
-- erased after its registrations.
CREATE OR REPLACE PROCEDURE erase_person(person text, INOUT erased jsonb DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    tables CONSTANT jsonb := '{"live_registration": "live_registrations",
        "group_member": "group_members", "family": "families",
        "event_registration": "event_registrations", "event_user": "event_users"}';
    row_ids text[] := ARRAY(SELECT k.id FROM registration.person_rows(person) AS k);
    one record;
    name text;                  -- of its table
    done bigint;
    found_any boolean;
BEGIN
    erased := '{"live_registrations": 0, "group_members": 0, "families": 0,
        "event_registrations": 0, "event_users": 0, "idempotency_keys": 0, "audit": 0}';

    FOR round IN 1 .. 10 LOOP
        LOOP
            done := registration.erase_person_answers(person, row_ids);
            erased := erased || jsonb_build_object(
                'idempotency_keys', (erased ->> 'idempotency_keys')::bigint + done);
            COMMIT;
            EXIT WHEN done = 0;
        END LOOP;

        found_any := false;
        FOR one IN
            SELECT k.kind, k.id, k.belongs_to
              FROM registration.person_rows(person) AS k
             ORDER BY k.kind = 'event_user', k.kind, k.belongs_to, k.id
        LOOP
            found_any := true;
            row_ids := row_ids || one.id;
            done := registration.erase_person_row(one.kind, one.id, one.belongs_to)::integer;
            name := tables ->> one.kind::text;
            erased := erased || jsonb_build_object(name, (erased ->> name)::bigint + done);
            COMMIT;
        END LOOP;
        EXIT WHEN NOT found_any;
    END LOOP;
    IF found_any THEN
        RAISE WARNING 'the person was registered again in each of 10 rounds'
            USING HINT = 'Call erase_person() again.';
    END IF;

    LOOP
        done := registration.erase_person_as_caller(person);
        erased := erased || jsonb_build_object('audit', (erased ->> 'audit')::bigint + done);
        COMMIT;
        EXIT WHEN done = 0;
    END LOOP;
END
$$;

COMMENT ON PROCEDURE erase_person IS
    'Erases everything that export_person() returns, in many short transactions. Places are '
    'returned and given to the waiting list. The audit keeps its entries, with "erased" instead '
    'of a caller who is the person, and gets an entry for each erased row. Returns the number '
    'of erased rows by table, and of changed entries of the audit. For administrators.';
