# SPDX-License-Identifier: Apache-2.0
"""openapi.json as generators of clients and of requests read it.

The document is checked for constructs that generators do not support, and its limits on values
are compared with the module's. tests/clients generates and calls clients.
"""

import copy
import json
import re
import types
import urllib.parse

import pytest

import openapi
import samples
from openapi import DOCUMENT, OPERATIONS
from test_openapi import GOOD

# Formats for which generators use a type of the language, with its own notation of a value.
TYPED_FORMATS = ("date", "date-time", "uuid", "email")
# Components for which generators may make types, in one namespace.
TYPES = ("schemas", "parameters", "responses", "headers", "links")


# --- Constructs that generators do not support ---------------------------------------------

def nodes(node):
    """All objects in a part of the document."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from nodes(part)


def is_schema(node, kind):
    return kind in (node.get("type"), *(node["type"] if isinstance(node.get("type"), list)
                                        else ()))


def clashes(document):
    """Names of components that differ only in kind or case."""
    names = [name.lower().replace("-", "") for kind in TYPES
             for name in document["components"][kind] if kind != "links"]
    return sorted({name for name in names if names.count(name) > 1})


def offers_empty_success(operation):
    """Is Prefer offered where a success with a body may also be without one?"""
    names = [openapi.resolved(one)["name"] for one in operation.get("parameters", [])]
    return "Prefer" in names and any(
        "content" in response and "Preference-Applied" in response.get("headers", {})
        for response in operation["responses"].values())


def obstacles(document):
    """The unsupported constructs, in words."""
    for node in nodes(document):
        if node.get("format") in TYPED_FORMATS and "pattern" in node:
            yield f"a pattern beside the format {node['format']}"
        if node.get("format") == "email":
            yield "the format email, which allows less than the module"
        if is_schema(node, "object") and not {"properties", "additionalProperties"} & set(node):
            yield "an object without description"
        if {"const", "enum"} & set(node) and "type" not in node:
            yield "values without a type"
        if "in" in node and "default" in node.get("schema", {}):
            yield f"a default that is sent: {node['name']}"
    yield from (f"a name twice: {name}" for name in clashes(document))
    for path in document["paths"].values():
        yield from (f"an empty success: {operation['operationId']}"
                    for operation in path.values() if offers_empty_success(operation))


def test_document_has_no_unsupported_construct():
    assert list(obstacles(DOCUMENT)) == []


def schema(document, name, *path):
    node = document["components"]["schemas"][name]
    for key in path:
        node = node["properties"][key]
    return node


def offer_prefer(document):
    document["paths"]["/v1/families"]["post"]["parameters"].append(
        {"$ref": "#/components/parameters/Prefer"})


def rename_parameter(document):
    parameters = document["components"]["parameters"]
    parameters["group"] = parameters.pop("GroupPath")


@pytest.mark.parametrize("obstacle, change", [
    ("a pattern beside the format date-time",
     lambda d: schema(d, "Timestamp").update(pattern="Z$")),
    ("the format email, which allows less than the module",
     lambda d: schema(d, "LiveRegistration", "guest_email").update(format="email")),
    ("an object without description",
     lambda d: schema(d, "EventRequest", "fields").pop("additionalProperties")),
    ("a default that is sent: withTrashed",
     lambda d: d["components"]["parameters"]["WithTrashed"]["schema"].update(default=False)),
    ("values without a type",
     lambda d: d["components"]["headers"]["Preference-Applied"]["schema"].pop("type")),
    ("a name twice: group", rename_parameter),
    ("an empty success: registerFamily", offer_prefer)])
def test_control_unsupported_construct_is_detected(obstacle, change):
    changed = copy.deepcopy(DOCUMENT)
    change(changed)
    assert list(obstacles(changed)) == [obstacle]


# --- Limits on values ----------------------------------------------------------------------

@pytest.fixture
def world(admin, live_session, group, institution, child, occurrence):
    """What the requests of test_openapi.py need."""
    return types.SimpleNamespace(**locals())


STRINGS = [
    *samples.TEXTS, *samples.GOOD_EMAILS, *samples.BAD_EMAILS, "x" * 255, "x" * 256, "é" * 255,
    "é" * 256, "a\x1fb", "a\x7fb", "a\x80b", "\tx", "2000-01-01", "2000-02-30", "2000-1-1",
    "+19195551212", "+1919555121212345", "+0919", "+1", "+12", "19195551212", "en", "en-US",
    "e", "en_US", "en-", "zh-cmn-Hans-CN", "de-CH-1996", "en-a", "en-a-bb-x-c", "x-y",
    "i-klingon", "male", "Male", "guest", "king", "CONFIRMED", "confirmed",
    "createdAt", "createdAt ASC", "createdAt asc", "id", "5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10",
    "5F0C7A52-6F0A-4A53-9F0E-0D3C6F1E2A10", "5f0c7a526f0a4a539f0e0d3c6f1e2a10",
    "5a62be07de34500146d9c544", "5A62BE07DE34500146D9C544", "5a62be07de34500146d9c5445"]
OTHERS = [1, 1.5, True, None, [], {}]

KEYS = ["a", "!", "~", '"a"', '"a', 'a"', '""', '"a\\"b"', '"a\\\\b"', '"a\\b"', "a b", '"a b"',
        "k" * 255, "k" * 256, f'"{"k" * 255}"', f'"{"k" * 256}"', "é", '"é"', '"a"b']

# Errors of valid values, which only the database or the calendar can find.
NOT_FORMAT_ERRORS = re.compile(
    "is already registered|is not an invite code|another group|must be an IANA|in the future|"
    "before the start|Another request was made|were verified without registration|"
    "does not have a registration")
# Rules that the description states in words because a schema cannot.
IN_WORDS = {
    "username": lambda value: value != value.strip(),
    "password": lambda value: len(value) <= 72 < len(value.encode()),
    "locale": lambda value: value.startswith("i-")}


def is_refused(answer):
    return answer.status_code in (400, 422) and not NOT_FORMAT_ERRORS.search(answer.text)


def fits(value, value_schema):
    try:
        openapi.check_schema(value, value_schema)
        return True
    except openapi.jsonschema.ValidationError:
        return False


def strings_of(schema, path=()):
    """Path and schema of each string in an object body."""
    schema = openapi.resolved(schema)
    for name, field in schema.get("properties", {}).items():
        resolved = openapi.resolved(field.get("oneOf", [field])[0])
        if is_schema(resolved, "string"):
            yield (*path, name), field
        yield from strings_of(resolved, (*path, name))


def bodies():
    for operation in OPERATIONS.values():
        if "requestBody" in operation.node:
            whole = openapi.content(operation.node["requestBody"])["schema"]
            for path, field in strings_of(whole):
                yield pytest.param(operation.id, path, field, id=f"{operation.id}-{path[-1]}")


def with_value(body, path, value):
    body = json.loads(json.dumps(body))
    target = body
    for key in path[:-1]:
        target = target.setdefault(key, {})
    target[path[-1]] = value
    return body


def is_stated_in_words(name, value):
    # Python's `$` also matches before a final line feed, unlike that of other languages.
    return isinstance(value, str) and (value.endswith("\n")
                                       or name in IN_WORDS and IN_WORDS[name](value))


def misjudged(world, operation, path, field):
    """Values that match the schema but are refused, or the other way round."""
    method, address, body = GOOD[operation](world)
    found = []
    for value in [*STRINGS, *OTHERS]:
        if path[-1] != "email" and len(path) > 1:
            body["groupMember"]["user"]["email"] = samples.new_email()
        answer = world.admin.request(method, address, json=with_value(body, path, value))
        if is_refused(answer) == fits(value, field) and not is_stated_in_words(path[-1], value):
            found.append((value, answer.status_code, answer.text))
    return found


@pytest.mark.parametrize("operation, path, field", bodies())
def test_value_is_refused_exactly_when_schema_does_not_match(world, operation, path, field):
    assert misjudged(world, operation, path, field) == []


@pytest.mark.parametrize("lacking", ["pattern", "maxLength", "minLength"])
def test_control_incomplete_schema_is_detected(world, lacking):
    field = dict(schema(DOCUMENT, "EventRequest", "externalUserId"))
    del field[lacking]
    assert misjudged(world, "createEventRegistration", ("externalUserId",), field) != []


def parameters(place):
    return {one["name"]: one["schema"] for one in map(
        openapi.resolved, OPERATIONS["searchEventRegistrations"].node["parameters"])
        if one["in"] == place}


@pytest.mark.parametrize("name", [name for name, one in parameters("query").items()
                                  if is_schema(openapi.resolved(one), "string")
                                  and name != "after"])   # generated by the server
def test_parameter_is_refused_exactly_when_schema_does_not_match(admin, name):
    field = parameters("query")[name]
    path = OPERATIONS["searchEventRegistrations"].path
    wrong = [value for value in STRINGS if not value.endswith("\n") and fits(value, field)
             == is_refused(admin.get(path, params={"limit": 1, name: value}))]
    assert wrong == []


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_key_is_refused_exactly_when_schema_does_not_match(world, key):
    field = DOCUMENT["components"]["parameters"]["IdempotencyKey"]["schema"]
    method, address, body = GOOD["createEventRegistration"](world)
    answer = world.admin.request(method, address, json=body,
                                 headers={"Idempotency-Key": key.encode()})
    assert is_refused(answer) != fits(key, field), answer.text


# --- Links ---------------------------------------------------------------------------------

def linked():
    for operation in OPERATIONS.values():
        for status, response in operation.responses.items():
            for name, link in response.get("links", {}).items():
                yield pytest.param(operation.id, status, openapi.resolved(link),
                                   id=f"{operation.id}-{name}")


def evaluated(expression, answer, operation):
    """The value of a runtime expression of OpenAPI, of the kinds in the document."""
    source, _, pointer = expression.removeprefix("$").partition("#")
    side, where, *name = source.split(".")
    if where == "body":
        value = answer.json()
        for key in pointer.split("/")[1:]:
            value = value[key]
        return value
    if side == "response":
        return answer.headers[name[0]]
    template = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", OPERATIONS[operation].path)
    return re.fullmatch(template, urllib.parse.urlsplit(answer.request.url).path)[name[0]]


@pytest.mark.parametrize("operation, status, link", linked())
def test_link_can_be_followed(world, operation, status, link):
    method, address, body = GOOD[operation](world)
    answer = world.admin.request(method, address, json=body)
    assert str(answer.status_code) == status
    target = OPERATIONS[link["operationId"]]
    path, headers = target.path, {}
    takes = {one["name"]: one["in"] for one in map(openapi.resolved,
                                                   target.node["parameters"])}
    for name, expression in link["parameters"].items():
        value = evaluated(expression, answer, operation)
        if takes[name] == "header":
            headers[name] = value
        path = path.replace("{" + name + "}", value)
    followed = world.admin.request(target.method, path, headers=headers,
                                   json={} if target.method == "PUT" else None)
    assert followed.status_code == 200, followed.text
    openapi.check(followed)
