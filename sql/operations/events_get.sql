-- SPDX-License-Identifier: Apache-2.0

-- Reads event registrations by id. Each request is its own look-up, whose plan cannot
-- turn into a scan of the table.
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
SET enable_seqscan = off
AS $$
BEGIN
    FOR item IN SELECT generate_subscripts(ids, 1) LOOP
        SELECT a.version, a.body
          INTO detail, body
          FROM event_registration_answers AS a
         WHERE a.id = ids[item]
           AND (a.deleted_at IS NULL OR with_trashed[item])
           AND (organization_ids[item] IS NULL
                OR a.organization_id = organization_ids[item]);
        outcome := CASE WHEN FOUND THEN 'found' ELSE 'not_found' END;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION events_get IS
    'GET /api/v1/event-registrations/{id}, one array element a request.';

GRANT EXECUTE ON FUNCTION events_get TO registration;
