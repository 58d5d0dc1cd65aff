-- SPDX-License-Identifier: Apache-2.0

-- Finds or creates a user. A concurrent call for another occurrence may insert the same user: then
-- the second statement reads it. It may be deleted between the two statements: then both are
-- repeated.
CREATE OR REPLACE FUNCTION event_user_made(
    id uuid,
    organization_id uuid,
    external_id text,
    email text,
    first_name text,
    last_name text,
    phone text)
RETURNS event_users
LANGUAGE plpgsql
AS $$
DECLARE
    attendee event_users;
BEGIN
    FOR attempt IN 1 .. 10 LOOP
        INSERT INTO event_users AS u
               (id, organization_id, external_id, email, first_name, last_name, phone)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT ON CONSTRAINT event_users_external_id_key DO NOTHING
        RETURNING u.* INTO attendee;
        IF attendee.id IS NULL THEN
            SELECT u.* INTO attendee
              FROM event_users AS u
             WHERE u.organization_id = $2 AND u.external_id = $3
               FOR SHARE;
        END IF;
        IF attendee.id IS NOT NULL THEN
            RETURN attendee;
        END IF;
    END LOOP;
    RAISE serialization_failure
        USING MESSAGE = 'the user was created and deleted by concurrent transactions each time';
END
$$;

COMMENT ON FUNCTION event_user_made IS
    'Returns the user with this external id; creates it if there is none.';

-- Registers users for occurrences. Processes the requests in the order of the occurrences' ids, so
-- that two calls lock in the same order. An occurrence is locked for its first request: each
-- function that changes who holds its places takes that lock first, so the count is exact.
--
-- A user that the organization does not have is created, but only with a registration.
--
-- Outcomes: too_large (detail: the field, which has more than max_fields bytes of text), created
-- (detail: the version), not_found, duplicate, full.
CREATE OR REPLACE FUNCTION events_create(
    ids uuid[],
    occurrence_ids uuid[],
    external_user_ids text[],
    fields jsonb[],
    user_ids uuid[],
    emails text[],
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
AS $$
DECLARE
    wanted uuid;
    requests integer[];
    occurrence occurrences;
    event events;
    place occurrence_answers;
    attendee event_users;
    registration event_registrations;
    held_before integer;
    has_place boolean;
    made integer[] := '{}';     -- the requests that inserted a registration
    statuses text[];            -- and its status
BEGIN
    FOR wanted, requests IN
        SELECT q.occurrence_id,
               array_agg(q.n::integer ORDER BY q.external_id COLLATE "C", q.n)
          FROM unnest(occurrence_ids, external_user_ids)
               WITH ORDINALITY AS q (occurrence_id, external_id, n)
         GROUP BY q.occurrence_id
         ORDER BY q.occurrence_id
    LOOP
        -- Triggers keep these from changing, so they can be read before the lock. So a request
        -- cannot lock an occurrence of another organization.
        SELECT e.* INTO event
          FROM occurrences AS o JOIN events AS e ON e.id = o.event_id
         WHERE o.id = wanted;
        occurrence := NULL;
        held_before := NULL;

        FOREACH item IN ARRAY requests LOOP
            detail := NULL;
            body := NULL;

            IF octet_length(fields[item]::text) > max_fields[item] THEN
                outcome := 'too_large';
                detail := 'fields';
                RETURN NEXT;
                CONTINUE;
            END IF;
            IF event.id IS NULL OR organization_ids[item] <> event.organization_id THEN
                outcome := 'not_found';
                RETURN NEXT;
                CONTINUE;
            END IF;

            IF occurrence.id IS NULL THEN
                SELECT o.* INTO occurrence
                  FROM occurrences AS o WHERE o.id = wanted FOR NO KEY UPDATE;
                -- Deleted since it was read.
                IF NOT FOUND THEN
                    event := NULL;
                    outcome := 'not_found';
                    RETURN NEXT;
                    CONTINUE;
                END IF;
                SELECT p.* INTO place
                  FROM occurrence_answers AS p WHERE p.id = wanted;
                held_before := occurrence.registrations;
            END IF;

            -- Locked, so that a change of the user's name waits and then updates this
            -- registration, too.
            SELECT u.* INTO attendee
              FROM event_users AS u
             WHERE u.organization_id = event.organization_id
               AND u.external_id = external_user_ids[item]
               FOR SHARE;

            has_place := coalesce(occurrence.registrations < occurrence.capacity, true);
            registration := NULL;
            IF has_place OR occurrence.waiting_list THEN
                IF attendee.id IS NULL THEN
                    attendee := event_user_made(
                        user_ids[item], event.organization_id, external_user_ids[item],
                        emails[item], first_names[item], last_names[item], phones[item]);
                END IF;

                INSERT INTO event_registrations AS r
                       (id, occurrence_id, event_id, organization_id, user_id, status,
                        fields, waiting_number, email, first_name, last_name, created_at,
                        updated_at)
                VALUES (ids[item], wanted, event.id, event.organization_id, attendee.id,
                        CASE WHEN has_place THEN 'CONFIRMED' ELSE 'WAITING_LIST' END,
                        coalesce(fields[item], '{}'),
                        CASE WHEN NOT has_place THEN nextval('event_waiting_numbers') END,
                        attendee.email, attendee.first_name, attendee.last_name,
                        event_created_at(ids[item]), event_created_at(ids[item]))
                    ON CONFLICT DO NOTHING
                RETURNING r.* INTO registration;

                IF FOUND THEN
                    made := made || item;
                    statuses := statuses || registration.status;
                END IF;
                IF FOUND AND has_place THEN
                    occurrence.registrations := occurrence.registrations + 1;
                    place.occurrence.registrations := occurrence.registrations;
                END IF;
            END IF;

            -- The retry of a call finds the row that the first attempt wrote.
            IF registration.id IS NULL THEN
                SELECT r.* INTO registration
                  FROM event_registrations AS r
                 WHERE r.id = ids[item] AND r.occurrence_id = wanted;
            END IF;

            outcome := CASE
                WHEN registration.id IS NOT NULL THEN 'created'
                WHEN EXISTS (
                    SELECT FROM event_registrations AS r
                     WHERE r.occurrence_id = wanted
                       AND r.user_id = attendee.id
                       AND r.deleted_at IS NULL
                       AND r.status <> 'CANCELLED')
                THEN 'duplicate'
                ELSE 'full'
            END;
            IF outcome = 'created' THEN
                detail := registration.version;
                body := event_registration_body(registration, attendee, place);
            END IF;
            RETURN NEXT;
        END LOOP;

        IF occurrence.registrations <> held_before THEN
            UPDATE occurrences AS o
               SET registrations = occurrence.registrations
             WHERE o.id = wanted;
        END IF;
    END LOOP;

    IF made <> '{}' THEN
        INSERT INTO audit (action, kind, id, belongs_to, status_after, caller, request_id)
        SELECT 'registered', 'event_registration', ids[x.n], occurrence_ids[x.n], x.status,
               callers[x.n], request_ids[x.n]
          FROM unnest(made, statuses) AS x (n, status);
    END IF;
END
$$;

COMMENT ON FUNCTION events_create IS
    'POST /api/v1/event-registrations; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION events_create TO registration;
