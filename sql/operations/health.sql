-- SPDX-License-Identifier: Apache-2.0

CREATE OR REPLACE FUNCTION health(checks text[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT i, CASE current_setting('transaction_read_only') WHEN 'off' THEN 'found'
                                                            ELSE 'not_found' END,
           NULL::text, NULL::text
      FROM generate_subscripts(checks, 1) AS i;
END
$$;

COMMENT ON FUNCTION health IS
    'For GET /health. Returns found if the database accepts writes, not_found on a standby.';

GRANT EXECUTE ON FUNCTION health TO registration;
