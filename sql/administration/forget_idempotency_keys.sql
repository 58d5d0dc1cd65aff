-- SPDX-License-Identifier: Apache-2.0

-- Skips locked keys, so that it waits for no request. No request waits for it either, as it
-- locks expired keys only.
CREATE OR REPLACE FUNCTION forget_idempotency_keys(most integer DEFAULT 10000)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
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
    'Deletes up to `most` expired keys and returns their number; call it until it returns less, '
    'or call maintain(). For administrators.';
