# SPDX-License-Identifier: Apache-2.0
"""Schemathesis stands on what the HTTP tests stand on."""

import pathlib
import runpy
import sys

HTTP = pathlib.Path(__file__).resolve().parent.parent / "http"

# What is imported from "conftest" there has to be found here.
sys.path.insert(0, str(HTTP))
globals().update({name: value for name, value in runpy.run_path(HTTP / "conftest.py").items()
                  if not name.startswith("__")})
