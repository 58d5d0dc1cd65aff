-- SPDX-License-Identifier: Apache-2.0
--
-- Functions that several APIs use. They are created before the tables, as a view and triggers
-- call them.
--
-- The operations have SET enable_seqscan = off: a connection caches plans, and a plan made while a
-- table was small would read the whole table after it has grown; measured at 340 ms a look-up
-- instead of 0.2 ms. And SET plan_cache_mode = force_generic_plan: for arrays of few elements
-- PostgreSQL would plan each call anew, which costs four times as much as a look-up.

CREATE OR REPLACE FUNCTION iso_timestamp(moment timestamptz)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

COMMENT ON FUNCTION iso_timestamp IS
    'A time in the format of answers: ISO 8601, UTC, milliseconds.';

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
