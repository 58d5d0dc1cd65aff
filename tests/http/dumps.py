# SPDX-License-Identifier: Apache-2.0
"""The output of pg_dump, to compare databases."""

import re
import subprocess

import pytest

import servers


def need_pg_dump(database, restores=False):
    """Skips the test where pg_dump is older than the server, which it refuses to read. `restores`:
    also where it is newer, as it may write what the server does not know."""
    said = subprocess.run(["pg_dump", "--version"], check=True, text=True,
                          env=servers.environment(), stdout=subprocess.PIPE).stdout.strip()
    version = int(re.search(r"\d+", said)[0])
    server = int(database.psql("-c", "SHOW server_version_num", database="postgres")) // 10000
    if version < server:
        pytest.skip(f"{said} does not read PostgreSQL {server}")
    if restores and version > server:
        pytest.skip(f"{said} does not write for PostgreSQL {server}")


def dump(database, *arguments):
    """The output without its random word, with times in UTC."""
    need_pg_dump(database)
    text = subprocess.run(["pg_dump", *arguments], check=True, text=True, stdout=subprocess.PIPE,
                          env=servers.environment(PGTZ="UTC", **database.variables())).stdout
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", text)
