# SPDX-License-Identifier: Apache-2.0
"""Clients generated from openapi.json work.

Each program's environment has the server (REGISTRATION_URL), the CA (REGISTRATION_CACERT), a
token and the rows to register for (REGISTRATION_DATA). It calls each operation, compares the
typed answers with the expected values, and prints the operation's id.
"""

import copy
import json
import secrets
import types

import pytest

import openapi
from generators import GENERATORS, Failed

START = "2030-12-25T10:00:00+00:00"


@pytest.fixture
def world(live_session, group, institution, child, occurrence):
    """The rows that a program registers for; it knows nothing else of the database."""
    made, school, word = group(), institution(), secrets.token_hex(8)
    # An address that the module accepts, and many validators refuse.
    return {"session": live_session(), "group": made.id, "plan": made.plan,
            "code": made.code, "institution": school, "child": child(school),
            "occurrence": occurrence(capacity=3), "start_date": START,
            "username": f"family {word}", "emails": [f".{word}..1@x", f"{word}@example.org"]}


@pytest.fixture
def call(tmp_path, httpd, certificates, admin_token, world):
    """call(name, document): the operations called by a generator's client."""
    def run(name, document):
        generator = GENERATORS[name](tmp_path / name)
        generator.make(document)
        return generator.call(
            REGISTRATION_URL=f"https://localhost:{httpd.port}",
            REGISTRATION_CACERT=str(certificates.authority), NO_PROXY="localhost",
            REGISTRATION_TOKEN=admin_token, REGISTRATION_DATA=json.dumps(world))
    return run


def rows(sql, world):
    """The rows in the database for a world."""
    return types.SimpleNamespace(
        live=sql("SELECT guest_email, role FROM live_registrations WHERE session_id = %s",
                 world["session"]),
        members=sql("SELECT m.email FROM group_members m JOIN plans p ON p.id = m.plan_id"
                    " WHERE p.group_id = %s ORDER BY m.id", world["group"]),
        families=sql("SELECT count(*) FROM families WHERE username = %s", world["username"]),
        events=sql("SELECT status, fields, deleted_at IS NOT NULL FROM event_registrations"
                   " WHERE occurrence_id = %s", world["occurrence"]))


@pytest.mark.parametrize("name", GENERATORS)
def test_generated_client_calls_each_operation(call, sql, world, name):
    called = call(name, openapi.DOCUMENT)
    assert sorted(called) == sorted(openapi.OPERATIONS)
    found = rows(sql, world)
    email = world["emails"][0]
    assert found.live == [(email, "guest")]
    assert found.members == [(one,) for one in world["emails"]]
    assert found.families == [(1,)]
    assert found.events == [("ATTENDED", {"email": email, "note": "early"}, True)]


# --- Constructs that once broke a generator ------------------------------------------------

def schema(document, name):
    return document["components"]["schemas"][name]


def restore_pattern(document):
    schema(document, "Timestamp")["pattern"] = r"^[0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z$"


def restore_empty_object(document):
    del schema(document, "EventRequest")["properties"]["fields"]["additionalProperties"]


def restore_clash(document):
    text = json.dumps(document).replace("parameters/GroupPath", "parameters/group")
    document.update(json.loads(text))
    parameters = document["components"]["parameters"]
    parameters["group"] = parameters.pop("GroupPath")


def forget_a_role(document):
    schema(document, "LiveRole")["enum"].remove("guest")


@pytest.mark.parametrize("name, change, step", [
    ("openapi_generator", restore_pattern, "call"),
    ("openapi_typescript", restore_empty_object, "compile"),
    ("oapi_codegen", restore_clash, "generate"),
    ("openapi_python_client", forget_a_role, "call")])
def test_control_client_of_changed_document_fails(call, name, change, step):
    changed = copy.deepcopy(openapi.DOCUMENT)
    change(changed)
    with pytest.raises(Failed) as failed:
        call(name, changed)
    assert failed.value.step == step
