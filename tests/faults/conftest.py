# SPDX-License-Identifier: Apache-2.0
"""Uses the fixtures of tests/http, and a module without retries for negative controls."""

import pathlib
import runpy
import sys

import pytest

import servers
from changed import changed_module

HTTP = pathlib.Path(__file__).resolve().parent.parent / "http"

# For `from conftest import ...` in the modules there.
sys.path.insert(0, str(HTTP))
globals().update({name: value for name, value in runpy.run_path(HTTP / "conftest.py").items()
                  if not name.startswith("__")})


@pytest.fixture(scope="session")
def module_without_retries(tmp_path_factory):
    """A module that does not retry a call whose connection broke."""
    return changed_module(tmp_path_factory.mktemp("without_retries") / "sources",
                          "while (verdict == REG_CALL_BROKEN", "while (0")
