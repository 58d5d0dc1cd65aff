# SPDX-License-Identifier: Apache-2.0
"""Uses the fixtures of tests/http."""

import pathlib
import runpy
import sys

HTTP = pathlib.Path(__file__).resolve().parent.parent / "http"

# For `from conftest import ...` in the modules there.
sys.path.insert(0, str(HTTP))
globals().update({name: value for name, value in runpy.run_path(HTTP / "conftest.py").items()
                  if not name.startswith("__")})
