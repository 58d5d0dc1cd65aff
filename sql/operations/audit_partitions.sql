-- SPDX-License-Identifier: Apache-2.0
--
-- The audit's partitions, one a month in UTC.

CREATE OR REPLACE FUNCTION audit_month(moment timestamptz)
RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
$$;

COMMENT ON FUNCTION audit_month IS 'When the month began, in UTC, that a moment is in.';

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
    'The partitions of the audit and their bounds. The default partition has none, the '
    'oldest partition no lower one.';

-- A partition is attached, not made as one: CREATE TABLE … PARTITION OF locks the audit
-- against what adds entries. A month of which the default partition has entries gets none.
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
        month := audit_month(audit_month(now()) + make_interval(days => 31 * ahead));
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
        EXECUTE format('CREATE TRIGGER append_only_all BEFORE TRUNCATE ON %I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()', partition);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER append_only,'
                       ' ENABLE ALWAYS TRIGGER append_only_all', partition);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

COMMENT ON FUNCTION make_audit_partitions IS
    'Makes the partitions of the audit for this month and the months to come that are '
    'missing, and returns how many. For administrators.';
