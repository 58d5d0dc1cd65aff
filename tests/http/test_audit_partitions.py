# SPDX-License-Identifier: Apache-2.0
"""make_audit_partitions() makes a partition for each month, at any date, in any time zone.

The tests set its clock: a now() in the function's schema takes precedence over PostgreSQL's.
"""

import contextlib
import datetime

import pytest

AHEAD = 2
FIRST_YEAR = datetime.date.today().year + 10   # without partitions yet


def beginning(month):
    """When a month begins; 0 is January of FIRST_YEAR."""
    return datetime.datetime(FIRST_YEAR + month // 12, month % 12 + 1, 1,
                             tzinfo=datetime.timezone.utc)


def partitions_made(cursor, zone, now, change):
    """The bounds of the partitions made at that time, in a transaction rolled back after."""
    cursor.execute("BEGIN; SET LOCAL search_path = registration, public;"
                   f" SET LOCAL TimeZone = '{zone}'")
    try:
        cursor.execute("CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql STABLE"
                       f" RETURN timestamptz '{now.isoformat()}'")
        if change:
            cursor.execute("SELECT pg_get_functiondef('make_audit_partitions'::regproc)")
            [[function]] = cursor.fetchall()
            assert function.count(change[0]) == 1
            cursor.execute(function.replace(*change))
        cursor.execute(f"SELECT make_audit_partitions({AHEAD})")
        cursor.execute("SELECT lower_bound, upper_bound FROM audit_partitions()"
                       " WHERE lower_bound >= %s ORDER BY 1", (beginning(0),))
        return cursor.fetchall()
    finally:
        cursor.execute("ROLLBACK")


def check_all_months(postgres, zone, *change):
    with contextlib.closing(postgres.connect()) as connection:
        cursor = connection.cursor()
        for month in range(12):
            expected = [(beginning(n), beginning(n + 1))
                        for n in range(month, month + AHEAD + 1)]
            last = beginning(month + 1) - datetime.timedelta(milliseconds=1)
            for now in (beginning(month), last):
                assert partitions_made(cursor, zone, now, change) == expected, \
                    now.isoformat()


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Auckland", "America/Denver"])
def test_each_month_gets_a_partition(postgres, zone):
    """Also across daylight saving changes, with days of 23 and 25 hours."""
    check_all_months(postgres, zone)


def test_control_months_counted_in_days_skip_a_month(postgres):
    """From March, April is skipped."""
    text = """(date_trunc('month', now() AT TIME ZONE 'UTC')
                  + make_interval(months => ahead)) AT TIME ZONE 'UTC'"""
    in_days = "audit_month(audit_month(now()) + make_interval(days => 31 * ahead))"
    with pytest.raises(AssertionError, match=f"{FIRST_YEAR}-03-01"):
        check_all_months(postgres, "Europe/Berlin", text, in_days)
