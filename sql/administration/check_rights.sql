-- SPDX-License-Identifier: Apache-2.0
--
-- Fails the installation if a role has more rights than it should. A SECURITY DEFINER function is
-- only as safe as its search_path and its grants: a caller could put objects of its own into an
-- earlier schema of the path. So each has the setting.
--
-- A right to create objects in another schema is a warning only: other users of the database may
-- need it. Up to PostgreSQL 14, and in databases that were upgraded from it, PUBLIC has it in
-- schema public.

DO $$
DECLARE
    administrators CONSTANT text[] := '{cancel_live_registration, remove_group_member,
        remove_family, recount, export_person, person_rows, person_mentions, erase_person,
        erase_person_row, erase_person_answers, erase_person_as_caller, make_audit_partitions,
        drop_audit_partition, forget_idempotency_keys, purge_deleted, purge_past_occurrence,
        purge_past_session, maintain}';
    wrong text;
    services CONSTANT regrole[] := '{registration, registration_admin}';
    service regrole;
    writable name;
    steps text;
BEGIN
    IF (SELECT n.nspowner FROM pg_namespace AS n WHERE n.nspname = 'registration')
       <> 'registration_owner'::regrole THEN
        RAISE EXCEPTION 'schema registration must belong to registration_owner, but belongs to %',
            (SELECT n.nspowner::regrole FROM pg_namespace AS n WHERE n.nspname = 'registration');
    END IF;

    SELECT string_agg(p.oid::regprocedure::text, ', ')
      INTO wrong
      FROM pg_proc p
     WHERE p.proowner = 'registration_owner'::regrole
       AND (has_function_privilege('public', p.oid, 'EXECUTE')
            OR p.prosecdef
               AND NOT ('search_path=registration, pg_catalog, pg_temp'
                        = ANY (coalesce(p.proconfig, '{}'))));
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'executable by PUBLIC, or SECURITY DEFINER without a search_path: %', wrong;
    END IF;

    FOREACH service IN ARRAY services LOOP
        SELECT string_agg(c.oid::regclass::text, ', ')
          INTO wrong
          FROM pg_class c
         WHERE c.relowner = 'registration_owner'::regrole
           AND CASE
               WHEN c.relkind IN ('r', 'p', 'v', 'm')
               THEN has_table_privilege(service, c.oid,
                                        'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, '
                                        'REFERENCES, TRIGGER')
                    OR has_any_column_privilege(service, c.oid,
                                                'SELECT, INSERT, UPDATE, REFERENCES')
               WHEN c.relkind = 'S'
               THEN has_sequence_privilege(service, c.oid, 'USAGE, SELECT, UPDATE')
           END;
        IF wrong IS NOT NULL THEN
            RAISE EXCEPTION 'role % must not have rights on these relations: %', service, wrong;
        END IF;

        IF has_schema_privilege(service, 'registration', 'CREATE')
           OR pg_has_role(service, 'registration_owner', 'MEMBER') THEN
            RAISE EXCEPTION 'role % must not have the right to create objects in schema '
                            'registration', service;
        END IF;
    END LOOP;

    SELECT string_agg(p.oid::regprocedure::text, ', ')
      INTO wrong
      FROM pg_proc AS p
     WHERE p.proowner = 'registration_owner'::regrole
       AND has_function_privilege('registration_admin', p.oid, 'EXECUTE')
           <> (p.proname = ANY (administrators));
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'role registration_admin must have the right to execute exactly the '
                        'functions for administrators; wrong: %', wrong;
    END IF;

    -- The statement revokes what the schema's owner granted to these roles and to PUBLIC.
    FOR writable, steps IN
        SELECT n.nspname, string_agg(DISTINCT CASE
                   WHEN a.grantee = 0 OR a.grantee = ANY (services)
                   THEN 'revoke the grant of ' || nullif(a.grantor, n.nspowner)::regrole
                   WHEN a.grantee = 'pg_database_owner'::regrole
                   THEN 'give the database another owner'
                   ELSE 'end their membership in ' || a.grantee::regrole
               END || ', then ', '')
          FROM pg_namespace AS n
         CROSS JOIN unnest(services) AS role
         CROSS JOIN aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
         WHERE n.nspname !~ '^pg_' AND a.privilege_type = 'CREATE'
           AND CASE a.grantee WHEN 0 THEN true
               ELSE pg_has_role(role, a.grantee, 'MEMBER') END
         GROUP BY n.nspname ORDER BY n.nspname
    LOOP
        RAISE WARNING 'roles of mod_registration have the right to create objects in schema %; '
                      'to revoke it, %run: REVOKE CREATE ON SCHEMA % FROM PUBLIC, registration, '
                      'registration_admin', quote_ident(writable), coalesce(steps, ''),
                      quote_ident(writable);
    END LOOP;
END
$$;
