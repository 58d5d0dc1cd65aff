# SPDX-License-Identifier: Apache-2.0
"""The errors of `make check-postgres` and of the target that fetches another PostgreSQL."""

import os
import pathlib
import shutil

import pytest

import servers
from changed import make

OTHER_MACHINE = 183, 62   # e_machine of an ELF file: AArch64, or x86-64 where this is AArch64


@pytest.fixture
def copy(tmp_path):
    """A directory with the Makefile and with three directories for POSTGRES."""
    shutil.copy2(servers.ROOT / "Makefile", tmp_path)
    for name in ("here", "empty", "foreign"):
        (tmp_path / name / "bin").mkdir(parents=True)
    program = bytearray(pathlib.Path("/bin/true").read_bytes())
    (tmp_path / "here/bin/postgres").write_bytes(program)
    program[18] = next(machine for machine in OTHER_MACHINE if machine != program[18])
    (tmp_path / "foreign/bin/postgres").write_bytes(program)
    for name in ("here", "foreign"):
        (tmp_path / name / "bin/postgres").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("directory, error", [
    ("", 'there is no "/bin/postgres"'),
    ("nowhere", 'there is no "nowhere/bin/postgres"'),
    ("empty", 'there is no "empty/bin/postgres"'),
    ("{copy}/empty", 'there is no "{copy}/empty/bin/postgres"'),
    ("foreign", "foreign/bin/postgres does not run on this machine."),
    ("{copy}/foreign", "{copy}/foreign/bin/postgres does not run on this machine."),
    ("build/postgres-12", 'PostgreSQL "12" cannot be fetched, only 13 14 15 16 17 18.')])
def test_unusable_directory_is_refused_by_name(copy, directory, error):
    status, text = make(copy, "check-postgres", f"POSTGRES={directory.format(copy=copy)}")
    assert status == 2 and error.format(copy=copy) in text
    assert "check-http" not in text and not (copy / "build").exists()


@pytest.mark.parametrize("directory", ["here", "{copy}/here", "./here/"])
def test_usable_directory_is_passed_on_as_absolute_path(copy, directory):
    makefile = (copy / "Makefile").read_text()
    run = "$(MAKE) --no-print-directory check-http\n"
    (copy / "Makefile").write_text(makefile.replace(run, "printenv REGISTRATION_POSTGRES\n"))
    status, text = make(copy, "check-postgres", f"POSTGRES={directory.format(copy=copy)}")
    assert status == 0 and f"{copy}/here" in text.splitlines()


def test_fetch_without_npm_is_refused(copy):
    """Without apt-get, too, which would install it."""
    programs = copy / "programs"
    programs.mkdir()
    for name in ("sh", "make", "id", "grep", "dpkg-query"):
        os.symlink(shutil.which(name), programs / name)
    status, text = make(copy, "build/postgres-14", f"PATH={programs}")
    assert status == 2 and "\nnpm is missing.\n" in text
    assert not (copy / "build").exists()
