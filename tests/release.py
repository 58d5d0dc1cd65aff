# SPDX-License-Identifier: Apache-2.0
"""Builds and tests the sources in a minimal system of another Debian release.

    python3 tests/release.py DIRECTORY [RELEASE [ARCHITECTURE]]     as root

The system is created below DIRECTORY, from the package sources of this machine with RELEASE in
place of its own; by default RELEASE is bookworm or trixie, the one that this machine is not. In
it make installs the missing packages, builds with warnings as errors, and runs the unit tests,
the smoke part of the HTTP tests and `make check-package`. Its processes end with this program.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import debian
import package

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGETS = ("smoke-packages", "all", "check-unit", "check-smoke", "check-package")
SECONDS = 1500   # for each step at most

# With its own process ids the first process is the shell, which has to wait for orphans. The
# root is a mount point: without one, programs in the system can make no mount namespace.
INSIDE = """
mount --bind "$0" "$0" && mount --rbind /dev "$0/dev" && mount --rbind /sys "$0/sys" &&
    mount -t proc proc "$0/proc" && chroot "$0" "$@"
exit $?
"""


def copy_sources(paths, own, other, directory):
    """Copies package sources of one release for another; the paths. Sources without suites of
    that release are left out."""
    for path in map(pathlib.Path, paths):
        text, found = re.subn(rf"(?<![\w-]){own}\b", other, path.read_text())
        if found:
            copy = directory / path.name
            copy.write_text(text)
            yield str(copy)


def release_source(own, other):
    """The package source of a release without its updates, which mirrors may lack for another
    architecture."""
    return subprocess.run(["apt-get", "indextargets", "--no-release-info", "--format",
                           f"deb $(REPO_URI) {other} $(COMPONENT)", "Created-By: Packages",
                           f"Release: {own}"],
                          check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines()[0]


def make_system(root, release, architecture):
    with tempfile.TemporaryDirectory() as directory:
        sources = ([release_source(debian.release(), release)] if architecture else
                   copy_sources(debian.sources(), debian.release(), release,
                                pathlib.Path(directory)))
        subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=apt",
                        "--dpkgopt=force-unsafe-io", "--include=make,ca-certificates",
                        *([f"--architectures={architecture}"] if architecture else []),
                        release, str(root), *sources],
                       check=True, stdin=subprocess.DEVNULL, timeout=SECONDS)
    # Installation starts no server, because the network is that of this machine.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    shutil.copytree(ROOT, root / "source", symlinks=True,
                    ignore=shutil.ignore_patterns(".git", "__pycache__", "build",
                                                  root.parent.name))


def run(root, *command):
    subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", INSIDE,
                    str(root), *command],
                   check=True, stdin=subprocess.DEVNULL, timeout=SECONDS,
                   env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                        "HOME": "/root"})


def main(directory, release=None, architecture=None):
    package.check_mounting()
    release = release or ("trixie" if debian.release() == "bookworm" else "bookworm")
    begin = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    root = directory / "release"
    shutil.rmtree(root, ignore_errors=True)
    try:
        package.step(f"a minimal {release}")
        make_system(root, release, architecture)
        for target in TARGETS:
            package.step(f"{release}, after {time.monotonic() - begin:.0f} s: make {target}")
            run(root, "make", "--no-print-directory", "-C", "/source", f"-j{os.cpu_count()}",
                "WERROR=1", target)
        if (root / "proc" / "self").exists():
            raise package.Wrong("the system's /proc is still mounted")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"{release}: builds, serves and installs, in {time.monotonic() - begin:.0f} s.")


if __name__ == "__main__":
    try:
        if os.geteuid() != 0 or not 2 <= len(sys.argv) <= 4:
            sys.exit(__doc__)
        main(pathlib.Path(sys.argv[1]).resolve(), *sys.argv[2:])
    except (package.Wrong, subprocess.SubprocessError) as error:
        sys.exit(str(error))
