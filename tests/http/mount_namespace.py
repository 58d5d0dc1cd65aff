# SPDX-License-Identifier: Apache-2.0
"""Programs that see other files than the machine's: they run in a private mount namespace.
"""

import socket
import subprocess

import pytest

import servers


def command(*lines):
    """A command that runs another one after these shell lines. Skips the test if this user may
    not mount."""
    script = " && ".join([*lines, 'exec "$@"'])
    inside = ["unshare", "--mount", *([] if servers.IS_ROOT else ["--map-root-user"]),
              "sh", "-c", script, "sh"]
    if subprocess.run([*inside, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("nothing can be mounted here")
    return inside


class Names:
    """Host names for programs that run `within`: the lines of a hosts file that can change
    while they run. For other names the resolver queries a name server that does not answer,
    and gives up after ten seconds."""

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
