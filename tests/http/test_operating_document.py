# SPDX-License-Identifier: Apache-2.0
"""docs/operating.md is correct: its numbers of connections, its metrics and alerts, its directives.
Its commands are run by tests/package.py and by the tests that it names. docs/troubleshooting.md
has a section for every status.

The guards find a table that has become wrong because a metric, an alert, a default or a status
changed.
"""

import concurrent.futures
import json
import re
import sys

import servers
import test_alerts
from faults import (CHILD, MODULES, MOUNTS, Caller, database,   # noqa: F401
                    own_postgres, postgres_to_break)
from test_alerts import exposition   # noqa: F401, a fixture

sys.path.insert(1, str(servers.ROOT / "tests"))
import documents  # noqa: E402

DOCUMENT = (servers.ROOT / "docs" / "operating.md").read_text()
EXAMPLE_SITE = (servers.ROOT / "conf" / "example-site.conf").read_text()


def printed(section):
    [(block, _)] = documents.chosen("docs/operating.md", section,
                                    "tests/http/test_operating_document.py")
    return block.text


# --- Sizes ---------------------------------------------------------------------------------

def sizes(text):
    """The rows of the table of sizes, as numbers."""
    return [tuple(map(int, row)) for row in
            re.findall(r"(?m)^\|" + r" (\d+) \|" * 7 + "$", text)]


def wrong_sizes(text):
    """The rows that do not fit the formulas above them."""
    reserve = int(re.search(r"max_connections ≥ connections \+ (\d+)", text)[1])
    return [row for row in sizes(text)
            for hosts, workers, threads, children, most, connections, allowed in [row]
            if (children, connections) != (workers // threads, 2 * hosts * children * most)
            or allowed < connections + reserve]


def test_documented_sizes_equal_the_formulas():
    assert len(sizes(DOCUMENT)) >= 5
    assert wrong_sizes(DOCUMENT) == []
    # Debian's numbers and the example site's DBDMax are what the text says: one too many.
    most = int(re.search(r"DBDMax +(\d+)", EXAMPLE_SITE)[1])
    hosts, workers, threads, children, fits, *_ = sizes(DOCUMENT)[0]
    assert (workers, threads, fits) == (150, 25, most - 1)
    assert 2 * children * most + 13 > 100
    assert wrong_sizes(DOCUMENT.replace("| 7 | 84 |", "| 8 | 96 |"))
    assert wrong_sizes(DOCUMENT.replace("| 7 | 84 |", "| 7 | 83 |"))


TWO_CHILDREN = """
ServerLimit 4
StartServers 2
ThreadLimit 8
ThreadsPerChild 8
MaxRequestWorkers 16
MinSpareThreads 1
MaxSpareThreads 16
"""


def test_graceful_restart_doubles_connections(start_httpd, postgres_to_break):
    """2 child processes, DBDMax 2: 4 connections, and 8 while two generations run."""
    site = (TWO_CHILDREN + MOUNTS + "RegistrationBatchSize 1\n"
            + database(postgres_to_break.dsn(), most=2, timeout=30))
    httpd = start_httpd(site, modules=MODULES)
    session = postgres_to_break.live_session()

    def register():
        with Caller(httpd) as one:
            return one.register(session).status_code

    def wait_for(connections):
        servers.wait_until(lambda: len(postgres_to_break.backends()) == connections, 20,
                           f"there were not {connections} connections")
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        with postgres_to_break.locked(session):
            answers = [pool.submit(register) for _ in range(12)]
            wait_for(4)
            httpd.graceful()
            answers += [pool.submit(register) for _ in range(12)]
            wait_for(8)
        assert {answer.result() for answer in answers} == {201}
    assert len(postgres_to_break.backends()) <= 8


# --- Tables --------------------------------------------------------------------------------

def section(text, heading):
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def named_metrics(text):
    return set(re.findall(r"`(registration_\w+)`", section(text, "Monitor")))


def test_documented_metrics_equal_exported_ones(exposition):
    exported = set(re.findall(r"(?m)^# TYPE (\w+)", exposition))
    assert named_metrics(DOCUMENT) == exported
    without = DOCUMENT.replace("`registration_processes`", "")
    assert exported - named_metrics(without) == {"registration_processes"}


def listed_alerts(text):
    return set(re.findall(r"`(Registration\w+)`", section(text, "Alert"))) \
        - {"RegistrationConnections"}


def test_documented_alerts_equal_the_rules():
    rules = test_alerts.RULES.read_text()
    severities = dict(re.findall(r"(?s)- alert: (\w+)\n.*?severity: (\w+)", rules))
    assert listed_alerts(DOCUMENT) == set(severities)
    rows = re.findall(r"(?m)^\| (`Registration.*?) \| (critical|warning) \|", DOCUMENT)
    assert {(name, severity) for names, severity in rows
            for name in re.findall(r"\w+", names)} == set(severities.items())
    assert listed_alerts(DOCUMENT.replace("`RegistrationFault`", "")) != set(severities)


def described_statuses():
    description = json.loads((servers.ROOT / "src" / "api" / "openapi.json").read_text())
    return {status for operations in description["paths"].values()
            for operation in operations.values() if "responses" in operation
            for status in operation["responses"] if status >= "400" and status.isdigit()}


def explained_statuses(text):
    return set(re.findall(r"(?m)^### Status (\d+)$", text))


def test_each_error_status_of_the_apis_is_explained():
    text = (servers.ROOT / "docs" / "troubleshooting.md").read_text()
    assert len(described_statuses()) > 8
    assert described_statuses() <= explained_statuses(text)
    assert described_statuses() - explained_statuses(text.replace("Status 409", "Status 499")) \
        == {"409"}


# --- Directives ----------------------------------------------------------------------------

def test_documented_access_log_equals_example_site():
    assert printed("Logs") in EXAMPLE_SITE.replace("    LogFormat", "LogFormat")


def test_scrape_configuration_is_valid(tmp_path):
    """It names the rules at their place in the package."""
    [(block, _)] = documents.chosen("docs/operating.md", "Monitor", "tests/http/test_alerts.py")
    rules = tmp_path / "rules.yml"
    rules.write_text(test_alerts.RULES.read_text())
    place = "/usr/share/mod_registration/registration-alerts.yml"
    assert place in block.text
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(block.text.replace(place, str(rules)))
    status, said = test_alerts.promtool("check", "config", configuration)
    assert (status, "15 rules found" in said) == (0, True), said
    configuration.write_text(block.text.replace("scheme: https", "scheme: gopher: x"))
    assert test_alerts.promtool("check", "config", configuration)[0] != 0


def test_directives_of_several_database_hosts_start(start_httpd, tmp_path):
    """The names are not resolved here, so each counts as one address."""
    directives = printed("Several database hosts")
    site = CHILD + MOUNTS + "DBDriver pgsql\nDBDMin 0\nDBDKeep 8\nDBDMax 8\n" + directives
    assert start_httpd(site, modules=MODULES, start=False).refusal() is None
    # The control: too short a time for two hosts.
    refused = start_httpd(site.replace("Timeout 9", "Timeout 4"), modules=MODULES, start=False)
    assert "connect_timeout times" in refused.refusal()
