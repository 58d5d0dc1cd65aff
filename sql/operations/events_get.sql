-- SPDX-License-Identifier: Apache-2.0

-- Reads event registrations by id. The occurrence of several registrations is read and converted
-- to JSON once. The joins must be nested loops: with hash and merge joins, a plan for small tables
-- could scan them after they have grown.
--
-- Outcomes: found (detail: its version), not_found.
CREATE OR REPLACE FUNCTION events_get(
    ids uuid[],
    with_trashed boolean[],
    organization_ids uuid[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql STABLE
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    RETURN QUERY
    WITH wanted AS MATERIALIZED (
        SELECT q.n::integer AS n, r.version, r.occurrence_id,
               event_registration_head(r) || event_user_json(u) AS head,
               event_registration_end(r) AS ending
          FROM unnest(ids, with_trashed, organization_ids)
               WITH ORDINALITY AS q (id, with_trashed, organization_id, n)
          LEFT JOIN (event_registrations AS r
                     JOIN event_users AS u ON u.id = r.user_id)
            ON r.id = q.id
           AND (r.deleted_at IS NULL OR q.with_trashed)
           AND (q.organization_id IS NULL OR q.organization_id = r.organization_id)),
    places AS MATERIALIZED (
        SELECT p.id, p.answer
          FROM occurrence_json AS p
         WHERE p.id IN (SELECT w.occurrence_id FROM wanted AS w))
    SELECT w.n,
           CASE WHEN p.id IS NULL THEN 'not_found' ELSE 'found' END,
           w.version::text,
           w.head || p.answer || w.ending
      FROM wanted AS w
      LEFT JOIN places AS p ON p.id = w.occurrence_id;
END
$$;

COMMENT ON FUNCTION events_get IS
    'GET /api/v1/event-registrations/{id}; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION events_get TO registration;
