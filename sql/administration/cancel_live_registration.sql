-- SPDX-License-Identifier: Apache-2.0

CREATE OR REPLACE FUNCTION cancel_live_registration(registration_id uuid)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    session uuid := (SELECT r.session_id
                       FROM live_registrations AS r
                      WHERE r.id = registration_id);
BEGIN
    PERFORM FROM live_sessions AS s WHERE s.id = session FOR NO KEY UPDATE;

    DELETE FROM live_registrations AS r
     WHERE r.id = registration_id AND r.session_id = session;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    UPDATE live_sessions AS s
       SET registered_count = s.registered_count - 1
     WHERE s.id = session;
    INSERT INTO audit (action, kind, id, belongs_to, caller)
    VALUES ('removed', 'live_registration', registration_id, session, session_user);
    RETURN true;
END
$$;

COMMENT ON FUNCTION cancel_live_registration IS
    'Deletes a live registration and returns its place; false: there is none. '
    'For administrators.';
