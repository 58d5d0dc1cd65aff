# SPDX-License-Identifier: Apache-2.0
"""A private database and httpd for tests that break something in SQL on purpose.

Tests of a class derived from OnScratch use these instead of the shared ones; the fixtures of
conftest.py that make rows and clients then use them too.
"""

import copy
import secrets

import pytest

import servers
from changed import changed_module


class OnScratch:
    broken = ""      # SQL run after the installation
    directives = ""  # appended to httpd's virtual host
    changes = ()     # of the module's sources, see changed.py

    site = staticmethod(servers.example_site)

    @staticmethod
    def change(site):
        """Turns the shared site into the one that this httpd runs."""
        return site

    @pytest.fixture(scope="class")
    def database(self, postgres):
        database = copy.copy(postgres)
        database.database = f"scratch_{secrets.token_hex(4)}"
        database.install("install.sql", "demo.sql")
        connection = database.connect()
        connection.cursor().execute(
            f"SET search_path = registration, public;\n{self.broken}")
        database.connection = connection
        yield database
        connection.close()

    @pytest.fixture(scope="class")
    def httpd(self, tmp_path_factory, certificates, issuer, database):
        port = servers.free_port()
        site = self.site(port, certificates, issuer, database)
        site = site.replace("</VirtualHost>", f"{self.directives}\n</VirtualHost>")
        module = servers.MODULE if not self.changes else changed_module(
            tmp_path_factory.mktemp("changed") / "sources", *self.changes)
        httpd = servers.Httpd(tmp_path_factory.mktemp("httpd"), self.change(site), port,
                              log_level="info", registration=module)
        httpd.start()
        yield httpd
        httpd.stop()

    @pytest.fixture
    def sql(self, database):
        def run(query, *parameters):
            with database.connection.cursor() as cursor:
                cursor.execute(query, parameters or None)
                return cursor.fetchall() if cursor.description else None
        return run
