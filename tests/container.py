# SPDX-License-Identifier: Apache-2.0
"""Builds the image of conf/container by podman, and runs it as docs/operating.md says.

    python3 tests/container.py DIRECTORY     as root; DIRECTORY takes the images

The base image is not that of a registry: it is a minimal Debian under the same name. The container
and its PostgreSQL run in a network of their own, in which the host names of compose.yaml are
addresses of this machine. All processes end with this program.
"""

import functools
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

import debian
import documents
import release
from package import Wrong, alone, check, step
from servers import Certificates, Postgres, ServerError, TokenIssuer, wait_until

FILES = documents.ROOT / "conf" / "container"
NAME = "registration"
HOST, DATABASE_HOST, ADDRESS = "registration.example.org", "db.example.org", "192.0.2.1"
SECRETS = pathlib.Path("/srv/registration")
STATE = "/var/lib/registration"
SESSION = f"https://{HOST}/v1/sessions/11111111-1111-4111-8111-111111111111/register"
# What Debian's image `slim` excludes from packages.
SLIM = "path-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\n"
# Limits that need no CAP_SYS_RESOURCE. crun does not run where both versions of cgroups are
# mounted.
CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "{network}"
[engine]
runtime = "runc"
lock_type = "file"
[network]
network_backend = "netavark"
network_config_dir = "{directory}/networks"
"""
STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{directory}/images"
runroot = "{directory}/run"
"""


def configure(directory, network):
    """Keeps what podman writes in the directory."""
    for variable, text in (("CONTAINERS_CONF", CONFIGURATION),
                           ("CONTAINERS_STORAGE_CONF", STORAGE)):
        path = directory / variable
        path.write_text(text.format(directory=directory, network=network))
        os.environ[variable] = str(path)
    os.environ["DISABLE_HC_SYSTEMD"] = "true"   # no timers for health checks


def run(*command, expect=0, **options):
    result = subprocess.run(command, text=True, timeout=500, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            **({} if "input" in options else {"stdin": subprocess.DEVNULL}),
                            **options)
    check(result.returncode == expect,
          f"{' '.join(command)}: exit status {result.returncode}\n{result.stdout}")
    return result.stdout.strip()


podman = functools.partial(run, "podman")


def as_printed(section):
    return documents.run("docs/operating.md", section, "tests/container.py",
                         lambda script: run("bash", "-e", "-c", script, cwd=documents.ROOT))


# --- The image -------------------------------------------------------------------------------

def build(directory, archive):
    """Imports a base with the name that the Containerfile has, and builds the image."""
    configure(directory, "host")
    text = (FILES / "Containerfile").read_text()
    base = re.search(r"(?m)^FROM (\S+)$", text)[1].replace("${DEBIAN}", debian_of(text))
    file = "etc/dpkg/dpkg.cfg.d/slim"
    (directory / file).parent.mkdir(parents=True)
    (directory / file).write_text(SLIM)
    copy = shutil.copy(archive, directory)
    run("tar", "--append", "--file", copy, "--directory", str(directory), file)
    podman("import", "--quiet", copy, base)
    step("the image")
    as_printed("Build the image")


def debian_of(containerfile):
    """The release that the Containerfile is for."""
    return re.search(r"(?m)^ARG DEBIAN=(\S+)$", containerfile)[1]


def check_image():
    """No PostgreSQL in the image, and no variable in compose.yaml that nothing reads."""
    podman("run", "--rm", "mod_registration", "sh", "-c",
           "! ls /usr/lib/postgresql/*/bin/postgres")
    known = "".join(path.read_text() for path in
                    (FILES / "registration-httpd", documents.ROOT / "conf" / "example-site.conf"))
    names = re.findall(r"(?m)^      (REGISTRATION_\w+): ", (FILES / "compose.yaml").read_text())
    check(names and all(name in known for name in names), f"something does not read one of {names}")


# --- The surroundings of the container -------------------------------------------------------

def make_network(directory):
    """An address of this machine for both host names, in this program's own namespaces."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    hosts = directory / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{ADDRESS} {HOST} {DATABASE_HOST}\n")
    run("mount", "--bind", str(hosts), "/etc/hosts")
    for place in ("/run", "/srv"):
        run("mount", "-t", "tmpfs", "tmpfs", place)


def start_postgres(directory, certificates):
    """A PostgreSQL with TLS that takes connections from containers."""
    postgres = Postgres(directory, port=5432,
                        settings=["ssl = on", f"listen_addresses = '127.0.0.1,{ADDRESS}'"])
    postgres.create()
    for path, name in ((certificates.certificate, "server.crt"), (certificates.key, "server.key")):
        shutil.copy(path, postgres.data / name)
        shutil.chown(postgres.data / name, "postgres", "postgres")
        (postgres.data / name).chmod(0o600)
    postgres.start()
    with open(postgres.data / "pg_hba.conf", "a", encoding="utf-8") as rules:
        rules.write("hostssl all postgres 0.0.0.0/0 trust\n"
                    "hostssl registration registration 0.0.0.0/0 scram-sha-256\n")
    postgres.psql("-c", "SELECT pg_reload_conf()", database="postgres")
    return postgres


def make_secrets(certificates, postgres, issuer):
    """A file for each secret of compose.yaml, which every user may read."""
    contents = {"certificate": certificates.certificate.read_text(),
                "certificate_key": certificates.key.read_text(),
                "database_ca": certificates.authority.read_text(),
                "database_password": postgres.password + "\n",
                "log_key": os.urandom(16).hex() + "\n", "token_keys": key_set(issuer)}
    SECRETS.mkdir()
    for name, text in contents.items():
        (SECRETS / name).write_text(text)


def key_set(issuer):
    return json.dumps({"keys": [json.loads(issuer.jwk())]})


def register(certificates, patient, issuer):
    """The status of a registration with a token of the issuer."""
    request = urllib.request.Request(SESSION, json.dumps({"patient_id": patient}).encode())
    request.add_header("Content-Type", "application/json")
    if issuer:
        request.add_header("Authorization",
                           f"Bearer {issuer.token('me', scope='sessions:write')}")
    context = ssl.create_default_context(cafile=str(certificates.authority))
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


# --- The container ---------------------------------------------------------------------------

def is_healthy(name=NAME):
    return subprocess.run(["podman", "healthcheck", "run", name], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def state(field):
    return podman("inspect", "--format", f"{{{{.State.{field}}}}}", NAME)


def await_health():
    wait_until(is_healthy, 60, "the container did not become healthy")
    check(state("Health.Status") == "healthy", "podman does not call it healthy")


def refuse_to_start():
    """A container without a setting that it needs ends, and says which one."""
    needed = ("REGISTRATION_HOST", "REGISTRATION_DATABASE", "REGISTRATION_ISSUER")
    for missing in needed:
        variables = [f"--env={name}=x" for name in needed if name != missing]
        said = podman("run", "--rm", *variables, "mod_registration", expect=1)
        check(f"{missing} is not set" in said, said)
    said = podman("run", "--rm", *(f"--env={name}=x" for name in needed), "mod_registration",
                  expect=1)
    check("no keys for tokens" in said, said)


def check_rights():
    """Every process of the container has its user and no capability, and can write to
    /var/lib/registration only."""
    lines = podman("top", NAME, "user", "capbnd", "capeff", "comm").splitlines()[1:]
    check(len(lines) > 1, "httpd has no child process")
    for line in lines:
        check(line.split()[:3] == ["www-data", "none", "none"], line)
    said = podman("exec", NAME, "touch", "/etc/apache2/x", f"{STATE}/x", expect=1)
    check(re.findall(r"cannot touch '(.*?)': Read-only", said) == ["/etc/apache2/x"], said)


def renew(certificates):
    """Fetches the issuer's keys, and fetches them again after the issuer has changed them."""
    old, new = TokenIssuer(kid="old"), TokenIssuer(kid="new")
    podman("exec", "--detach", NAME, "python3", "-m", "http.server", "--bind", "127.0.0.1",
           "--directory", STATE, "8000")

    def publish(issuer):
        podman("exec", "--interactive", NAME, "tee", f"{STATE}/set", input=key_set(issuer))

    def fetches():
        return not subprocess.run(
            ["podman", "exec", NAME, "registration-keys", "--file", f"{STATE}/keys.conf",
             "http://127.0.0.1:8000/set"], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL).returncode
    publish(old)
    wait_until(fetches, 30, "the keys were not fetched")
    publish(new)
    check(register(certificates, "patient-2", new) == 401, "a key was known before it was fetched")
    said = as_printed("Renew keys")
    check("httpd reads them" in said, said)
    wait_until(lambda: register(certificates, "patient-2", new) == 201, 30,
               "the new key was not read")


def stop(certificates, issuer):
    """The container stops by itself on the image's signal and on SIGTERM, and podman restarts it
    after SIGTERM, as compose.yaml says."""
    await_health()
    process = int(state("Pid"))
    os.kill(process, signal.SIGTERM)
    wait_until(lambda: int(state("Pid")) not in (0, process), 30, "podman did not restart it")
    await_health()
    check(register(certificates, "patient-3", issuer) == 201, "no registration after a restart")
    said = podman("stop", "--time", "15", NAME)
    check("SIGKILL" not in said and state("ExitCode") == "0", f"{said}\n{podman('logs', NAME)}")
    check(not is_healthy(), "it is healthy after its end")


def check_log():
    said = podman("logs", NAME)
    check('"POST /v1/sessions/' in said, f"no access log: {said}")
    check("caught SIGTERM" in said and "caught SIGWINCH" in said, f"it did not end itself: {said}")
    # mod_oauth2 logs each token that it refuses.
    check(not re.search(r"\[(?!oauth2:)\w*:(warn|error|crit|alert|emerg)\]", said), said)


def use(directory):
    """Starts the image, registers, renews the keys, and stops it."""
    configure(directory, "bridge")
    make_network(directory)
    check_image()
    step("without its settings")
    refuse_to_start()
    step("the control: a container without httpd is not healthy")
    podman("run", "--detach", "--name=idle", "mod_registration", "sleep", "100")
    check(not is_healthy("idle"), "it is healthy")
    podman("rm", "--force", "--time=0", "idle")
    certificates = Certificates(directory / "certificates", [HOST, DATABASE_HOST])
    issuer = TokenIssuer()
    postgres = start_postgres(directory / "postgres", certificates)
    try:
        make_secrets(certificates, postgres, issuer)
        step("the schema and the container, as printed")
        as_printed("Create the schema")
        postgres.set_password("registration")
        postgres.install("demo.sql")
        as_printed("Start it")
        step("a registration")
        await_health()
        check(register(certificates, "patient-1", None) == 401, "no token is required")
        check(register(certificates, "patient-1", issuer) == 201, podman("logs", NAME))
        rows = postgres.psql("-c", "SELECT count(*) FROM registration.live_registrations"
                                   " WHERE patient_id = 'patient-1'")
        check(rows == "1", f"there are {rows} rows")
        check_rights()
        step("other keys")
        renew(certificates)
        step("its end")
        stop(certificates, issuer)
        check_log()
    finally:
        podman("rm", "--force", "--all", "--time=0")
        postgres.stop()


def main(directory):
    begin = time.monotonic()
    files, record = directory / "container", directory / "container-commands"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True)
    record.write_text("")
    os.environ[documents.RECORD] = str(record)
    try:
        step("the base")
        name = debian_of((FILES / "Containerfile").read_text())
        archive = debian.make_base(directory, name, [
            *release.copy_sources(debian.sources(), debian.release(), name, files)])
        alone(["--mount"], "image", files, archive)
        alone(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"], "use", files)
        check(documents.not_run("tests/container.py", record) == [],
              f"not run: {documents.not_run('tests/container.py', record)}")
    finally:
        shutil.rmtree(files, ignore_errors=True)
    print(f"The image is built, serves and stops, in {time.monotonic() - begin:.0f} s.")


if __name__ == "__main__":
    try:
        if os.geteuid() != 0 or len(sys.argv) < 2:
            sys.exit(__doc__)
        paths = [pathlib.Path(path).resolve() for path in sys.argv[2:]]
        if paths:
            {"image": build, "use": use}[sys.argv[1]](*paths)
        else:
            main(pathlib.Path(sys.argv[1]).resolve())
    except (Wrong, documents.Wrong, ServerError, subprocess.SubprocessError) as error:
        sys.exit(str(error))
