-- SPDX-License-Identifier: Apache-2.0

-- Changes the status and the fields of event registrations. See events_lock() for the conditions
-- and the retry of a call, which changes nothing.
--
-- Outcomes: updated (detail: the version), not_found, changed (a condition does not hold),
-- too_large (detail: the field; merged, it would have more than max_fields bytes of text and more
-- than before), duplicate, full, no_waiting_list; the first that applies.
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
AS $$
DECLARE
    target uuid;
    locked record;
    occurrence occurrences;
    registration event_registrations;
    new_status text;
    new_fields jsonb;
    places_taken integer;       -- 1, 0, or -1: given back
BEGIN
    FOR item, target IN
        SELECT * FROM events_in_lock_order(ids, organization_ids)
    LOOP
        detail := NULL;
        body := NULL;
        locked := events_lock(ids[item], target, call_ids[item], false, versions[item],
                              excluded_versions[item]);
        IF locked.refusal IS NOT NULL THEN
            outcome := locked.refusal;
            RETURN NEXT;
            CONTINUE;
        END IF;
        occurrence := locked.occurrence;
        registration := locked.registration;
        IF locked.is_repeated THEN
            statuses[item] := NULL;
            fields[item] := NULL;
        END IF;

        new_status := coalesce(statuses[item], registration.status);
        new_fields := json_merge_patch(registration.fields, coalesce(fields[item], '{}'));
        places_taken := event_status_holds_place(new_status)::integer
                        - event_status_holds_place(registration.status)::integer;

        outcome := CASE
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
            -- Also promotes a registration that changed to WAITING_LIST while a place is free.
            IF new_status <> registration.status THEN
                PERFORM events_promote(target, places_taken, callers[item],
                                       request_ids[item]);
                -- If it was promoted itself, the version is still incremented only once.
                UPDATE event_registrations AS r
                   SET version = registration.version + 1
                 WHERE r.id = registration.id AND r.occurrence_id = target
                   AND r.version > registration.version + 1;
            END IF;

            SELECT a.version, a.body
              INTO detail, body
              FROM event_registration_answer(registration.id) AS a;
        ELSIF outcome = 'too_large' THEN
            detail := 'fields';
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION events_update IS
    'PUT /api/v1/event-registrations/{id}; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION events_update TO registration;
