-- SPDX-License-Identifier: Apache-2.0
--
-- The answers to requests with an Idempotency-Key.

CREATE TABLE idempotency_keys (
    key bytea,
    fingerprint bytea NOT NULL,
    detail text,
    body text NOT NULL,
    expires_at timestamptz(3) NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (key),
    CONSTRAINT idempotency_keys_key_length CHECK (octet_length(key) = 32),
    CONSTRAINT idempotency_keys_fingerprint_length CHECK (octet_length(fingerprint) = 32)
);

CREATE INDEX idempotency_keys_expires_at ON idempotency_keys (expires_at);

COMMENT ON TABLE idempotency_keys IS
    'The answers to registrations with an Idempotency-Key. forget_idempotency_keys() deletes '
    'expired ones.';
COMMENT ON COLUMN idempotency_keys.key IS
    'SHA-256 of caller, organization, path and key.';
COMMENT ON COLUMN idempotency_keys.fingerprint IS
    'SHA-256 of the request without its password: a fast hash of the password would '
    'defeat bcrypt.';
COMMENT ON COLUMN idempotency_keys.detail IS 'The detail that the operation returned.';
COMMENT ON COLUMN idempotency_keys.body IS 'The body that the client got.';
COMMENT ON COLUMN idempotency_keys.expires_at IS
    'The time from which on the key may be used again.';
