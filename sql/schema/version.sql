-- SPDX-License-Identifier: Apache-2.0
--
-- Which versions of the schema this database has had.

CREATE TABLE IF NOT EXISTS schema_version (
    version integer PRIMARY KEY,
    installed_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE schema_version IS
    'The versions that the schema has had; the highest is the one it has.';
COMMENT ON COLUMN schema_version.version IS '1, and then one for each migration.';
COMMENT ON COLUMN schema_version.installed_at IS 'When the schema became that.';
