-- SPDX-License-Identifier: Apache-2.0

-- Registers users for occurrences, all requests of a batch by the same few statements: starting a
-- statement costs as much as six rows.
--
-- First it finds the users, and creates those that the organization does not have. Then it takes
-- places in the occurrences, in the order of their ids, so that two calls lock in the same order.
-- Each function that changes who holds the places of an occurrence takes that lock first, so the
-- count is exact. The last places go to requests in their order, then the waiting list does.
-- Places of duplicates are returned.
--
-- A user is created only with a registration. A created user whose request is refused is deleted
-- again: no other transaction has seen it.
--
-- Outcomes: too_large (detail: the field, which has more than max_fields bytes of text), created
-- (detail: the version), not_found, duplicate, full; the first that applies.
CREATE OR REPLACE FUNCTION events_create(
    ids uuid[],
    occurrence_ids uuid[],
    external_user_ids text[],
    fields jsonb[],
    user_ids uuid[],            -- of users that are created
    emails text[],              -- likewise; then those of the found user
    first_names text[],
    last_names text[],
    phones text[],
    organization_ids uuid[],
    callers text[],
    request_ids text[],
    max_fields integer[] DEFAULT NULL)
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    event_ids uuid[];           -- of the requests' occurrences; null: the request is refused
    organizations uuid[];       -- that hold these events
    may_create boolean[];       -- whether an unknown user can get a registration
    nameless integer[];         -- the requests whose user is not known yet
    attendees uuid[] := array_fill(NULL::uuid, ARRAY[cardinality(ids)]);
    heads text[] := array_fill(NULL::text, ARRAY[cardinality(ids)]);    -- of the bodies
    attendee record;
    created_users uuid[] := '{}';
    target uuid;
    requests integer[];
    places_left integer;
    has_list boolean;
    confirmed integer[] := '{}';
    waiting integer[] := '{}';
    made_id uuid;
    made integer[] := '{}';     -- the requests that inserted a registration
    lost integer;
BEGIN
    -- Triggers keep these from changing, so they can be read before the lock. So a request cannot
    -- lock an occurrence of another organization.
    SELECT array_agg(q.event_id), array_agg(q.organization_id), array_agg(q.may_create),
           array_agg(q.n) FILTER (WHERE q.event_id IS NOT NULL)
      INTO event_ids, organizations, may_create, nameless
      FROM (SELECT q.n::integer, e.id AS event_id, e.organization_id,
                   o.waiting_list OR coalesce(o.registrations < o.capacity, true) AS may_create
              FROM unnest(occurrence_ids, organization_ids, fields, max_fields)
                   WITH ORDINALITY AS q (occurrence_id, organization_id, fields, max_fields, n)
              LEFT JOIN (occurrences AS o JOIN events AS e ON e.id = o.event_id)
                ON o.id = q.occurrence_id
               AND (q.organization_id IS NULL OR q.organization_id = e.organization_id)
               AND (octet_length(q.fields::text) > q.max_fields) IS NOT TRUE
             ORDER BY q.n) AS q;

    -- A concurrent call may insert the same user: then the next attempt finds it. It may be deleted
    -- before that: then it is inserted again. Found users are locked, so that a change of a user's
    -- name waits and then updates this registration, too.
    FOR attempt IN 1 .. 10 LOOP
        FOR attendee IN
            SELECT n, u.id, u.email, u.first_name, u.last_name, event_user_json(u) AS json
              FROM unnest(nameless) AS n
              JOIN event_users AS u ON u.organization_id = organizations[n]
                                   AND u.external_id = external_user_ids[n]
               FOR SHARE OF u
        LOOP
            attendees[attendee.n] := attendee.id;
            heads[attendee.n] := attendee.json;
            emails[attendee.n] := attendee.email;
            first_names[attendee.n] := attendee.first_name;
            last_names[attendee.n] := attendee.last_name;
        END LOOP;
        nameless := ARRAY(SELECT n FROM unnest(nameless) AS n
                           WHERE attendees[n] IS NULL AND may_create[n]);
        EXIT WHEN nameless = '{}';
        IF attempt = 10 THEN
            RAISE serialization_failure USING MESSAGE =
                'the user was created and deleted by concurrent transactions each time';
        END IF;
        WITH inserted AS (
            INSERT INTO event_users AS u
                   (id, organization_id, external_id, email, first_name, last_name, phone)
            SELECT DISTINCT ON (organizations[n], external_user_ids[n] COLLATE "C")
                   user_ids[n], organizations[n], external_user_ids[n], emails[n],
                   first_names[n], last_names[n], phones[n]
              FROM unnest(nameless) AS n
             ORDER BY organizations[n], external_user_ids[n] COLLATE "C", n
                ON CONFLICT ON CONSTRAINT event_users_external_id_key DO NOTHING
            RETURNING u.id)
        SELECT created_users || array_agg(i.id) INTO created_users FROM inserted AS i;
    END LOOP;

    FOR target, requests IN
        SELECT occurrence_ids[n], array_agg(n ORDER BY n)
          FROM generate_subscripts(ids, 1) AS n
         WHERE attendees[n] IS NOT NULL
         GROUP BY occurrence_ids[n]
         ORDER BY occurrence_ids[n]
    LOOP
        UPDATE occurrences AS o
           SET registrations = o.registrations + cardinality(requests)
         WHERE o.id = target
           AND coalesce(o.registrations + cardinality(requests) <= o.capacity, true);
        IF FOUND THEN
            confirmed := confirmed || requests;
            CONTINUE;
        END IF;

        -- Too few places were left, or the occurrence was deleted. Under the lock, the capacity,
        -- which may have changed, and the requests that need a place are known: not the retries of
        -- calls, and one of each user. OFFSET 0 prevents a join, which could read all registrations
        -- of the occurrence.
        SELECT greatest(coalesce(o.capacity - o.registrations, cardinality(requests)), 0),
               o.waiting_list
          INTO places_left, has_list
          FROM occurrences AS o WHERE o.id = target FOR NO KEY UPDATE;
        CONTINUE WHEN NOT FOUND;
        requests := ARRAY(
            SELECT min(n)
              FROM unnest(requests) AS n
             WHERE NOT EXISTS (SELECT FROM event_registrations AS r
                                WHERE r.id = ids[n] AND r.occurrence_id = target OFFSET 0)
               AND NOT EXISTS (SELECT FROM event_registrations AS r
                                WHERE r.occurrence_id = target
                                  AND r.user_id = attendees[n]
                                  AND r.deleted_at IS NULL
                                  AND r.status <> 'CANCELLED' OFFSET 0)
             GROUP BY attendees[n]
             ORDER BY min(n));
        places_left := least(places_left, cardinality(requests));
        confirmed := confirmed || requests[:places_left];
        IF has_list THEN
            waiting := waiting || requests[places_left + 1:];
        END IF;
        IF places_left > 0 THEN
            UPDATE occurrences AS o
               SET registrations = o.registrations + places_left
             WHERE o.id = target;
        END IF;
    END LOOP;

    FOR made_id, body IN
        INSERT INTO event_registrations AS r
               (id, occurrence_id, event_id, organization_id, user_id, status, fields,
                waiting_number, email, first_name, last_name, created_at, updated_at)
        SELECT ids[n], occurrence_ids[n], event_ids[n], organizations[n], attendees[n],
               CASE WHEN w.waits THEN 'WAITING_LIST' ELSE 'CONFIRMED' END,
               coalesce(fields[n], '{}'),
               CASE WHEN w.waits THEN nextval('event_waiting_numbers') END,
               emails[n], first_names[n], last_names[n], c.created_at, c.created_at
          FROM unnest(confirmed || waiting) WITH ORDINALITY AS q (n, position)
         CROSS JOIN LATERAL (SELECT q.position > cardinality(confirmed)) AS w (waits)
         CROSS JOIN LATERAL (SELECT event_created_at(ids[n]) OFFSET 0) AS c (created_at)
            ON CONFLICT DO NOTHING
        RETURNING r.id, event_registration_head(r)
    LOOP
        item := array_position(ids, made_id);
        heads[item] := body || heads[item];
        made := made || item;
    END LOOP;

    IF cardinality(made) < cardinality(confirmed) + cardinality(waiting) THEN
        FOR target, lost IN
            SELECT occurrence_ids[n], count(*)
              FROM unnest(confirmed) AS n
             WHERE n <> ALL (made)
             GROUP BY occurrence_ids[n]
             ORDER BY occurrence_ids[n]
        LOOP
            PERFORM events_promote(target, - lost);
        END LOOP;
    END IF;
    IF made <> '{}' THEN
        INSERT INTO audit (action, kind, id, belongs_to, status_after, caller, request_id)
        SELECT 'registered', 'event_registration', ids[n], occurrence_ids[n],
               CASE WHEN n = ANY (waiting) THEN 'WAITING_LIST' ELSE 'CONFIRMED' END,
               callers[n], request_ids[n]
          FROM unnest(made) AS n;
    END IF;

    -- The counts in the answers are those at the end of the batch.
    RETURN QUERY
    WITH places AS MATERIALIZED (
        SELECT p.id, p.answer
          FROM occurrence_json AS p
         WHERE p.id = ANY (ARRAY(SELECT DISTINCT occurrence_ids[n] FROM unnest(made) AS n)))
    SELECT n, 'created', '1', heads[n] || p.answer || '}'
      FROM unnest(made) AS n
      JOIN places AS p ON p.id = occurrence_ids[n];
    IF cardinality(made) = cardinality(ids) THEN
        RETURN;
    END IF;

    FOR item IN
        SELECT n FROM generate_subscripts(ids, 1) AS n WHERE n <> ALL (made)
    LOOP
        detail := NULL;
        body := NULL;
        IF event_ids[item] IS NOT NULL THEN
            -- The retry of a call finds the row that the first attempt wrote.
            SELECT a.version, a.body INTO detail, body
              FROM event_registration_answer(ids[item]) AS a;
        ELSIF octet_length(fields[item]::text) > max_fields[item] THEN
            detail := 'fields';
        END IF;
        outcome := CASE
            WHEN body IS NOT NULL THEN 'created'
            WHEN detail = 'fields' THEN 'too_large'
            WHEN event_ids[item] IS NULL
              OR NOT EXISTS (SELECT FROM occurrences AS o WHERE o.id = occurrence_ids[item])
            THEN 'not_found'
            WHEN EXISTS (SELECT FROM event_registrations AS r
                          WHERE r.occurrence_id = occurrence_ids[item]
                            AND r.user_id = attendees[item]
                            AND r.deleted_at IS NULL
                            AND r.status <> 'CANCELLED')
            THEN 'duplicate'
            ELSE 'full'
        END;
        RETURN NEXT;
    END LOOP;

    IF created_users <> '{}' THEN
        DELETE FROM event_users AS u
         WHERE u.id = ANY (created_users)
           AND NOT EXISTS (SELECT FROM event_registrations AS r WHERE r.user_id = u.id);
    END IF;
END
$$;

COMMENT ON FUNCTION events_create IS
    'POST /api/v1/event-registrations; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION events_create TO registration;
