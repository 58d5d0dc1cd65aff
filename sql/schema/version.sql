-- SPDX-License-Identifier: Apache-2.0
--
-- The versions of the schema that were installed in this database.

CREATE TABLE schema_version (
    version integer PRIMARY KEY,
    installed_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE schema_version IS
    'The installed versions of the schema; the highest is the current one.';
COMMENT ON COLUMN schema_version.version IS '1, and a number for each migration.';
COMMENT ON COLUMN schema_version.installed_at IS 'The time of the installation or upgrade.';
