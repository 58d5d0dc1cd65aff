# SPDX-License-Identifier: Apache-2.0
"""The fuzzers' corpus detects mutations of the module."""

import shutil

import pytest

import servers
from changed import changed_copy, make

# The target that has to detect it, and the text to replace and its replacement.
MUTATIONS = {
    "a label may have 64 characters": ("checks", "length > 63", "length > 64"),
    "each fourth year is a leap year": (
        "checks", "(year % 4 == 0 && year % 100 != 0)", "(year % 4 == 0)"),
    "a weak tag names a version": ("etag", "(weak_too || !tag.weak) && digits", "digits"),
    "an octet behind a tag is skipped": ("etag", "*list = end + 1;", "*list = end + 2;"),
    "a string that does not end is read beyond": (
        "json", "return *p ? p + 1 : p;", "return p + 1;"),
    "a key may stand twice": (
        "json", "json_loads(document, JSON_REJECT_DUPLICATES", "json_loads(document, 0"),
    "a value may be no UTF-8": ("query", "rv == APR_NOTFOUND) && reg_utf8_is_valid(text)",
                                "rv == APR_NOTFOUND)"),
    "a page may be 0": ("query", "number >= 1 && number <= most", "number <= most"),
    "a key may hold anything": ("request", "&& is_visible(key)", ""),
    "a quoted key has no room": (
        "request", "apr_palloc(pool, strlen(*p));",
        "apr_palloc(pool, strlen(*p) - 2);"),
    "a scope is one that begins like it": ("scope", "item == length && strncmp", "strncmp"),
    "a claim may end the array": (
        "scope", '|| strcmp(reg_json_raw(pool, text, "scope", NULL), array) != 0', ""),
}
FOUND = ("does not hold: ", "ERROR: AddressSanitizer: ")


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_mutation_is_detected(tmp_path, mutation):
    target, *change = MUTATIONS[mutation]
    changed_copy(tmp_path / "copy", *change)
    # Reuses the objects of unchanged files.
    shutil.copytree(servers.MODULE.parent / "fuzz", tmp_path / "copy" / "build" / "fuzz")
    status, output = make(tmp_path / "copy", "fuzz-replay", f"FUZZ_TARGETS={target}")
    assert status != 0 and any(words in output for words in FOUND), output


def test_each_target_has_a_mutation():
    assert {target for target, *_ in MUTATIONS.values()} \
        == {path.stem for path in (servers.ROOT / "tests" / "fuzz").glob("*.c")}
