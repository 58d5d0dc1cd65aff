# SPDX-License-Identifier: Apache-2.0
"""Builds the Debian package again and compares it with the one that `make deb` has built.

    python3 tests/reproducible.py DIRECTORY     DIRECTORY holds the package

The second build has another directory, time, locale, time zone, umask and home.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def packages(directory):
    """The packages in a directory, each by its name with the hash of its content."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in pathlib.Path(directory).glob("*.deb")}


def build(directory):
    """Builds the package in a directory, unlike the build of this program's caller."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LANG") or "C"
    variables = {"PATH": os.environ["PATH"], "HOME": directory, "TZ": "Pacific/Kiritimati",
                 "LC_ALL": "C" if "UTF-8" in locale else "C.UTF-8"}
    result = subprocess.run(["make", "deb", f"BUILD={directory}"], cwd=ROOT, env=variables,
                            umask=0o077, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        sys.exit(f"{result.stdout}\nThe second build failed.")


def pack_again(package, directory):
    """The same files, packed without the time of the changelog."""
    variables = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    subprocess.run(["dpkg-deb", "-R", package, f"{directory}/unpacked"], check=True)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", f"{directory}/unpacked",
                    f"{directory}/{package.name}"], check=True, env=variables,
                   stdout=subprocess.DEVNULL)


def main(directory):
    first = packages(directory)
    if len(first) != 1:
        sys.exit(f"{directory} holds {sorted(first)} and not one package")
    with tempfile.TemporaryDirectory(prefix="a-directory-of-another-length-") as other:
        build(f"{other}/build")
        second = packages(f"{other}/build")
    if first != second:
        sys.exit(f"two builds differ: {first} and {second}")
    with tempfile.TemporaryDirectory() as other:
        pack_again(directory / next(iter(first)), other)
        if packages(other) == first:
            sys.exit("the control: a package with other times was not found to differ")
    print(f"Two builds give the same package: {first}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]).resolve())
