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
    'The body of an answer about a live registration.';

-- Registers for live sessions. First it takes places in the sessions, in the order of their ids,
-- so that two calls lock in the same order. Each function that inserts or deletes registrations of
-- a session holds that lock, so the count is exact. The last places go to requests in their order.
--
-- Then one statement inserts the registrations of all requests that have a place: starting a
-- statement costs as much as six rows. Places of duplicates are returned; if requests were refused
-- as full meanwhile, the loop runs again for them.
--
-- Outcomes: created, not_found, not_joinable, duplicate, full; the first that applies.
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
AS $$
DECLARE
    waiting integer[] := ARRAY(SELECT generate_subscripts(ids, 1));
    admitted integer[];         -- the requests that have a place
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
        -- The retry of a call finds the row that the first attempt wrote.
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
    'POST /v1/sessions/{id}/register; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION live_register TO registration;
