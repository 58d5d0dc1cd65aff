-- SPDX-License-Identifier: Apache-2.0
--
-- The operations keep counts of rows in the rows' parents. After rows were written by hand or
-- restored in part, recount() corrects the counts. It searches for wrong counts without a lock,
-- then locks each of these parents and counts again.

CREATE OR REPLACE FUNCTION recount()
RETURNS TABLE (table_name text, key text, kept bigint, counted bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    suspect record;
BEGIN
    table_name := 'live_sessions';
    FOR suspect IN
        SELECT s.id
          FROM live_sessions AS s
          LEFT JOIN (SELECT r.session_id, count(*) AS registrations
                       FROM live_registrations AS r
                      GROUP BY r.session_id) AS held ON held.session_id = s.id
         WHERE s.registered_count <> coalesce(held.registrations, 0)
         ORDER BY s.id
    LOOP
        SELECT s.registered_count INTO kept
          FROM live_sessions AS s WHERE s.id = suspect.id FOR NO KEY UPDATE;
        SELECT count(*) INTO counted
          FROM live_registrations AS r WHERE r.session_id = suspect.id;
        IF kept <> counted THEN
            UPDATE live_sessions AS s SET registered_count = counted
             WHERE s.id = suspect.id;
            key := suspect.id;
            RETURN NEXT;
        END IF;
    END LOOP;

    table_name := 'invite_codes';
    FOR suspect IN
        SELECT c.code
          FROM invite_codes AS c
          LEFT JOIN (SELECT m.invite_code, count(*) AS members
                       FROM group_members AS m
                      GROUP BY m.invite_code) AS held ON held.invite_code = c.code
         WHERE c.max_uses IS NOT NULL AND c.uses <> coalesce(held.members, 0)
         ORDER BY c.code
    LOOP
        SELECT c.uses INTO kept
          FROM invite_codes AS c WHERE c.code = suspect.code FOR NO KEY UPDATE;
        SELECT count(*) INTO counted
          FROM group_members AS m WHERE m.invite_code = suspect.code;
        IF kept <> counted THEN
            UPDATE invite_codes AS c SET uses = counted WHERE c.code = suspect.code;
            key := suspect.code;
            RETURN NEXT;
        END IF;
    END LOOP;

    table_name := 'occurrences';
    FOR suspect IN
        SELECT o.id
          FROM occurrences AS o
          LEFT JOIN (SELECT r.occurrence_id, count(*) AS registrations
                       FROM event_registrations AS r
                      WHERE r.deleted_at IS NULL
                        AND r.status IN ('PENDING', 'CONFIRMED', 'ATTENDED')
                      GROUP BY r.occurrence_id) AS held ON held.occurrence_id = o.id
         WHERE o.registrations <> coalesce(held.registrations, 0)
         ORDER BY o.id
    LOOP
        SELECT o.registrations INTO kept
          FROM occurrences AS o WHERE o.id = suspect.id FOR NO KEY UPDATE;
        SELECT count(*) INTO counted
          FROM event_registrations AS r
         WHERE r.occurrence_id = suspect.id
           AND r.deleted_at IS NULL
           AND r.status IN ('PENDING', 'CONFIRMED', 'ATTENDED');
        IF kept <> counted THEN
            UPDATE occurrences AS o SET registrations = counted WHERE o.id = suspect.id;
            PERFORM events_promote(suspect.id);
            key := suspect.id;
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION recount IS
    'Corrects every count that differs from the number of rows, and returns a row for each. '
    'Places that become free are given to the waiting list. For administrators.';
