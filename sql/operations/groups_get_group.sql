-- SPDX-License-Identifier: Apache-2.0

CREATE OR REPLACE FUNCTION groups_get_group(ids uuid[], paths text[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
BEGIN
    FOR item IN SELECT generate_subscripts(ids, 1) LOOP
        body := (SELECT row_to_json(answer)::text
                   FROM (SELECT paths[item] || '/' || g.id AS href,
                                g.name AS title,
                                g.id AS uuid
                           FROM groups AS g
                          WHERE g.id = ids[item]) AS answer);
        outcome := CASE WHEN body IS NULL THEN 'not_found' ELSE 'found' END;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION groups_get_group IS 'GET {group}; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION groups_get_group TO registration;
