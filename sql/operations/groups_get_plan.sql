-- SPDX-License-Identifier: Apache-2.0

CREATE OR REPLACE FUNCTION groups_get_plan(ids uuid[], group_ids uuid[], paths text[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
BEGIN
    FOR item IN SELECT generate_subscripts(ids, 1) LOOP
        body := (SELECT row_to_json(answer)::text
                   FROM (SELECT paths[item] || '/' || g.id || '/plans/' || p.id AS href,
                                p.name AS title,
                                p.id AS uuid,
                                groups_link(paths[item] || '/' || g.id, g.name) AS "group"
                           FROM plans AS p
                           JOIN groups AS g ON g.id = p.group_id
                          WHERE p.id = ids[item] AND p.group_id = group_ids[item])
                        AS answer);
        outcome := CASE WHEN body IS NULL THEN 'not_found' ELSE 'found' END;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION groups_get_plan IS
    'GET {group}/plans/{plan}, one array element a request.';

GRANT EXECUTE ON FUNCTION groups_get_plan TO registration;
