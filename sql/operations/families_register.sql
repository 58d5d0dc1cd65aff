-- SPDX-License-Identifier: Apache-2.0

-- In PL/pgSQL, which caches the plan.
CREATE OR REPLACE FUNCTION families_body(wanted_id text, wanted_username text)
RETURNS text
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (
        SELECT row_to_json(answer)
          FROM (SELECT f.id,
                       f.username,
                       f.institution_id,
                       array_to_json(ARRAY(
                           SELECT row_to_json(child)
                             FROM family_children AS m
                             JOIN children AS c ON c.id = m.child_id
                            CROSS JOIN LATERAL (
                                  SELECT c.id, c.username, c.institution_id, c.gender,
                                         c.age) AS child
                            WHERE m.family_id = f.id AND m.username = f.username
                            ORDER BY m.position)) AS children
                  FROM families AS f
                 WHERE f.id = wanted_id AND f.username = wanted_username) AS answer);
END
$$;

COMMENT ON FUNCTION families_body IS 'The body of an answer about a family.';

-- Registers families in the order of their usernames, so that two calls with the same usernames
-- lock in the same order. A request without a password hash is only checked: the module hashes
-- the password after that, and not for a request that would be refused.
--
-- Outcomes: created, acceptable (checked, and without a hash), duplicate, children_unknown
-- (detail: their ids), institution_unknown; the first that applies.
CREATE OR REPLACE FUNCTION families_register(
    ids text[],
    usernames text[],
    password_hashes text[],
    institution_ids text[],
    children text[],            -- each a list of ids with commas between them
    callers text[],
    request_ids text[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    child_ids text[];
    created integer[] := '{}';
BEGIN
    FOR item IN
        SELECT r.n
          FROM unnest(usernames) WITH ORDINALITY AS r (username, n)
         ORDER BY r.username COLLATE "C", r.n
    LOOP
        child_ids := string_to_array(children[item], ',');
        detail := NULL;
        outcome := CASE
            WHEN EXISTS (SELECT FROM families AS f WHERE f.username = usernames[item])
            THEN 'duplicate'
        END;

        IF outcome IS NULL THEN
            detail := (SELECT string_agg(r.id, ', ' ORDER BY r.n)
                         FROM unnest(child_ids) WITH ORDINALITY AS r (id, n)
                        WHERE NOT EXISTS (SELECT FROM children AS c WHERE c.id = r.id));
            outcome := CASE
                WHEN detail IS NOT NULL THEN 'children_unknown'
                WHEN NOT EXISTS (SELECT FROM institutions AS i
                                  WHERE i.id = institution_ids[item])
                THEN 'institution_unknown'
            END;
        END IF;

        IF outcome IS NULL AND password_hashes[item] IS NULL THEN
            outcome := 'acceptable';
        END IF;

        IF outcome IS NULL THEN
            INSERT INTO families (id, username, password_hash, institution_id)
            VALUES (ids[item], usernames[item], password_hashes[item],
                    institution_ids[item])
                ON CONFLICT DO NOTHING;
            outcome := CASE WHEN FOUND THEN 'created' ELSE 'duplicate' END;
        END IF;

        IF outcome = 'created' THEN
            created := created || item;
            INSERT INTO family_children (family_id, username, position, child_id)
            SELECT ids[item], usernames[item], r.n, r.id
              FROM unnest(child_ids) WITH ORDINALITY AS r (id, n);
        END IF;

        -- The retry of a call finds the row that the first attempt wrote. It locks the row,
        -- which writes to the transaction, so that the commit waits for synchronous
        -- replication. (The operations of the other APIs have locked a row anyway.)
        body := CASE WHEN outcome IN ('created', 'duplicate')
                THEN families_body(ids[item], usernames[item]) END;
        IF body IS NOT NULL AND outcome = 'duplicate' THEN
            outcome := 'created';
            PERFORM FROM families AS f
              WHERE f.id = ids[item] AND f.username = usernames[item]
                FOR NO KEY UPDATE;
        END IF;
        RETURN NEXT;
    END LOOP;

    IF created <> '{}' THEN
        INSERT INTO audit (action, kind, id, belongs_to, caller, request_id)
        SELECT 'registered', 'family', ids[n], institution_ids[n], callers[n],
               request_ids[n]
          FROM unnest(created) AS n;
    END IF;
END
$$;

COMMENT ON FUNCTION families_register IS
    'POST /v1/families; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION families_register TO registration;
