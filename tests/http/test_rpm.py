# SPDX-License-Identifier: Apache-2.0
"""make rpm: what the RPM package contains, needs and runs, and that its module serves.

It is built by Debian's rpmbuild with a fake apxs. That dnf finds the packages that it needs, and
that systemd of Red Hat reloads httpd, is not tested: no such system is there.
"""

import re
import subprocess

import pytest

import servers
from changed import make
from test_install import LAYOUTS, Layout

ROOT = servers.ROOT


class Package:
    """An RPM file."""

    def __init__(self, path):
        self.path = path

    def query(self, form):
        return subprocess.run(["rpm", "-qp", "--qf", form, self.path], check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    def files(self):
        """Each file's mode, owner and flags by its path."""
        rows = self.query("[%{FILENAMES}|%{FILEMODES:perms}|%{FILEUSERNAME}"
                          "|%{FILEFLAGS:fflags}\\n]")
        return {row[0]: tuple(row[1:]) for row in
                (line.split("|") for line in rows.splitlines()) if not row[1].startswith("d")}

    def unpack(self, directory):
        directory.mkdir()
        archive = subprocess.run(["rpm2cpio", self.path], check=True, stdout=subprocess.PIPE)
        subprocess.run(["cpio", "--quiet", "-idm"], cwd=directory, input=archive.stdout, check=True)
        return directory


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    directory = tmp_path_factory.mktemp("rpm")
    layout = Layout("redhat", directory / "machine", destdir=True)
    # --nodeps: rpm does not know Debian's packages.
    flags = ["--nodeps", f"--define '_httpd_apxs {layout.apxs}'", "--define '_libdir /usr/lib64'",
             "--define 'optflags -O0 -g'"]
    status, said = make(ROOT, "rpm", f"BUILD={directory}/build", f"RPMFLAGS={' '.join(flags)}")
    assert status == 0, said
    [path] = (directory / "build" / "rpm" / "RPMS").rglob("mod_registration-[0-9]*.rpm")
    return Package(path)


def wrong_files(found, expected):
    """Files that the package has or lacks, and those with a wrong mode, owner or flag."""
    for name in sorted(found.keys() ^ expected):
        yield f"{name} is {'missing' if name in expected else 'in the package'}"
    for name, (mode, owner, flags) in sorted(found.items()):
        # rpm 4.20 makes modules not executable.
        if mode[1:] not in (["rwxr-xr-x"] if "/bin/" in name else
                            ["rwxr-xr-x", "rw-r--r--"] if name.endswith(".so") else ["rw-r--r--"]):
            yield f"{name} has mode {mode}"
        if owner != "root":
            yield f"{name} belongs to {owner}"
        if ("c" in flags and "n" in flags) != name.startswith("/etc/"):
            yield f"{name} has flags {flags}"


def own_files(package):
    """Without documents, and links for debuggers."""
    return {re.sub(r"(?<=\.1)\.gz$", "", name): row for name, row in package.files().items()
            if not re.match("/usr/(share/(doc|licenses)|lib)/(mod_registration|[.]build-id)", name)}


@pytest.fixture
def expected(tmp_path):
    return Layout("redhat", tmp_path / "root", destdir=True).expected()


def test_package_has_the_files_of_make_install(package, expected):
    found = own_files(package)
    assert list(wrong_files(found, expected)) == []
    others = package.files().keys()
    assert any(name.endswith("/docs/operating.md") for name in others)
    assert any(name.endswith("/LICENSE") for name in others)


@pytest.mark.parametrize("name, row, wrong", [
    ("/mod_registration.so", ("-rwxr-xr-x", "root", ""), "is in the package"),
    ("/etc/httpd/conf.d/registration.conf", ("-rw-r--r--", "root", ""), "has flags"),
    ("/usr/bin/registration-keys", ("-rw-r--r--", "root", ""), "has mode"),
    ("/usr/bin/registration-keys", ("-rwxr-xr-x", "builder", ""), "belongs to builder"),
    ("/usr/bin/registration-keys", None, "is missing")])
def test_control_wrong_file_is_reported(package, expected, name, row, wrong):
    found = {**own_files(package), name: row}
    if row is None:
        del found[name]
    assert [wrong in one and name in one for one in wrong_files(found, expected)] == [True]


def test_package_needs_its_libraries_and_the_driver(package):
    needs = set(package.query("[%{REQUIRENAME}\\n]").splitlines())
    assert {"httpd", "apr-util-pgsql", "/usr/bin/python3", "/bin/sh"} <= needs
    for library in ("libpq.so.5", "libjansson.so.4"):
        assert any(one.startswith(library) for one in needs), needs
    version = (ROOT / "VERSION").read_text().strip()
    assert package.query("%{NAME} %{VERSION}") == f"mod_registration {version}"


# --- Scriptlets ----------------------------------------------------------------------------

@pytest.fixture
def run(tmp_path):
    """run(scriptlet, argument, status): exit status, and how it calls a systemctl that ends with
    that status; None: there is no systemctl."""
    def run(scriptlet, argument, status=0):
        log, program = tmp_path / "log", tmp_path / "systemctl"
        log.write_text("")
        program.unlink(missing_ok=True)
        if status is not None:
            program.write_text(f'#!/bin/sh\necho "$@" >>{log}\nexit {status}\n')
            program.chmod(0o755)
        ended = subprocess.run(["/bin/sh", "-c", scriptlet, "sh", str(argument)],
                               env={"PATH": str(tmp_path)}, check=False)
        return ended.returncode, log.read_text()
    return run


RELOAD = "try-reload-or-restart httpd.service\n"


@pytest.mark.parametrize("status", [0, 1, None])
def test_scriptlets_reload_a_running_httpd_and_never_fail(package, run, status):
    called = "" if status is None else RELOAD
    after, removed = package.query("%{POSTTRANS}"), package.query("%{POSTUN}")
    assert run(after, 1, status) == (0, called)
    assert run(removed, 0, status) == (0, called)
    assert run(removed, 1, status) == (0, "")   # An upgrade: the new package reloads.
    assert "#" not in after + removed   # A comment between them becomes a part of one.
    for name in ("PREIN", "POSTIN", "PREUN", "PRETRANS"):
        assert package.query(f"%{{{name}}}") == "(none)"


def test_control_scriptlet_that_fails_is_noticed(package, run):
    after = package.query("%{POSTTRANS}")
    assert after.count("|| :") == 1
    assert run(after.replace("|| :", ""), 1, 1) == (1, RELOAD)


# --- The module ----------------------------------------------------------------------------

def test_module_of_the_package_serves(package, tmp_path, start_httpd, client):
    root = package.unpack(tmp_path / "unpacked")
    libexec, _, _, load, _ = LAYOUTS["redhat"]
    assert (f"\nLoadModule registration_module {libexec}/mod_registration.so\n"
            in (root / load[1:]).read_text())
    httpd = start_httpd(registration=root / libexec[1:] / "mod_registration.so")
    assert client(None, httpd).get("/health/ready").status_code == 200
