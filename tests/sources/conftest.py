# SPDX-License-Identifier: Apache-2.0
"""Uses the fixtures of tests/http."""

from http_fixtures import *   # noqa: F401, F403
