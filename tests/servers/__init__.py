# SPDX-License-Identifier: Apache-2.0
"""Private servers for the demo and the tests.

A PostgreSQL and an httpd, each in its own directory, listening on the loopback only, and
stopped by process id.
"""

from .common import (IS_ROOT, MODULE, POSTGRES, ROOT, Log, Server, ServerError,   # noqa: F401
                     can_bind, environment, free_port, private, resident, wait_until)
from .httpd import MODULES, Httpd, apxs, is_sanitized   # noqa: F401
from .postgres import Postgres   # noqa: F401
from .site import (ALL_SCOPES, EXPLORER_MODULES, OF_THE_EXAMPLE, TENANT_MOUNT,   # noqa: F401
                   Certificates, Explorer, TokenIssuer, example_site, relaxed, strict_site,
                   token_claims, with_openidc)
