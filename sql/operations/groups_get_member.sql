-- SPDX-License-Identifier: Apache-2.0

CREATE OR REPLACE FUNCTION groups_get_member(ids uuid[], group_ids uuid[], paths text[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
BEGIN
    FOR item IN SELECT generate_subscripts(ids, 1) LOOP
        body := (SELECT groups_member_body(paths[item], g, p, m)
                   FROM group_members AS m
                   JOIN groups AS g ON g.id = m.group_id
                   JOIN plans AS p ON p.id = m.plan_id
                  WHERE m.id = ids[item] AND m.group_id = group_ids[item]);
        outcome := CASE WHEN body IS NULL THEN 'not_found' ELSE 'found' END;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION groups_get_member IS
    'GET {group}/users/{member}; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION groups_get_member TO registration;
