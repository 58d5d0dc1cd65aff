# SPDX-License-Identifier: Apache-2.0
"""The entries of the audit."""

import types

import pytest

COLUMNS = ("at", "action", "kind", "id", "belongs_to", "status_before", "status_after",
           "caller", "request_id")


@pytest.fixture
def entries(sql):
    """entries(id="..."): those with these values, the oldest first."""
    def find(**values):
        where = " AND ".join(f"{name} = %s" for name in values)
        return [types.SimpleNamespace(**dict(zip(COLUMNS, row))) for row in sql(
            f"SELECT {', '.join(COLUMNS)} FROM audit WHERE {where} ORDER BY at",
            *values.values())]
    return find
