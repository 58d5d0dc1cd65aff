-- SPDX-License-Identifier: Apache-2.0

-- Deletes event registrations: sets deleted_at. See events_lock() for the conditions and the
-- retry of a call, which changes nothing.
--
-- Outcomes: deleted (detail: the version; with_trashed also for a registration that was deleted
-- before, which is not changed), not_found, changed.
CREATE OR REPLACE FUNCTION events_delete(
    ids uuid[],
    with_trashed boolean[],
    versions text[],
    organization_ids uuid[],
    call_ids uuid[],
    callers text[],
    request_ids text[],
    excluded_versions text[] DEFAULT NULL)
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    target uuid;
    locked record;
    registration event_registrations;
    moment timestamptz(3);
BEGIN
    FOR item, target IN
        SELECT * FROM events_in_lock_order(ids, organization_ids)
    LOOP
        detail := NULL;
        body := NULL;
        locked := events_lock(ids[item], target, call_ids[item], with_trashed[item],
                              versions[item], excluded_versions[item]);
        registration := locked.registration;
        outcome := coalesce(locked.refusal, 'deleted');

        IF outcome = 'deleted' THEN
            IF registration.deleted_at IS NULL THEN
                moment := greatest(clock_timestamp(), registration.updated_at);
                UPDATE event_registrations AS r
                   SET deleted_at = moment,
                       updated_at = moment,
                       waiting_number = NULL,
                       version = r.version + 1,
                       last_call = call_ids[item]
                 WHERE r.id = registration.id AND r.occurrence_id = target;
                INSERT INTO audit (action, kind, id, belongs_to, status_before, caller,
                                   request_id)
                VALUES ('deleted', 'event_registration', registration.id, target,
                        registration.status, callers[item], request_ids[item]);
                PERFORM events_promote(
                    target, - event_status_holds_place(registration.status)::integer,
                    callers[item], request_ids[item]);
            END IF;

            SELECT a.version, a.body
              INTO detail, body
              FROM event_registration_answer(registration.id) AS a;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION events_delete IS
    'DELETE /api/v1/event-registrations/{id}; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION events_delete TO registration;
