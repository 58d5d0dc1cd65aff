# SPDX-License-Identifier: Apache-2.0
"""The project with texts of its sources changed, for controls of what has no switch."""

import shutil
import subprocess

import servers

SOURCES = ("Makefile", "mod_registration.c", "src", "tests/fuzz")


def change_text(directory, text, other):
    """The text must be there once, in any file of the module."""
    found = [path for path in (directory / "src").rglob("*") if path.is_file()
             for _ in range(path.read_text().count(text))]
    assert len(found) == 1, f"in {len(found)} places is the text to change: {text}"
    found[0].write_text(found[0].read_text().replace(text, other))


def changed_copy(directory, *changes):
    """The sources in a directory of their own; each text in them is followed here by the one
    that replaces it."""
    directory.mkdir()
    for name in SOURCES:
        path = servers.ROOT / name
        if path.is_dir():
            shutil.copytree(path, directory / name)
        else:
            shutil.copy2(path, directory / name)
    for text, other in zip(changes[::2], changes[1::2], strict=True):
        change_text(directory, text, other)


def make(directory, *arguments):
    """Runs make there; its exit status and what it says."""
    result = subprocess.run(
        ["make", "--no-print-directory", "-C", directory, *arguments], text=True,
        env=servers.environment(MAKEFLAGS=""), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return result.returncode, result.stdout


def changed_module(directory, *changes):
    changed_copy(directory, *changes)
    status, said = make(directory)
    assert status == 0, said
    return directory / "build" / "mod_registration.so"
