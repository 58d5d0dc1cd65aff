-- SPDX-License-Identifier: Apache-2.0
--
-- Functions that several APIs use. They are created before the tables, as a view and triggers
-- call them.

CREATE OR REPLACE FUNCTION iso_timestamp(moment timestamptz)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

COMMENT ON FUNCTION iso_timestamp IS
    'A time in the format of answers: ISO 8601, UTC, milliseconds.';

CREATE OR REPLACE FUNCTION json_timestamp(moment timestamptz)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce('"' || iso_timestamp(moment) || '"', 'null');

COMMENT ON FUNCTION json_timestamp IS 'A time as JSON; null if it is infinite.';

CREATE OR REPLACE FUNCTION json_text(given text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(to_json(given)::text, 'null');

COMMENT ON FUNCTION json_text IS 'A text as JSON.';

CREATE OR REPLACE FUNCTION set_updated_at()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION set_updated_at IS 'Trigger: sets updated_at to the current time.';
