# SPDX-License-Identifier: Apache-2.0
"""A guard: the files that name the version name that of VERSION.

The bug that this is here for: a package, a description and a list of changes of different
versions, as each is written by hand at a release.
"""

import datetime
import email.utils
import json
import re
import shutil

import pytest

import servers

SPEC = "conf/redhat/mod_registration.spec"
FILES = ("VERSION", "CHANGES.md", "debian/changelog", "src/api/openapi.json", SPEC)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def differences(root):
    """The disagreements of these files."""
    version, changes, changelog, description, spec = ((root / name).read_text() for name in FILES)
    version = version.removesuffix("\n")
    wrong = [] if re.fullmatch(r"\d+\.\d+\.\d+", version) else ["VERSION is no version"]
    entry = re.search(r"(?m)^## \[(\d.*?)\] - (\S+)$", changes)
    if not entry or entry[1] != version:
        wrong.append("CHANGES.md: another version")
    headings = re.findall(r"(?m)^## (?!\[Unreleased\]$|\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d$).*$",
                          changes)
    wrong += [f"CHANGES.md: {heading}" for heading in headings]
    wrong += [f"CHANGES.md: {kind} is no kind of change"
              for kind in re.findall(r"(?m)^### (.*)$", changes) if kind not in KINDS]
    package = re.match(r"libapache2-mod-registration \((.*?)\) ", changelog)
    if not package or package[1] != version:
        wrong.append("debian/changelog: another version")
    date = email.utils.parsedate_to_datetime(re.search(r"(?m)^ -- .*>  (.*)$", changelog)[1])
    if entry and date.date() != datetime.date.fromisoformat(entry[2]):
        wrong.append("debian/changelog: another date than in CHANGES.md")
    if json.loads(description)["info"]["version"] != version:
        wrong.append("openapi.json: another version")
    if re.findall(r"(?m)^Version: +(.*)$", spec) != [version]:
        wrong.append("mod_registration.spec: another version")
    return wrong


def test_version_is_the_same_in_every_file():
    assert differences(servers.ROOT) == []


@pytest.mark.parametrize("name, pattern, other, what", [
    ("VERSION", r"\d+$", "x", "VERSION is no version"),
    ("CHANGES.md", r"(?<=\n## \[)\d", "9", "CHANGES.md: another version"),
    ("CHANGES.md", r"(?<=\n### )Added", "New", "CHANGES.md: New is no kind of change"),
    ("CHANGES.md", r"(?<=\] )- ", "", "CHANGES.md: "),
    ("debian/changelog", r"(?<=\()\d", "9", "debian/changelog: another version"),
    ("debian/changelog", r"20\d\d", "2001", "debian/changelog: another date than in CHANGES.md"),
    ("src/api/openapi.json", r'(?<="version": ")\d', "9", "openapi.json: another version"),
    (SPEC, r"(?m)(?<=^Version:        )\d", "9", "mod_registration.spec: another version")])
def test_control_other_version_in_one_file_is_reported(tmp_path, name, pattern, other, what):
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(servers.ROOT / file, tmp_path / file)
    text = (tmp_path / name).read_text()
    (tmp_path / name).write_text(re.sub(pattern, other, text, count=1))
    assert any(one.startswith(what) for one in differences(tmp_path))
