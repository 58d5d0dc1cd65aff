-- SPDX-License-Identifier: Apache-2.0

-- Changes the status and the fields of event registrations. An id alone does not say
-- which occurrence to lock, so that is looked up first; under the lock the registration
-- is read again, for it may have changed while the call waited.
--
-- versions holds what If-Match accepts: null is no condition, '' accepts none. What
-- If-None-Match excludes is in excluded_versions: null excludes none, '*' all.
--
-- Outcomes: updated (detail: its version), not_found, changed (a condition does not
-- hold), too_large (detail: the field; merged, it would have more than max_fields bytes of
-- text, and more than it has), duplicate, full, no_waiting_list; the first that fits.
CREATE OR REPLACE FUNCTION events_update(
    ids uuid[],
    statuses text[],
    fields jsonb[],
    versions text[],
    organization_ids uuid[],
    call_ids uuid[],
    callers text[],
    request_ids text[],
    excluded_versions text[] DEFAULT NULL,
    max_fields integer[] DEFAULT NULL)
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    target uuid;
    occurrence occurrences;
    registration event_registrations;
    new_status text;
    new_fields jsonb;
    places_taken integer;       -- one, none, or minus one: given back
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

        SELECT o.* INTO occurrence
          FROM occurrences AS o WHERE o.id = target FOR NO KEY UPDATE;
        SELECT r.* INTO registration
          FROM event_registrations AS r
         WHERE r.id = ids[item] AND r.occurrence_id = target AND r.deleted_at IS NULL;
        IF NOT FOUND THEN
            outcome := 'not_found';
            RETURN NEXT;
            CONTINUE;
        END IF;

        -- A call that was sent twice finds that the first one did it, and changes nothing.
        IF registration.last_call = call_ids[item] THEN
            statuses[item] := NULL;
            fields[item] := NULL;
            versions[item] := NULL;
            excluded_versions[item] := NULL;
        END IF;

        new_status := coalesce(statuses[item], registration.status);
        new_fields := json_merge_patch(registration.fields, coalesce(fields[item], '{}'));
        places_taken := event_status_holds_place(new_status)::integer
                        - event_status_holds_place(registration.status)::integer;

        outcome := CASE
            WHEN registration.version::text <> ALL (string_to_array(versions[item], ' '))
                 OR event_version_excluded(registration.version, excluded_versions[item])
            THEN 'changed'
            WHEN fields[item] IS NOT NULL
                 AND octet_length(new_fields::text) > max_fields[item]
                 AND octet_length(new_fields::text)
                     > octet_length(registration.fields::text)
            THEN 'too_large'
            WHEN registration.status = 'CANCELLED' AND new_status <> 'CANCELLED'
                 AND EXISTS (
                     SELECT FROM event_registrations AS r
                      WHERE r.occurrence_id = target
                        AND r.user_id = registration.user_id
                        AND r.deleted_at IS NULL
                        AND r.status <> 'CANCELLED')
            THEN 'duplicate'
            WHEN places_taken > 0 AND occurrence.registrations >= occurrence.capacity
            THEN 'full'
            WHEN new_status = 'WAITING_LIST' AND registration.status <> 'WAITING_LIST'
                 AND NOT occurrence.waiting_list
            THEN 'no_waiting_list'
            ELSE 'updated'
        END;

        IF outcome = 'updated' THEN
            IF new_status <> registration.status OR new_fields <> registration.fields THEN
                UPDATE event_registrations AS r
                   SET status = new_status,
                       fields = new_fields,
                       waiting_number = CASE
                           WHEN new_status <> 'WAITING_LIST' THEN NULL
                           ELSE coalesce(r.waiting_number,
                                         nextval('event_waiting_numbers'))
                       END,
                       version = r.version + 1,
                       last_call = call_ids[item],
                       updated_at = clock_timestamp()
                 WHERE r.id = registration.id AND r.occurrence_id = target;
                INSERT INTO audit (action, kind, id, belongs_to, status_before,
                                   status_after, caller, request_id)
                VALUES ('changed', 'event_registration', registration.id, target,
                        registration.status, new_status, callers[item],
                        request_ids[item]);
            END IF;
            -- Also for who came to wait where a place is free: no one waits then.
            IF new_status <> registration.status THEN
                PERFORM events_promote(target, places_taken, callers[item],
                                       request_ids[item]);
                -- Promoted itself: for the client that is one change, not two.
                UPDATE event_registrations AS r
                   SET version = registration.version + 1
                 WHERE r.id = registration.id AND r.occurrence_id = target
                   AND r.version > registration.version + 1;
            END IF;

            SELECT a.version, a.body
              INTO detail, body
              FROM event_registration_answers AS a
             WHERE a.id = registration.id AND a.occurrence_id = target;
        ELSIF outcome = 'too_large' THEN
            detail := 'fields';
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION events_update IS
    'PUT /api/v1/event-registrations/{id}, one array element a request.';

GRANT EXECUTE ON FUNCTION events_update TO registration;
