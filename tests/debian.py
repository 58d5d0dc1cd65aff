# SPDX-License-Identifier: Apache-2.0
"""A minimal Debian of this machine's release or of another one, for the tests that need a system
of their own. It is made once a day and directory."""

import pathlib
import subprocess
import time

SECONDS = 600   # for mmdebstrap at most
SECONDS_KEPT = 86400


def release():
    """The name of this machine's release."""
    lines = pathlib.Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)["VERSION_CODENAME"]


def sources():
    """The package sources in apt's files of this machine."""
    return sorted(str(path) for directory in ("/etc/apt", "/etc/apt/sources.list.d")
                  for path in pathlib.Path(directory).glob("*")
                  if path.suffix in (".sources", ".list"))


def is_fresh(path):
    return path.exists() and time.time() - path.stat().st_mtime < SECONDS_KEPT


def make_base(directory, name=None, package_sources=None):
    """An archive in the directory with a minimal system of a release, by default this machine's."""
    name = name or release()
    archive = directory / f"debian-{name}.tar"
    if not is_fresh(archive):
        unfinished = archive.with_suffix(".unfinished.tar")
        subprocess.run(["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase",
                        "--dpkgopt=force-unsafe-io", name, str(unfinished),
                        *(package_sources or sources())],
                       check=True, stdin=subprocess.DEVNULL, timeout=SECONDS)
        unfinished.rename(archive)
    return archive


def unpack(archive, root):
    root.mkdir(parents=True)
    subprocess.run(["tar", "-x", "--numeric-owner", "-f", str(archive), "-C", str(root)],
                   check=True)
    # Installation starts no server, because the network is that of this machine.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
