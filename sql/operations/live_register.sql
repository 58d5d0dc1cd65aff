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

-- Registers for live sessions. The requests are taken session by session, in the order
-- of the sessions' ids, so that two calls lock in the same order. A session's row stays
-- locked from the first of its requests on: everything that makes or deletes its
-- registrations takes that lock first, so the count read here is exact.
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
    session uuid;
    requests integer[];
    joinable boolean;           -- null: there is no such session
    places integer;             -- null: any number
    taken integer;
    taken_before integer;
    has_place boolean;
BEGIN
    FOR session, requests IN
        SELECT r.session_id, array_agg(r.n::integer ORDER BY r.n)
          FROM unnest(session_ids) WITH ORDINALITY AS r (session_id, n)
         GROUP BY r.session_id
         ORDER BY r.session_id
    LOOP
        SELECT s.status IN ('scheduled', 'live'), s.max_participants, s.registered_count
          INTO joinable, places, taken
          FROM live_sessions AS s
         WHERE s.id = session
           FOR NO KEY UPDATE;
        taken_before := taken;

        FOREACH item IN ARRAY requests LOOP
            body := NULL;
            has_place := joinable AND (places IS NULL OR taken < places);

            IF has_place THEN
                INSERT INTO live_registrations AS r
                       (id, session_id, patient_id, guest_email, role)
                VALUES (ids[item], session, patient_ids[item], guest_emails[item],
                        roles[item])
                    ON CONFLICT DO NOTHING
                RETURNING live_registration_body(r) INTO body;
            END IF;

            IF body IS NOT NULL THEN
                outcome := 'created';
                taken := taken + 1;
            ELSE
                -- A call that was sent twice finds what the first one wrote.
                SELECT live_registration_body(r)
                  INTO body
                  FROM live_registrations AS r
                 WHERE r.id = ids[item] AND r.session_id = session;
                outcome := CASE
                    WHEN body IS NOT NULL THEN 'created'
                    WHEN joinable IS NULL THEN 'not_found'
                    WHEN NOT joinable THEN 'not_joinable'
                    WHEN has_place
                      OR EXISTS (SELECT FROM live_registrations AS r
                                  WHERE r.session_id = session
                                    AND r.patient_id = patient_ids[item])
                      OR EXISTS (SELECT FROM live_registrations AS r
                                  WHERE r.session_id = session
                                    AND lower(r.guest_email)
                                        = lower(guest_emails[item] COLLATE "C"))
                    THEN 'duplicate'
                    ELSE 'full'
                END;
            END IF;
            RETURN NEXT;
        END LOOP;

        IF taken <> taken_before THEN
            UPDATE live_sessions AS s SET registered_count = taken WHERE s.id = session;
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION live_register IS
    'POST /v1/sessions/{id}/register, one array element a request.';

GRANT EXECUTE ON FUNCTION live_register TO registration;
