# SPDX-License-Identifier: Apache-2.0
"""Uses the fixtures of tests/http, and a module without retries for negative controls."""

import pytest

from changed import changed_module
from http_fixtures import *   # noqa: F401, F403


@pytest.fixture(scope="session")
def module_without_retries(tmp_path_factory):
    """A module that does not retry a call whose connection broke."""
    return changed_module(tmp_path_factory.mktemp("without_retries") / "sources",
                          "while (verdict == REG_CALL_BROKEN", "while (0")
