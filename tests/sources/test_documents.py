# SPDX-License-Identifier: Apache-2.0
"""README.md and docs/ are correct: README's routes are those of the source, the example site
and openapi.json; every link has a target; every command names the program that runs it."""

import json
import re
import sys

import pytest

import servers

sys.path.insert(1, str(servers.ROOT / "tests"))
import documents  # noqa: E402

README = (servers.ROOT / "README.md").read_text()
DESCRIPTION = json.loads((servers.ROOT / "src" / "api" / "openapi.json").read_text())
LINKED = [*documents.DOCUMENTS, servers.ROOT / "tests" / "README.md"]


def named(path):
    return str(path.relative_to(servers.ROOT))


# --- The table of routes -------------------------------------------------------------------
# A table that is maintained by hand becomes wrong with the next route, scope or status.

# Statuses of every operation, which the text below the table lists once.
COMMON = {"401", "403", "500", "503", "default"}
COMMON_OF_BODIES = COMMON | {"413", "415"}


def site_mounts():
    """Each API of the example site: its path, and its scopes for reading and writing."""
    text = (servers.ROOT / "conf" / "example-site.conf").read_text()
    defined = dict(re.findall(r"(?m)^Define (\S+) +(\S+)$", text))
    mounts = {}
    for path, lines in re.findall(r'(?ms)^    <Location "(\S+)">(.*?)^    </Location>', text):
        api = re.search(r"RegistrationAPI (\w+)", lines)
        scopes = [defined[name] for name in
                  re.findall(r"Require registration-scope \$\{(\w+)\}", lines)]
        if "Require local" in lines:
            scopes = ["local"]
        elif "Require all granted" in lines:
            scopes = ["none"]
        if api:
            mounts[api[1]] = path, scopes[0], scopes[-1]
    return mounts


def source_routes():
    """Each route of routes.c with the columns of the table: API, method, path and scope."""
    text = (servers.ROOT / "src" / "http" / "routes.c").read_text()
    mounts = site_mounts()
    for api, method, pattern in re.findall(
            r'\{REG_API_(\w+), REG_METHOD_(\w+), "([^"]*)"', text):
        path, reads, writes = mounts[api.lower()]
        yield api.lower(), method, path + pattern, reads if method == "GET" else writes


def described_statuses(method, path):
    """The statuses of an operation in openapi.json, successes and its own errors; None if it
    is not described there."""
    for described, operations in DESCRIPTION["paths"].items():
        if re.sub(r"\{\w+\}", "{}", described) == re.sub(r"\{\w+\}", "{}", path):
            common = COMMON_OF_BODIES if method in ("POST", "PUT") else COMMON
            statuses = sorted(set(operations[method.lower()]["responses"]) - common)
            return ([status for status in statuses if status < "400"],
                    [status for status in statuses if status >= "400"])
    return None


def differences(text):
    """Lists the faults in the table of routes of a text."""
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]]
            for line in text.splitlines() if re.match(r"\| `\w+` \| [A-Z]+ \| `/", line)]
    wrong = [f"{ours} is not {theirs}" for ours, theirs in
             zip([tuple(row[:4]) for row in rows], source_routes()) if ours != theirs]
    if len(rows) != len(list(source_routes())):
        wrong.append(f"{len(rows)} rows")
    for _, method, path, _, successes, errors in rows:
        described = described_statuses(method, path)
        if described and described != (successes.split(", "), re.findall(r"\d+", errors)):
            wrong.append(f"{method} {path}: {successes}; {errors} is not {described}")
    return wrong


def test_table_of_routes_equals_sources():
    assert differences(README) == []
    assert sum(described_statuses(method, path) is not None
               for _, method, path, _ in source_routes()) == 13


@pytest.mark.parametrize("text, other", [
    (r"\| `users` .*\n", ""),
    (r"/members/\{user\}", "/persons/{user}"),
    (r"`groups:read` \| 200", "`groups:write` | 200"),
    (r"400, 409, 422", "400, 422"),
    (r"200, 204", "200"),
])
def test_control_wrong_row_in_table_of_routes_is_reported(text, other):
    changed = re.sub(text, other, README)
    assert changed != README
    assert differences(changed)


# --- docs/api.md ----------------------------------------------------------------------------
# A header or a parameter that is added to openapi.json only is missing in docs/api.md.

def undescribed(text):
    """The headers and parameters in openapi.json that a text does not name."""
    operations = [operation for path in DESCRIPTION["paths"].values()
                  for operation in path.values()]
    parameters = [*DESCRIPTION["components"]["parameters"].values(),
                  *(parameter for operation in operations
                    for parameter in operation.get("parameters", []) if "name" in parameter)]
    headers = {name.removesuffix("-Scope") for name in DESCRIPTION["components"]["headers"]}
    return {name for name in headers | {parameter["name"] for parameter in parameters}
            if not re.search(rf"[`{{]{name}\b", text)}


def test_api_page_names_every_header_and_parameter():
    text = (servers.ROOT / "docs" / "api.md").read_text()
    assert undescribed(text) == set()
    changed = text.replace("`If-Match", "`Match").replace("`bom`", "`mark`")
    assert undescribed(changed) == {"If-Match", "bom"}


# --- Links ---------------------------------------------------------------------------------
# Links to a section that is moved or renamed become dead.

def anchors(text):
    """The anchors that GitHub gives to the headings of a document."""
    found = set()
    for heading in re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```$", "", text)):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        while anchor in found:
            anchor += "-1"
        found.add(anchor)
    return found


def links(text):
    text = re.sub(r"(?ms)^```.*?^```$", "", text)
    return [re.sub(r"\s", "", target) for target in re.findall(r"\]\(([^)]+)\)", text)]


def dead_links(path, text):
    dead = []
    for target in links(text):
        file, _, anchor = target.partition("#")
        file = path.parent / file if file else path
        if target.startswith("https://"):
            continue
        if not file.exists():
            dead.append(target)
        elif anchor and anchor not in anchors(text if file == path else file.read_text()):
            dead.append(target)
    return dead


@pytest.mark.parametrize("path", LINKED, ids=named)
def test_every_link_has_a_target(path):
    assert dead_links(path, path.read_text()) == []


@pytest.mark.parametrize("target", ["docs/apis.md", "docs/api.md#pages-of-a-search", "#trial"])
def test_control_dead_link_is_reported(target):
    path = servers.ROOT / "README.md"
    assert dead_links(path, f"{README}\n[link]({target})\n") == [target]


def unlinked(text):
    """The documents that README does not link, and the sections that its contents leave out."""
    contents = text.partition("## Contents\n")[2].partition("\n## ")[0]
    sections = [f"#{re.sub('[^a-z]', '-', name.lower())}"
                for name in re.findall(r"(?m)^## (.*)$", text) if name != "Contents"]
    others = {named(path) for path in documents.DOCUMENTS} - {"README.md"}
    return (others - set(links(text))) | (set(sections) - set(links(contents)))


def test_readme_links_every_document_and_section():
    assert unlinked(README) == set()


@pytest.mark.parametrize("target", ["docs/api.md", "#speed"])
def test_control_missing_link_is_reported(target):
    assert target in unlinked(README.replace(f"]({target}", "](docs/none.md"))


# --- Commands ------------------------------------------------------------------------------
# A command that no program runs becomes wrong with the next rename.

COMMANDS = ("sh", "sql", "cron")


def runs(program, path, block):
    """Whether a program says that it runs the block. For .ci/run that is each command."""
    file = servers.ROOT / program
    if not program or not file.is_file():
        return False
    if program == ".ci/run":
        return all(line.split(" #")[0].strip() in file.read_text()
                   for line in block.text.splitlines())
    if program == "tests/documents.py":
        return named(path) in (servers.ROOT / ".ci" / "run").read_text()
    return path.name in file.read_text()


def unrun_commands(path, text):
    wrong = [f"line {block.line}: {block.language} {block.word}" for block in
             documents.blocks(text) if block.language in COMMANDS
             and not re.match(documents.NOT_RUN, block.text)
             and not runs(block.word, path, block)]
    outside = re.sub(r"(?ms)^```.*?^```$", "", text)
    return wrong + re.findall(r"(?m)^\n    .*$", outside)


@pytest.mark.parametrize("path", documents.DOCUMENTS, ids=named)
def test_every_command_names_its_program(path):
    assert unrun_commands(path, path.read_text()) == []


@pytest.mark.parametrize("block", [
    "```sh\nmake demo\n```", "```sh .ci/run\nmake coffee\n```",
    "```sql tests/http/test_none.py\nSELECT 1;\n```",
    "```sh tests/http/test_live.py\ntrue\n```", "\n    make demo"])
def test_control_command_without_program_is_reported(block):
    path = servers.ROOT / "docs" / "operating.md"
    assert unrun_commands(path, f"{path.read_text()}\n{block}\n")


def test_command_that_ci_does_not_run_needs_a_reason():
    path = servers.ROOT / "docs" / "operating.md"
    reason = "# Not run by CI: there is one machine only."
    assert unrun_commands(path, f"```sh\n{reason}\nssh db2\n```") == []
    assert unrun_commands(path, "```sh\n# Not run by CI:\nssh db2\n```")


# --- The program that runs them ------------------------------------------------------------

def document(directory, text):
    path = directory / "document.md"
    path.write_text(text)
    return path


def test_commands_run_in_one_shell_and_print_the_shown_output(tmp_path):
    path = document(tmp_path, "```sh tests/documents.py\na=1\necho $a 2 3\n```\n"
                    "```text output\n1 … 3\n```\n```sh tests/documents.py\necho $a\n```\n")
    assert documents.run(path) == "1 2 3\n1\n"


@pytest.mark.parametrize("text", [
    "```sh tests/documents.py\necho 1\n```\n```text output\n2\n```\n",
    "```sh tests/documents.py\necho 1 2\n```\n```text output\n… 3\n```\n",
    "```sh tests/documents.py\necho 1\n", "There is no block.\n"])
def test_other_output_and_unterminated_block_are_errors(tmp_path, text):
    with pytest.raises(documents.Wrong):
        documents.run(document(tmp_path, text))


def test_failing_command_is_an_error(tmp_path):
    text = "```sh tests/documents.py\nfalse\ntrue\n```\n"
    with pytest.raises(documents.Wrong, match="exit status 1"):
        documents.run(document(tmp_path, text))


def test_block_missing_from_the_record_is_reported(tmp_path, monkeypatch):
    record = tmp_path / "record"
    monkeypatch.setenv(documents.RECORD, str(record))
    monkeypatch.setattr(documents, "DOCUMENTS", [servers.ROOT / "docs" / "first-event.md"])
    documents.chosen("docs/first-event.md", "The database", "tests/package.py")
    missing = documents.not_run("tests/package.py", record)
    documents.chosen("docs/first-event.md", None, "tests/package.py")
    assert missing and documents.not_run("tests/package.py", record) == []
