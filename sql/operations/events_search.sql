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
SET enable_seqscan = on
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

-- What a list is sorted by: a column of the registrations (r), of their occurrences (o) or
-- of their events (e).
CREATE OR REPLACE FUNCTION events_sort_column(sort text)
RETURNS text
LANGUAGE sql IMMUTABLE STRICT
RETURN CASE sort
    WHEN 'createdAt' THEN 'r.created_at'
    WHEN 'updatedAt' THEN 'r.updated_at'
    WHEN 'status' THEN 'r.status'
    WHEN 'startDate' THEN 'o.start_date'
    WHEN 'eventName' THEN 'e.name'
    WHEN 'firstName' THEN 'r.first_name'
    WHEN 'lastName' THEN 'r.last_name'
    WHEN 'email' THEN 'r.email'
END;

COMMENT ON FUNCTION events_sort_column IS 'What a list is sorted by.';

-- What comes behind a registration in a list, as stretches that are each read off an index
-- from its beginning: a condition on the occurrence or the event, and one on the
-- registration. $12 or $14 is what the registration was sorted by, $13 its id. Nulls come
-- last upwards and first downwards.
CREATE OR REPLACE FUNCTION events_list_behind(
    sort text,                  -- null: all are equal, and only the id counts
    descending boolean,
    is_null boolean)            -- what the registration was sorted by
RETURNS TABLE (place_condition text, condition text)
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    s constant text := events_sort_column(sort);
    value constant text := CASE WHEN sort IN ('createdAt', 'updatedAt', 'startDate')
                                THEN '$12' ELSE '$14' END;
    beyond constant text := CASE WHEN descending THEN '<' ELSE '>' END;
    of_place constant boolean := sort IN ('startDate', 'eventName');
    stretches text[] := ARRAY[]::text[];    -- on s; on the id
BEGIN
    IF sort IS NULL THEN
        stretches := ARRAY[ARRAY['true', format('r.id %s $13', beyond)]];
    ELSIF is_null THEN
        stretches := ARRAY[ARRAY[s || ' IS NULL', format('r.id %s $13', beyond)]];
        IF descending THEN
            stretches := stretches || ARRAY[ARRAY[s || ' IS NOT NULL', 'true']];
        END IF;
    ELSE
        stretches := CASE
            WHEN of_place THEN ARRAY[
                ARRAY[format('%s = %s', s, value), format('r.id %s $13', beyond)],
                ARRAY[format('%s %s %s', s, beyond, value), 'true']]
            ELSE ARRAY[
                ARRAY[format('(%s, r.id) %s (%s, $13)', s, beyond, value), 'true']]
        END;
        IF NOT descending AND sort IN ('startDate', 'firstName', 'lastName', 'email') THEN
            stretches := stretches || ARRAY[ARRAY[s || ' IS NULL', 'true']];
        END IF;
    END IF;
    FOR n IN 1 .. array_length(stretches, 1) LOOP
        place_condition := CASE WHEN of_place THEN stretches[n][1] ELSE 'true' END;
        condition := concat_ws(' AND ', CASE WHEN NOT of_place THEN stretches[n][1] END,
                               stretches[n][2]);
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION events_list_behind IS
    'The conditions under which registrations come behind one in a list.';

-- The statement that finds the first $9 + $10 of a list: their ids, and what they are
-- sorted by. A list of few is fetched and sorted (OFFSET 0 keeps the planner from the
-- index of the order, where these few may be far apart; a LEFT JOIN that the order does
-- not need, it leaves out). A list of many is read off an index in the order asked for,
-- until there are enough; what a deep page skips costs an index entry each and is joined
-- to nothing. Where no single index gives the order, several stretches of one are read
-- and merged: by time in several events; and by the event's name or the start, where the
-- events or the occurrences are gone through in that order, and in each its registrations
-- by status and id.
CREATE OR REPLACE FUNCTION events_list_statement(
    source text,
    scope text,                 -- whose registrations, and
    condition text,             -- which of them
    place_condition text,       -- and those of which occurrences or events
    sort text,
    direction text,
    by_event boolean,
    few boolean)
RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
AS $$
BEGIN
    RETURN format(
        CASE
            WHEN few THEN
                'SELECT r.id, r.sorted_by
                   FROM (SELECT r.id, %5$s AS sorted_by
                           FROM %1$s
                           LEFT JOIN occurrences AS o ON o.id = r.occurrence_id
                           LEFT JOIN events AS e ON e.id = r.event_id
                          WHERE %2$s AND %3$s AND %6$s
                         OFFSET 0) AS r'
            WHEN sort = 'createdAt' AND by_event THEN
                'SELECT r.id, r.created_at AS sorted_by
                   FROM unnest($3) AS e (id)
                  CROSS JOIN LATERAL (
                        SELECT r.id, r.created_at
                          FROM %1$s
                         WHERE %3$s AND r.event_id = e.id
                         ORDER BY r.created_at %4$s, r.id %4$s
                         LIMIT $9 + $10) AS r'
            WHEN sort = 'eventName' THEN
                'SELECT r.id, e.name AS sorted_by
                   FROM events AS e
                  CROSS JOIN unnest($11) AS s (status)
                  CROSS JOIN LATERAL (
                        SELECT r.id
                          FROM %1$s
                         WHERE %3$s AND r.event_id = e.id AND r.status = s.status
                         ORDER BY r.id %4$s
                         LIMIT $9 + $10) AS r
                  WHERE %6$s
                    AND ($2 IS NULL OR e.id = $2)
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
                         WHERE %3$s AND r.occurrence_id = o.id AND r.status = s.status
                         ORDER BY r.id %4$s
                         LIMIT $9 + $10) AS r
                  WHERE %6$s
                    AND ($1 IS NULL OR o.id = $1)
                    AND ($2 IS NULL OR e.id = $2)
                    AND ($3 IS NULL OR e.id = ANY ($3))
                    AND ($4 IS NULL OR e.organization_id = $4)'
            ELSE
                'SELECT r.id, %5$s AS sorted_by FROM %1$s WHERE %2$s AND %3$s'
        END || ' ORDER BY sorted_by %4$s, r.id %4$s LIMIT $9 + $10',
        source,
        scope,
        condition,
        direction,
        events_sort_column(sort),
        place_condition);
END
$$;

COMMENT ON FUNCTION events_list_statement IS
    'The statement that finds the first of a list.';

-- Searches event registrations, each search in three steps: how many there are, which of
-- them are on the page, and only for those all that is shown. The function is STABLE, so
-- that the three see the same rows. The statements are put together from the texts here;
-- what a client gave is only ever a parameter, and one that is null drops out of the
-- plan with its condition. What a filter leaves is found by an index: sequential scans,
-- merge joins and the price of a page out of turn would have the planner read a table in
-- its own order until there are enough, however late these come.
--
-- A larger table does not make a page dearer, except in these cases, each of which would
-- take another index that every registration pays for:
-- * A text found in over a thousand users, few of whom are left by the other filters: all
--   registrations that these leave are gone through.
-- * By update, name or address in a small part of a large table: the order of the whole
--   table is gone through until there are enough; so is an organization's order by time,
--   or that of all, for a category of over two hundred events.
-- * By start or event's name: occurrences or events that come first are gone through also
--   when they are another organization's or have no registrations.
-- * With the deleted ones, by anything but time: all deleted ones are sorted.
--
-- A list is read on behind a registration at the same cost wherever that is. Sorted by a value
-- that does not change, the time of creation, each registration that is there from the first
-- search to the last is met just once.
--
-- A page ends at 4 MiB, behind its first registration at the earliest; so does a part of a
-- whole list.
--
-- Outcomes: found (the last page), more (another follows), invalid (the registration before
-- the first is not there); detail: how many there are, null for more than 10,000; body: an
-- array, each item on a line of its own; row_count: how many are in it.
CREATE OR REPLACE FUNCTION events_find(
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
    organization_ids uuid[],
    after_times timestamptz[],
    after_ids uuid[],
    after_texts text[])
RETURNS TABLE (item integer, outcome text, detail text, body text, row_count integer)
LANGUAGE plpgsql STABLE
SET search_path = registration, pg_catalog, pg_temp
SET jit = off
SET max_parallel_workers_per_gather = 0
SET enable_seqscan = off
SET enable_mergejoin = off
SET random_page_cost = 2
AS $$
DECLARE
    most_counted constant integer := 10000;
    most_merged constant integer := 200;
    most_bytes constant integer := 4194304;
    scope constant text :=
        '($1 IS NULL OR r.occurrence_id = $1) AND ($2 IS NULL OR r.event_id = $2)'
        ' AND ($3 IS NULL OR r.event_id = ANY ($3))'
        ' AND ($4 IS NULL OR r.organization_id = $4)';
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
    parts text[];               -- conditions, for each part that is read by itself
    status_list text[];         -- the statuses in question
    sort text;
    direction text;
    total integer;
    by_event boolean;
    few boolean;
    skipped bigint;
    behind text[];              -- see events_list_behind()
    after_text text;
    listed uuid[];              -- the page's, and one more if there is one
    -- Bodies are made one by one, as long as there is room: no ORDER BY, which would make
    -- all of them first. Rows come in the order of the ids.
    page CURSOR (ids uuid[]) FOR
        SELECT a.body AS text
          FROM unnest(ids) AS p (id)
         CROSS JOIN LATERAL (SELECT a.body FROM event_registration_answers AS a
                              WHERE a.id = p.id OFFSET 0) AS a;
    one record;
    shown text[];
    bytes bigint;
BEGIN
    FOR n IN 1 .. cardinality(limits) LOOP
        item := n;
        detail := NULL;
        body := NULL;
        row_count := NULL;
        in_organization := organization_ids[n];
        in_occurrence := occurrence_ids[n];
        in_events := events_allowed(event_ids[n], in_occurrence,
                                    string_to_array(categories[n], ' ')::uuid[],
                                    in_organization);
        pattern := NULL;
        source := 'event_registrations AS r';
        condition := '($5 IS NULL OR r.status = $5)';

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

        parts := ARRAY[condition || ' AND r.deleted_at IS NULL'];
        IF with_trashed[n] THEN
            parts := parts || (condition || ' AND r.deleted_at IS NOT NULL');
        END IF;
        EXECUTE format('SELECT count(*) FROM (%s LIMIT %s) AS counted',
                       (SELECT string_agg(format('SELECT FROM %s WHERE %s AND %s',
                                                 source, scope, part), ' UNION ALL ')
                          FROM unnest(parts) AS part),
                       most_counted + 1)
           INTO total
          USING in_occurrence, in_event, in_events, in_organization, statuses[n],
                pattern, users, events;

        -- In one occurrence all have the same event and start.
        sort := CASE WHEN in_occurrence IS NOT NULL AND sorts[n] = 'eventName'
                     THEN 'startDate' ELSE sorts[n] END;
        direction := CASE WHEN descending[n] THEN 'DESC' ELSE 'ASC' END;
        status_list := CASE WHEN statuses[n] IS NULL THEN every_status
                            ELSE ARRAY[statuses[n]] END;
        -- By time, most lists have their index, so that even a few are read off it.
        few := total <= most_counted
               AND (sort <> 'createdAt' OR pattern IS NOT NULL
                    OR coalesce(in_event, in_events[1]) IS NOT NULL
                       AND statuses[n] IS NOT NULL);
        -- Those in very many events are met soon enough among all of the organization.
        by_event := in_events IS NOT NULL AND (total <= most_counted
                                               OR cardinality(in_events) <= most_merged);
        IF in_events IS NOT NULL AND NOT by_event THEN
            in_organization := organization_ids[n];
        END IF;
        -- An organization's and an occurrence's index by time has each status by itself.
        IF sort = 'createdAt' AND NOT few AND statuses[n] IS NULL
           AND coalesce(in_organization, in_occurrence) IS NOT NULL THEN
            parts := ARRAY(SELECT format('%s AND r.status = %L', part, status)
                             FROM unnest(parts) AS part
                            CROSS JOIN unnest(every_status) AS status);
        END IF;

        -- What people are called is not in a client's hands: it would be in logs.
        after_text := after_texts[n];
        IF after_ids[n] IS NOT NULL AND sort IN ('firstName', 'lastName', 'email') THEN
            SELECT CASE sort WHEN 'firstName' THEN r.first_name
                             WHEN 'lastName' THEN r.last_name
                             ELSE r.email END
              INTO after_text
              FROM event_registrations AS r
             WHERE r.id = after_ids[n]
               AND (organization_ids[n] IS NULL OR r.organization_id = organization_ids[n]);
            IF NOT FOUND THEN
                outcome := 'invalid';
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;
        behind := ARRAY[ARRAY['true', 'true']];
        IF after_ids[n] IS NOT NULL THEN
            behind := ARRAY(
                SELECT ARRAY[b.place_condition, b.condition]
                  FROM events_list_behind(
                           CASE WHEN in_occurrence IS NULL OR sort <> 'startDate'
                                THEN sort END,
                           descending[n],
                           coalesce(after_times[n]::text, after_text) IS NULL) AS b);
        END IF;

        listed := '{}';
        skipped := CASE WHEN after_ids[n] IS NULL
                        THEN (pages[n] - 1)::bigint * limits[n] ELSE 0 END;
        IF total > skipped OR total > most_counted THEN
            EXECUTE format('SELECT ARRAY(SELECT p.id FROM (%s) AS p'
                           ' ORDER BY p.sorted_by %s, p.id %2$s LIMIT $9 OFFSET $10)',
                           (SELECT string_agg('(' || events_list_statement(
                                                 source, scope,
                                                 part || ' AND ' || behind[b][2],
                                                 behind[b][1], sort, direction,
                                                 by_event, few) || ')', ' UNION ALL ')
                              FROM unnest(parts) AS part
                             CROSS JOIN generate_subscripts(behind, 1) AS b),
                           direction)
               INTO listed
              USING in_occurrence, in_event, in_events, in_organization, statuses[n],
                    pattern, users, events, limits[n] + 1, skipped, status_list,
                    after_times[n], after_ids[n], after_text;
        END IF;

        shown := '{}';
        bytes := 0;
        FOR one IN page(listed[:limits[n]]) LOOP
            bytes := bytes + octet_length(one.text);
            EXIT WHEN bytes > most_bytes AND shown <> '{}';
            shown := shown || one.text;
        END LOOP;

        row_count := cardinality(shown);
        outcome := CASE WHEN cardinality(listed) > row_count THEN 'more' ELSE 'found' END;
        detail := CASE WHEN total <= most_counted THEN total END;
        body := '[' || array_to_string(shown, E',\n') || ']';
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION events_find IS
    'What events_search() lists. All its statements see the same rows, as it is STABLE.';

-- A search, and an entry in the audit for it: what was listed, by whom, and how much. A part
-- of a whole list has an entry of its own, made before the client gets the part. So what a
-- client has got has an entry, though it went away in the middle; the last part may not have
-- reached it.
--
-- The entry waits for this server's disk and for no standby: a list can be read while that
-- is away.
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
    organization_ids uuid[],
    after_times timestamptz[],  -- what the registration before the first is sorted by, if
    after_ids uuid[],           -- a time; its id; null for the beginning of the list
    after_texts text[] DEFAULT NULL,    -- what it is sorted by, if a text but a person's
    whole boolean[] DEFAULT NULL,       -- a part of a whole list
    callers text[] DEFAULT NULL,
    request_ids text[] DEFAULT NULL)
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    row_count integer;
BEGIN
    IF current_setting('synchronous_commit') <> 'off' THEN
        PERFORM set_config('synchronous_commit', 'local', true);
    END IF;
    FOR item, outcome, detail, body, row_count IN
        SELECT f.*
          FROM events_find(limits, pages, sorts, descending, event_ids, occurrence_ids,
                           statuses, searches, categories, with_trashed, organization_ids,
                           after_times, after_ids, after_texts) AS f
    LOOP
        IF row_count IS NOT NULL THEN
            INSERT INTO audit (action, kind, id, belongs_to, caller, request_id, row_count)
            VALUES (CASE WHEN whole[item] THEN 'exported' ELSE 'listed' END::audit_action,
                    'event_registration',
                    coalesce(occurrence_ids[item]::text, event_ids[item]::text, ''),
                    coalesce(organization_ids[item]::text, ''), callers[item],
                    request_ids[item], row_count);
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION events_search IS
    'GET /api/v1/event-registrations, one array element a request.';

GRANT EXECUTE ON FUNCTION events_search TO registration;
