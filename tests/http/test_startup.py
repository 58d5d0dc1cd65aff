# SPDX-License-Identifier: Apache-2.0
"""Startup: httpd refuses an invalid configuration, with a helpful message."""

import json
import os
import pathlib
import re
import subprocess
import time
import uuid

import pytest
import requests

import faults
import mount_namespace
import servers
from mount_namespace import names   # noqa: F401, a fixture

API = 'RegistrationAPI events'

# The context of a line, the line, and words of the error.
WRONG = [
    ("location", "RegistrationAPI lives", ["RegistrationAPI", "lives", "events"]),
    ("location", "RegistrationAPI", ["RegistrationAPI"]),
    ("host", "RegistrationAPI live", ["RegistrationAPI", "not allowed"]),
    ("pattern", "RegistrationAPI live", ["RegistrationAPI", "Location"]),
    ("directory", "RegistrationAPI live", ["RegistrationAPI", "Location"]),
    ("host", "RegistrationMaxBody 0", ["RegistrationMaxBody", "0", "1", "1073741824"]),
    ("host", "RegistrationMaxBody 1073741825",
     ["RegistrationMaxBody", "1073741825", "1073741824"]),
    ("location", "RegistrationMaxBody 10k", ["RegistrationMaxBody", "10k", "1073741824"]),
    ("location", "RegistrationMaxBody 99999999999999999999", ["RegistrationMaxBody"]),
    ("location", "RegistrationMaxFields 1", ["RegistrationMaxFields", "1", "2", "1048576"]),
    ("host", "RegistrationMaxFields 1048577", ["RegistrationMaxFields", "1048577"]),
    ("location", "RegistrationMaxPageSize 0", ["RegistrationMaxPageSize", "0", "10000"]),
    ("location", "RegistrationMaxPageSize 10001", ["RegistrationMaxPageSize", "10001"]),
    ("location", "RegistrationMaxPageSize ten", ["RegistrationMaxPageSize", "ten"]),
    ("location", "RegistrationPasswordCost 3", ["RegistrationPasswordCost", "3", "4", "17"]),
    ("location", "RegistrationPasswordCost 18", ["RegistrationPasswordCost", "18", "4", "17"]),
    ("location", "RegistrationGroupsPath api/v1/groups",
     ["RegistrationGroupsPath", "api/v1/groups", "/"]),
    ("location", "RegistrationIdempotencyTTL 0",
     ["RegistrationIdempotencyTTL", "0", "1", "31536000"]),
    ("location", "RegistrationIdempotencyTTL 31536001", ["RegistrationIdempotencyTTL"]),
    ("host", "RegistrationIdempotencyTTL 1d", ["RegistrationIdempotencyTTL", "1d"]),
    ("location", "RegistrationOrganization %{reqenv:", ["RegistrationOrganization"]),
    ("location", "RegistrationOrganization %{env:ORG}",
     ["RegistrationOrganization", "%{reqenv:...}"]),
    ("location", "RegistrationAPI live\nRegistrationAPI groups",
     ["RegistrationAPI live", "RegistrationAPI groups", "<Location>"]),
    ("location", "RegistrationAPI live\nRegistrationOrganization %{reqenv:ORG}",
     ["REG0106", "RegistrationOrganization", "httpd.conf:", "events"]),
    ("location", "RegistrationOrganization %{reqenv:ORG}", ["REG0106"]),
    ("location", "Require registration-scope", ["registration-scope"]),
    ("host", "RegistrationTimeout 2", ["RegistrationTimeout", '"2"', "from 3 to 60"]),
    ("host", "RegistrationTimeout 61", ["RegistrationTimeout", '"61"', "from 3 to 60"]),
    ("host", "RegistrationTimeout 5s", ["RegistrationTimeout", "5s", "from 3 to 60"]),
    ("location", "RegistrationTimeout 5", ["RegistrationTimeout"]),
    ("host", "RegistrationConnections 0", ["RegistrationConnections", "0"]),
    ("host", "RegistrationConnections 11", ["RegistrationConnections", "11", "DBDMax"]),
    ("host", "RegistrationConnections many", ["RegistrationConnections", "many"]),
    ("host", "RegistrationListThreads 0", ["RegistrationListThreads", "0", "1"]),
    ("main", "RegistrationHashing 0", ["RegistrationHashing", "0", "1", "1000"]),
    ("main", "RegistrationHashing 1001", ["RegistrationHashing", "1001", "1000"]),
    ("host", "RegistrationHashing 1", ["RegistrationHashing", "<VirtualHost>"]),
    ("location", "RegistrationHashing 1", ["RegistrationHashing"]),
    ("host", "RegistrationSearches 0", ["RegistrationSearches", "0"]),
    ("host", "RegistrationSearches 9",
     ["RegistrationSearches", "9", "RegistrationConnections", "8"]),
    ("location", "RegistrationSearches 1", ["RegistrationSearches"]),
    ("host", "RegistrationTurns -1", ["RegistrationTurns", "-1", "from 0 to 64"]),
    ("host", "RegistrationTurns 65", ["RegistrationTurns", "65", "from 0 to 64"]),
    ("location", "RegistrationTurns 1", ["RegistrationTurns"]),
    ("host", f"RegistrationLogKey {'0' * 31}", ["RegistrationLogKey", "32 hex digits"]),
    ("host", f"RegistrationLogKey {'0' * 31}g", ["RegistrationLogKey", "32 hex digits"]),
    ("location", f"RegistrationLogKey {'0' * 32}", ["RegistrationLogKey"]),
]

AROUND = {"main": "{}",
          "host": "{}",
          "location": '<Location "/wrong">\n{}\n</Location>',
          "pattern": '<Location ~ "^/wrong">\n{}\n</Location>',
          "directory": '<Directory "/wrong">\n{}\n</Directory>'}


@pytest.mark.parametrize("where, line, words", WRONG, ids=[f"{w}: {l}" for w, l, _ in WRONG])
def test_invalid_directive_is_refused(start_httpd, where, line, words):
    place = "extra" if where == "main" else "inside"
    refusal = start_httpd(**{place: AROUND[where].format(line)}, start=False).refusal()
    assert refusal is not None, "httpd started"
    assert all(word in refusal for word in words), refusal


RIGHT = ["RegistrationMaxBody 1", "RegistrationMaxBody 1073741824",
         "RegistrationMaxFields 2", "RegistrationMaxFields 1048576",
         "RegistrationMaxPageSize 1", "RegistrationMaxPageSize 10000",
         "RegistrationPasswordCost 4", "RegistrationPasswordCost 17",
         "RegistrationIdempotencyTTL 1", "RegistrationIdempotencyTTL 31536000",
         "RegistrationTimeout 3", "RegistrationTimeout 60", "RegistrationConnections 1",
         "RegistrationConnections 8",
         "RegistrationSearches 1", "RegistrationSearches 8",
         "RegistrationTurns 0", "RegistrationTurns 64",
         "RegistrationListThreads 1", "RegistrationListThreads 10000",
         f"RegistrationLogKey {'0aF9' * 8}", "RegistrationGroupsPath /groups"]
RIGHT_IN_MAIN = ["RegistrationHashing 1", "RegistrationHashing 1000"]


def test_limit_values_are_accepted(start_httpd):
    for place, lines in (("inside", RIGHT), ("extra", RIGHT_IN_MAIN)):
        for line in lines:
            assert start_httpd(**{place: line}, start=False).refusal() is None, line


def test_api_without_mod_dbd_is_refused(start_httpd):
    site = '<Location "/events">\nRegistrationAPI events\n</Location>'
    modules = [module for module in servers.MODULES if module != "dbd"]
    refusal = start_httpd(site, modules=modules, start=False).refusal()
    assert "mod_dbd" in refusal


def test_api_without_driver_pgsql_is_refused(start_httpd):
    site = '<Location "/events">\nRegistrationAPI events\n</Location>'
    refusal = start_httpd(site, start=False).refusal()
    assert "DBDriver" in refusal and "pgsql" in refusal


def configtest(httpd, *inside):
    """Exit status and output lines of `httpd -t`, run by the command `inside`."""
    httpd.write_configuration()
    result = subprocess.run([*inside, *httpd.command("-t")], env=httpd.environment(),
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return result.returncode, result.stdout.splitlines()


@pytest.fixture
def without_drivers():
    """A command that runs another one without APR's database drivers."""
    [drivers] = pathlib.Path("/usr/lib").glob("*/apr-util-1")
    return mount_namespace.command(f"mount -t tmpfs none {drivers}")


def test_missing_driver_is_reported_with_its_package(start_httpd, without_drivers):
    httpd = start_httpd(start=False)
    status, [ours, *others] = configtest(httpd, *without_drivers)
    assert status == 1
    assert "REG0105: " in ours and "apt install libaprutil1-dbd-pgsql" in ours
    # conf/registration.conf quotes it.
    assert "Can't load driver file apr_dbd_pgsql.so" in others[-1]
    assert configtest(httpd) == (0, ["Syntax OK"])


def test_missing_driver_without_api_is_not_reported(start_httpd, without_drivers):
    for site in ("DBDriver pgsql", '<Location "/x">\nRegistrationAPI openapi\n</Location>'):
        _, lines = configtest(start_httpd(site, start=False), *without_drivers)
        assert "REG0105" not in str(lines)


POOL = [
    ("DBDKeep    8", "DBDKeep 9", ["DBDKeep 9", "DBDMax 8"]),
    ("DBDMin     0", "DBDMin 9", ["DBDMin 9", "DBDKeep 8"]),
    ("DBDKeep    8\n    DBDMax     8", "DBDMax 1", ["DBDKeep 2", "DBDMax 1"]),
    ("DBDMax     8", "DBDMax 0", ["DBDMax 0"]),
    ("DBDParams ", "#", ["DBDParams", "connect_timeout"]),
    (" connect_timeout=2", " hots=x connect_timeout=2", ["DBDParams", '"hots"']),
    (" connect_timeout=2", "", ["DBDParams", "connect_timeout"]),
    (" connect_timeout=2", " connect_timeout=5", ["RegistrationTimeout", "5 s"]),
    ("host=127.0.0.1", "host=127.0.0.1,127.0.0.2,127.0.0.3", ["RegistrationTimeout", "6 s"]),
    (" connect_timeout=2", " connect_timeout=3\"\n RegistrationTimeout 3\nDefine x \"",
     ["RegistrationTimeout", "3 s"]),
]


@pytest.mark.parametrize("right, wrong, words", POOL, ids=[w or "none" for _, w, _ in POOL])
def test_invalid_pool_settings_are_refused(start_httpd, right, wrong, words):
    def change(site):
        assert site.count(right) == 1
        return site.replace(right, wrong)
    refusal = start_httpd(change=change, start=False).refusal()
    assert refusal is not None, "httpd started"
    assert all(word in refusal for word in words), refusal


# --- Warnings, and refused access settings -------------------------------------------------

GRANTED = "Require all granted\n"
OPEN = '<Location "/open">\n  RegistrationAPI events\n{}</Location>'


def warnings(httpd, tag):
    return [line for line in httpd.log.text().splitlines() if f"{tag}: " in line]


@pytest.fixture
def start_open(start_httpd, postgres, expect_log):
    """Starts an httpd without TLS, whose main server has only these lines."""
    expect_log("REG010[34]: ")

    def start(*lines, **options):
        pool = ('DBDriver pgsql\nDBDMin 0\nDBDKeep 8\nDBDMax 8\n'
                f'DBDParams "{postgres.dsn(connect_timeout=2)}"')
        return start_httpd("\n".join((pool, *lines)), **options)
    return start


def test_example_site_has_no_warning(httpd):
    assert "REG010" not in httpd.log.text()


def test_api_without_require_is_refused(start_open):
    refusal = start_open(OPEN.format(""), start=False).refusal()
    for word in ("REG0103", "events", "/open", "httpd.conf:", "Require valid-user",
                 "Require all granted"):
        assert word in refusal
    status, lines = configtest(start_open(OPEN.format(""), start=False))
    assert status != 0 and "REG0103: " in str(lines)


@pytest.mark.parametrize("api", ["live", "metrics", "health", "status"])
def test_only_openapi_needs_no_require(start_httpd, postgres, api):
    line = f'<Location "/open">\nRegistrationAPI {api}\n</Location>'
    pool = f'DBDriver pgsql\nDBDParams "{postgres.dsn(connect_timeout=2)}"'
    assert "REG0103" in start_httpd(f"{pool}\n{line}", start=False).refusal()
    line = '<Location "/open">\nRegistrationAPI openapi\n</Location>'
    assert start_httpd(line, start=False).refusal() is None


REQUIRED = {
    "there": OPEN.format("Require all granted\n"),
    "there, deeper": OPEN.format("<RequireAny>\nRequire method POST\n</RequireAny>\n"),
    "above": OPEN.format("") + '\n<Location "/">\nRequire all granted\n</Location>',
    "above, unquoted": OPEN.format("") + "\n<Location /open/>\nRequire all granted\n</Location>",
    "in another section": OPEN.format("") + '\n<Location "/open">\nRequire all granted\n'
                                            "</Location>",
    "in a module's section": "<IfModule authz_core_module>\n"
                             + OPEN.format("Require all granted\n") + "\n</IfModule>",
    "in a module's section there": OPEN.format(
        "<IfModule authz_core_module>\nRequire all granted\n</IfModule>\n"),
}
OPEN_STILL = {
    "beside": OPEN.format("") + '\n<Location "/ope">\nRequire all granted\n</Location>',
    "below": OPEN.format("") + '\n<Location "/open/x">\nRequire all granted\n</Location>',
    "for files": OPEN.format("") + '\n<Directory "/">\nRequire all denied\n</Directory>',
    "in a pattern": OPEN.format("") + '\n<LocationMatch "^/admin">\nRequire all denied\n'
                                      "</LocationMatch>",
    "in a wildcard": OPEN.format("") + '\n<Location "/o*">\nRequire all denied\n</Location>',
    "for a method": OPEN.format("<Limit DELETE>\nRequire all denied\n</Limit>\n"),
    "but for a method": OPEN.format("<LimitExcept GET>\nRequire all denied\n</LimitExcept>\n"),
    "on a condition": OPEN.format("<If \"false\">\nRequire all denied\n</If>\n"),
    "in another host": OPEN.format("") + '\n<VirtualHost *:*>\nServerName https://x.example\n'
                       '<Location "/">\nRequire all granted\n</Location>\n</VirtualHost>',
}


@pytest.mark.parametrize("lines", REQUIRED.values(), ids=REQUIRED)
def test_api_with_require_starts(start_open, lines):
    assert start_open(lines, start=False).refusal() is None


@pytest.mark.parametrize("lines", OPEN_STILL.values(), ids=OPEN_STILL)
def test_require_in_other_context_does_not_count(start_open, lines):
    assert "REG0103" in start_open(lines, start=False).refusal()


ACCESS_COMPAT = "LoadModule access_compat_module {}/mod_access_compat.so".format(
    servers.apxs("LIBEXECDIR"))
SATISFIED = {
    "there": OPEN.format(GRANTED + "Satisfy Any\n"),
    "above": OPEN.format(GRANTED) + '\n<Location "/">\nsatisfy any\n</Location>',
    "on a condition": OPEN.format(GRANTED + '<If "true">\nSatisfy Any\n</If>\n'),
    "behind another": OPEN.format(GRANTED + "<Limit GET>\nSatisfy All\n</Limit>\nSatisfy Any\n"),
    "in a host": "<VirtualHost *:*>\n" + OPEN.format(GRANTED + "Satisfy Any\n")
                 + "\n</VirtualHost>",
}


@pytest.mark.parametrize("lines", SATISFIED.values(), ids=SATISFIED)
def test_api_with_satisfy_any_is_refused(start_open, lines):
    refusal = start_open(ACCESS_COMPAT, lines, start=False).refusal()
    assert refusal is not None, "httpd started"
    assert "REG0111: Satisfy Any (" in refusal and "at /open" in refusal
    allowed = lines.replace("Any", "All").replace("any", "all")
    assert start_open(ACCESS_COMPAT, allowed, start=False).refusal() is None


def mounts(*pairs):
    return "\n".join(f'<Location "{path}">\nRegistrationAPI {api}\n{GRANTED}</Location>'
                     for path, api in pairs)


HIDDEN = {
    "twice": mounts(("/a", "events"), ("/a", "events")),
    "twice, others between": mounts(("/a", "live"), ("/b", "live"), ("/a", "live")),
    "two at one path": mounts(("/a", "groups"), ("/a", "users")),
    "above, later": mounts(("/a/b", "live"), ("/a", "families")),
    "the description as well": mounts(("/a/b", "openapi"), ("/a", "live")),
    "in a module's section": mounts(("/a", "live")) + "\n<IfModule authz_core_module>\n"
                             + mounts(("/a", "events")) + "\n</IfModule>",
    "in a host": "<VirtualHost *:*>\n" + mounts(("/a", "live"), ("/a", "live"))
                 + "\n</VirtualHost>",
}
REACHED = {
    "beside": mounts(("/a", "live"), ("/ab", "live"), ("/b", "live")),
    "above, first": mounts(("/a", "families"), ("/a/b", "live")),
    "settings later": mounts(("/a", "events")) + '\n<Location "/a">\nRegistrationMaxBody 1\n'
                      '</Location>\n<Location "/">\nRegistrationMaxBody 1\n</Location>',
    "in two hosts": "\n".join(f"<VirtualHost *:*>\nServerName https://{name}.example\n"
                              + mounts(("/a", api)) + "\n</VirtualHost>"
                              for name, api in (("one", "live"), ("two", "events"))),
    "otherwise in a host": mounts(("/a", "live")) + "\n<VirtualHost *:*>\n"
                           + mounts(("/a", "events")) + "\n</VirtualHost>",
}


@pytest.mark.parametrize("lines", HIDDEN.values(), ids=HIDDEN)
def test_hidden_api_is_refused(start_open, lines):
    refusal = start_open(lines, start=False).refusal()
    assert refusal is not None, "httpd started"
    assert re.search(r"REG0110: RegistrationAPI \w+ at (/a|/a/b) \(\S+httpd.conf:\d+\) is hidden"
                     r" by RegistrationAPI \w+ at /a \(\S+httpd.conf:\d+\)", refusal), refusal
    status, lines = configtest(start_open(lines, start=False))
    assert status != 0 and "REG0110: " in str(lines)


@pytest.mark.parametrize("lines", REACHED.values(), ids=REACHED)
def test_reachable_apis_start(start_open, lines):
    assert start_open(lines, start=False).refusal() is None


ORGANIZATION_LINE = "RegistrationOrganization %{reqenv:ORG}\n"


@pytest.mark.parametrize("lines", [
    OPEN.format(GRANTED + ORGANIZATION_LINE),
    OPEN.format("") + f'\n<Location "/">\n{GRANTED}{ORGANIZATION_LINE}</Location>',
    OPEN.format(GRANTED) + f'\n<LocationMatch "^/o">\n{ORGANIZATION_LINE}</LocationMatch>',
    OPEN.format(GRANTED + f"<If \"true\">\n{ORGANIZATION_LINE}</If>\n"),
], ids=["there", "above", "pattern", "condition"])
def test_organization_for_events_starts(start_open, lines):
    assert start_open(lines, start=False).refusal() is None


def test_missing_organization_is_logged_as_warning_once_a_minute(start_open, expect_log):
    expect_log("REG0202: ")
    httpd = start_open(faults.CHILD, OPEN.format(GRANTED + ORGANIZATION_LINE))
    for _ in range(5):
        assert requests.get(f"http://127.0.0.1:{httpd.port}/open").status_code == 403
    lines = warnings(httpd, "REG0202")
    assert [":warn]" in line for line in lines] == [True, False, False, False, False]


# --- The connection to PostgreSQL -------------------------------------------------------------

PROTECTION = {"host=db.example.org": True, "host=192.0.2.1": True,
              "host=/run/postgresql,192.0.2.1": True,
              "host=db.example.org sslmode=require": True,
              "host=localhost hostaddr=192.0.2.1": True,
              "host=192.0.2.1 sslmode=verify-full": False, "host=/run/postgresql": False,
              "host=127.0.0.2": False, "host=localhost": False, "hostaddr=::1": False,
              "user=x": False}


@pytest.mark.parametrize("host, is_warned", PROTECTION.items(), ids=PROTECTION)
def test_unencrypted_connection_to_postgresql_is_a_warning(start_httpd, host, is_warned):
    httpd = start_httpd("ServerName https://localhost\nDBDriver pgsql\n"
                        f'DBDParams "{host} connect_timeout=2"\n'
                        + OPEN.format(GRANTED), start=False)
    status, lines = configtest(httpd)
    assert (status, "REG0107: " in str(lines)) == (0, is_warned), lines


def test_timeout_check_counts_addresses_not_names(start_httpd, names):
    """libpq applies connect_timeout to each address of a name."""
    httpd = start_httpd("DBDriver pgsql\nRegistrationTimeout 5\n"
                        'DBDParams "host=one.test,two.test connect_timeout=2"\n'
                        + OPEN.format(GRANTED), start=False)
    names.are("127.0.0.1 one.test", "127.0.0.1 two.test")
    status, lines = configtest(httpd, *names.within)
    assert status == 0, lines
    names.are("127.0.0.1 one.test", "127.0.0.1 two.test", "::1 two.test")
    status, lines = configtest(httpd, *names.within)
    assert status == 1
    assert "RegistrationTimeout" in str(lines) and "2 times 3, 6 s" in str(lines)


def test_silent_resolver_does_not_delay_startup(start_httpd, names):
    httpd = start_httpd("DBDriver pgsql\n"
                        'DBDParams "host=one.test connect_timeout=2"\n'
                        + OPEN.format(GRANTED), start=False)
    begin = time.monotonic()
    status, lines = configtest(httpd, *names.within)
    assert status == 0, lines
    # Negative control: the resolver does not answer for ten seconds.
    assert 2.5 < time.monotonic() - begin < 9


# --- Threads ---------------------------------------------------------------------------------

THREADS = "ThreadsPerChild {0}\nMaxRequestWorkers {0}\nMinSpareThreads 1\nMaxSpareThreads {0}\n"
SHIPPED = (servers.ROOT / "conf" / "registration-mpm.conf").read_text()
LARGE = "RegistrationBatchSize 64"


def test_fewer_threads_than_a_batch_is_a_warning(start_httpd, expect_log):
    expect_log("REG0113: ")
    httpd = start_httpd(extra=THREADS.format(25), inside=LARGE)
    [line] = warnings(httpd, "REG0113")
    assert "ThreadsPerChild 25" in line and "RegistrationBatchSize 64" in line
    httpd.graceful()
    assert len(warnings(httpd, "REG0113")) == 2   # once per configuration load


def test_lines_of_the_warning_end_it(start_httpd, expect_log):
    expect_log("REG0113: ")
    [line] = warnings(start_httpd(extra=THREADS.format(25), inside=LARGE), "REG0113")
    assert (lines := line.partition("write: ")[2].replace(", ", "\n")).count("\n") == 2
    assert not warnings(start_httpd(extra=THREADS.format(25) + lines, inside=LARGE), "REG0113")


@pytest.mark.parametrize("options", [
    {"extra": THREADS.format(25), "inside": "RegistrationBatchSize 25"},
    {"extra": SHIPPED},
    {"extra": THREADS.format(25) + SHIPPED}], ids=["small batches", "shipped", "shipped later"])
def test_threads_for_batches_are_no_warning(start_httpd, options):
    assert warnings(start_httpd(**options), "REG0113") == []


def test_shipped_settings_have_one_child_process_and_no_extended_status(start_httpd):
    httpd = start_httpd("<Location /server-status>\nSetHandler server-status\n</Location>\n"
                        f"ExtendedStatus On\n{SHIPPED}", modules=("authz_core", "status"))
    status = requests.get(f"http://127.0.0.1:{httpd.port}/server-status?auto", timeout=30).text
    assert "Processes: 1\n" in status and "Total Accesses" not in status
    threads = re.search(r"(?m)^Define REGISTRATION_THREADS (\d+)$", SHIPPED)[1]
    [scoreboard] = re.findall(r"(?m)^Scoreboard: (.*)$", status)
    assert len(scoreboard.replace(".", "")) == int(threads)


# --- Without TLS -------------------------------------------------------------------------------

def test_api_without_tls_is_a_warning(start_open):
    httpd = start_open("ServerName http://www.example.org", OPEN.format("Require all granted\n"))
    [line] = warnings(httpd, "REG0104")
    assert "SSLEngine on" in line and "ServerName https://www.example.org" in line
    httpd.graceful()
    assert len(warnings(httpd, "REG0104")) == 2   # once per configuration load


def test_host_with_metrics_only_and_without_tls_is_a_warning(start_httpd, expect_log):
    expect_log("REG0104: ")
    httpd = start_httpd('ServerName http://www.example.org\n<Location "/metrics">\n'
                        f"RegistrationAPI metrics\n{GRANTED}</Location>")
    assert len(warnings(httpd, "REG0104")) == 1


def test_api_behind_tls_proxy_is_no_warning(start_open):
    httpd = start_open("ServerName https://www.example.org",
                       OPEN.format("Require all granted\n"))
    assert warnings(httpd, "REG0104") == []


def test_host_with_ssl_engine_off_is_a_warning(start_httpd, expect_log):
    expect_log("REG0104: ")
    httpd = start_httpd(change=lambda site: re.sub(
        r"(?m)^ *SSL\w+ .*\n", "", site).replace("TraceEnable", "SSLEngine off\nTraceEnable"))
    assert len(warnings(httpd, "REG0104")) == 1


def test_configtest_prints_warnings(start_open):
    httpd = start_open(OPEN.format(GRANTED), "ServerName http://www.example.org", start=False)
    status, lines = configtest(httpd)
    assert (status, sum("REG0104: " in line for line in lines)) == (0, 1)


def test_unconfigured_module_is_inert(start_httpd, certificates, tmp_path):
    """Without mod_dbd and mounts, answers are those of an httpd without the module."""
    (tmp_path / "site").mkdir(mode=0o755)
    (tmp_path / "site" / "page.txt").write_text("a page")
    site = "ServerSignature Off"
    answers = []
    for registration in (servers.MODULE, None):
        httpd = start_httpd(site, modules=["authz_core"], registration=registration)
        base = f"http://127.0.0.1:{httpd.port}"
        answers.append([
            (answer.status_code, answer.headers.get("Content-Type"), answer.text)
            for answer in (requests.get(base + "/v1/families", timeout=30),
                           requests.post(base + "/v1/families", json={}, timeout=30),
                           requests.delete(base + "/", timeout=30))])
    assert answers[0] == answers[1]
    assert answers[0][0][0] == 404


def test_example_site_serves_each_api(api, admin, live_session, occurrence, group):
    """The shared httpd runs it."""
    someone = f"{uuid.uuid4()}@example.org"
    path = f"/v1/sessions/{live_session()}/register"
    assert api.post(path, json={"guest_email": someone}).status_code == 201
    member = {"inviteCode": group().code, "groupMember": {"user": {"email": someone}}}
    assert api.post("/api/v1/users", json=member).status_code == 201
    one = group()
    member = {"inviteCode": one.code, "groupMember": {"user": {"email": f"x{someone}"}}}
    answer = api.post(f"/api/v1/groups/{one.id}/members", json=member)
    assert answer.status_code == 201
    assert api.get(answer.headers["Location"]).status_code == 200
    assert admin.post("/v1/families", json={}).status_code == 400
    answer = api.post("/api/v1/event-registrations",
                      json={"occurrenceId": occurrence(), "externalUserId": someone})
    assert answer.status_code == 201
    assert api.get(answer.headers["Location"]).json()["id"] == answer.json()["id"]


@pytest.mark.parametrize("mpm", ["event", "worker", "prefork"])
def test_each_mpm_serves(start_httpd, client, token, live_session, at_once, mpm, expect_log):
    expect_log(*(["REG0113: "] if mpm == "prefork" else []))   # one thread
    one = client(token, start_httpd(mpm=mpm))
    path = f"/v1/sessions/{live_session(max_participants=12)}/register"
    statuses = at_once(16, lambda n: one.post(
        path, json={"patient_id": f"patient {n}"}).status_code)
    assert sorted(statuses) == [201] * 12 + [412] * 4


def test_http2_serves(start_httpd, certificates, token, live_session):
    httpd = start_httpd(modules=(*servers.MODULES, "http2"), inside="Protocols h2 http/1.1")
    url = f"https://localhost:{httpd.port}/v1/sessions/{live_session()}/register"

    def curl(*arguments):
        output = subprocess.run(
            ["curl", "-sS", "--http2", "--noproxy", "*", "--cacert", certificates.authority,
             "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json",
             "-w", "\n%{http_version} %{http_code}", *arguments, url],
            check=True, text=True, stdout=subprocess.PIPE).stdout
        body, _, status = output.rpartition("\n")
        return status, json.loads(body)
    assert curl("-d", '{"patient_id": "one"}')[0] == "2 201"
    status, body = curl("-d", '{"patient_id": "one"}')
    assert (status, body["error"]) == ("2 409", "conflict")
    assert curl("-d", "{")[0] == "2 400"
    assert curl("-X", "PUT")[0] == "2 405"


def test_graceful_restart_loads_new_configuration(start_httpd, client, token):
    httpd = start_httpd()
    one = client(token, httpd)
    assert one.get("/api/v1/event-registrations?limit=1000").status_code == 200
    httpd.site = httpd.site.replace(
        API, f"{API}\nRegistrationMaxPageSize 5")
    httpd.graceful()
    one.close()
    assert one.get("/api/v1/event-registrations?limit=6").status_code == 400
    assert one.get("/api/v1/event-registrations?limit=5").status_code == 200


def test_graceful_restarts_fail_no_request(start_httpd, client, token, live_session,
                                           at_once):
    httpd = start_httpd()
    path = f"/v1/sessions/{live_session()}/register"

    def register_or_restart(number):
        if number == 0:
            for _ in range(3):
                httpd.graceful()
            return []
        one = client(token, httpd)
        one.headers["Connection"] = "close"   # httpd may close an idle connection.
        return [one.post(path, json={"patient_id": f"{number} {n}"}).status_code
                for n in range(20)]
    statuses = [status for some in at_once(5, register_or_restart) for status in some]
    assert statuses == [201] * 80


def test_module_exports_one_symbol():
    output = subprocess.run(["nm", "-D", "--defined-only", servers.MODULE], check=True,
                            text=True, stdout=subprocess.PIPE).stdout
    assert [line.split()[2] for line in output.splitlines()] == ["registration_module"]


def test_registration_conf_explains_each_directive(start_httpd):
    httpd = start_httpd("", modules=["authz_core"], start=False)
    httpd.write_configuration()
    output = subprocess.run(httpd.command("-L"), env=httpd.environment(), check=True,
                            text=True, stdout=subprocess.PIPE).stdout
    directives = set(re.findall(r"(?m)^(\w+) \(mod_registration\.c\)", output))
    explained = re.findall(r"(?m)^# (Registration\w+) ",
                           (servers.ROOT / "conf" / "registration.conf").read_text())
    assert directives and sorted(explained) == sorted(directives)


def test_make_install_installs_where_apache_looks(start_httpd, tmp_path):
    subprocess.run(["make", "-s", "install", f"DESTDIR={tmp_path}/root",
                    f"BUILD={servers.MODULE.parent}"], cwd=servers.ROOT, check=True)
    installed = tmp_path / "root"
    apache = installed / "etc/apache2/mods-available"
    assert "# Depends: dbd" in (apache / "registration.load").read_text().splitlines()
    assert (installed / "usr/share/mod_registration/sql/install.sql").exists()
    assert (installed / "usr/share/mod_registration/example-site.conf").exists()
    assert os.access(installed / "usr/bin/registration-schema", os.X_OK)
    library = f"{servers.apxs('LIBEXECDIR')}/mod_registration.so"
    assert f"LoadModule registration_module {library}" in (
        apache / "registration.load").read_text()
    start_httpd(f"Include {apache}/registration.conf", modules=["authz_core"],
                registration=f"{installed}{library}")
