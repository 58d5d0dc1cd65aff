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

-- Registers for live sessions. First the sessions are locked, in the order of their ids, so
-- that two calls lock in the same order. Everything that makes or deletes a session's
-- registrations takes that lock, so the count read under it is exact.
--
-- Then everybody for whom there is a place is registered by one statement: to begin one
-- costs as much as half a dozen rows. Who is registered already leaves a place to somebody
-- who came later, for whom it is done again.
--
-- Outcomes: created, not_found, not_joinable, duplicate, full; the first that fits.
CREATE OR REPLACE FUNCTION live_register(
    ids uuid[],
    session_ids uuid[],
    patient_ids text[],
    guest_emails text[],
    roles text[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    untried integer[] := ARRAY(SELECT generate_subscripts(ids, 1));
    admitted integer[];         -- those of them for whom there is a place
    created integer[] := '{}';
    session uuid;
    requests integer[];
    joinable boolean;
    places_left integer;        -- null: any number
    made uuid;
    made_here integer;
BEGIN
    LOOP
        admitted := '{}';
        FOR session, requests IN
            SELECT session_ids[n], array_agg(n ORDER BY n)
              FROM unnest(untried) AS n
             GROUP BY session_ids[n]
             ORDER BY session_ids[n]
        LOOP
            SELECT s.status IN ('scheduled', 'live'),
                   s.max_participants - s.registered_count
              INTO joinable, places_left
              FROM live_sessions AS s
             WHERE s.id = session
               FOR NO KEY UPDATE;
            IF joinable THEN
                admitted := admitted
                            || requests[:coalesce(places_left, cardinality(requests))];
            END IF;
        END LOOP;
        EXIT WHEN admitted = '{}';

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

        FOR session, made_here IN
            SELECT session_ids[n], count(*)
              FROM unnest(created) AS n
             WHERE n = ANY (admitted)
             GROUP BY session_ids[n]
        LOOP
            UPDATE live_sessions AS s
               SET registered_count = s.registered_count + made_here
             WHERE s.id = session;
        END LOOP;

        untried := ARRAY(SELECT n FROM unnest(untried) AS n WHERE n <> ALL (admitted));
        EXIT WHEN untried = '{}';
    END LOOP;

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
