-- SPDX-License-Identifier: Apache-2.0
--
-- Fails the installation when somebody may do more than they should: a function that
-- runs with the owner's rights is only as safe as its search path and its grants.

DO $$
DECLARE
    wrong text;
BEGIN
    SELECT string_agg(p.oid::regprocedure::text, ', ')
      INTO wrong
      FROM pg_proc p
     WHERE p.proowner = 'registration_owner'::regrole
       AND (has_function_privilege('public', p.oid, 'EXECUTE')
            OR p.prosecdef
               AND NOT ('search_path=registration, pg_catalog, pg_temp'
                        = ANY (coalesce(p.proconfig, '{}'))));
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'executable by everybody, or without a search_path: %', wrong;
    END IF;

    SELECT string_agg(c.oid::regclass::text, ', ')
      INTO wrong
      FROM pg_class c
     WHERE c.relowner = 'registration_owner'::regrole
       AND CASE
           WHEN c.relkind IN ('r', 'p', 'v', 'm')
           THEN has_table_privilege('registration', c.oid,
                                    'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, '
                                    'REFERENCES, TRIGGER')
                OR has_any_column_privilege('registration', c.oid,
                                            'SELECT, INSERT, UPDATE, REFERENCES')
           WHEN c.relkind = 'S'
           THEN has_sequence_privilege('registration', c.oid, 'USAGE, SELECT, UPDATE')
       END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'role registration must not reach these itself: %', wrong;
    END IF;

    IF has_schema_privilege('registration', 'registration', 'CREATE')
       OR pg_has_role('registration', 'registration_owner', 'MEMBER') THEN
        RAISE EXCEPTION 'role registration must not make anything in schema registration';
    END IF;
END
$$;
