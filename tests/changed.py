# SPDX-License-Identifier: Apache-2.0
"""Copies of the project with changed sources, for negative controls."""

import shutil
import subprocess

import servers

SOURCES = ("Makefile", "mod_registration.c", "src", "tests/fuzz")


def change_text(directory, text, other):
    """Replaces a text that is in the module's sources exactly once."""
    found = [path for path in (directory / "src").rglob("*") if path.is_file()
             for _ in range(path.read_text().count(text))]
    assert len(found) == 1, f"the text to change is in {len(found)} places: {text}"
    found[0].write_text(found[0].read_text().replace(text, other))


def changed_copy(directory, *changes):
    """Copies the sources to a directory; `changes` are alternately a text and its
    replacement."""
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
    """Runs make in a directory; its exit status and output."""
    result = subprocess.run(
        ["make", "--no-print-directory", "-C", directory, *arguments], text=True,
        env=servers.environment(MAKEFLAGS=""), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return result.returncode, result.stdout


def changed_module(directory, *changes):
    changed_copy(directory, *changes)
    status, output = make(directory)
    assert status == 0, output
    return directory / "build" / "mod_registration.so"
