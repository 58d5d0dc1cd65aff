# SPDX-License-Identifier: Apache-2.0
"""openapi.json itself: the document, its schemas and its examples are valid."""

import json
import subprocess

import jsonschema
import pytest

import openapi
import servers
from openapi import DOCUMENT, OPERATIONS

VALIDATOR = servers.ROOT / "build" / "venv-openapi" / "bin" / "openapi-spec-validator"


def test_document_is_valid_openapi():
    if not VALIDATOR.exists():
        pytest.fail("`make check` installs the validator")
    result = subprocess.run([VALIDATOR, servers.ROOT / "src" / "api" / "openapi.json"], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout


def test_control_validator_detects_an_error(tmp_path):
    wrong = json.loads(json.dumps(DOCUMENT))
    wrong["paths"]["/v1/families"]["post"]["responses"]["201"].pop("description")
    (tmp_path / "openapi.json").write_text(json.dumps(wrong))
    assert subprocess.run([VALIDATOR, tmp_path / "openapi.json"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode


def media_types(node):
    """Each media type with a schema in a part of the document."""
    if isinstance(node, dict):
        if "schema" in node:
            yield node
        node = node.values()
    if isinstance(node, (list, type({}.values()))):
        for part in node:
            yield from media_types(part)


def test_schemas_are_valid():
    schemas = [*DOCUMENT["components"]["schemas"].values(),
               *(part["schema"] for part in media_types(DOCUMENT))]
    for schema in schemas:
        jsonschema.Draft202012Validator.check_schema(schema)
    assert len(schemas) > 50


def test_examples_match_their_schemas():
    found = 0
    for part in media_types(DOCUMENT):
        values = [*openapi.examples(part).values(), *(
            [part["example"]] if "example" in part else [])]
        for value in values:
            openapi.check_schema(value, part["schema"])
        found += len(values)
    assert found > 80


def fields_of(schema):
    """The names of the innermost fields of a request."""
    schema = openapi.resolved(schema)
    for name, field in schema.get("properties", {}).items():
        nested = list(fields_of(field))
        yield from nested or [name]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_field_and_parameter_has_an_error_example(operation):
    """Each body field and query parameter is in an example of an error, and test_openapi.py
    provokes each of these errors."""
    node = OPERATIONS[operation].node
    names = [parameter["name"] for parameter in map(openapi.resolved,
                                                    node.get("parameters", []))
             if parameter["in"] == "query"]
    if "requestBody" in node:
        names += fields_of(openapi.content(node["requestBody"])["schema"])
    examples = [json.dumps(openapi.examples(openapi.content(response)))
                for status, response in OPERATIONS[operation].responses.items()
                if status in ("400", "422")]
    assert [name for name in names if not any(name in text for text in examples)] == []


def test_components_are_all_used():
    text = json.dumps(DOCUMENT)
    for kind, parts in DOCUMENT["components"].items():
        for name in parts if kind != "securitySchemes" else ():
            assert f'"#/components/{kind}/{name}"' in text, f"{kind}/{name}"
