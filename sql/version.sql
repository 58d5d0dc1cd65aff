-- SPDX-License-Identifier: Apache-2.0
--
-- Sets the psql variable `installed` to the version of the schema in this database; 0: none.

SELECT to_regclass('registration.schema_version') IS NOT NULL AS versioned \gset
\set installed 0
\if :versioned
SELECT coalesce(max(version), 0) AS installed FROM registration.schema_version \gset
\endif
