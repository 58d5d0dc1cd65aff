-- SPDX-License-Identifier: Apache-2.0
--
-- The module calls this in each new session to check that it fits the schema. A module is written
-- for one version of the schema. It works with that version and with later ones whose `oldest` is
-- not higher. Raise `oldest` only when an operation that such a module calls is removed or changes
-- its results.

CREATE OR REPLACE FUNCTION schema_version(OUT version integer, OUT oldest integer)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = registration, pg_catalog, pg_temp
AS $$
    SELECT max(s.version), 1 FROM schema_version AS s
$$;

COMMENT ON FUNCTION schema_version IS
    'The version of the schema, and the oldest version whose modules it still serves.';

GRANT EXECUTE ON FUNCTION schema_version TO registration;
