# SPDX-License-Identifier: Apache-2.0
"""The fault tests stand on what the HTTP tests stand on, and on a module to compare with."""

import os
import pathlib
import runpy
import subprocess
import sys

import pytest

import servers

HTTP = pathlib.Path(__file__).resolve().parent.parent / "http"

# What is imported from "conftest" there has to be found here.
sys.path.insert(0, str(HTTP))
globals().update({name: value for name, value in runpy.run_path(HTTP / "conftest.py").items()
                  if not name.startswith("__")})


@pytest.fixture(scope="session")
def module_without_repeats():
    """The module as it would be if it did not make a call again whose connection broke."""
    build = servers.MODULE.parent / "without_repeats"
    subprocess.run(["make", "--no-print-directory", "-C", servers.ROOT, f"BUILD={build}",
                    "CFLAGS=-O2 -g -DREG_REPEAT_CALLS=0"],
                   check=True, stdout=subprocess.DEVNULL, env=servers.environment(
                       MAKEFLAGS="", PATH=os.environ["PATH"]))
    return build / "mod_registration.so"
