-- SPDX-License-Identifier: Apache-2.0
--
-- Stops psql, which runs with ON_ERROR_STOP, on a PostgreSQL that is too old.

SELECT :SERVER_VERSION_NUM < 140000 AS is_too_old \gset
\if :is_too_old
\set VERBOSITY terse
DO $$ BEGIN
    RAISE 'mod_registration needs PostgreSQL 14 or newer, and this is PostgreSQL %; '
          'nothing was changed', current_setting('server_version');
END $$;
\endif
