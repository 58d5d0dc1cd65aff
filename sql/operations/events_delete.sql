-- SPDX-License-Identifier: Apache-2.0

-- Deletes event registrations: they stay, with the time. Locks as events_update does.
--
-- versions holds what If-Match accepts: null is no condition, '' accepts none. What
-- If-None-Match excludes is in excluded_versions: null excludes none, '*' all.
--
-- Outcomes: deleted (detail: its version; also for one deleted before when those are
-- asked for, which stays as it is), not_found, changed.
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
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    target uuid;
    registration event_registrations;
    moment timestamptz(3);
BEGIN
    FOR item, target IN
        SELECT q.n::integer, r.occurrence_id
          FROM unnest(ids, organization_ids) WITH ORDINALITY AS q (id, organization_id, n)
          LEFT JOIN event_registrations AS r
            ON r.id = q.id
           AND (q.organization_id IS NULL OR r.organization_id = q.organization_id)
         ORDER BY r.occurrence_id, q.n
    LOOP
        detail := NULL;
        body := NULL;

        PERFORM FROM occurrences AS o WHERE o.id = target FOR NO KEY UPDATE;
        SELECT r.* INTO registration
          FROM event_registrations AS r
         WHERE r.id = ids[item] AND r.occurrence_id = target
           AND (r.deleted_at IS NULL OR with_trashed[item]
                OR r.last_call = call_ids[item]);

        -- A call that was sent twice finds that the first one did it, and changes nothing.
        outcome := CASE
            WHEN NOT FOUND THEN 'not_found'
            WHEN registration.last_call = call_ids[item] THEN 'deleted'
            WHEN registration.version::text <> ALL (string_to_array(versions[item], ' '))
                 OR event_version_excluded(registration.version, excluded_versions[item])
            THEN 'changed'
            ELSE 'deleted'
        END;

        IF outcome = 'deleted' THEN
            IF registration.deleted_at IS NULL THEN
                moment := clock_timestamp();
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
              FROM event_registration_answers AS a
             WHERE a.id = registration.id AND a.occurrence_id = target;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION events_delete IS
    'DELETE /api/v1/event-registrations/{id}, one array element a request.';

GRANT EXECUTE ON FUNCTION events_delete TO registration;
