# SPDX-License-Identifier: Apache-2.0
"""The output of pg_dump, to compare databases."""

import re
import subprocess

import pytest

import servers


def need_pg_dump(database):
    """Skips the test where pg_dump is older than the server, which it refuses to read."""
    said = subprocess.run(["pg_dump", "--version"], check=True, text=True,
                          env=servers.environment(), stdout=subprocess.PIPE).stdout
    server = int(database.psql("-c", "SHOW server_version_num", database="postgres")) // 10000
    if int(re.search(r"\d+", said)[0]) < server:
        pytest.skip(f"{said.strip()} does not read PostgreSQL {server}")


def dump(database, *arguments):
    """The output without its random word, with times in UTC."""
    need_pg_dump(database)
    text = subprocess.run(["pg_dump", *arguments], check=True, text=True, stdout=subprocess.PIPE,
                          env=servers.environment(PGTZ="UTC", **database.variables())).stdout
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", text)
