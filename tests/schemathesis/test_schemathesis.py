# SPDX-License-Identifier: Apache-2.0
"""Schemathesis generates requests from openapi.json, valid and invalid ones.

Each answer is compared with the document. schemathesis.toml has the excluded checks, with
reasons. REGISTRATION_SECONDS is the duration, and REGISTRATION_SEED the seed of the random
values: the same seed gives the same first requests.
"""

import copy
import json
import os
import pathlib
import subprocess

import pytest

import openapi
import samples
import servers

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = servers.ROOT / "build" / "venv-schemathesis" / "bin" / "schemathesis"


@pytest.fixture
def schemathesis(tmp_path, httpd, certificates, admin_token, expect_log):
    """schemathesis(document, seconds): its exit status and output."""
    expect_log(r"\[core:error\] .* AH10244: invalid URI path")

    def run(document, seconds, *options):
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        result = subprocess.run(
            [PROGRAM, "--no-color", "--config-file", HERE / "schemathesis.toml", "run",
             "openapi.json", "--url", f"https://localhost:{httpd.port}",
             "--tls-verify", certificates.authority, "--max-time", str(seconds),
             "--seed", os.environ.get("REGISTRATION_SEED", "1"), *options],
            cwd=tmp_path, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=seconds + 120,
            env=servers.environment(REGISTRATION_TOKEN=admin_token, NO_PROXY="localhost"))
        return result.returncode, result.stdout
    return run


@pytest.fixture
def document(admin):
    """The document, with ids of existing rows as examples, so that requests find rows."""
    document = copy.deepcopy(openapi.DOCUMENT)
    parameters = document["components"]["parameters"]
    path = f"/api/v1/groups/{parameters['GroupPath']['example']}/members"
    member = admin.post(path, json=samples.member("EXAMPLE123"))
    event = admin.post("/api/v1/event-registrations", json={
        "occurrenceId": "123e4567-e89b-12d3-a456-426614174001", "externalUserId": "first"})
    parameters["UserPath"]["example"] = member.json()["user"]["uuid"]
    parameters["RegistrationPath"]["example"] = event.json()["id"]
    return document


def test_answers_are_as_described(schemathesis, document):
    status, output = schemathesis(document,
                                  int(os.environ.get("REGISTRATION_SECONDS", "120")))
    assert status == 0, output
    assert f"Tested: {len(openapi.OPERATIONS)}" in output
    print(output[output.rindex("= SUMMARY ="):])


def forbid_an_answer(document):
    document["components"]["schemas"]["EventStatus"]["enum"].remove("CONFIRMED")


def allow_too_long_id(document):
    request = document["components"]["schemas"]["EventRequest"]
    request["properties"]["externalUserId"]["maxLength"] += 1


@pytest.mark.parametrize("change, code", [(forbid_an_answer, "response violates schema"),
                                          (allow_too_long_id, "schema-valid request rejected")])
def test_control_changed_document_fails(schemathesis, document, change, code):
    """The phases that end by themselves are sufficient."""
    change(document)
    document["paths"] = {path: item for path, item in document["paths"].items()
                         if "event-registrations" in path}
    status, output = schemathesis(document, 120, "--phases", "examples,coverage")
    assert status == 1 and code in output.lower(), output
