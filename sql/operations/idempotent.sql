-- SPDX-License-Identifier: Apache-2.0

-- Executes a registering operation at most once for each key. A request whose key is stored gets
-- the stored answer. The other requests are passed to the operation, and the answers of those that
-- it creates are stored in the same transaction. A failed request stores nothing and can be
-- retried.
--
-- The keys are locked before any row and in an order that is the same for all calls. So a second
-- request with a key waits for the first, and calls do not deadlock. Requests with the same key in
-- one call are executed one after the other.
--
-- The arguments are passed to the operation as one parameter, $1, and cast to the declared types:
-- no value of a request is part of a statement, which could be logged.
--
-- A stored answer is locked when it is returned. That writes to the transaction, so the commit
-- waits for synchronous replication as that of the first answer did.
--
-- The operation is looked up by its name and the number of its arguments, as during an upgrade
-- there may be another version of it with more parameters.
--
-- Two requests with a key are the same if their fingerprints are equal and their arguments of
-- type jsonb[] are, in which blanks and the order of keys do not matter.
--
-- The joins must be nested loops: with hash and merge joins, a plan for small tables could scan
-- idempotency_keys after it has grown.
--
-- Outcomes: those of the operation, and key_reused: the key belongs to another request.
CREATE OR REPLACE FUNCTION idempotent(
    operation text,
    keys text[],
    fingerprints text[],
    seconds integer[],          -- until the key expires
    VARIADIC arguments text[])  -- each an array as text, with an element for each request
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    digests bytea[] := ARRAY(SELECT sha256(convert_to(k, 'UTF8')) FROM unnest(keys) AS k);
    prints bytea[];
    waiting integer[] := ARRAY(SELECT generate_subscripts(keys, 1));
    types oid[];                -- of the arguments
    statement text;
    lock bigint;
    requests integer[];         -- of a round, no two with the same key
    argument integer;
    elements text[];
    passed text[];              -- the arguments of these requests
    place integer;
    created integer[];
    details text[];
    bodies text[];
BEGIN
    IF operation NOT IN ('live_register', 'groups_register', 'families_register',
                         'events_create') THEN
        RAISE EXCEPTION 'operation % cannot be called with an Idempotency-Key', operation;
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

        -- Replaces an expired key. In the order in which erase_person() locks keys.
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
    'Executes an operation for requests with an Idempotency-Key; arrays with an element for '
    'each request.';

GRANT EXECUTE ON FUNCTION idempotent TO registration;
