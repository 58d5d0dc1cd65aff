# SPDX-License-Identifier: Apache-2.0
"""Guards of the sources: files and layers are as docs/architecture.md describes, and every
operation is described and in the tests that each operation has to pass.

Each guard is a function that returns the violations, and is called for the sources as they are
and for a copy in which the rule is broken.
"""

import re

import pytest

import documents
import openapi
import servers
import test_growth
import test_rights
from apis import APIS
from changed import changed_copy, make
from servers.httpd import apxs

ROOT = servers.ROOT
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text()
MAIN = "mod_registration.c"


@pytest.fixture
def copy(tmp_path):
    """A copy of the sources."""
    changed_copy(tmp_path / "copy")
    return tmp_path / "copy"


# --- Files ---------------------------------------------------------------------------------
# The list of sources in the documents was wrong before: it named renamed files and lacked new
# ones.

def stale_rows(root, document):
    listed = re.findall(r"`([\w./]+)`(?=[^|\n]*\|[^|\n]*\|$)",
                        document.split("\n## Every file\n")[1].split("\n## ")[0], re.M)
    listed = [name for name in listed if re.fullmatch(r"[\w/]+\.\w+", name)]
    there = [MAIN, *(str(path.relative_to(root)) for path in (root / "src").rglob("*")
                     if path.is_file())]
    return sorted([*(f"{name} is not listed" for name in set(there) - set(listed)),
                   *(f"{name} is listed twice" for name in set(listed)
                     if listed.count(name) > 1),
                   *(f"{name} is not there" for name in set(listed)
                     if not (root / name).exists())])


def test_document_names_every_file_of_src():
    assert stale_rows(ROOT, DOCUMENT) == []


def test_control_document_with_other_files_is_reported(copy):
    (copy / "src" / "http" / "etag.c").rename(copy / "src" / "http" / "tags.c")
    assert stale_rows(copy, DOCUMENT) == ["src/http/etag.c is not there",
                                          "src/http/tags.c is not listed"]
    assert stale_rows(ROOT, DOCUMENT.replace("| `src/ids.c`, `src/ids.h` |", "| ids |")) == [
        "src/ids.c is not listed", "src/ids.h is not listed"]


# A renamed file is still named by other documents. NAME stands for a name that a reader chooses.

def missing_files(root, text):
    named = set(re.findall(r"(?<![\w/.$])((?:src|sql|tests|conf|docs|debian)/[\w/.-]+\.\w+)\b",
                           text))
    return sorted(name for name in named if "NAME" not in name and not (root / name).exists())


@pytest.mark.parametrize("path", [*documents.DOCUMENTS, ROOT / "tests" / "README.md",
                                  ROOT / "sql" / "migrations" / "README.md",
                                  ROOT / "src" / "registration.h"], ids=lambda path: path.name)
def test_files_that_a_document_names_exist(path):
    assert missing_files(ROOT, path.read_text()) == []


def test_control_missing_file_in_document_is_reported():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert "`src/api/live.c`" in text
    assert missing_files(ROOT, text.replace("api/live.c", "api/lives.c")) == ["src/api/lives.c"]


# --- Includes ------------------------------------------------------------------------------
# httpd_metrics.c and httpd_request.c once included each other. The compiler checks the layers of
# sources; this checks headers as well, and headers of libraries in the compiler's default path.

def layers(root):
    """The layers that each layer may include, from the Makefile."""
    text = (root / "Makefile").read_text()
    every = re.search(r"(?m)^LAYERS +=(.*)$", text)[1].split()
    found = {name: allowed.replace("$(LAYERS)", " ".join(every)).split() for name, allowed in
             re.findall(r"(?m)^LAYERS_(\w+) *=(.*)$", text)}
    assert sorted(found) == sorted(every)
    return found


def library_of(header):
    """The guarded library to which a header between < and > belongs, or None."""
    if header in ("libpq-fe.h", "jansson.h"):
        return header
    return "httpd" if (apxs_include() / header).exists() else None


def apxs_include():
    return type(ROOT)(apxs("INCLUDEDIR"))


def may_use(library, path):
    layer, name = path.split("/")[-2:] if "/" in path else ("", path)
    if library == "httpd":
        return layer == "httpd" or path == MAIN
    if library == "libpq-fe.h":
        return layer == "database" or path == "src/httpd/dbd.c"
    return name == "json.c"


def forbidden_includes(root):
    allowed, wrong, units = layers(root), [], {}
    paths = {str(path.relative_to(root)): path for path in
             [root / MAIN, *(root / "src").rglob("*.[ch]")]}
    headers = {path.rpartition("/")[2]: path for path in paths if path.endswith(".h")}
    for name, path in sorted(paths.items()):
        unit = units.setdefault(name.rpartition(".")[0], set())
        for opening, header in re.findall(r'(?m)^ *# *include ([<"])([^>"]+)', path.read_text()):
            if opening == "<":
                library = library_of(header)
                if library and not may_use(library, name):
                    wrong.append(f"{name} includes <{header}>")
                continue
            found = headers.get(header)
            if not found:   # a path would bypass the compiler's check
                wrong.append(f'{name} includes "{header}"')
                continue
            unit.add(found.rpartition(".")[0])
            own, other = (one.split("/")[1:-1] for one in (name, found))
            if name != MAIN and other and (not own or other[0] not in allowed[own[0]]):
                wrong.append(f"{name} includes {found}")
    return wrong + circles(units)


def circles(units):
    """Units, each a .c and its .h, that include each other."""
    units = {unit: included - {unit} for unit, included in units.items()}
    while done := {unit for unit, included in units.items() if not included & units.keys()
                   or unit not in set().union(*units.values())}:
        units = {unit: included - done for unit, included in units.items() if unit not in done}
    return [f"{' '.join(sorted(units))} include each other"] if units else []


def test_no_file_includes_a_higher_layer():
    assert forbidden_includes(ROOT) == []


@pytest.mark.parametrize("path, include, what", [
    ("src/http/etag.h", '"call.h"', "src/http/etag.h includes src/database/call.h"),
    ("src/utf8.h", '"json.h"', "src/utf8.h includes src/http/json.h"),
    ("src/http/etag.c", '"../api/events.h"', 'src/http/etag.c includes "../api/events.h"'),
    ("src/http/etag.c", '"httpd/config.h"', 'src/http/etag.c includes "httpd/config.h"'),
    ("src/api/live.c", "<jansson.h>", "src/api/live.c includes <jansson.h>"),
    ("src/httpd/pool.h", "<libpq-fe.h>", "src/httpd/pool.h includes <libpq-fe.h>"),
    ("src/database/call.h", "<http_log.h>", "src/database/call.h includes <http_log.h>"),
    ("src/database/wait_queue.c", '"batch_queue.h"', "src/database/batch_queue "
     "src/database/wait_queue include each other")])
def test_control_forbidden_include_is_reported(copy, path, include, what):
    file = copy / path
    file.write_text(f"#include {include}\n{file.read_text()}")
    wrong = forbidden_includes(copy)
    assert len(wrong) == 1
    assert what in wrong[0] or set(what.split()) <= set(wrong[0].split())


@pytest.mark.parametrize("layer, include, compiles", [
    ("http", '"serve.h"', True), ("http", '"call.h"', False), ("http", '"events.h"', False),
    ("http", '"config.h"', False), ("http", "<httpd.h>", False),
    ("http", "<libpq-fe.h>", False),
    ("database", '"batch.h"', True), ("database", "<libpq-fe.h>", True),
    ("database", '"reply.h"', False), ("database", '"config.h"', False),
    ("database", "<httpd.h>", False),
    ("api", '"call.h"', True), ("api", '"reply.h"', True), ("api", '"config.h"', False),
    ("api", "<httpd.h>", False), ("api", "<libpq-fe.h>", False),
    ("httpd", '"call.h"', True), ("httpd", '"serve.h"', True), ("httpd", "<httpd.h>", True),
    ("httpd", "<libpq-fe.h>", False), ("", '"serve.h"', False), ("", "<httpd.h>", False)])
def test_include_compiles_in_allowed_layers_only(copy, layer, include, compiles):
    path = f"src/{layer}/probe.c".replace("//", "/")
    (copy / path).write_text(f"#include {include}\n")
    status, said = make(copy, f"build/obj/{path[:-2]}.o")
    assert (status == 0) == compiles, said
    assert compiles or f"{include[1:-1]}: No such file or directory" in said


# --- Operations ----------------------------------------------------------------------------
# A new route without a description, or which no test of every operation calls, would pass
# all tests.

def operations(description, matrix, growth):
    """Routes of the registration APIs that are missing somewhere, and described operations
    that are not routes."""
    described = {(one.method, re.sub(r"\{\w+\}", "{}", one.path)): one.id
                 for one in description.values()}
    mounts = {api: mount for mount, api, _, _ in test_rights.mounts(test_rights.EXAMPLE)}
    routes = {(method, re.sub(r"\{\w+\}", "{}", mounts[api] + pattern)): (api, method, pattern)
              for api, method, pattern in test_rights.routes()
              if api in APIS and method not in ("HEAD", "OPTIONS")}
    wrong = [f"{' '.join(route)} is not described" for route in routes.keys() - described.keys()]
    wrong += [f"{' '.join(one)} is no route" for one in described.keys() - routes.keys()]
    rows = {(one.api, one.method, one.pattern) for one in matrix}
    wrong += [f"{' '.join(route)} has no row in the rights matrix"
              for route, row in routes.items() if row not in rows]
    wrong += [f"{name} has no growth test" for route, name in described.items()
              if name not in growth]
    return sorted(wrong)


def test_every_route_is_in_openapi_and_in_tests_of_all_operations():
    assert operations(openapi.OPERATIONS, test_rights.OPERATIONS, test_growth.GOOD) == []


def test_control_missing_route_is_reported():
    def without(things, name):
        return {key: value for key, value in things.items() if key != name}
    everywhere = openapi.OPERATIONS, test_rights.OPERATIONS, test_growth.GOOD
    assert operations(without(everywhere[0], "getPlan"), *everywhere[1:]) == [
        "GET /api/v1/groups/{}/plans/{} is not described"]
    rows = [one for one in everywhere[1] if (one.api, one.method) != ("families", "POST")]
    assert operations(everywhere[0], rows, everywhere[2]) == [
        "POST /v1/families has no row in the rights matrix"]
    assert operations(*everywhere[:2], without(everywhere[2], "getPlan")) == [
        "getPlan has no growth test"]
