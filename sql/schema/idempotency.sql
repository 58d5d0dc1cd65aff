-- SPDX-License-Identifier: Apache-2.0
--
-- What was answered under which Idempotency-Key.

CREATE TABLE IF NOT EXISTS idempotency_keys (
    key bytea,
    fingerprint bytea NOT NULL,
    detail text,
    body text NOT NULL,
    expires_at timestamptz(3) NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (key),
    CONSTRAINT idempotency_keys_key_length CHECK (octet_length(key) = 32),
    CONSTRAINT idempotency_keys_fingerprint_length CHECK (octet_length(fingerprint) = 32)
);

CREATE INDEX IF NOT EXISTS idempotency_keys_expires_at ON idempotency_keys (expires_at);

COMMENT ON TABLE idempotency_keys IS
    'The registrations that were made under an Idempotency-Key, as they were answered. '
    'forget_idempotency_keys() deletes those that have expired.';
COMMENT ON COLUMN idempotency_keys.key IS
    'SHA-256 of caller, organization, path and key.';
COMMENT ON COLUMN idempotency_keys.fingerprint IS
    'SHA-256 of what the request asked for, a password left out: a fast hash of it would '
    'undo the slow one.';
COMMENT ON COLUMN idempotency_keys.detail IS 'The detail that the operation gave.';
COMMENT ON COLUMN idempotency_keys.body IS 'The answer as the client got it.';
COMMENT ON COLUMN idempotency_keys.expires_at IS
    'From then on the key may be used again.';
