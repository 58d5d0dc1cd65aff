# SPDX-License-Identifier: Apache-2.0
"""A database and an httpd of their own, for tests that break something in SQL on purpose.

The tests of a class that derives from OnScratch use them in place of the shared ones, and
so do all the makers and clients of conftest.py there.
"""

import copy
import secrets

import pytest

import servers
from changed import changed_module


class OnScratch:
    broken = ""      # SQL that breaks the database once it is installed
    directives = ""  # more configuration for httpd, at the end of its virtual host
    changes = ()     # of the module's sources, as changed.py takes them

    site = staticmethod(servers.example_site)

    @staticmethod
    def change(site):
        """Makes the site that httpd runs from the one that the tests share."""
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
