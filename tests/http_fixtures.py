# SPDX-License-Identifier: Apache-2.0
"""The fixtures of tests/http, for other tests: `from http_fixtures import *` in a conftest.py."""

import pathlib
import runpy
import sys

HTTP = pathlib.Path(__file__).resolve().parent / "http"

# For `from conftest import ...` in the modules there.
sys.path.insert(0, str(HTTP))
globals().update({name: value for name, value in runpy.run_path(HTTP / "conftest.py").items()
                  if not name.startswith("__")})
