-- SPDX-License-Identifier: Apache-2.0
--
-- The roles, the schema and the extension. Run by each installation and upgrade, so each
-- statement can be repeated: roles belong to the whole cluster, whose other databases may have
-- them already, and an administrator may have created the schema or the extension.

SELECT format('CREATE ROLE %I %s', r.name, r.attribute)
  FROM (VALUES ('registration_owner', 'NOLOGIN'), ('registration', 'LOGIN'),
               ('registration_admin', 'NOLOGIN')) AS r (name, attribute)
 WHERE NOT EXISTS (SELECT FROM pg_roles AS p WHERE p.rolname = r.name) \gexec

COMMENT ON ROLE registration_owner IS
    'Owns the tables and functions of schema registration; has no login.';
COMMENT ON ROLE registration IS
    'The role that mod_registration connects as; may execute the operations only.';
COMMENT ON ROLE registration_admin IS
    'For roles that maintain the data: may execute the functions for administrators only.';

-- Settings of the module's sessions. ALTER ROLE registration IN DATABASE ... SET and options in
-- DBDParams override them.
--
-- No personal data in PostgreSQL's log: the detail of an error contains the refused row, and a
-- statement that is logged for its duration contains its parameters.
ALTER ROLE registration SET log_error_verbosity = 'terse';
ALTER ROLE registration SET log_parameter_max_length = 0;
ALTER ROLE registration SET log_parameter_max_length_on_error = 0;
SELECT :SERVER_VERSION_NUM >= 160000 AS explains_parameters \gset
\if :explains_parameters
ALTER ROLE registration SET auto_explain.log_parameter_max_length = 0;
\endif

-- A session must not hold locks longer than a request waits. These fit RegistrationTimeout 5,
-- the default.
ALTER ROLE registration SET statement_timeout = '4s';
ALTER ROLE registration SET idle_in_transaction_session_timeout = '10s';

-- The operations need each statement to see what was committed before it. Under a stricter
-- level, concurrent requests for the same row fail with serialization errors.
ALTER ROLE registration SET default_transaction_isolation = 'read committed';

-- Plans. A connection caches the plans of the operations, which look rows up by index:
-- * A plan made while a table was small would read the whole table after it has grown; measured
--   at 340 ms a look-up instead of 0.2 ms.
-- * For arrays of few elements PostgreSQL would plan each call anew, which costs four times as
--   much as a look-up.
-- * No operation runs long enough for JIT compilation to pay.
ALTER ROLE registration SET enable_seqscan = off;
ALTER ROLE registration SET plan_cache_mode = 'force_generic_plan';
ALTER ROLE registration SET jit = off;

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE SCHEMA IF NOT EXISTS registration AUTHORIZATION registration_owner;
COMMENT ON SCHEMA registration IS 'The registrations that mod_registration serves.';

GRANT USAGE ON SCHEMA registration TO registration, registration_admin;

-- The extension may be in any schema. Only CREATE INDEX needs its operator classes; the
-- operations do not search that schema.
SELECT n.nspname AS extension_schema,
       NOT has_schema_privilege('registration_owner', n.nspname, 'USAGE') AS grant_usage
  FROM pg_extension AS e
  JOIN pg_namespace AS n ON n.oid = e.extnamespace
 WHERE e.extname = 'pg_trgm' \gset
\if :grant_usage
GRANT USAGE ON SCHEMA :"extension_schema" TO registration_owner;
\endif
SET LOCAL search_path = registration, :"extension_schema";
