-- SPDX-License-Identifier: Apache-2.0
--
-- Copies the names of the server's time zones. Removes names that the server no longer has,
-- unless a group or a member uses them.

WITH known AS MATERIALIZED (
    SELECT z.name
      FROM pg_timezone_names AS z
     WHERE z.name !~ '^(posix|right|SystemV)/'
       AND z.name NOT IN ('Factory', 'localtime', 'posixrules')
), gone AS (
    DELETE FROM time_zones AS z
     WHERE NOT EXISTS (SELECT FROM known WHERE known.name = z.name)
       AND NOT EXISTS (SELECT FROM groups AS g WHERE g.time_zone = z.name)
       AND NOT EXISTS (SELECT FROM group_members AS m WHERE m.time_zone = z.name)
)
INSERT INTO time_zones (name)
SELECT known.name FROM known
    ON CONFLICT DO NOTHING;
