# SPDX-License-Identifier: Apache-2.0
"""Runs a command with a private PostgreSQL, and fails if that logs anything unexpected:

    python3 tests/with_postgres.py command argument...
"""

import os
import subprocess
import sys
import tempfile

from servers import Postgres, environment


def run_with_postgres(command):
    """Runs a command with a private database; its exit status."""
    with tempfile.TemporaryDirectory(prefix="registration-") as directory:
        os.chmod(directory, 0o755)
        postgres = Postgres(directory)
        postgres.start()
        try:
            postgres.install("install.sql", "demo.sql")
            status = subprocess.run(command, env=environment(
                **postgres.variables(), REGISTRATION_DSN=postgres.dsn())).returncode
        finally:
            postgres.stop("smart")
        problems = postgres.log.problems()
        for line in problems:
            print(f"unexpected in PostgreSQL's log: {line}", file=sys.stderr)
        return status or (1 if problems else 0)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(run_with_postgres(sys.argv[1:]))
