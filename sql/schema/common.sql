-- SPDX-License-Identifier: Apache-2.0
--
-- The roles, the schema and the extension that everything else stands on.

-- CREATE ROLE knows no IF NOT EXISTS.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'registration_owner') THEN
        CREATE ROLE registration_owner NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'registration') THEN
        CREATE ROLE registration LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'registration_admin') THEN
        CREATE ROLE registration_admin NOLOGIN;
    END IF;
END
$$;

COMMENT ON ROLE registration_owner IS
    'Owns the tables and functions of schema registration; nobody logs in as it.';
COMMENT ON ROLE registration IS
    'mod_registration connects as this role; it may execute the operations only.';
COMMENT ON ROLE registration_admin IS
    'For roles that maintain the data: it may execute the functions for administrators only.';

-- What the module sends is people's data, and PostgreSQL's log is no place for it: an error's
-- detail holds the row that was refused, and a statement logged for its duration its
-- parameters. ALTER ROLE registration IN DATABASE ... SET goes before these.
ALTER ROLE registration SET log_error_verbosity = 'terse';
ALTER ROLE registration SET log_parameter_max_length = 0;
ALTER ROLE registration SET log_parameter_max_length_on_error = 0;
SELECT :SERVER_VERSION_NUM >= 160000 AS explains_parameters \gset
\if :explains_parameters
ALTER ROLE registration SET auto_explain.log_parameter_max_length = 0;
\endif

-- No session of the module's is to hold locks that no request waits for any more. These
-- fit RegistrationTimeout 5, its default; options in DBDParams go before them, too.
ALTER ROLE registration SET statement_timeout = '4s';
ALTER ROLE registration SET idle_in_transaction_session_timeout = '10s';

-- The operations count on it that each statement sees what was committed before it: under
-- another level, requests for the same row fail again and again. And none of them runs long
-- enough for compiled expressions to pay.
ALTER ROLE registration SET default_transaction_isolation = 'read committed';
ALTER ROLE registration SET jit = off;

CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE SCHEMA IF NOT EXISTS registration AUTHORIZATION registration_owner;
COMMENT ON SCHEMA registration IS 'The registrations that mod_registration serves.';

GRANT USAGE ON SCHEMA registration TO registration, registration_admin;

-- The extension may be in any schema. Its operator classes are needed, and only while
-- indexes are made: the operations themselves never look outside their own schema.
DO $$
DECLARE
    home name := (SELECT n.nspname
                    FROM pg_extension e
                    JOIN pg_namespace n ON n.oid = e.extnamespace
                   WHERE e.extname = 'pg_trgm');
BEGIN
    IF NOT has_schema_privilege('registration_owner', home, 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO registration_owner', home);
    END IF;
    PERFORM set_config('search_path', format('registration, %I', home), true);
END
$$;
