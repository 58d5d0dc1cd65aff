-- SPDX-License-Identifier: Apache-2.0
--
-- The partitions of the audit, one for each month in UTC.

CREATE OR REPLACE FUNCTION audit_month(moment timestamptz)
RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
$$;

COMMENT ON FUNCTION audit_month IS 'The start of the month, in UTC, that contains a time.';

-- pg_catalog stores a bound as an expression only.
CREATE OR REPLACE FUNCTION audit_partitions()
RETURNS TABLE (name regclass, lower_bound timestamptz, upper_bound timestamptz)
LANGUAGE sql STABLE
AS $$
    SELECT c.oid,
           substring(b.bound FROM 'FROM \(''([^'']+)''\)')::timestamptz,
           substring(b.bound FROM 'TO \(''([^'']+)''\)')::timestamptz
      FROM pg_inherits AS i
      JOIN pg_class AS c ON c.oid = i.inhrelid
     CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid)) AS b (bound)
     WHERE i.inhparent = 'registration.audit'::regclass
$$;

COMMENT ON FUNCTION audit_partitions IS
    'The partitions of the audit and their bounds. The default partition has no bounds, the '
    'oldest partition has no lower bound.';

CREATE OR REPLACE FUNCTION guard_audit_partition(partition regclass)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER append_only_all BEFORE TRUNCATE ON %s'
                   ' FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()', partition);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only,'
                   ' ENABLE ALWAYS TRIGGER append_only_all', partition);
END
$$;

COMMENT ON FUNCTION guard_audit_partition IS
    'Makes a partition of the audit append-only for every role.';

-- CREATE TABLE … PARTITION OF would lock the audit against inserts, so the table is created
-- first and then attached. A month that has entries in the default partition gets no partition.
CREATE OR REPLACE FUNCTION make_audit_partitions(months_ahead integer DEFAULT 12)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    month timestamptz;
    month_after timestamptz;
    partition name;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('registration_audit_partitions'));
    FOR ahead IN 0 .. months_ahead LOOP
        -- In UTC, as a day may have 23 or 25 hours in the session's time zone.
        month := (date_trunc('month', now() AT TIME ZONE 'UTC')
                  + make_interval(months => ahead)) AT TIME ZONE 'UTC';
        month_after := audit_month(month + interval '32 days');
        CONTINUE WHEN EXISTS (SELECT FROM audit_partitions() AS p
                               WHERE p.upper_bound > month
                                 AND (p.lower_bound <= month OR p.lower_bound IS NULL))
                   OR EXISTS (SELECT FROM audit_default AS d
                               WHERE d.at >= month AND d.at < month_after);

        partition := to_char(month AT TIME ZONE 'UTC', '"audit_"YYYY"_"MM');
        EXECUTE format('CREATE TABLE %I (LIKE audit INCLUDING ALL) WITH'
                       ' (autovacuum_vacuum_insert_scale_factor = 0.02,'
                       ' autovacuum_analyze_scale_factor = 0.02)', partition);
        EXECUTE format('COMMENT ON TABLE %I IS %L', partition,
                       'The audit of one month, in UTC.');
        EXECUTE format('ALTER TABLE audit ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       partition, month, month_after);
        PERFORM guard_audit_partition(partition::text::regclass);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

COMMENT ON FUNCTION make_audit_partitions IS
    'Creates the missing partitions of the audit for this month and the following months. '
    'Returns their number. For administrators.';

-- DETACH PARTITION needs an exclusive lock on the audit. While it waits for a reader of the audit,
-- inserts would queue behind it: so it gives up after 50 ms and is retried 20 times. The entries
-- are counted before, without the lock.
CREATE OR REPLACE FUNCTION drop_audit_partition(before timestamptz)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET lock_timeout = '50ms'
AS $$
DECLARE
    partition regclass := (SELECT p.name FROM audit_partitions() AS p
                            WHERE p.upper_bound <= before
                            ORDER BY p.upper_bound LIMIT 1);
    name text;
    entries bigint;
    is_default boolean := false;
BEGIN
    IF partition IS NULL AND (SELECT max(d.at) < before FROM audit_default AS d) THEN
        partition := 'audit_default';
        is_default := true;
    END IF;
    IF partition IS NULL THEN
        RETURN NULL;
    END IF;

    name := partition::text;
    EXECUTE format('SELECT count(*) FROM %s', name) INTO entries;
    FOR attempt IN 1 .. 20 LOOP
        BEGIN
            EXECUTE format('ALTER TABLE audit DETACH PARTITION %s', name);
            EXIT;
        EXCEPTION
            WHEN lock_not_available THEN
                IF attempt = 20 THEN
                    RETURN 'busy';
                END IF;
        END;
        PERFORM pg_sleep(0.1);
    END LOOP;
    EXECUTE format('DROP TABLE %s', name);
    IF is_default THEN
        CREATE TABLE audit_default PARTITION OF audit DEFAULT;
        PERFORM guard_audit_partition('audit_default');
    END IF;
    -- Inserted last, as the new default partition may be the one that takes the entry.
    INSERT INTO audit (action, kind, id, belongs_to, caller, row_count)
    VALUES ('erased', 'audit', name, 'audit', session_user, entries);
    RETURN 'dropped';
END
$$;

COMMENT ON FUNCTION drop_audit_partition IS
    'Drops the oldest partition of the audit if all its entries are older than that time, and '
    'adds an entry with their number. Returns "dropped"; "busy": the audit was read in each '
    'attempt; null: no partition is that old. For administrators.';
