# SPDX-License-Identifier: Apache-2.0
"""The package sources for `make check-release`."""

import release

SUITES = """\
Types: deb
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://mirror.example.org/debian-security
Suites: bookworm-security
Components: main
"""


def copied(directory, **files):
    (directory / "apt").mkdir()
    for name, text in files.items():
        (directory / "apt" / name).write_text(text)
    (directory / "copies").mkdir()
    copies = release.copy_sources((directory / "apt").iterdir(), "bookworm", "trixie",
                                  directory / "copies")
    return {path.rpartition("/")[2]: open(path, encoding="utf-8").read() for path in copies}


def test_package_sources_of_own_release_name_the_other(tmp_path):
    assert copied(tmp_path, debian=SUITES) == {
        "debian": SUITES.replace("bookworm", "trixie")}


def test_package_sources_without_own_release_are_left_out(tmp_path):
    assert copied(tmp_path, debian=SUITES, one="deb http://example.org nodistro main\n",
                  two="deb http://example.org sdk-bookworm main\n",
                  three="deb http://example.org stable main\n").keys() == {"debian"}
