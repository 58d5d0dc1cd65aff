-- SPDX-License-Identifier: Apache-2.0

-- Nobody waits for this, nor does it wait for anybody: what is locked is left to the next
-- time, and only what has expired is touched, no more of it than one transaction should.
CREATE OR REPLACE FUNCTION forget_idempotency_keys(most integer DEFAULT 10000)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    forgotten integer;
BEGIN
    DELETE FROM idempotency_keys AS k
     WHERE k.key = ANY (ARRAY(
               SELECT e.key
                 FROM idempotency_keys AS e
                WHERE e.expires_at <= now()
                ORDER BY e.expires_at
                LIMIT most
                  FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;

COMMENT ON FUNCTION forget_idempotency_keys IS
    'Deletes up to so many expired keys and returns how many; call it again while it '
    'returns that many, or call maintain(). For administrators.';
