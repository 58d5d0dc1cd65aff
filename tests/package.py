# SPDX-License-Identifier: Apache-2.0
"""Installs the Debian package in a minimal Debian, uses it as documented, and removes it.

    python3 tests/package.py DIRECTORY     as root; DIRECTORY holds the package

The system is created below DIRECTORY, with the release and the package sources of this
machine. Its servers have their own network and process ids, so they do not conflict with
those of this machine, and end with this program.
"""

import collections
import contextlib
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import debian
import documents
from debian import release
from servers import ServerError, wait_until

PACKAGE = "libapache2-mod-registration"
# The packages of a machine with a web server and a database.
STOCK = ("apache2", "postgresql", "ssl-cert", "sudo", "curl", "openssl", "systemd", "apt-utils")
VARIABLES = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
             "DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_OFFLINE": "1"}
KEY = "etc/apache2/registration-signing.pem"
SITE = "etc/apache2/sites-available/registration.conf"
READY = "https://localhost/health/ready"
# A file of the package without its name, and a file with its name that is not in the package.
LEFT_BEHIND = ("/usr/share/mod_registration/sql/install.sql",
               "/etc/apache2/mods-enabled/registration.load")


class Wrong(Exception):
    """A check of the package failed; the text describes it."""


def check(true, what):
    if not true:
        raise Wrong(what)


def step(text):
    print(f"--- {text}", flush=True)


class System:
    """A Debian system in a directory."""

    def __init__(self, root):
        self.root = root

    def run(self, *command, user=None, expect=0):
        """Runs a command in the system and returns its output."""
        become = ["runuser", "-u", user, "--"] if user else []
        result = subprocess.run(
            ["chroot", str(self.root), *become, *command], text=True, timeout=400, env=VARIABLES,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        check(result.returncode == expect,
              f"{' '.join(command)}: exit status {result.returncode}\n{result.stdout}")
        return result.stdout

    def bash(self, script):
        """Runs a script with bash -e."""
        return self.run("bash", "-e", "-o", "pipefail", "-c", script)

    def sql(self, statement):
        return self.run("psql", "-X", "-q", "-A", "-t", "-d", "registration", "-c", statement,
                        user="postgres").strip()

    def path(self, name):
        return self.root / name.lstrip("/")

    def error_log(self):
        return self.path("var/log/apache2/error.log").read_text()


# --- The minimal system ----------------------------------------------------------------------

def make_system(root):
    debian.unpack(debian.make_base(root.parent), root)
    # systemd does not run: systemctl enables and disables units only.
    (root / "etc/sudoers.d").mkdir()
    (root / "etc/sudoers.d/offline").write_text("Defaults env_keep += SYSTEMD_OFFLINE\n")
    return System(root)


def mount(root):
    """Mounts the file systems in this program's own mount namespace."""
    for name in ("dev", "proc"):
        (root / name).mkdir(exist_ok=True)
    subprocess.run(["mount", "--rbind", "/dev", str(root / "dev")], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)


# --- The work of an administrator ------------------------------------------------------------

def install(system, package):
    system.path("build").mkdir()
    shutil.copy(package, system.path("build"))
    system.path("etc/apt/apt.conf.d/unattended").write_text(
        'APT::Get::Assume-Yes "true";\nAPT::Get::Remove "false";\n')
    system.run("apt-get", "update", "-q")
    system.run("apt-get", "install", "-q", "--no-install-recommends", *STOCK)
    step("the package")
    said = documents.run("README.md", "Install", "tests/package.py", system.bash)
    check("    a2enconf registration-mpm\n" in said, f"no advice of threads: {said}")
    for name in ("libaprutil1-dbd-pgsql", "libapache2-mod-oauth2"):
        check("ok installed" in system.run("dpkg-query", "-W", "-f", "${Status}", name),
              f"{name} was not installed with it")


def limit_rates(system):
    """Follows the comment of rate-limit.conf; Apache's configuration is valid after each step."""
    text = system.path("usr/share/mod_registration/rate-limit.conf").read_text()
    text = text.partition("# Not reload")[0]
    commands = [line[4:] for line in text.splitlines() if line.startswith("#   ")]
    check(len(commands) == 6, f"other commands than expected: {commands}")
    for command in commands[0 if release() == "bookworm" else 3:-1]:
        system.bash(command)
        said = system.run("apache2ctl", "configtest")
        check("Syntax OK" in said, f"{command}: {said}")
    check("qos_module" in system.run("apache2ctl", "-M"), "mod_qos is not loaded")


def check_units(system):
    """Checks the units for systemd; a fault may be a warning only."""
    names = [f"/usr/share/mod_registration/registration-{name}.{kind}"
             for name in ("keys", "maintain") for kind in ("service", "timer")]
    said = system.run("systemd-analyze", "verify", *names)
    check(not said, f"systemd-analyze verify: {said}")

    step("the control: a directive that systemd does not know is found")
    wrong = system.path("tmp/wrong.timer")
    wrong.write_text(system.path(names[-1]).read_text().replace("OnCalendar", "OnCalender"))
    said = system.run("sh", "-c", "systemd-analyze verify /tmp/wrong.timer; true")
    check("OnCalender" in said, f"systemd-analyze verify: {said}")


def use(system):
    """From the installed package to the first registration."""
    system.run("service", "postgresql", "start")
    system.run("apache2ctl", "start")
    system.run("registration-schema", "status", user="postgres", expect=1)

    step("the first event, as printed")
    said = documents.run("docs/first-event.md", None, "tests/package.py", system.bash)
    check("REG0" not in said and "Syntax OK" in said, said)
    check(system.sql("SELECT count(*) FROM registration.event_registrations") == "2",
          "there are not two registrations")
    check("REG0" not in system.error_log(), system.error_log())

    step("troubleshooting, as printed")
    said = documents.run("docs/troubleshooting.md", None, "tests/package.py", system.bash)
    check('"status":"ready"' in said and "up to date" in said and "Syntax OK" in said, said)

    step("who may read the key")
    check(system.path(KEY).stat().st_mode & 0o777 == 0o600, "others may read the key")

    step("what cron and systemd run every hour")
    operating = (documents.ROOT / "docs" / "operating.md").read_text()
    line = re.search(r"(?m)^17 \* \* \* \* postgres (.*)$", operating)[1]
    check('"idempotency_keys": 0' in system.run("sh", "-c", line, user="postgres"),
          "the line for cron does not do it")
    service = system.path("usr/share/mod_registration/registration-maintain.service").read_text()
    check(f"ExecStart=/usr/bin/{line.partition('&& ')[2]}\n" in service,
          "the service does something else than the line for cron")

    step("the units for systemd")
    check_units(system)

    operate(system)

    step("without the driver")
    [drivers] = system.path("usr/lib").glob("*/apr-util-1")
    away = drivers.rename(drivers.with_name("away"))
    said = system.run("apache2ctl", "configtest", expect=1)
    check("install libaprutil1-dbd-pgsql" in said, said)
    away.rename(drivers)
    remove(system)
    system.run("apache2ctl", "stop")
    system.run("service", "postgresql", "stop")


def as_printed(system, section):
    step(f"{section}, as printed")
    return documents.run("docs/operating.md", section, "tests/package.py", system.bash)


def operate(system):
    """Runs docs/operating.md, from the installation to the upgrade."""
    for section in ("Install", "Configure", "Maintain", "Audit"):
        as_printed(system, section)
    check(system.path("usr/share/mod_registration/registration-alerts.yml").exists(),
          "there are no alert rules")
    said = as_printed(system, "Size")
    for value in ("ThreadLimit\\s+64", "ThreadsPerChild\\s+25", "MaxRequestWorkers\\s+150",
                  "100\n3"):
        check(re.search(value, said), f"{value} is not a default: {said}")

    before = system.sql("SELECT id FROM registration.event_registrations ORDER BY id")
    said = as_printed(system, "Back up and restore")
    check("(0 rows)" in said and '{"status":"ready"}' in said, said)
    check(system.sql("SELECT id FROM registration.event_registrations ORDER BY id") == before,
          "other registrations were restored")

    # Installation of a package reloads httpd here, as on a real machine.
    system.path("usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 0\n")
    make_newer(system, "+1")
    with polls(READY) as answers:
        as_printed(system, "Upgrade")
        wait_until(lambda: not has_replaced_module(system), 60, "httpd did not load the new module")
    check(set(answers) == {200}, f"answers during the upgrade: {answers}")
    check("+1" in system.run("dpkg-query", "-W", PACKAGE), "the new package is not installed")
    check("up to date" in system.run("registration-schema", "status", user="postgres"),
          "registration-schema does not call it up to date")

    step("the control: a restart at an upgrade is noticed")
    make_newer(system, "+2", lambda script: script.replace(" reload ", " restart "))
    with polls(READY) as answers:
        system.run("apt-get", "install", "-q", f"/{PACKAGE}_NEW.deb")
        wait_until(lambda: status(READY) == 200, 60, "httpd did not start")
    check(set(answers) > {200}, f"answers during a restart: {answers}")


def status(url):
    """The status of a request over a connection of its own, or why there is none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return str(error)


@contextlib.contextmanager
def polls(url):
    """Counts the statuses of requests that are made one after the other during the block."""
    answers, end = collections.Counter(), threading.Event()

    def poll():
        while not end.wait(0.05):   # fewer than rate-limit.conf admits
            answers[status(url)] += 1
    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield answers
    finally:
        end.set()
        thread.join()


def has_replaced_module(system):
    """Whether a process executes a module whose file another one has replaced."""
    for maps in system.path("proc").glob("[0-9]*/maps"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if "mod_registration.so (deleted)" in maps.read_text():
                return True
    return False


def make_newer(system, suffix, change=lambda script: script):
    """Builds a package of a later version for an upgrade, with a changed postinst."""
    [package] = system.path("build").glob("*.deb")
    unpacked = system.path("build/newer")
    subprocess.run(["dpkg-deb", "-R", str(package), str(unpacked)], check=True)
    control, script = unpacked / "DEBIAN" / "control", unpacked / "DEBIAN" / "postinst"
    control.write_text(re.sub(r"(?m)^(Version: .*)$", rf"\1{suffix}", control.read_text()))
    script.write_text(change(script.read_text()))
    subprocess.run(["dpkg-deb", "-b", str(unpacked),
                    str(system.path(f"{PACKAGE}_NEW.deb"))], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.rmtree(unpacked)


def remove_with_site(system):
    """Removes the package while its site is enabled, and installs it again."""
    step("other sites, when it is removed while its site is enabled")
    with polls("http://localhost/") as answers:
        system.run("apt-get", "remove", "-q", PACKAGE)
    check(set(answers) == {200}, f"answers of another site during the removal: {answers}")
    system.run("a2dismod", "-q", "oauth2")   # autoremove removes mod_oauth2, too
    system.run("service", "apache2", "restart")
    check(status("http://localhost/") == 200, "another site is down")

    step("the control: without <IfModule>, httpd would not start")
    site = system.path(SITE).read_text()
    system.path(SITE).write_text(site.replace("<IfModule registration_module>\n", "")
                                 .removesuffix("</IfModule>\n"))
    said = system.run("apache2ctl", "configtest", expect=1)
    check("Invalid command" in said, said)
    system.path(SITE).write_text(site)

    system.run("a2enmod", "-q", "oauth2")
    system.run("apt-get", "install", "-q", f"/{PACKAGE}_NEW.deb")
    wait_until(lambda: status(READY) == 200, 60, "it was not ready after it was installed again")


def autopkgtest(system, source, package):
    """Runs the test of debian/tests by autopkgtest, with what it installs already there: the
    system has its own network, without packages. It is the container that the test asks for, and
    is not used afterwards."""
    step("the test of debian/tests")
    with tempfile.TemporaryDirectory() as output:
        result = subprocess.run(
            ["autopkgtest", "--no-built-binaries", f"--output-dir={output}/log",
             "--ignore-restrictions=isolation-container,breaks-testbed", str(package), f"{source}/",
             "--", "chroot", str(system.root)],
            text=True, timeout=400, env=VARIABLES, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        # The status is another one for a test that is skipped.
        check(result.returncode == 0, result.stdout)
    said = system.run("sh", "-c", f"dpkg -s {PACKAGE} 2>&1; true")
    check("install ok installed" not in said, "the test did not remove the package")


def left_of(system, files):
    """Finds files of the package that belong to no other package, and all files with its name."""
    left = [name for name in files if name != "/." and system.path(name).exists()
            and not subprocess.run(["chroot", str(system.root), "dpkg", "-S", name],
                                   stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL).returncode == 0]
    left += [name for name in system.run("find", "/etc", "/usr", "/var", "-xdev", "-name",
                                         "*registration*").splitlines()
             if not name.startswith(("/var/log/apache2/", "/var/cache/apt/", "/var/backups/"))]
    return left


def remove(system):
    [package] = system.root.parent.glob(f"{PACKAGE}_*.deb")
    files = system.run("dpkg", "-L", PACKAGE).splitlines()
    check("/usr/bin/registration-schema" in files, "it has no registration-schema")
    system.path("etc/apt/apt.conf.d/unattended").write_text('APT::Get::Assume-Yes "true";\n')
    remove_with_site(system)
    as_printed(system, "Remove")
    left = left_of(system, files)
    check(not left, f"removing leaves {left}")
    check("Syntax OK" in system.run("apache2ctl", "configtest"), "apache2 is broken now")
    roles = system.run("psql", "-X", "-At", "-c", "SELECT rolname FROM pg_roles", user="postgres")
    check("registration" not in roles, f"there are roles left: {roles}")

    autopkgtest(system, system.root.parent / "deb" / "source", package)

    step("the control: what is left behind is found")
    for name in LEFT_BEHIND:
        system.path(name).parent.mkdir(parents=True, exist_ok=True)
        system.path(name).touch()
        check(name in left_of(system, files), f"{name} was left behind, which was not found")


def inside(root):
    """The part that runs in its own network and process ids."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    mount(root)
    use(System(root))


def lintian(path, *options):
    """What lintian finds in a package, or in the packages and the source of a .changes file. A
    release's lintian does not know a version of the policy that is newer."""
    said = subprocess.run(["lintian", "--allow-root", "--display-info", "--pedantic",
                           "--suppress-tags", "newer-standards-version", *options, str(path)],
                          text=True, stdout=subprocess.PIPE).stdout
    return [line for line in said.splitlines() if not line.startswith("N:")]


def check_mounting():
    if subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode:
        raise Wrong("File systems have to be mounted, which takes CAP_SYS_ADMIN.")


def main(directory):
    begin = time.monotonic()
    [package] = directory.glob(f"{PACKAGE}_*.deb")
    root, record = directory / "package", directory / "package-commands"
    shutil.rmtree(root, ignore_errors=True)
    record.write_text("")
    os.environ[documents.RECORD] = str(record)
    try:
        step("lintian")
        [changes] = (directory / "deb").glob("*.changes")
        found = lintian(changes)
        check(not found, "\n".join(found))
        step("the control: lintian finds the overridden tags")
        check(lintian(package, "--no-override"), "lintian found nothing without overrides")
        step("an empty system")
        check_mounting()
        system = make_system(root)
        alone(["--mount"], "install", root, package)
        alone(["--mount", "--net", "--pid", "--fork", "--kill-child"], "use", root)
        check(not system.path("proc/self").exists(), "the system's /proc is still mounted")
        step("the documents' commands have all been run")
        check(documents.not_run("tests/package.py", record) == [],
              f"not run: {documents.not_run('tests/package.py', record)}")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"The package installs, serves and is removed, in {time.monotonic() - begin:.0f} s.")


def alone(namespaces, *arguments):
    """Runs the main program in its own namespaces, for at most ten minutes. With its own process
    ids the first process is the shell, which has to wait for orphans."""
    subprocess.run(["unshare", *namespaces, "sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-B",
                    sys.argv[0], *map(str, arguments)], check=True, timeout=600)


if __name__ == "__main__":
    try:
        if os.geteuid() != 0 or len(sys.argv) < 2:
            sys.exit(__doc__)
        if sys.argv[1] == "use":
            inside(pathlib.Path(sys.argv[2]))
        elif sys.argv[1] == "install":
            mount(pathlib.Path(sys.argv[2]))
            install(System(pathlib.Path(sys.argv[2])), pathlib.Path(sys.argv[3]))
            limit_rates(System(pathlib.Path(sys.argv[2])))
        else:
            main(pathlib.Path(sys.argv[1]).resolve())
    except (Wrong, documents.Wrong, ServerError, subprocess.SubprocessError) as error:
        sys.exit(str(error))
