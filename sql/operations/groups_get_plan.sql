-- SPDX-License-Identifier: Apache-2.0

CREATE OR REPLACE FUNCTION groups_get_plan(ids uuid[], group_ids uuid[], paths text[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
BEGIN
    FOR item IN SELECT generate_subscripts(ids, 1) LOOP
        body := (SELECT row_to_json(
                            ROW(groups_href(paths[item], g) || '/plans/' || p.id,
                                p.name,
                                p.id,
                                ROW(groups_href(paths[item], g), g.name)::groups_link)
                            ::groups_plan_answer)
                   FROM plans AS p
                   JOIN groups AS g ON g.id = p.group_id
                  WHERE p.id = ids[item] AND p.group_id = group_ids[item]);
        outcome := CASE WHEN body IS NULL THEN 'not_found' ELSE 'found' END;
        RETURN NEXT;
    END LOOP;
END
$$;

COMMENT ON FUNCTION groups_get_plan IS
    'GET {group}/plans/{plan}; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION groups_get_plan TO registration;
