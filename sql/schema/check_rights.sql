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
       AND c.relkind IN ('r', 'p', 'v', 'm')
       AND (has_table_privilege('registration', c.oid,
                                'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
            OR has_any_column_privilege('registration', c.oid,
                                        'SELECT, INSERT, UPDATE'));
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'role registration must not reach these itself: %', wrong;
    END IF;
END
$$;
