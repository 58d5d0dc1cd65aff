# SPDX-License-Identifier: Apache-2.0
"""openapi.json, to check answers against it."""

import functools
import json
import re
import types
import urllib.parse

import jsonschema

import servers

DOCUMENT = json.loads((servers.ROOT / "src" / "api" / "openapi.json").read_text())
METHODS = ("get", "post", "put", "delete")

# Statuses of httpd and other modules, described by `default`.
OTHERS = (400, 408, 411, 414, 417, 421, 426, 429, 431, 501, 505)

# Longer bodies are not validated, which would take long.
MOST = 100_000


def resolved(node):
    """The target of a $ref, or the node itself."""
    while "$ref" in node:
        node = functools.reduce(dict.get, node["$ref"].split("/")[1:], DOCUMENT)
    return node


def _operations():
    for template, item in DOCUMENT["paths"].items():
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", template))
        for method in METHODS:
            if method in item:
                yield types.SimpleNamespace(
                    id=item[method]["operationId"], method=method.upper(), path=template,
                    pattern=pattern, node=item[method], tag=item[method]["tags"][0],
                    responses={status: resolved(response) for status, response
                               in item[method]["responses"].items()})


OPERATIONS = {operation.id: operation for operation in _operations()}


def find(method, path):
    """The operation of a request, or None."""
    method = "GET" if method == "HEAD" else method
    found = [operation for operation in OPERATIONS.values()
             if operation.method == method and operation.pattern.fullmatch(path)]
    return found[0] if found else None


CHARSET = {"text/csv": "; charset=utf-8; header=present"}


def content(response, media_type="application/json"):
    """The media type of a response, with schema and examples; None without body."""
    return response["content"][media_type] if "content" in response else None


def examples(media_type):
    return {name: resolved(example)["value"]
            for name, example in media_type.get("examples", {}).items()}


FORMATS = jsonschema.FormatChecker(jsonschema.FormatChecker.checkers)
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


@FORMATS.checks("date-time")
def _is_timestamp(value):
    """As Timestamp is described. Its schema has no pattern, which generators would compare
    with the language's own notation of a time."""
    return not isinstance(value, str) or bool(TIMESTAMP.fullmatch(value))


VALIDATOR = jsonschema.Draft202012Validator(DOCUMENT, format_checker=FORMATS)


def check_schema(value, schema):
    VALIDATOR.evolve(schema=schema).validate(value)   # a $ref is resolved in the document


def check_headers(answer, response):
    for name, header in response.get("headers", {}).items():
        header, name = resolved(header), name.replace("-Scope", "")
        assert name in answer.headers or not header.get("required"), name
        if name in answer.headers:
            check_schema(answer.headers[name], header["schema"])


def check(answer):
    """Checks that an answer of requests conforms to the description of its operation."""
    path = urllib.parse.urlsplit(answer.request.url).path
    operation = find(answer.request.method, path)
    if not operation:
        return
    status = answer.status_code
    described = operation.responses.get(str(status))
    if not described:
        assert status in OTHERS, f"{operation.id} is not described to answer {status}"
        described = operation.responses["default"]
    check_headers(answer, described)
    minimal = "Preference-Applied" in answer.headers
    if answer.request.method == "HEAD" or minimal or "content" not in described:
        assert answer.content == b""
        return
    media_type, _, parameters = answer.headers["Content-Type"].partition(";")
    assert ";" + parameters == CHARSET.get(media_type, "; charset=utf-8")
    schema = content(described, media_type)["schema"]
    if len(answer.content) <= MOST:
        check_schema(answer.json() if media_type == "application/json" else answer.text,
                     schema)
