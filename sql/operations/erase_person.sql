-- SPDX-License-Identifier: Apache-2.0
--
-- A person is erased row by row, each in a transaction of its own: a session, a code or an
-- occurrence is locked for the moment that one of its rows takes, and nothing is looked for
-- meanwhile. What erase_person() does not complete is completed by calling it again.

CREATE OR REPLACE FUNCTION audit_erased(done boolean, kind audit_kind, id text,
                                        belongs_to text)
RETURNS bigint
LANGUAGE sql
AS $$
    WITH noted AS (
        INSERT INTO audit (action, kind, id, belongs_to, caller)
        SELECT 'erased', kind, id, belongs_to, session_user WHERE done
        RETURNING 1)
    SELECT count(*) FROM noted
$$;

COMMENT ON FUNCTION audit_erased IS
    'Notes that a row has been erased, if that was done; how many that is.';

-- Deleted as a client would do it, so that the waiting list gets the place; then for good.
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
    'Deletes an event registration for good; false: there is none.';

-- Who registers the user at this moment waits for the lock, and makes a new user then.
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
BEGIN
    RETURN audit_erased(
        CASE kind
            WHEN 'live_registration' THEN cancel_live_registration(id::uuid)
            WHEN 'group_member' THEN remove_group_member(id::uuid)
            WHEN 'family' THEN remove_family(id)
            WHEN 'event_registration'
            THEN erase_event_registration(id::uuid, belongs_to::uuid)
            WHEN 'event_user' THEN erase_event_user(id::uuid)
        END, kind, id, belongs_to) = 1;
END
$$;

COMMENT ON FUNCTION erase_person_row IS
    'Erases one of the rows that person_rows() returns; false: it is gone, or it is an event '
    'user who has registrations. For administrators.';

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
    'Deletes up to 1000 answers kept under an Idempotency-Key that show the person or one of '
    'the rows, and returns how many. For administrators.';

CREATE OR REPLACE FUNCTION erase_person_as_caller(person text)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
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
    'Puts "erased" in the place of the person in up to 1000 entries of the audit, and returns '
    'in how many. For administrators.';

-- With the rights of its caller and without a search_path: otherwise it could not commit.
-- Answers go first, while the rows that they show are known, and again, for those that came
-- meanwhile. So do rows, until none is found; an event user goes after its registrations.
CREATE OR REPLACE PROCEDURE erase_person(person text, INOUT erased jsonb DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
    tables CONSTANT jsonb := '{"live_registration": "live_registrations",
        "group_member": "group_members", "family": "families",
        "event_registration": "event_registrations", "event_user": "event_users"}';
    row_ids text[] := ARRAY(SELECT k.id FROM registration.person_rows(person) AS k);
    one record;
    name text;                  -- of the table that it is in
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
        RAISE WARNING 'the person is registered again all the time; call this again';
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
    'Erases all that export_person() shows, in many short transactions. Places are given back '
    'and go to the waiting list. The audit keeps its entries, but for the name of a caller who '
    'is the person, and has one more for each row. Returns how many rows of each table '
    'were erased, or in the audit changed. For administrators.';
