# SPDX-License-Identifier: Apache-2.0
"""Builds the image of conf/container/Containerfile and runs it as compose.yaml describes.

    python3 tests/container.py DIRECTORY     as root; DIRECTORY takes the image

No container runtime is needed: this program reads the same two files, and executes the
instructions in directories, whose first content is a minimal Debian of this machine's release. A
container is a process with the image as its root, read-only, and with its own network and process
ids, without root's rights. PostgreSQL runs beside it in that network.
"""

import contextlib
import http.server
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import yaml

from package import Wrong, alone, check, make_debian, mount, release, step
from servers import Certificates, Postgres, ServerError, TokenIssuer, wait_until
from servers.common import ROOT

FILES = ROOT / "conf" / "container"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SESSION = "/v1/sessions/11111111-1111-4111-8111-111111111111/register"


# --- The image -------------------------------------------------------------------------------

def instructions(text):
    """The instructions of a Containerfile, each with its arguments."""
    text = re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


class Image:
    """A directory with the files of a stage, and what the instructions say of its containers."""

    def __init__(self, root):
        self.root = root
        self.variables = {"PATH": PATH}
        self.user, self.command, self.health, self.stop = "0:0", [], None, "SIGTERM"

    def run(self, script):
        result = subprocess.run(["chroot", str(self.root), "sh", "-c", script], text=True,
                                env=self.variables, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500)
        check(result.returncode == 0, f"RUN {script}: {result.stdout}")

    def copy(self, origin, names, target):
        into = self.root / target.lstrip("/")
        paths = [path for name in names for path in sorted(origin.glob(name.lstrip("/")))]
        check(len(paths) >= len(names), f"COPY: {origin} has not all of {names}")
        for path in paths:
            if path.is_dir():
                shutil.copytree(path, into, dirs_exist_ok=True)
            else:
                (into if target.endswith("/") else into.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, into)

    def write(self, path):
        path.write_text(json.dumps({**vars(self), "root": str(self.root)}))

    @classmethod
    def read(cls, path):
        image = cls(None)
        vars(image).update(json.loads(path.read_text()))
        image.root = pathlib.Path(image.root)
        return image


class Build:
    """Executes the instructions. One that it does not know is an error."""

    def __init__(self, directory, **arguments):
        self.directory = directory
        self.arguments = arguments
        self.stages = {}
        self.image = None

    def arg(self, rest):
        name, _, value = rest.partition("=")
        self.arguments.setdefault(name, value)

    def from_(self, rest):
        base, _, name = rest.partition(" AS ")
        for argument, value in self.arguments.items():
            base = base.replace(f"${{{argument}}}", value)
        check(base == f"docker.io/library/debian:{release()}-slim", f"{base} is not here")
        self.image = Image(self.directory / f"stage-{len(self.stages)}")
        self.stages[name] = self.image
        subprocess.run(["cp", "-a", str(self.directory / "base"), str(self.image.root)], check=True)
        mount(self.image.root)

    def copy(self, rest):
        *names, target = shlex.split(rest)
        origin = ROOT
        if names[0].startswith("--from="):
            origin = self.stages[names.pop(0).partition("=")[2]].root
        self.image.copy(origin, names, target)

    def run(self, rest):
        self.image.run(rest)

    def env(self, rest):
        self.image.variables.update(part.split("=", 1) for part in shlex.split(rest))

    def expose(self, rest):
        check(rest == self.image.variables["REGISTRATION_PORT"], f"EXPOSE {rest}: another port")

    def user(self, rest):
        self.image.user = rest

    def stopsignal(self, rest):
        self.image.stop = rest

    def healthcheck(self, rest):
        self.image.health = rest.partition(" CMD ")[2]

    def cmd(self, rest):
        self.image.command = json.loads(rest)

    def execute(self, text):
        for word, rest in instructions(text):
            step(f"{word} {' '.join(rest.split())[:70]}")
            name = word.lower() + ("_" if word == "FROM" else "")
            check(hasattr(self, name), f"{word}: an instruction that is not known here")
            getattr(self, name)(rest)
        return self.image


def build(directory):
    """Builds the image, in the mount namespace of this process."""
    # The image `debian` in its variant `slim` has no manuals either.
    make_debian(directory / "base", "--variant=minbase", "--dpkgopt=path-exclude=/usr/share/man/*",
                "--dpkgopt=path-exclude=/usr/share/doc/*")
    image = Build(directory, DEBIAN=release()).execute((FILES / "Containerfile").read_text())
    image.write(directory / "image.json")


# --- The container ---------------------------------------------------------------------------

class Container:
    """A container of the service in compose.yaml; its variables may be changed."""

    def __init__(self, image, log, **changes):
        self.image = image
        self.log = log
        self.variables = {**image.variables, **service()["environment"], **changes}
        self.process = None

    def command(self, command):
        uid, gid = self.image.user.split(":")
        return ["chroot", str(self.image.root), "setpriv", f"--reuid={uid}", f"--regid={gid}",
                "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
                *command]

    def start(self):
        with open(self.log, "wb") as output:
            # As runtimes do: the process may open its output once more, as /dev/stdout.
            os.fchown(output.fileno(), *map(int, self.image.user.split(":")))
            self.process = subprocess.Popen(self.command(self.image.command), env=self.variables,
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        return self

    def run(self, *command):
        """Runs another command in the container; its exit status and output."""
        result = subprocess.run(self.command(command), env=self.variables, text=True, timeout=60,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)
        return result.returncode, result.stdout

    def is_healthy(self):
        return self.run("sh", "-c", self.image.health)[0] == 0

    def became_healthy(self):
        check(self.process.poll() is None, self.log.read_text())
        return self.is_healthy()

    def stop(self, seconds):
        self.process.send_signal(getattr(signal, self.image.stop))
        return self.process.wait(seconds)


def service():
    """The service of compose.yaml."""
    return compose()["services"]["registration"]


def compose():
    return yaml.safe_load((FILES / "compose.yaml").read_text())


def mount_as_described(root, secrets):
    """Mounts what compose.yaml describes: secrets, a tmpfs, and the rest read-only."""
    check(service()["read_only"], "the image's files can be written")
    subprocess.run(["mount", "--bind", str(root), str(root)], check=True)
    (root / "run/secrets").mkdir()
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    mount(root)
    for entry in service()["tmpfs"]:
        path, _, options = entry.partition(":")
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(root / path[1:])],
                       check=True)
    subprocess.run(["mount", "--bind", str(secrets), str(root / "run/secrets")], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(root)], check=True)


def key_set(issuer):
    return json.dumps({"keys": [json.loads(issuer.jwk())]})


def make_secrets(directory, certificates, postgres, issuer):
    """A file for each secret of compose.yaml, which every user may read."""
    contents = {"certificate": certificates.certificate.read_text(),
                "certificate_key": certificates.key.read_text(),
                "database_ca": certificates.authority.read_text(),
                "database_password": postgres.password + "\n",
                "log_key": os.urandom(16).hex() + "\n", "token_keys": key_set(issuer)}
    check(sorted(contents) == sorted(service()["secrets"]) == sorted(compose()["secrets"]),
          "compose.yaml has other secrets")
    directory.mkdir(mode=0o755)
    for name, text in contents.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o644)


def start_postgres(directory, certificates):
    """A PostgreSQL with TLS, in the network of the container and outside its files."""
    postgres = Postgres(directory, settings=["ssl = on"])
    postgres.create()
    for path, name in ((certificates.certificate, "server.crt"), (certificates.key, "server.key")):
        shutil.copy(path, postgres.data / name)
        shutil.chown(postgres.data / name, "postgres", "postgres")
        (postgres.data / name).chmod(0o600)
    postgres.start()
    return postgres


def install_schema(image, log, postgres):
    """Creates the database with the image's own command."""
    variables = {**postgres.variables(), "PGPASSWORD": postgres.password}
    container = Container(image, log, **variables)
    status, said = container.run("registration-schema", "install", "--create")
    check(status == 0, said)
    postgres.install("demo.sql")


class Client:
    def __init__(self, port, certificates):
        self.url = f"https://localhost:{port}"
        self.context = ssl.create_default_context(cafile=str(certificates.authority))

    def status(self, path, token=None, body=None):
        request = urllib.request.Request(self.url + path, body and json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=20, context=self.context) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def register(self, patient, issuer):
        token = issuer.token("me", scope="sessions:write") if issuer else None
        return self.status(SESSION, token, {"patient_id": patient})


@contextlib.contextmanager
def served(sets):
    """The address of a key set: the last one of a list."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(sets[-1].encode())

        def log_message(self, *arguments):
            pass
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def refuse_to_start(image, log):
    """A container without a setting that it needs ends, and says which one."""
    for name in ("REGISTRATION_HOST", "REGISTRATION_DATABASE", "REGISTRATION_ISSUER"):
        container = Container(image, log, **{name: ""}).start()
        check(container.process.wait(30) == 1 and name in log.read_text(), log.read_text())


def renew(container, client, sets, url):
    """Fetches the issuer's keys, and fetches them again after the issuer has changed them."""
    path = container.variables["REGISTRATION_TOKEN_KEYS"]
    old, new = TokenIssuer(kid="old"), TokenIssuer(kid="new")
    sets.append(key_set(old))
    result = container.run("registration-keys", "--file", path, url)
    check(result[0] == 0, result[1])
    sets.append(key_set(new))
    check(client.register("patient-2", new) == 401, "a key was known before it was fetched")
    result = container.run("registration-keys", "--file", path, "--httpd", "registration-httpd",
                           "--renew")
    check(result[0] == 0 and "httpd reads them" in result[1], result[1])
    wait_until(lambda: client.register("patient-2", new) == 201, 30, "the new key was not read")


def check_files(image):
    """No PostgreSQL in the image, and no variable in compose.yaml that nothing reads."""
    check(not list(image.root.glob("usr/lib/postgresql/*/bin/postgres")),
          "PostgreSQL is in the image")
    known = [path.read_text() for path in (FILES / "registration-httpd",
                                           ROOT / "conf" / "example-site.conf")]
    unknown = [name for name in service()["environment"] if name not in "".join(known)]
    check(not unknown, f"compose.yaml sets {unknown}, which nothing reads")


def register_once(container, client, postgres, issuer):
    said = container.log.read_text
    wait_until(container.became_healthy, 60, "the container did not become healthy")
    check(client.status("/health/ready") == 200, f"it is not ready\n{said()}")
    check(client.register("patient-1", None) == 401, "no token is required")
    check(client.register("patient-1", issuer) == 201, f"no registration\n{said()}")
    rows = postgres.psql("-c", "SELECT count(*) FROM registration.live_registrations"
                               " WHERE patient_id = 'patient-1'")
    check(rows == "1", f"there are {rows} rows")


def check_end(container):
    """httpd stops in time; its log has the requests, and no warning."""
    seconds = int(service()["stop_grace_period"].removesuffix("s"))
    check(container.stop(seconds) == 0, container.log.read_text())
    check(not container.is_healthy(), "it is healthy after its end")
    said = container.log.read_text()
    check('"POST /v1/sessions/' in said, f"no access log: {said}")
    # mod_oauth2 logs each token that it refuses.
    check(not re.search(r"\[(?!oauth2:)\w*:(warn|error|crit|alert|emerg)\]", said), said)


def use(directory):
    """Starts the image, registers, renews the keys, and stops it."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    image, log = Image.read(directory / "image.json"), directory / "log"
    check_files(image)
    certificates, issuer = Certificates(directory / "certificates"), TokenIssuer()
    postgres = start_postgres(directory / "postgres", certificates)
    try:
        make_secrets(directory / "secrets", certificates, postgres, issuer)
        mount_as_described(image.root, directory / "secrets")
        step("the schema")
        install_schema(image, log, postgres)
        step("without its settings")
        refuse_to_start(image, log)
        step("a registration")
        database = re.sub(r"host=\S+", f"host=localhost port={postgres.port}",
                          service()["environment"]["REGISTRATION_DATABASE"])
        container = Container(image, log, REGISTRATION_HOST="localhost",
                              REGISTRATION_DATABASE=database)
        check(not container.is_healthy(), "the control: it is healthy before it is started")
        client = Client(container.start().variables["REGISTRATION_PORT"], certificates)
        register_once(container, client, postgres, issuer)
        check_rights(container)
        step("other keys")
        sets = []
        with served(sets) as url:
            renew(container, client, sets, url)
        step("its end")
        check_end(container)
    finally:
        postgres.stop()


def check_rights(container):
    """Every process of the container has its user and no capability."""
    found = 0
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):   # it has ended
            if os.readlink(path / "root") != str(container.image.root):
                continue
            said = (path / "status").read_text()
            check(re.search(r"(?m)^Uid:(\t33){4}$", said)
                  and re.search(r"(?m)^CapEff:\t0+$", said), said)
            found += 1
    check(found > 1, "httpd has no child process")


def main(directory):
    begin = time.monotonic()
    directory = directory / "container"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        alone(["--mount"], "build", directory)
        alone(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"],
              "use", directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"The image is built, serves and stops, in {time.monotonic() - begin:.0f} s.")


if __name__ == "__main__":
    try:
        if os.geteuid() != 0 or len(sys.argv) < 2:
            sys.exit(__doc__)
        if sys.argv[1] in ("build", "use"):
            {"build": build, "use": use}[sys.argv[1]](pathlib.Path(sys.argv[2]))
        else:
            main(pathlib.Path(sys.argv[1]).resolve())
    except (Wrong, ServerError, subprocess.SubprocessError) as error:
        sys.exit(str(error))
