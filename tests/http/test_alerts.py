# SPDX-License-Identifier: Apache-2.0
"""conf/registration-alerts.yml: promtool reads the rules, each fires in series that it is for
and in no other, and each uses metrics that the module has.

The guards are for a metric that is renamed in the module, and for an anchor whose heading is
renamed: both leave a rule that never fires, or an operator without a runbook, and no error.
"""

import re
import subprocess

import pytest
import requests

import servers
from conftest import new_uuid
from faults import (CHILD, MODULES, MOUNTS, OPERATING, Caller, caller, database,   # noqa: F401
                    own_postgres, postgres_to_break)

RULES = servers.ROOT / "conf" / "registration-alerts.yml"
SERIES = servers.ROOT / "tests" / "http" / "alerts.yml"
# Made by Prometheus itself.
PROMETHEUS_OWN = {"up"}


def promtool(*arguments):
    result = subprocess.run(["promtool", *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return result.returncode, result.stdout


def without_comments(text):
    return re.sub(r"(?m)^ *#.*\n", "", text)


def rules(text):
    """Name, expression and runbook of each rule."""
    found = {}
    for part in re.split(r"(?m)^ +- alert: ", without_comments(text))[1:]:
        expression = re.search(r"(?s)\n +expr: (?:>-)?(.*?)\n +(?:for|labels):", part)[1]
        found[part.partition("\n")[0]] = (expression, re.search(r"runbook: (.*)", part)[1])
    return found


def metrics_of(text):
    """The metrics in the expressions: `up`, and names with the module's prefix."""
    return {name for expression, _ in rules(text).values()
            for name in re.findall(r"\b(registration_\w+|up)\b(?!\")", expression)}


def labels_of(text):
    """The labels and values in the expressions: ("reason", "busy")."""
    return {(label, value) for expression, _ in rules(text).values()
            for label, values in re.findall(r'(\w+)=~?"([^"]+)"', expression)
            for value in values.split("|")}


def exported(text):
    """The metrics that a server exports: of a histogram, its series."""
    found = set()
    for name, kind in re.findall(r"(?m)^# TYPE (\w+) (\w+)$", text):
        found |= ({f"{name}{part}" for part in ("_bucket", "_sum", "_count")}
                  if kind == "histogram" else {name})
    return found


def anchors(text):
    """The anchors of a document's headings, as GitHub makes them."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"(?m)^#+ (.*)$", text)}


def lacking_runbooks(text):
    return [runbook for _, runbook in rules(text).values()
            for document, _, anchor in [runbook.partition("#")]
            if anchor not in anchors((servers.ROOT / document).read_text())]


def alerts_in(text):
    """The alerts that fire in some series, and the alerts that do not fire in some."""
    fires, rests = set(), set()
    for part in re.split(r"\n {6}- ", without_comments(text)):
        name = re.search(r"alertname: (\w+)", part)
        if name:
            (fires if "exp_labels" in part else rests).add(name[1])
    return fires, rests


def test_rules_are_valid():
    status, said = promtool("check", "rules", RULES)
    assert status == 0, said


def test_rule_fires_in_its_own_series_only():
    status, said = promtool("test", "rules", SERIES)
    assert status == 0, said
    assert alerts_in(SERIES.read_text()) == (set(rules(RULES.read_text())),
                                          set(rules(RULES.read_text())))


@pytest.mark.parametrize("pattern, replacement", [
    ("> 100", "> 1000"), (r"> 0\.05", "> 0.2"), ("for: 4m", "for: 1m"),
    (" offset 10m", ""), (r"\|breaker", ""), ('operation!~"health_.\\*"', ""),
    (r'reason="busy"', 'reason="full"')])
def test_control_changed_rule_fails_promtool(tmp_path, pattern, replacement):
    """The control of the series."""
    text, times = re.subn(pattern, replacement, RULES.read_text())
    assert times
    changed = tmp_path / "rules.yml"
    changed.write_text(text)
    series = tmp_path / "series.yml"
    series.write_text(re.sub("rule_files: .*", f"rule_files: [{changed}]", SERIES.read_text()))
    assert promtool("check", "rules", changed)[0] == 0
    assert promtool("test", "rules", series)[0] == 1


@pytest.fixture
def exposition(start_httpd, postgres):
    """The body of /metrics, after a registration and a GET of /health/ready."""
    site = CHILD + MOUNTS + database(postgres.dsn()) + OPERATING
    one = Caller(start_httpd(site, modules=MODULES))
    assert one.get("/health/ready").status_code == 200
    assert one.register(new_uuid()).status_code == 404
    text = ""

    def is_counted():
        nonlocal text
        text = one.get("/metrics").text
        return 'operation="live_register"' in text
    servers.wait_until(is_counted, 10, "nothing was counted")
    return text


def test_rules_use_exported_metrics_only(exposition):
    wanted = metrics_of(RULES.read_text()) - PROMETHEUS_OWN
    assert len(wanted) > 8
    assert wanted <= exported(exposition)
    # The control: an unknown metric is reported.
    renamed = exposition.replace("registration_queued_requests", "registration_waiting")
    assert wanted - exported(renamed) == {"registration_queued_requests"}


def test_rules_use_existing_labels_only(exposition):
    """Statuses and classes of SQLSTATE are not the module's own."""
    wanted = {(label, value) for label, value in labels_of(RULES.read_text())
              if label in ("reason", "operation")} - {("operation", "health_.*")}
    assert {label for label, _ in wanted} == {"reason", "operation"}

    def lacking(text):
        return {f'{label}="{value}"' for label, value in wanted
                if f'{label}="{value}"' not in text}
    assert lacking(exposition) == set()
    assert lacking(exposition.replace('reason="busy"', 'reason="full"')) == {'reason="busy"'}


def test_runbook_link_has_a_heading():
    text = RULES.read_text()
    assert lacking_runbooks(text) == []
    assert lacking_runbooks(text.replace("#status-500", "#status-599")) \
        == ["docs/troubleshooting.md#status-599"]


# --- A real Prometheus ---------------------------------------------------------------------

CONFIGURATION = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: registration
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


@pytest.fixture
def firing(tmp_path):
    """firing(port): starts a Prometheus that scrapes this port each second, with the rules less
    the time for which they wait; gives a function that gives the alerts that fire."""
    started = []

    def start(port):
        rules = tmp_path / "rules.yml"
        rules.write_text(re.sub(r"(?m)^ +for: .*\n", "", RULES.read_text()))
        configuration = tmp_path / "prometheus.yml"
        configuration.write_text(CONFIGURATION.format(rules=rules, port=port))
        own = servers.free_port()
        started.append(subprocess.Popen(
            ["prometheus", f"--config.file={configuration}",
             f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{own}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

        def alerts():
            try:
                answer = requests.get(f"http://127.0.0.1:{own}/api/v1/alerts", timeout=10).json()
            except (requests.ConnectionError, ValueError):   # it is starting
                return {"starting"}
            return {alert["labels"]["alertname"] for alert in answer["data"]["alerts"]}
        return alerts
    yield start
    for process in started:
        process.terminate()
        process.wait(30)


def test_prometheus_alerts_of_an_outage_and_of_no_httpd(caller, firing, postgres_to_break):
    one = caller(inside=OPERATING)
    session = postgres_to_break.live_session()
    assert one.register(session).status_code == 201
    alerts = firing(one.httpd.port)
    servers.wait_until(lambda: alerts() == set(), 60, "Prometheus did not become quiet")
    postgres_to_break.stop("immediate")

    def outage():
        one.register(session)
        one.get("/health/ready")
        return alerts() >= {"RegistrationDatabaseUnreachable", "RegistrationNotReady",
                            "RegistrationErrors"}
    servers.wait_until(outage, 60, "there were not these alerts")
    assert not alerts() & {"RegistrationDown", "RegistrationFault"}
    one.httpd.stop()
    servers.wait_until(lambda: "RegistrationDown" in alerts(), 60, "there was no alert")
