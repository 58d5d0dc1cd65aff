-- SPDX-License-Identifier: Apache-2.0

-- The rows of a table, event_users or events, in whose text a pattern is found; null
-- when there are more than a thousand of them. The statement is planned for the very
-- pattern: by index for a rare one, by reading on until there are enough for a common.
CREATE OR REPLACE FUNCTION events_matching(
    source regclass,
    pattern text,
    organization uuid)
RETURNS uuid[]
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    matching uuid[];
BEGIN
    EXECUTE format(
        'SELECT ARRAY(SELECT s.id FROM %s AS s'
        ' WHERE s.search_text LIKE $1 AND ($2 IS NULL OR s.organization_id = $2)'
        ' LIMIT 1001)', source)
       INTO matching
      USING pattern, organization;
    RETURN CASE WHEN cardinality(matching) <= 1000 THEN matching END;
END
$$;

COMMENT ON FUNCTION events_matching IS
    'The ids of the users or events a text is found in, null for more than a '
    'thousand.';

-- The events that all given filters allow, null when no filter is by event. Planned for
-- the filters at hand: those that are null drop out.
CREATE OR REPLACE FUNCTION events_allowed(
    event uuid,
    occurrence uuid,
    categories uuid[],
    organization uuid)
RETURNS uuid[]
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    allowed uuid[];
BEGIN
    IF event IS NOT NULL OR occurrence IS NOT NULL OR categories IS NOT NULL THEN
        EXECUTE 'SELECT ARRAY(
                    SELECT e.id
                      FROM events AS e
                     WHERE ($1 IS NULL OR e.id = $1)
                       AND ($2 IS NULL OR e.id = (
                            SELECT o.event_id FROM occurrences AS o WHERE o.id = $2))
                       AND ($3 IS NULL OR e.id IN (
                            SELECT c.event_id FROM event_categories AS c
                             WHERE c.category_id = ANY ($3)))
                       AND ($4 IS NULL OR e.organization_id = $4))'
           INTO allowed
          USING event, occurrence, categories, organization;
    END IF;
    RETURN allowed;
END
$$;

COMMENT ON FUNCTION events_allowed IS
    'The events that all given filters allow, null when no filter is by event.';

-- The statement that finds the first $9 + $10 of a list: their ids, and what they are
-- sorted by. A list of many is read off an index in the order asked for, until there are
-- enough; what a deep page skips costs an index entry each and is joined to nothing.
-- Where no single index gives the order, several stretches of one are read and merged: by
-- time in several events; and by the event's name or the start, where the events or the
-- occurrences are gone through in that order, and in each its registrations by status and
-- id. A list of few is fetched and sorted (OFFSET 0 keeps the planner from the index of
-- the order, where these few may be far apart).
CREATE OR REPLACE FUNCTION events_list_statement(
    source text,
    condition text,
    sort text,
    direction text,
    in_events boolean,
    few boolean)
RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
AS $$
BEGIN
    RETURN format(
        CASE
            WHEN few THEN
                'SELECT r.id, r.sorted_by
                   FROM (SELECT r.id, %4$s AS sorted_by
                           FROM %1$s
                           JOIN occurrences AS o ON o.id = r.occurrence_id
                           JOIN events AS e ON e.id = r.event_id
                          WHERE %2$s
                         OFFSET 0) AS r'
            WHEN sort = 'createdAt' AND in_events THEN
                'SELECT r.id, r.created_at AS sorted_by
                   FROM unnest($3) AS e (id)
                  CROSS JOIN LATERAL (
                        SELECT r.id, r.created_at
                          FROM %1$s
                         WHERE %2$s AND r.event_id = e.id
                         ORDER BY r.created_at %3$s, r.id %3$s
                         LIMIT $9 + $10) AS r'
            WHEN sort = 'eventName' THEN
                'SELECT r.id, e.name AS sorted_by
                   FROM events AS e
                  CROSS JOIN unnest($11) AS s (status)
                  CROSS JOIN LATERAL (
                        SELECT r.id
                          FROM %1$s
                         WHERE %2$s AND r.event_id = e.id AND r.status = s.status
                         ORDER BY r.id %3$s
                         LIMIT $9 + $10) AS r
                  WHERE ($2 IS NULL OR e.id = $2)
                    AND ($3 IS NULL OR e.id = ANY ($3))
                    AND ($4 IS NULL OR e.organization_id = $4)'
            WHEN sort = 'startDate' THEN
                'SELECT r.id, o.start_date AS sorted_by
                   FROM occurrences AS o
                   JOIN events AS e ON e.id = o.event_id
                  CROSS JOIN unnest($11) AS s (status)
                  CROSS JOIN LATERAL (
                        SELECT r.id
                          FROM %1$s
                         WHERE %2$s AND r.occurrence_id = o.id AND r.status = s.status
                         ORDER BY r.id %3$s
                         LIMIT $9 + $10) AS r
                  WHERE ($1 IS NULL OR o.id = $1)
                    AND ($2 IS NULL OR e.id = $2)
                    AND ($3 IS NULL OR e.id = ANY ($3))
                    AND ($4 IS NULL OR e.organization_id = $4)'
            ELSE
                'SELECT r.id, %4$s AS sorted_by FROM %1$s WHERE %2$s'
        END || ' ORDER BY sorted_by %3$s, r.id %3$s LIMIT $9 + $10',
        source,
        condition,
        direction,
        CASE sort
            WHEN 'createdAt' THEN 'r.created_at'
            WHEN 'updatedAt' THEN 'r.updated_at'
            WHEN 'status' THEN 'r.status'
            WHEN 'startDate' THEN 'o.start_date'
            WHEN 'eventName' THEN 'e.name'
            WHEN 'firstName' THEN 'r.first_name'
            WHEN 'lastName' THEN 'r.last_name'
            WHEN 'email' THEN 'r.email'
        END);
END
$$;

COMMENT ON FUNCTION events_list_statement IS
    'The statement that finds the first of a list.';

-- Searches event registrations, each search in three steps: how many there are, which of
-- them are on the page, and only for those all that is shown. The function is STABLE, so
-- that the three see the same rows. The statements are put together from the texts here;
-- what a client gave is only ever a parameter, and one that is null drops out of the
-- plan with its condition.
--
-- Outcomes: found (the last page), more (another follows); detail: how many there are,
-- null for more than 10,000.
CREATE OR REPLACE FUNCTION events_search(
    limits integer[],
    pages integer[],
    sorts text[],
    descending boolean[],
    event_ids uuid[],
    occurrence_ids uuid[],
    statuses text[],
    searches text[],
    categories text[],
    with_trashed boolean[],
    organization_ids uuid[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql STABLE
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET jit = off
AS $$
DECLARE
    most_counted constant integer := 10000;
    every_status constant text[] := ARRAY[
        'ATTENDED', 'CANCELLED', 'CONFIRMED', 'PENDING', 'WAITING_LIST'];
    pattern text;
    users uuid[];               -- whom the text is found in; null: too many
    events uuid[];              -- in what events it is found; null: too many
    in_events uuid[];           -- the events in question; null: all
    in_event uuid;
    in_occurrence uuid;
    in_organization uuid;
    source text;
    condition text;
    live text;                  -- the condition, of what is not deleted, and
    trashed text;               -- of what is, when that is asked for too
    sort text;
    direction text;
    total integer;
    skipped bigint;
    few boolean;
    found uuid[];
BEGIN
    FOR n IN 1 .. cardinality(limits) LOOP
        item := n;
        in_organization := organization_ids[n];
        in_occurrence := occurrence_ids[n];
        in_events := events_allowed(event_ids[n], in_occurrence,
                                    string_to_array(categories[n], ' ')::uuid[],
                                    in_organization);
        pattern := NULL;
        source := 'event_registrations AS r';
        condition := '($1 IS NULL OR r.occurrence_id = $1)'
                     ' AND ($2 IS NULL OR r.event_id = $2)'
                     ' AND ($3 IS NULL OR r.event_id = ANY ($3))'
                     ' AND ($4 IS NULL OR r.organization_id = $4)'
                     ' AND ($5 IS NULL OR r.status = $5)';

        IF searches[n] <> '' AND in_events IS DISTINCT FROM '{}' THEN
            pattern := '%' || regexp_replace(events_searchable(searches[n]),
                                             '([%_\\])', '\\\1', 'g') || '%';
            users := events_matching('event_users', pattern, in_organization);
            events := events_matching('events', pattern, in_organization);
            IF users = '{}' AND events IS NOT NULL THEN
                in_events := CASE
                    WHEN in_events IS NULL THEN events
                    ELSE ARRAY(SELECT unnest(in_events) INTERSECT SELECT unnest(events))
                END;
            ELSE
                IF users IS NULL THEN
                    source := source || ' JOIN event_users AS u ON u.id = r.user_id';
                END IF;
                IF events IS NULL THEN
                    source := source || ' JOIN events AS t ON t.id = r.event_id';
                END IF;
                condition := format('%s AND (%s)', condition, concat_ws(' OR ',
                    CASE WHEN users IS NULL THEN 'u.search_text LIKE $6'
                         WHEN users <> '{}' THEN 'r.user_id = ANY ($7)' END,
                    CASE WHEN events IS NULL THEN 't.search_text LIKE $6'
                         WHEN events <> '{}' THEN 'r.event_id = ANY ($8)' END));
            END IF;
        END IF;

        -- Only the narrowest of these is asked for: an occurrence is of one event, and
        -- an event of one organization. Any more would mislead the planner.
        in_event := NULL;
        IF in_events = '{}' THEN
            condition := 'false';
        ELSIF in_occurrence IS NOT NULL THEN
            in_events := NULL;
        ELSIF cardinality(in_events) = 1 THEN
            in_event := in_events[1];
            in_events := NULL;
        END IF;
        IF in_occurrence IS NOT NULL OR in_event IS NOT NULL OR in_events IS NOT NULL THEN
            in_organization := NULL;
        END IF;

        live := condition || ' AND r.deleted_at IS NULL';
        trashed := CASE WHEN with_trashed[n]
                        THEN condition || ' AND r.deleted_at IS NOT NULL' END;

        EXECUTE format('SELECT count(*) FROM (%s LIMIT %s) AS counted',
                       concat_ws(' UNION ALL ',
                                 'SELECT FROM ' || source || ' WHERE ' || live,
                                 'SELECT FROM ' || source || ' WHERE ' || trashed),
                       most_counted + 1)
           INTO total
          USING in_occurrence, in_event, in_events, in_organization, statuses[n],
                pattern, users, events;

        -- In one occurrence all have the same event and start.
        sort := CASE WHEN in_occurrence IS NOT NULL AND sorts[n] = 'eventName'
                     THEN 'startDate' ELSE sorts[n] END;
        -- By time, every list but one by text has its index.
        few := total <= most_counted AND (sort <> 'createdAt' OR pattern IS NOT NULL);
        direction := CASE WHEN descending[n] THEN 'DESC' ELSE 'ASC' END;

        found := '{}';
        skipped := (pages[n] - 1)::bigint * limits[n];
        IF total > skipped OR total > most_counted THEN
            EXECUTE format('SELECT ARRAY(SELECT p.id FROM (%s) AS p'
                           ' ORDER BY p.sorted_by %s, p.id %2$s LIMIT $9 OFFSET $10)',
                           concat_ws(' UNION ALL ',
                               '(' || events_list_statement(
                                   source, live, sort, direction,
                                   in_events IS NOT NULL, few) || ')',
                               '(' || events_list_statement(
                                   source, trashed, sort, direction,
                                   in_events IS NOT NULL, few) || ')'),
                           direction)
               INTO found
              USING in_occurrence, in_event, in_events, in_organization, statuses[n],
                    pattern, users, events, limits[n] + 1, skipped, every_status;
        END IF;

        outcome := CASE WHEN cardinality(found) > limits[n] THEN 'more' ELSE 'found' END;
        detail := CASE WHEN total <= most_counted THEN total END;
        SELECT '[' || coalesce(string_agg(a.body, ',' ORDER BY p.place), '') || ']'
          INTO body
          FROM unnest(found[:limits[n]]) WITH ORDINALITY AS p (id, place)
          JOIN event_registration_answers AS a ON a.id = p.id;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION events_search IS
    'GET /api/v1/event-registrations, one array element a request.';

GRANT EXECUTE ON FUNCTION events_search TO registration;
