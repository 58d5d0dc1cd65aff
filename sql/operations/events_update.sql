-- SPDX-License-Identifier: Apache-2.0

-- Changes the status and the fields of event registrations. See events_lock() for the conditions
-- and the retry of a call, which changes nothing.
--
-- One statement makes the changes that are simple: of the fields alone, by a patch that neither
-- removes nor merges a value, of a registration that no other such request of the batch names. The
-- other requests are processed one by one.
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
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    simple integer[];
    done integer[] := '{}';
    target uuid;
    locked record;
    occurrence occurrences;
    registration event_registrations;
    new_status text;
    new_fields jsonb;
    places_taken integer;       -- 1, 0, or -1: given back
BEGIN
    PERFORM FROM occurrences AS o
      WHERE o.id = ANY (ARRAY(SELECT DISTINCT l.occurrence_id
                                FROM events_in_lock_order(ids, organization_ids) AS l))
      ORDER BY o.id
        FOR NO KEY UPDATE;
    simple := ARRAY(
        SELECT min(n)
          FROM generate_subscripts(ids, 1) AS n
         WHERE statuses[n] IS NULL
           AND NOT jsonb_path_exists(fields[n], '$.* ? (@ == null || @.type() == "object")')
         GROUP BY ids[n]
        HAVING count(*) = 1);

    outcome := 'updated';
    FOR item, detail, body IN
        WITH changed AS (
            UPDATE event_registrations AS r
               SET fields = m.fields,
                   version = r.version + 1,
                   last_call = call_ids[n],
                   updated_at = greatest(clock_timestamp(), r.updated_at)
              FROM unnest(simple) AS n
              JOIN event_registrations AS o
                ON o.id = ids[n]
               AND (organization_ids[n] IS NULL OR o.organization_id = organization_ids[n])
             CROSS JOIN LATERAL (SELECT o.fields || events_update.fields[n] OFFSET 0) AS m (fields)
              JOIN event_users AS u ON u.id = o.user_id
             WHERE r.id = o.id
               AND r.occurrence_id = o.occurrence_id
               AND o.deleted_at IS NULL
               AND o.last_call IS DISTINCT FROM call_ids[n]
               AND (o.version::text <> ALL (string_to_array(versions[n], ' '))) IS NOT TRUE
               AND (excluded_versions[n] = '*'
                    OR o.version::text = ANY (string_to_array(excluded_versions[n], ' ')))
                   IS NOT TRUE
               AND m.fields <> o.fields
               AND (octet_length(m.fields::text) > max_fields[n]) IS NOT TRUE
            RETURNING n, r.version, r.occurrence_id, r.status,
                      event_registration_head(r) || event_user_json(u) AS head),
        audited AS (
            INSERT INTO audit (action, kind, id, belongs_to, status_before, status_after, caller,
                               request_id)
            SELECT 'changed', 'event_registration', ids[c.n], c.occurrence_id, c.status,
                   c.status, callers[c.n], request_ids[c.n]
              FROM changed AS c),
        places AS MATERIALIZED (
            SELECT p.id, p.answer
              FROM occurrence_json AS p
             WHERE p.id IN (SELECT c.occurrence_id FROM changed AS c))
        SELECT c.n, c.version, c.head || p.answer || '}'
          FROM changed AS c
          JOIN places AS p ON p.id = c.occurrence_id
    LOOP
        done := done || item;
        RETURN NEXT;
    END LOOP;
    IF cardinality(done) = cardinality(ids) THEN
        RETURN;
    END IF;

    FOR item, target IN
        SELECT l.item, l.occurrence_id
          FROM events_in_lock_order(ids, organization_ids) AS l
         WHERE l.item <> ALL (done)
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
                       updated_at = greatest(clock_timestamp(), r.updated_at)
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
