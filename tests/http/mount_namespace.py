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


class Names:
    """What programs resolve that run `within`: the names of a file, which can change while
    they run. For any other name they ask a name server that does not answer, and give up
    after ten seconds."""

    def __init__(self, directory, server):
        self.hosts = directory / "hosts"
        configuration, switch = directory / "resolv.conf", directory / "nsswitch.conf"
        configuration.write_text(f"nameserver {server}\noptions timeout:5 attempts:2\n")
        switch.write_text("hosts: files dns\n")
        self.are("")
        self.within = command(*(f"mount --bind {file} /etc/{file.name}"
                                for file in (self.hosts, configuration, switch)))

    def are(self, *lines):
        self.hosts.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def names(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        try:
            server.bind(("127.0.0.53", 53))
        except OSError as error:
            pytest.skip(f"no name server can be started here: {error}")
        yield Names(tmp_path, "127.0.0.53")
