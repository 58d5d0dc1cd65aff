# SPDX-License-Identifier: Apache-2.0
"""Programs to which some files of the machine are others: they run in a mount namespace of
their own.
"""

import socket
import subprocess

import pytest

import servers


def command(*lines):
    """A command to run another with, after these lines of shell. Skips the test where
    nothing can be mounted."""
    script = " && ".join([*lines, 'exec "$@"'])
    inside = ["unshare", "--mount", *([] if servers.IS_ROOT else ["--map-root-user"]),
              "sh", "-c", script, "sh"]
    if subprocess.run([*inside, "true"], stderr=subprocess.DEVNULL).returncode:
        assert not servers.IS_ROOT   # root may mount, so nothing is skipped there.
        pytest.skip("nothing can be mounted here")
    return inside


@pytest.fixture
def with_hosts(tmp_path):
    """with_hosts(text): a command to run another with, whose /etc/hosts has this text, and
    which asks no name server."""
    def make(text):
        hosts, switch = tmp_path / "hosts", tmp_path / "nsswitch.conf"
        hosts.write_text(text)
        switch.write_text("hosts: files\n")
        return command(f"mount --bind {hosts} /etc/hosts",
                       f"mount --bind {switch} /etc/nsswitch.conf")
    return make


@pytest.fixture
def in_silence(tmp_path):
    """A command to run another with, whose name server does not answer, for ten seconds."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        server.bind(("127.0.0.53", 53))
    except OSError as error:
        pytest.skip(f"no name server can be started here: {error}")
    configuration, switch = tmp_path / "resolv.conf", tmp_path / "nsswitch.conf"
    configuration.write_text("nameserver 127.0.0.53\noptions timeout:5 attempts:2\n")
    switch.write_text("hosts: files dns\n")
    try:
        yield command(f"mount --bind {configuration} /etc/resolv.conf",
                      f"mount --bind {switch} /etc/nsswitch.conf")
    finally:
        server.close()
