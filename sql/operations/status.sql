-- SPDX-License-Identifier: Apache-2.0

-- Reads both tables completely: an index of the counts would slow down each registration. So the
-- module caches the result for two seconds.
CREATE OR REPLACE FUNCTION status(checks text[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH sessions AS (
        SELECT id, title, status, registered_count AS taken, max_participants AS places
          FROM live_sessions
         WHERE status IN ('scheduled', 'live') AND registered_count > 0
         ORDER BY registered_count DESC, id
         LIMIT 10),
    busiest AS (
        SELECT id, event_id, start_date, registrations AS taken, capacity AS places
          FROM occurrences
         WHERE registrations > 0 AND (end_date IS NULL OR end_date > now())
         ORDER BY registrations DESC, id
         LIMIT 10),
    occurrences AS (
        SELECT b.id, e.name AS title, iso_timestamp(b.start_date) AS start, b.taken, b.places
          FROM busiest AS b
          JOIN events AS e ON e.id = b.event_id
         ORDER BY b.taken DESC, b.id)
    SELECT i, 'found', NULL::text,
           json_build_object(
               'sessions', coalesce((SELECT json_agg(s) FROM sessions AS s), '[]'),
               'occurrences', coalesce((SELECT json_agg(o) FROM occurrences AS o), '[]'))
           ::text
      FROM generate_subscripts(checks, 1) AS i;
END
$$;

COMMENT ON FUNCTION status IS
    'For the status page: the sessions and occurrences with the most registrations, with the '
    'number of taken places and of all places.';

GRANT EXECUTE ON FUNCTION status TO registration;
