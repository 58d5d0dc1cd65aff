# SPDX-License-Identifier: Apache-2.0
"""Guards of the tests: every test is run.

Each guard is a function that returns the violations, and is called for the tests as they are and
for a copy in which the rule is broken.
"""

import ast
import collections
import re
import shutil
import subprocess

import pytest

import documents
import servers

ROOT = servers.ROOT


@pytest.fixture
def copy(tmp_path):
    """A copy of the Makefile and the tests."""
    shutil.copy2(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "tests", tmp_path / "tests",
                    ignore=shutil.ignore_patterns("corpus", "__pycache__"))
    return tmp_path


# --- Unit tests ----------------------------------------------------------------------------
# cmocka runs the tests that main() lists and ignores others. The compiler only warns of an unused
# function, as the tests are built without -Werror.

def unregistered(root):
    wrong = []
    for path in sorted((root / "tests" / "unit").glob("test_*.c")):
        functions, main, listed = path.read_text().partition("\nint main(void)\n")
        assert main, path
        for name in re.findall(r"(?m)^static void (\w+)\(void \*\*state\)\n\{", functions):
            if not re.search(rf"\({name}\b", listed):
                wrong.append(f"{path.name}: {name}")
    return wrong


def test_every_unit_test_is_registered():
    assert unregistered(ROOT) == []


def test_control_unregistered_unit_test_is_reported(copy):
    path = copy / "tests" / "unit" / "test_live.c"
    text = path.read_text()
    name = re.search(r"\n        POOL_TEST\((\w+)\),", text)
    path.write_text(text.replace(name[0], ""))
    assert unregistered(copy) == [f"test_live.c: {name[1]}"]


# `make check-unit` runs the files that match a wildcard. ThreadSanitizer runs the tests in
# THREAD_TESTS only.

# Their threads are other clients of PostgreSQL and share nothing with the module.
WITHOUT_SHARED_DATA = {"test_connection", "test_retry_conflicts"}


def programs_not_run(root):
    plan = subprocess.run(["make", "--no-print-directory", "-n", "check-unit"], cwd=root,
                          text=True, check=True, env=servers.environment(MAKEFLAGS=""), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE).stdout
    run = set(re.findall(r" \S+/unit/(test_\w+)(?= |$)", plan.splitlines()[-1]))
    under_sanitizer = set(re.search(r"(?m)^THREAD_TESTS = ((?:.*\\\n)*.*)$",
                                    (root / "Makefile").read_text())[1].split()) - {"\\"}
    directory = root / "tests" / "unit"
    headers = {path.name for path in directory.glob("*.h") if "pthread_create" in path.read_text()}
    programs, threaded = set(), set()
    for path in directory.glob("test_*.c"):
        text = path.read_text()
        programs.add(path.stem)
        included = set(re.findall(r'#include "(\w+\.h)"', text))
        if "pthread_create" in text or headers & included:
            threaded.add(path.stem)
    return sorted([*(f"{name} is not run" for name in programs - run),
                   *(f"{name} is not run under ThreadSanitizer"
                     for name in threaded - under_sanitizer - WITHOUT_SHARED_DATA),
                   *(f"{name} is not there" for name in under_sanitizer - programs)])


def test_every_unit_test_program_is_run():
    assert programs_not_run(ROOT) == []


def test_control_unit_test_program_that_is_not_run_is_reported(copy):
    makefile = copy / "Makefile"
    makefile.write_text(makefile.read_text().replace("$(wildcard tests/unit/test_*.c))",
                                                     "$(wildcard tests/unit/test_[b-z]*.c))")
                        .replace("test_batching_hosts ", ""))
    (copy / "src").symlink_to(ROOT / "src")
    (copy / "mod_registration.c").symlink_to(ROOT / "mod_registration.c")
    wrong = programs_not_run(copy)
    assert "test_audit is not run" in wrong
    assert "test_batching_hosts is not run under ThreadSanitizer" in wrong
    assert not [one for one in wrong if "test_live" in one]


# --- pytest --------------------------------------------------------------------------------
# Two functions with one name in a module or class: the second hides the first, which is never
# run. And pytest collects no test from a file or a class with another name than test_* or Test*.

def hidden_tests(root):
    wrong, classes, bases = [], [], set()
    for path in sorted((root / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for scope in (tree, *(node for node in ast.walk(tree)
                              if isinstance(node, ast.ClassDef))):
            names = [node.name for node in scope.body
                     if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
            wrong += [f"{path.name}: {name} is defined twice"
                      for name, times in collections.Counter(names).items() if times > 1]
            tests = [name for name in names if name.startswith("test_")]
            if scope is tree and not path.name.startswith("test_"):
                wrong += [f"{path.name}: {name} is not collected" for name in tests]
            elif scope is not tree:
                bases |= {getattr(base, "id", getattr(base, "attr", "")) for base in scope.bases}
                if tests and not (scope.name.startswith("Test") and path.name.startswith("test_")):
                    classes.append((path.name, scope.name))
    return wrong + [f"{file}: {name} is not collected" for file, name in classes
                    if name not in bases]


def test_every_python_test_is_collected():
    assert hidden_tests(ROOT) == []


def test_control_uncollected_python_test_is_reported(copy):
    tests = copy / "tests" / "http"
    first = re.search(r"(?m)^def (test_\w+)", (tests / "test_live.py").read_text())[1]
    with (tests / "test_live.py").open("a") as file:
        file.write(f"\n\ndef {first}():\n    pass\n\n\n"
                   "class LiveTests:\n    def test_method(self):\n        pass\n")
    with (tests / "samples.py").open("a") as file:
        file.write("\n\ndef test_in_a_helper():\n    pass\n")
    assert sorted(hidden_tests(copy)) == ["samples.py: test_in_a_helper is not collected",
                                          "test_live.py: LiveTests is not collected",
                                          f"test_live.py: {first} is defined twice"]


# --- Documents -----------------------------------------------------------------------------
# SECURITY.md names tests that show what it says; a renamed test would leave a claim unproved.

def missing_tests(root, text):
    defined = {name for path in (root / "tests").rglob("test_*.py")
               for name in re.findall(r"(?m)^ *def (test_\w+)", path.read_text())}
    return sorted(set(re.findall(r"`(test_\w+)`", text)) - defined)


@pytest.mark.parametrize("path", documents.DOCUMENTS, ids=lambda path: path.name)
def test_tests_that_a_document_names_exist(path):
    assert missing_tests(ROOT, path.read_text()) == []


def test_control_missing_test_in_document_is_reported():
    text = (ROOT / "SECURITY.md").read_text()
    assert "`test_access`" in text
    assert missing_tests(ROOT, text.replace("test_access", "test_entry")) == ["test_entry"]
