# SPDX-License-Identifier: Apache-2.0
"""The fault tests stand on what the HTTP tests stand on, and on a module to compare with."""

import pathlib
import runpy
import sys

import pytest

import servers
from changed import changed_module

HTTP = pathlib.Path(__file__).resolve().parent.parent / "http"

# What is imported from "conftest" there has to be found here.
sys.path.insert(0, str(HTTP))
globals().update({name: value for name, value in runpy.run_path(HTTP / "conftest.py").items()
                  if not name.startswith("__")})


@pytest.fixture(scope="session")
def module_without_retries(tmp_path_factory):
    """The module without its retry of a call whose connection broke."""
    return changed_module(tmp_path_factory.mktemp("without_retries") / "sources",
                          "while (verdict == REG_CALL_BROKEN", "while (0")
