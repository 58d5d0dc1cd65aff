# SPDX-License-Identifier: Apache-2.0
"""Fixture to read the audit's entries."""

import types

import pytest

COLUMNS = ("at", "action", "kind", "id", "belongs_to", "status_before", "status_after",
           "caller", "request_id")


@pytest.fixture
def entries(sql):
    """entries(id="..."): the entries with these values, oldest first."""
    def find(**values):
        where = " AND ".join(f"{name} = %s" for name in values)
        return [types.SimpleNamespace(**dict(zip(COLUMNS, row))) for row in sql(
            f"SELECT {', '.join(COLUMNS)} FROM audit WHERE {where} ORDER BY at",
            *values.values())]
    return find
