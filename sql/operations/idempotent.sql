-- SPDX-License-Identifier: Apache-2.0

-- Runs an operation that registers, once for each key. What was registered under a key is
-- answered from what is kept; the rest is passed on to the operation, and what it creates is
-- kept in the same transaction. What fails is not kept and may be tried again.
--
-- The keys are locked first, in an order that is the same for all calls and before any
-- row, so that a second request waits for the first and no two calls for each other. Two
-- requests with one key in the same call are taken one after the other.
--
-- The operation is given $1, all its arrays, which are named and typed as it declares them:
-- no value of a request becomes part of a statement, where a log could show it.
--
-- An answer that is repeated is locked, which is to write: so its commit waits for a
-- synchronous standby, as that of the first answer did.
--
-- The operation is found by its name and the number of its arrays, as another version of it
-- may be there, with parameters more.
--
-- A request is the same as the first one under its key when the fingerprint is, and each
-- array of type jsonb: there the order of keys and blanks make no difference.
--
-- Outcomes: those of the operation, and key_reused: the key belongs to another request.
CREATE OR REPLACE FUNCTION idempotent(
    operation text,
    keys text[],
    fingerprints text[],
    seconds integer[],          -- for which each key is kept
    VARIADIC arguments text[])  -- each an array as text, one element a request
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    digests bytea[] := ARRAY(SELECT sha256(convert_to(k, 'UTF8')) FROM unnest(keys) AS k);
    prints bytea[];
    waiting integer[] := ARRAY(SELECT generate_subscripts(keys, 1));
    types oid[];                -- those of the arguments
    statement text;
    lock bigint;
    requests integer[];         -- those of a round, no two with the same key
    argument integer;
    elements text[];
    passed text[];              -- their part of the arguments
    place integer;
    created integer[];
    details text[];
    bodies text[];
BEGIN
    IF operation NOT IN ('live_register', 'groups_register', 'families_register',
                         'events_create') THEN
        RAISE EXCEPTION '% cannot be called under a key', operation;
    END IF;
    SELECT (p.proargtypes::oid[])[0 : cardinality(arguments) - 1]
      INTO types
      FROM pg_proc AS p
     WHERE p.pronamespace = 'registration'::regnamespace
       AND p.proname = operation
       AND cardinality(arguments) BETWEEN p.pronargs - p.pronargdefaults AND p.pronargs
     ORDER BY p.pronargs
     LIMIT 1;
    SELECT format('SELECT r.item, r.outcome, r.detail, r.body FROM registration.%I(%s) AS r',
                  operation,
                  string_agg(format('$1[%s]::%s', a.n, format_type(a.type, NULL)), ', '
                             ORDER BY a.n))
      INTO statement
      FROM unnest(types) WITH ORDINALITY AS a (type, n);

    FOR argument IN
        SELECT a.n
          FROM unnest(types) WITH ORDINALITY AS a (type, n)
         WHERE a.type = 'jsonb[]'::regtype
    LOOP
        elements := arguments[argument]::jsonb[];
        fingerprints := ARRAY(
            SELECT fingerprints[n] || ',' || coalesce(octet_length(e) || ':' || e, '')
              FROM unnest(elements) WITH ORDINALITY AS u (e, n)
             ORDER BY n);
    END LOOP;
    prints := ARRAY(SELECT sha256(convert_to(f, 'UTF8')) FROM unnest(fingerprints) AS f);

    FOR lock IN
        SELECT DISTINCT hashtextextended(k, 0) AS number FROM unnest(keys) AS k ORDER BY number
    LOOP
        PERFORM pg_advisory_xact_lock(lock);
    END LOOP;

    WHILE waiting <> '{}' LOOP
        FOR item, outcome, detail, body IN
            SELECT n,
                   CASE WHEN same THEN 'created' ELSE 'key_reused' END,
                   CASE WHEN same THEN k.detail END,
                   CASE WHEN same THEN k.body END
              FROM unnest(waiting) AS n
              JOIN idempotency_keys AS k ON k.key = digests[n]
             CROSS JOIN LATERAL (SELECT k.fingerprint = prints[n]) AS f (same)
             WHERE k.expires_at > clock_timestamp()
             ORDER BY k.key
               FOR NO KEY UPDATE OF k
        LOOP
            waiting := array_remove(waiting, item);
            RETURN NEXT;
        END LOOP;
        EXIT WHEN waiting = '{}';

        requests := ARRAY(SELECT min(n)
                            FROM unnest(waiting) AS n
                           GROUP BY digests[n]
                           ORDER BY 1);
        passed := arguments;
        IF cardinality(requests) < cardinality(keys) THEN
            FOR argument IN SELECT generate_subscripts(arguments, 1) LOOP
                elements := arguments[argument];
                passed[argument] := ARRAY(SELECT elements[n] FROM unnest(requests) AS n);
            END LOOP;
        END IF;

        created := '{}';
        details := '{}';
        bodies := '{}';
        FOR place, outcome, detail, body IN EXECUTE statement USING passed LOOP
            item := requests[place];
            IF outcome = 'created' THEN
                created := created || item;
                details := details || detail;
                bodies := bodies || body;
            END IF;
            RETURN NEXT;
        END LOOP;

        -- In place of one that has expired, if need be; in the order in which
        -- erase_person() locks them.
        INSERT INTO idempotency_keys AS k (key, fingerprint, detail, body, expires_at)
        SELECT digests[c.n], prints[c.n], c.detail, c.body,
               clock_timestamp() + make_interval(secs => seconds[c.n])
          FROM unnest(created, details, bodies) AS c (n, detail, body)
         ORDER BY digests[c.n]
            ON CONFLICT (key) DO UPDATE
               SET fingerprint = excluded.fingerprint,
                   detail = excluded.detail,
                   body = excluded.body,
                   expires_at = excluded.expires_at;

        waiting := ARRAY(SELECT n FROM unnest(waiting) AS n WHERE n <> ALL (requests));
    END LOOP;
END
$$;

COMMENT ON FUNCTION idempotent IS
    'An operation whose requests have an Idempotency-Key, one array element a request.';

GRANT EXECUTE ON FUNCTION idempotent TO registration;
