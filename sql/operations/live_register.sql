-- SPDX-License-Identifier: Apache-2.0

CREATE OR REPLACE FUNCTION live_registration_body(registration live_registrations)
RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT row_to_json(
        ROW(registration.id,
            registration.session_id,
            registration.patient_id,
            registration.guest_email,
            registration.role,
            iso_timestamp(registration.registered_at))::live_answer)::text
$$;

COMMENT ON FUNCTION live_registration_body IS
    'A live registration as the client sees it.';

-- Registers for live sessions. First places are taken in the sessions, in the order of their
-- ids, so that two calls lock in the same order. Everything that makes or deletes a session's
-- registrations holds that lock, so the count is exact. Who asks for the last places gets
-- them in the order in which they came.
--
-- Then all who have a place are registered by one statement: to begin one costs as much as
-- half a dozen rows. Who is registered already gives his place back, and if others have found
-- the session full it is all done again for them.
--
-- Outcomes: created, not_found, not_joinable, duplicate, full; the first that fits.
CREATE OR REPLACE FUNCTION live_register(
    ids uuid[],
    session_ids uuid[],
    patient_ids text[],
    guest_emails text[],
    roles text[],
    callers text[],
    request_ids text[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    waiting integer[] := ARRAY(SELECT generate_subscripts(ids, 1));
    admitted integer[];         -- those of them who have a place
    created integer[] := '{}';
    session uuid;
    requests integer[];
    joinable boolean;
    places_left integer;
    made uuid;
    too_many integer;
BEGIN
    LOOP
        admitted := '{}';
        FOR session, requests IN
            SELECT session_ids[n], array_agg(n ORDER BY n)
              FROM unnest(waiting) AS n
             GROUP BY session_ids[n]
             ORDER BY session_ids[n]
        LOOP
            UPDATE live_sessions AS s
               SET registered_count = s.registered_count + cardinality(requests)
             WHERE s.id = session
               AND s.status IN ('scheduled', 'live')
               AND coalesce(s.registered_count + cardinality(requests)
                            <= s.max_participants, true);
            IF NOT FOUND THEN
                SELECT s.status IN ('scheduled', 'live'),
                       coalesce(s.max_participants - s.registered_count,
                                cardinality(requests))
                  INTO joinable, places_left
                  FROM live_sessions AS s
                 WHERE s.id = session
                   FOR NO KEY UPDATE;
                requests := CASE WHEN joinable THEN requests[:places_left] ELSE '{}' END;
                IF requests <> '{}' THEN
                    UPDATE live_sessions AS s
                       SET registered_count = s.registered_count + cardinality(requests)
                     WHERE s.id = session;
                END IF;
            END IF;
            admitted := admitted || requests;
        END LOOP;

        FOR made, body IN
            INSERT INTO live_registrations AS r
                   (id, session_id, patient_id, guest_email, role)
            SELECT ids[n], session_ids[n], patient_ids[n], guest_emails[n], roles[n]
              FROM unnest(admitted) AS n
                ON CONFLICT DO NOTHING
            RETURNING r.id, live_registration_body(r)
        LOOP
            item := array_position(ids, made);
            outcome := 'created';
            created := created || item;
            RETURN NEXT;
        END LOOP;
        EXIT WHEN created @> admitted;

        FOR session, too_many IN
            SELECT session_ids[n], count(*)
              FROM unnest(admitted) AS n
             WHERE n <> ALL (created)
             GROUP BY session_ids[n]
        LOOP
            UPDATE live_sessions AS s
               SET registered_count = s.registered_count - too_many
             WHERE s.id = session;
        END LOOP;
        waiting := ARRAY(SELECT n FROM unnest(waiting) AS n WHERE n <> ALL (admitted));
    END LOOP;

    IF created <> '{}' THEN
        INSERT INTO audit (action, kind, id, belongs_to, caller, request_id)
        SELECT 'registered', 'live_registration', ids[n], session_ids[n], callers[n],
               request_ids[n]
          FROM unnest(created) AS n;
    END IF;

    FOR item IN
        SELECT n FROM generate_subscripts(ids, 1) AS n WHERE n <> ALL (created)
    LOOP
        -- A call that was sent twice finds what the first one wrote.
        body := (SELECT live_registration_body(r)
                   FROM live_registrations AS r
                  WHERE r.id = ids[item] AND r.session_id = session_ids[item]);
        joinable := (SELECT s.status IN ('scheduled', 'live')
                       FROM live_sessions AS s
                      WHERE s.id = session_ids[item]);
        outcome := CASE
            WHEN body IS NOT NULL THEN 'created'
            WHEN joinable IS NULL THEN 'not_found'
            WHEN NOT joinable THEN 'not_joinable'
            WHEN EXISTS (SELECT FROM live_registrations AS r
                          WHERE r.session_id = session_ids[item]
                            AND r.patient_id = patient_ids[item])
              OR EXISTS (SELECT FROM live_registrations AS r
                          WHERE r.session_id = session_ids[item]
                            AND lower(r.guest_email)
                                = lower(guest_emails[item] COLLATE "C"))
            THEN 'duplicate'
            ELSE 'full'
        END;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION live_register IS
    'POST /v1/sessions/{id}/register, one array element a request.';

GRANT EXECUTE ON FUNCTION live_register TO registration;
