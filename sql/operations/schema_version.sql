-- SPDX-License-Identifier: Apache-2.0
--
-- What the module asks in each new session, to know whether it can work with this schema.
-- A module was written for one version. It works with that and with later ones, down to
-- the oldest that they still serve: what `oldest` says here. Raise that only when the
-- operations that such a module calls are gone, or do something else.

CREATE OR REPLACE FUNCTION schema_version(OUT version integer, OUT oldest integer)
LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = registration, pg_catalog, pg_temp
AS $$
    SELECT max(s.version), 1 FROM schema_version AS s
$$;

COMMENT ON FUNCTION schema_version IS
    'The version of this schema, and the oldest that modules may have been written for.';

GRANT EXECUTE ON FUNCTION schema_version TO registration;
