-- SPDX-License-Identifier: Apache-2.0

-- The rows of event_users or events that match a pattern; null: more than a thousand. EXECUTE plans
-- the statement for this pattern: with the index for a rare pattern, with a sequential scan up to
-- the limit for a common one.
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
    'The ids of the users or events that match a pattern; null: more than a thousand.';

-- EXECUTE plans the statement for these filters: conditions whose filter is null are removed.
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
    'The events that all given filters allow; null: no filter limits the events.';

-- A column of the registrations (r), of their occurrences (o) or of their events (e).
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

COMMENT ON FUNCTION events_sort_column IS 'The column that a list is sorted by.';

-- A list, or the rest of a list after a registration (the keyset cursor), as index ranges: for
-- each, a condition on the row that has the sort column, and one on the registration. $12 or $14
-- is the sort value of the registration, $15 its time of creation, $13 its id. Nulls sort last
-- ascending and first descending.
CREATE OR REPLACE FUNCTION events_list_ranges(
    sort_column text,           -- null: all sort values are equal
    value text,                 -- the parameter with the sort value; null: that is null
    descending boolean,
    is_rest boolean)
RETURNS TABLE (owner_condition text, condition text, is_of_nulls boolean)
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    beyond constant text := CASE WHEN descending THEN '<' ELSE '>' END;
    tie constant text := CASE WHEN is_rest
                              THEN format('(r.created_at, r.id) %s ($15, $13)', beyond)
                              ELSE 'true' END;
    is_nullable constant boolean :=
        sort_column ~ '[.](start_date|first_name|last_name|email)$';
    is_of_registration constant boolean := sort_column ~ '^r[.]';
    one text[];
    ranges text[] := ARRAY[]::text[];       -- conditions on the sort column and on the tie
BEGIN
    IF sort_column IS NULL THEN
        ranges := ARRAY[ARRAY['true', tie]];
    ELSIF NOT is_rest AND sort_column !~ '^w[.]' THEN
        ranges := ARRAY[ARRAY['true', 'true']];
    ELSE
        IF value IS NOT NULL THEN
            ranges := CASE
                WHEN is_of_registration THEN ARRAY[
                    ARRAY[format('(%s, r.created_at, r.id) %s (%s, $15, $13)', sort_column,
                                 beyond, value), 'true']]
                ELSE ARRAY[
                    ARRAY[format('%s = %s', sort_column, value), tie],
                    ARRAY[format('%s %s %s', sort_column, beyond, value), 'true']]
            END;
        ELSIF NOT is_rest OR descending THEN
            ranges := ARRAY[ARRAY[sort_column || ' IS NOT NULL', 'true']];
        END IF;
        IF is_nullable AND (value IS NULL OR NOT descending) THEN
            ranges := ranges || ARRAY[ARRAY[
                sort_column || ' IS NULL', CASE WHEN value IS NULL THEN tie ELSE 'true' END]];
        END IF;
    END IF;
    FOREACH one SLICE 1 IN ARRAY ranges LOOP
        owner_condition := CASE WHEN is_of_registration THEN 'true' ELSE one[1] END;
        condition := CASE WHEN is_of_registration THEN concat_ws(' AND ', VARIADIC one)
                          ELSE one[2] END;
        is_of_nulls := one[1] ~ ' IS NULL$';
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION events_list_ranges IS
    'The index ranges that a list, or the rest of one, consists of.';

-- The statement that finds the first $9 + $10 registrations of a list: their ids, times of creation
-- and sort values. Plans:
-- * few: they are fetched and sorted. OFFSET 0 prevents the planner from using the index of the
--   sort order, in which the few rows may be far apart; it removes a LEFT JOIN that the sort order
--   does not need.
-- * events: the indexes by time of several events are merged.
-- * places: the occurrences or events are read in the sort order, and for each its registrations
--   by status and time.
-- * names: likewise; the events, and for each its registrations of any status by time.
-- * users: likewise; the users, and for each its registrations. With IS TRUE, only the index of the
--   user serves this: without statistics, that of an organization, an event or a status would look
--   as good, and be read for each user from end to end.
-- * index: an index is read in the sort order, up to the limit; each row that a deep page skips
--   costs an index entry, and no join.
CREATE OR REPLACE FUNCTION events_list_statement(
    plan text,
    source text,
    scope text,                 -- condition: organization, events, occurrence
    condition text,             -- on the registrations
    range text,                 -- likewise; of an index
    owner_condition text,       -- on their occurrences, events or users
    sort_column text,
    direction text)
RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
AS $$
BEGIN
    RETURN format(
        CASE plan
            WHEN 'few' THEN
                'SELECT r.id, r.created_at, r.sorted_by
                   FROM (SELECT r.id, r.created_at, %5$s AS sorted_by
                           FROM %1$s
                           LEFT JOIN occurrences AS o ON o.id = r.occurrence_id
                           LEFT JOIN events AS e ON e.id = r.event_id
                          WHERE %2$s AND %3$s AND %7$s AND %6$s
                         OFFSET 0) AS r'
            WHEN 'events' THEN
                'SELECT r.id, r.created_at, %5$s AS sorted_by
                   FROM unnest($3) AS e (id)
                  CROSS JOIN LATERAL (
                        SELECT r.id, r.created_at
                          FROM %1$s
                         WHERE %3$s AND %7$s AND r.event_id = e.id
                         ORDER BY r.created_at %4$s, r.id %4$s
                         LIMIT $9 + $10) AS r'
            WHEN 'places' THEN
                'SELECT r.id, r.created_at, %5$s AS sorted_by
                   FROM occurrences AS o
                   JOIN events AS e ON e.id = o.event_id
                  CROSS JOIN unnest($11) AS s (status)
                  CROSS JOIN LATERAL (
                        SELECT r.id, r.created_at
                          FROM %1$s
                         WHERE %3$s AND %7$s AND r.occurrence_id = o.id AND r.status = s.status
                         ORDER BY r.created_at %4$s, r.id %4$s
                         LIMIT $9 + $10) AS r
                  WHERE %6$s
                    AND ($1 IS NULL OR o.id = $1)
                    AND ($2 IS NULL OR e.id = $2)
                    AND ($3 IS NULL OR e.id = ANY ($3))
                    AND ($4 IS NULL OR e.organization_id = $4)'
            WHEN 'names' THEN
                'SELECT r.id, r.created_at, %5$s AS sorted_by
                   FROM events AS e
                  CROSS JOIN LATERAL (
                        SELECT r.id, r.created_at
                          FROM %1$s
                         WHERE %3$s AND %7$s AND r.event_id = e.id
                         ORDER BY r.created_at %4$s, r.id %4$s
                         LIMIT $9 + $10) AS r
                  WHERE %6$s
                    AND ($2 IS NULL OR e.id = $2)
                    AND ($3 IS NULL OR e.id = ANY ($3))
                    AND ($4 IS NULL OR e.organization_id = $4)'
            WHEN 'users' THEN
                'SELECT r.id, r.created_at, %5$s AS sorted_by
                   FROM event_users AS w
                  CROSS JOIN LATERAL (
                        SELECT r.id, r.created_at
                          FROM %1$s
                         WHERE r.user_id = w.id AND %7$s AND (%2$s AND %3$s) IS TRUE
                         ORDER BY r.created_at %4$s, r.id %4$s
                         LIMIT $9 + $10) AS r
                  WHERE %6$s AND ($4 IS NULL OR w.organization_id = $4)'
            ELSE
                'SELECT r.id, r.created_at, %5$s AS sorted_by
                   FROM %1$s
                  WHERE %2$s AND %3$s AND %7$s AND %6$s'
        END || ' ORDER BY sorted_by %4$s, r.created_at %4$s, r.id %4$s LIMIT $9 + $10',
        source,
        scope,
        condition,
        direction,
        sort_column,
        owner_condition,
        range);
END
$$;

-- With its parameters, as version 2 had a function of this name with others.
COMMENT ON FUNCTION events_list_statement(
    text, text, text, text, text, text, text, text) IS
    'The statement that finds the first registrations of a list.';

-- Searches event registrations. Each search has three steps: count the matches, find the ids on the
-- page, make the bodies of these. The function is STABLE, so that all statements have the same
-- snapshot. The statements are assembled from the texts here; a value from a client is always a
-- parameter, and the planner removes a condition whose parameter is null. Rows must be found by an
-- index: with sequential scans, merge joins or the default random_page_cost, the planner would read
-- a table in another order until it has enough matches, however late these come.
--
-- The cost of a page does not grow with the table, except in these cases, which would need another
-- index that each registration pays for:
-- * A text that matches more than a thousand users, few of whom the other filters allow: reads all
--   registrations that these filters allow.
-- * Sorted by update, name or address, in a small part of a large table: reads the order of the
--   whole table up to the limit. A category of more than two hundred events reads the order by time
--   of the organization, or of all.
-- * Sorted by a name that very many users have: reads all registrations of these users.
-- * Sorted by start or event's name: also reads occurrences or events of other organizations or
--   without registrations.
-- * With deleted registrations, sorted by anything but time: sorts all deleted registrations.
--
-- A page after a cursor costs the same at each position. Sorted by the time of creation, which does
-- not change, a list contains each registration that exists during the whole listing exactly once.
--
-- A page, and a part of a whole list, ends at 4 MiB, but has at least one registration.
--
-- Outcomes: found (the last page), more (another page follows), invalid (the registration of the
-- cursor does not exist); detail: the number of matches, null for more than 10,000; body: an array,
-- each element on its own line; row_count: the number of elements.
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
SET max_parallel_workers_per_gather = 0
SET enable_seqscan = off
SET enable_mergejoin = off
SET random_page_cost = 2
AS $$
DECLARE
    most_counted constant integer := 10000;
    most_merged constant integer := 200;
    most_nulls constant integer := 1000;
    most_bytes constant integer := 4194304;
    scope constant text :=
        '($1 IS NULL OR r.occurrence_id = $1) AND ($2 IS NULL OR r.event_id = $2)'
        ' AND ($3 IS NULL OR r.event_id = ANY ($3))'
        ' AND ($4 IS NULL OR r.organization_id = $4)';
    every_status constant text[] := ARRAY[
        'ATTENDED', 'CANCELLED', 'CONFIRMED', 'PENDING', 'WAITING_LIST'];
    pattern text;
    users uuid[];               -- that match the text; null: too many
    events uuid[];              -- that match the text; null: too many
    in_events uuid[];           -- that the filters allow; null: all
    in_event uuid;
    in_occurrence uuid;
    in_organization uuid;
    source text;
    condition text;
    parts text[];               -- conditions of the index ranges that are merged
    status_list text[];         -- that the filters allow
    sort text;
    direction text;
    total integer;
    by_event boolean;
    few boolean;
    plan text;                  -- see events_list_statement()
    sort_column text;
    null_users boolean;         -- whether more than most_nulls users have no sort value
    skipped bigint;
    after_text text;
    after_created timestamptz;
    listed uuid[];              -- of the page, and one more if there is one
    -- The bodies are made one by one until the page is full: without ORDER BY, for which all
    -- would be made first. The rows are in the order of the ids.
    page CURSOR (ids uuid[]) FOR
        SELECT a.body AS text
          FROM unnest(ids) AS p (id)
         CROSS JOIN LATERAL (SELECT a.body FROM event_registration_answer(p.id) AS a
                             OFFSET 0) AS a;
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

        -- Only the narrowest of these conditions is used: the planner would take the others,
        -- which it implies, for independent and underestimate the number of rows.
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
        -- The count chooses the plan, so each part of a whole list counts again; it ends at
        -- most_counted.
        EXECUTE format('SELECT count(*) FROM (%s LIMIT %s) AS counted',
                       (SELECT string_agg(format('SELECT FROM %s WHERE %s AND %s',
                                                 source, scope, part), ' UNION ALL ')
                          FROM unnest(parts) AS part),
                       most_counted + 1)
           INTO total
          USING in_occurrence, in_event, in_events, in_organization, statuses[n],
                pattern, users, events;

        -- The registrations of one occurrence have the same event and start.
        sort := CASE WHEN in_occurrence IS NOT NULL AND sorts[n] = 'eventName'
                     THEN 'startDate' ELSE sorts[n] END;
        direction := CASE WHEN descending[n] THEN 'DESC' ELSE 'ASC' END;
        status_list := CASE WHEN statuses[n] IS NULL THEN every_status
                            ELSE ARRAY[statuses[n]] END;
        -- By time, most lists have an index of their own, which short lists use, too.
        few := total <= most_counted
               AND (sort <> 'createdAt' OR pattern IS NOT NULL
                    OR coalesce(in_event, in_events[1]) IS NOT NULL
                       AND statuses[n] IS NOT NULL);
        -- Registrations in very many events are frequent enough in the organization's index.
        by_event := in_events IS NOT NULL AND (total <= most_counted
                                               OR cardinality(in_events) <= most_merged);
        IF in_events IS NOT NULL AND NOT by_event THEN
            in_organization := organization_ids[n];
        END IF;
        -- The indexes by time of organizations and occurrences have the status before the time.
        IF sort = 'createdAt' AND NOT few AND statuses[n] IS NULL
           AND coalesce(in_organization, in_occurrence) IS NOT NULL THEN
            parts := ARRAY(SELECT format('%s AND r.status = %L', part, status)
                             FROM unnest(parts) AS part
                            CROSS JOIN unnest(every_status) AS status);
        END IF;

        sort_column := events_sort_column(sort);
        plan := CASE
            WHEN few THEN 'few'
            WHEN sort = 'createdAt' AND by_event THEN 'events'
            WHEN sort IN ('startDate', 'eventName') OR sort = 'status' AND in_event IS NOT NULL
            THEN 'places'
            WHEN sort IN ('firstName', 'lastName', 'email') THEN 'users'
            ELSE 'index'
        END;
        IF plan = 'users' THEN
            sort_column := replace(sort_column, 'r.', 'w.');
            EXECUTE format('SELECT count(*) > %s FROM (SELECT FROM event_users AS w'
                           ' WHERE %s IS NULL LIMIT %1$s + 1) AS w', most_nulls, sort_column)
               INTO null_users;
        ELSIF plan = 'places' AND sort = 'status' THEN
            sort_column := 's.status';
        END IF;

        -- A cursor in a URL must not contain a name or an address, which logs would show.
        after_text := after_texts[n];
        after_created := after_times[n];
        IF after_ids[n] IS NOT NULL AND sort <> 'createdAt' THEN
            SELECT r.created_at,
                   CASE sort WHEN 'firstName' THEN r.first_name
                             WHEN 'lastName' THEN r.last_name
                             WHEN 'email' THEN r.email
                             ELSE after_text END
              INTO after_created, after_text
              FROM event_registrations AS r
             WHERE r.id = after_ids[n]
               AND (organization_ids[n] IS NULL OR r.organization_id = organization_ids[n]);
            IF NOT FOUND AND sort IN ('status', 'updatedAt', 'startDate', 'eventName') THEN
                after_created := event_created_at(after_ids[n]);    -- it was purged
                after_text := after_texts[n];
            ELSIF NOT FOUND THEN
                outcome := 'invalid';
                RETURN NEXT;
                CONTINUE;
            END IF;
        END IF;

        listed := '{}';
        skipped := CASE WHEN after_ids[n] IS NULL
                        THEN (pages[n] - 1)::bigint * limits[n] ELSE 0 END;
        IF total > skipped OR total > most_counted THEN
            EXECUTE format('SELECT ARRAY(SELECT p.id FROM (%s) AS p'
                           ' ORDER BY p.sorted_by %s, p.created_at %2$s, p.id %2$s'
                           ' LIMIT $9 OFFSET $10)',
                           (SELECT string_agg('(' || CASE
                                       -- The few users without a value may be far apart, so the
                                       -- registrations are read by time only if there are many.
                                       -- Few users have deleted registrations: these are sorted.
                                       WHEN plan = 'users' AND (b.is_of_nulls AND null_users
                                                                OR part ~ ' IS NOT NULL$')
                                       THEN events_list_statement(
                                           'index', source, scope, part, b.condition,
                                           replace(b.owner_condition, 'w.', 'r.'),
                                           CASE WHEN b.is_of_nulls THEN 'NULL::text'
                                                ELSE events_sort_column(sort) END,
                                           direction)
                                       WHEN plan = 'places' AND sort = 'eventName'
                                            AND statuses[n] IS NULL AND part ~ ' IS NULL$'
                                       THEN events_list_statement(
                                           'names', source, scope, part, b.condition,
                                           b.owner_condition, sort_column, direction)
                                       ELSE events_list_statement(
                                           plan, source, scope, part, b.condition,
                                           b.owner_condition, sort_column, direction)
                                   END || ')', ' UNION ALL ')
                              FROM unnest(parts) AS part
                             CROSS JOIN events_list_ranges(
                                       -- The registrations of one occurrence have the same start.
                                       CASE WHEN sort <> 'createdAt'
                                                 AND (in_occurrence IS NULL OR sort <> 'startDate')
                                            THEN sort_column END,
                                       CASE WHEN after_times[n] IS NOT NULL THEN '$12'
                                            WHEN after_text IS NOT NULL THEN '$14' END,
                                       descending[n], after_ids[n] IS NOT NULL) AS b),
                           direction)
               INTO listed
              USING in_occurrence, in_event, in_events, in_organization, statuses[n],
                    pattern, users, events, limits[n] + 1, skipped, status_list,
                    after_times[n], after_ids[n], after_text, after_created;
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
    'The lists of events_search().';

-- Searches, and adds an entry to the audit for each list: the filter, the caller and the number of
-- rows. Each part of a whole list has its own entry, added before the client gets the part. So all
-- rows that a client got have an entry, even if it disconnected; it may not have got the last part.
--
-- The commit waits for the local disk but not for synchronous replication: lists can be read while
-- the standby is down.
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
    after_times timestamptz[],  -- the cursor: the sort value if it is a time,
    after_ids uuid[],           -- the id (null: the beginning of the list),
    after_texts text[] DEFAULT NULL,    -- the sort value if it is a text but no personal data
    whole boolean[] DEFAULT NULL,       -- whether it is a part of a whole list
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
    'GET /api/v1/event-registrations; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION events_search TO registration;
