# SPDX-License-Identifier: Apache-2.0
"""Four generators of clients, and how their clients are compiled and run.

`make check-clients` installs them in build/, with versions pinned here. Each has a directory
here with a program that calls each operation with the generated client.
"""

import json
import os
import pathlib
import shutil
import subprocess

import servers

HERE = pathlib.Path(__file__).resolve().parent
VENV = servers.ROOT / "build" / "venv-clients" / "bin"
NODE_MODULES = servers.ROOT / "build" / "clients-npm" / "node_modules"
GO = servers.ROOT / "build" / "clients-go"
TIMEOUT = 600   # seconds: Go compiles its standard library at first use


class Failed(Exception):
    """A step of making or running a client failed; the text is its output."""

    def __init__(self, step, output):
        super().__init__(f"{step}: {output}")
        self.step = step


class Generator:
    """Generates a client in a directory, from openapi.json there."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        shutil.copytree(HERE / self.name, self.directory, dirs_exist_ok=True)

    def environment(self):
        return {"PATH": f"{VENV}:{os.environ['PATH']}"}

    def run(self, step, *command, **variables):
        result = subprocess.run(
            [str(part) for part in command], cwd=self.directory, text=True, timeout=TIMEOUT,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=servers.environment(**self.environment(), **variables))
        if result.returncode:
            raise Failed(step, result.stdout[-4000:] + result.stderr[-4000:])
        return result.stdout

    def make(self, document):
        (self.directory / "openapi.json").write_text(json.dumps(document))
        self.generate()
        self.compile()

    def call(self, **variables):
        """The ids of the operations called, in order."""
        return self.run("call", *self.program, **variables).split()


class Python(Generator):
    program = (VENV / "python", "-B", "main.py")

    def compile(self):
        self.run("compile", VENV / "python", "-m", "compileall", "-q", "registration")


class OpenapiGenerator(Python):
    name = "openapi_generator"

    def generate(self):
        self.run("generate", VENV / "openapi-generator-cli", "generate", "-g", "python", "-i",
                 "openapi.json", "-o", ".", "--package-name", "registration")


class OpenapiPythonClient(Python):
    name = "openapi_python_client"

    def generate(self):
        self.run("generate", VENV / "openapi-python-client", "generate", "--path",
                 "openapi.json", "--output-path", "registration", "--meta", "none",
                 "--fail-on-warning")


class OpenapiTypescript(Generator):
    name = "openapi_typescript"
    program = ("node", "main.js")

    def environment(self):
        return {**super().environment(), "npm_config_offline": "true"}

    def generate(self):
        (self.directory / "node_modules").symlink_to(NODE_MODULES)
        self.run("generate", NODE_MODULES / ".bin" / "openapi-typescript", "openapi.json",
                 "-o", "schema.d.ts")

    def compile(self):
        self.run("compile", NODE_MODULES / ".bin" / "tsc")

    def call(self, **variables):
        return super().call(NODE_EXTRA_CA_CERTS=variables["REGISTRATION_CACERT"], **variables)


class OapiCodegen(Generator):
    name = "oapi_codegen"
    program = ("./client",)

    def environment(self):
        """Go with all caches in build/, and only the modules in go.sum."""
        return {**super().environment(), "GOPATH": str(GO / "path"), "GOTOOLCHAIN": "local",
                "GOCACHE": str(GO / "cache"), "GOENV": "off", "CGO_ENABLED": "0",
                "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false"}

    def generate(self):
        (self.directory / "registration").mkdir()
        self.run("generate", "go", "tool", "oapi-codegen", "-generate", "types,client",
                 "-package", "registration", "-o", "registration/client.go", "openapi.json")

    def compile(self):
        self.run("compile", "go", "build", "-o", "client", ".")


GENERATORS = {one.name: one for one in (OpenapiGenerator, OpenapiPythonClient,
                                        OpenapiTypescript, OapiCodegen)}
