-- SPDX-License-Identifier: Apache-2.0
--
-- Copies the names of the server's time zones. Removes names that the server no longer has,
-- unless a group or a member uses them. Prints a warning about these, and about other names that
-- members send and the server does not have.

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

-- Debian 13 has old names of time zones in a package of its own. The names below are those of them
-- that browsers send: Chromium's Intl.supportedValuesOf('timeZone').
DO $$
DECLARE
    sent CONSTANT text[] := '{Africa/Asmera, America/Buenos_Aires, America/Catamarca,
        America/Cordoba, America/Godthab, America/Indianapolis, America/Jujuy,
        America/Louisville, America/Mendoza, Asia/Calcutta, Asia/Katmandu, Asia/Rangoon,
        Asia/Saigon, Atlantic/Faeroe, Europe/Kiev, Pacific/Enderbury, Pacific/Ponape,
        Pacific/Truk}';
    unknown text;
BEGIN
    SELECT string_agg(wanted.name, ', ' ORDER BY wanted.name)
      INTO unknown
      FROM (SELECT unnest(sent) COLLATE "C" AS name UNION SELECT z.name FROM time_zones AS z)
           AS wanted
     WHERE NOT EXISTS (SELECT FROM pg_timezone_names AS known WHERE known.name = wanted.name);
    IF unknown IS NOT NULL THEN
        RAISE WARNING 'PostgreSQL does not know these time zones, with which group members cannot '
                      'register: %; install the package tzdata-legacy, where there is one, on the '
                      'machine of PostgreSQL, and repeat this command', unknown;
    END IF;
END
$$;
