-- SPDX-License-Identifier: Apache-2.0

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

-- The rows of each API are locked in the order in which its operations take them, and the
-- APIs one after the other, so that clients may register and two of these may run at the
-- same time. Only an event user is locked before the occurrences: nobody can then register
-- the person for another. Who is doing just that, and holds an occurrence, gives up after
-- the module's lock timeout and tries again.
CREATE OR REPLACE FUNCTION erase_person(person text)
RETURNS TABLE (table_name text, erased bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    known text[];               -- the ids of all that is found at first
    users uuid[];
    registrations uuid[];
    one record;
BEGIN
    known := ARRAY(SELECT k.id FROM person_rows(person) AS k);

    table_name := 'live_registrations';
    erased := 0;
    FOR one IN
        SELECT r.id, r.session_id
          FROM live_registrations AS r
         WHERE person_is(person, r.patient_id, r.guest_email)
         ORDER BY r.session_id, r.id
    LOOP
        erased := erased + audit_erased(cancel_live_registration(one.id),
            'live_registration', one.id::text, one.session_id::text);
    END LOOP;
    RETURN NEXT;

    table_name := 'group_members';
    erased := 0;
    FOR one IN
        SELECT m.id, m.group_id
          FROM group_members AS m
         WHERE person_is(person, NULL, m.email)
         ORDER BY m.invite_code, m.id
    LOOP
        erased := erased + audit_erased(remove_group_member(one.id),
            'group_member', one.id::text, one.group_id::text);
    END LOOP;
    RETURN NEXT;

    table_name := 'families';
    erased := 0;
    FOR one IN SELECT f.id, f.institution_id FROM families AS f WHERE f.username = person LOOP
        erased := erased + audit_erased(remove_family(one.id),
            'family', one.id, one.institution_id);
    END LOOP;
    RETURN NEXT;

    -- Deleted as a client would do it, so that those who wait get the places; then for good.
    users := ARRAY(SELECT u.id
                     FROM event_users AS u
                    WHERE person_is(person, u.external_id, u.email)
                    ORDER BY u.id
                      FOR UPDATE);
    registrations := ARRAY(SELECT r.id
                             FROM event_registrations AS r
                            WHERE r.user_id = ANY (users) AND r.deleted_at IS NULL);
    PERFORM FROM events_delete(
        registrations, NULL, NULL, NULL,
        ARRAY(SELECT gen_random_uuid() FROM unnest(registrations)),
        ARRAY(SELECT session_user::text FROM unnest(registrations)), NULL);

    table_name := 'event_registrations';
    erased := 0;
    FOR one IN
        DELETE FROM event_registrations AS r
         WHERE r.user_id = ANY (users)
        RETURNING r.id, r.occurrence_id
    LOOP
        erased := erased + audit_erased(true,
            'event_registration', one.id::text, one.occurrence_id::text);
    END LOOP;
    RETURN NEXT;

    table_name := 'event_users';
    erased := 0;
    FOR one IN
        DELETE FROM event_users AS u WHERE u.id = ANY (users)
        RETURNING u.id, u.organization_id
    LOOP
        erased := erased + audit_erased(true,
            'event_user', one.id::text, one.organization_id::text);
    END LOOP;
    RETURN NEXT;

    table_name := 'idempotency_keys';
    DELETE FROM idempotency_keys AS k
     WHERE k.key = ANY (ARRAY(
               SELECT e.key
                 FROM idempotency_keys AS e
                WHERE e.key IN (SELECT a.key FROM person_answers(person, known) AS a)
                ORDER BY e.key
                  FOR UPDATE));
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN NEXT;

    table_name := 'audit';
    UPDATE audit AS a SET caller = 'erased'
     WHERE person_is_caller(person, a.caller) AND a.caller <> 'erased';
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN NEXT;
END
$$;

COMMENT ON FUNCTION erase_person IS
    'Erases all that export_person() shows, in one transaction. Places are given back and '
    'go to those who wait. The audit keeps its entries, but for the name of a caller who '
    'is the person, and has one more for each row. Returns how many rows of each table '
    'were erased, or in the audit changed. For administrators.';
