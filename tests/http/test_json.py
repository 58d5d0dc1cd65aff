# SPDX-License-Identifier: Apache-2.0
"""Malformed and unusual JSON bodies, and the order in which a request is checked."""

import decimal
import json
import time

import pytest

from apis import APIS, INVALID, MOUNTS, check_error, post_path
from apis import each_api, good   # noqa: F401, fixtures
from conftest import new_uuid
from wire import message
from wire import wire   # noqa: F401, a fixture

LIMIT = 131072   # RegistrationMaxBody's default
MAX_FIELDS = 65536   # RegistrationMaxFields's

FAMILIES_MALFORMED = {
    "code": 400, "message": "Unable to process request body.",
    "description": "Please verify that the JSON provided in the request body has a valid "
                   "format and try again."}

# Octets that are not a JSON object. MEMBERS is replaced by valid members.
MALFORMED = {
    "nothing": b"",
    "blanks": b" \r\n\t ",
    # Values other than an object.
    "an array": b"[]",
    "an array of a good request": b"[{MEMBERS}]",
    "a string": b'"text"',
    "a number": b"1",
    "true": b"true",
    "null": b"null",
    # The end of the text.
    "text behind it": b"{MEMBERS} x",
    "another object behind it": b"{MEMBERS}{}",
    "a comma behind it": b"{MEMBERS},",
    "a NUL behind it": b"{MEMBERS}\0",
    "a brace too many": b"{MEMBERS}}",
    "no end": b"{MEMBERS",
    "no end of a string": b'{MEMBERS, "x": "y',
    "no value": b'{MEMBERS, "x":}',
    "no end of a literal": b'{MEMBERS, "x": tru}',
    # Syntax of JSON's relatives.
    "a byte order mark": b"\xef\xbb\xbf{MEMBERS}",
    "a comma before the end": b"{MEMBERS,}",
    "a comma before the end of an array": b'{MEMBERS, "x": [1,]}',
    "single quotes": b"{MEMBERS, 'x': 1}",
    "a key without quotes": b"{MEMBERS, x: 1}",
    "a comment": b"{MEMBERS /* x */}",
    "a comment to the end of the line": b"{MEMBERS // x\n}",
    "another literal": b'{MEMBERS, "x": True}',
    "undefined": b'{MEMBERS, "x": undefined}',
    "a no-break space": b"{MEMBERS,\xc2\xa0\"x\": 1}",
    "a form feed": b'{MEMBERS,\f"x": 1}',
    "a vertical tab": b'{MEMBERS,\v"x": 1}',
    "a NUL between": b'{MEMBERS,\0"x": 1}',
    "a number for a key": b"{MEMBERS, 1: 1}",
    "null for a key": b"{MEMBERS, null: 1}",
    "a semicolon": b'{MEMBERS; "x": 1}',
    "an equals sign": b'{MEMBERS, "x"= 1}',
    "a closing bracket for a brace": b'{MEMBERS, "x": {]}',
    # Numbers.
    "NaN": b'{MEMBERS, "x": NaN}',
    "Infinity": b'{MEMBERS, "x": Infinity}',
    "-Infinity": b'{MEMBERS, "x": -Infinity}',
    "a leading zero": b'{MEMBERS, "x": 01}',
    "a leading zero after a minus": b'{MEMBERS, "x": -01}',
    "a leading plus": b'{MEMBERS, "x": +1}',
    "a minus": b'{MEMBERS, "x": -}',
    "two minuses": b'{MEMBERS, "x": --1}',
    "no digit before the point": b'{MEMBERS, "x": .5}',
    "no digit behind the point": b'{MEMBERS, "x": 1.}',
    "two points": b'{MEMBERS, "x": 1.2.3}',
    "no exponent": b'{MEMBERS, "x": 1e}',
    "no digit in the exponent": b'{MEMBERS, "x": 1e+}',
    "a point in the exponent": b'{MEMBERS, "x": 1e1.5}',
    "hexadecimal": b'{MEMBERS, "x": 0x10}',
    "an underscore": b'{MEMBERS, "x": 1_000}',
    "two numbers": b'{MEMBERS, "x": 1 2}',
    "a difference": b'{MEMBERS, "x": 1-1}',
    "a NUL behind a number": b'{MEMBERS, "x": 1\0}',
    "a NUL before free JSON": b'{MEMBERS, "x": 1\0, "fields": {}}',
    "a digit of another script": '{MEMBERS, "x": ١}'.encode(),
    # Strings.
    "an escaped NUL": rb'{MEMBERS, "x": "a\u0000b"}',
    "an escaped NUL in a key": rb'{MEMBERS, "a\u0000b": 1}',
    "a NUL in a string": b'{MEMBERS, "x": "a\0b"}',
    "a line feed in a string": b'{MEMBERS, "x": "a\nb"}',
    "a tab in a string": b'{MEMBERS, "x": "a\tb"}',
    "a control character in a string": b'{MEMBERS, "x": "a\x1fb"}',
    "an unknown escape": rb'{MEMBERS, "x": "\x41"}',
    "an escaped quote": rb'{MEMBERS, "x": "\' "}',
    "a short escape": rb'{MEMBERS, "x": "\u12"}',
    "an escape that is not hexadecimal": rb'{MEMBERS, "x": "\u12g4"}',
    "a lone high surrogate": rb'{MEMBERS, "x": "\ud800"}',
    "a lone low surrogate": rb'{MEMBERS, "x": "\udc00"}',
    "a high surrogate before text": rb'{MEMBERS, "x": "\ud800abc"}',
    "a high surrogate before another escape": rb'{MEMBERS, "x": "\ud800\u0041"}',
    "two high surrogates": rb'{MEMBERS, "x": "\ud800\ud800"}',
    "surrogates the wrong way round": rb'{MEMBERS, "x": "\udc00\ud800"}',
    "a lone surrogate in a key": rb'{MEMBERS, "\ud800": 1}',
    # Octets that are not UTF-8.
    "an octet that is never UTF-8": b'{MEMBERS, "x": "\xff"}',
    "a continuation by itself": b'{MEMBERS, "x": "\x80"}',
    "half a character": b'{MEMBERS, "x": "\xe2\x82"}',
    "half a character at the end": b'{MEMBERS, "x": "\xe2',
    "an overlong slash": b'{MEMBERS, "x": "\xc0\xaf"}',
    "an overlong NUL": b'{MEMBERS, "x": "\xc0\x80"}',
    "an overlong quote": b'{MEMBERS, "x": "\xe0\x80\xa2"}',
    "an encoded surrogate": b'{MEMBERS, "x": "\xed\xa0\x80"}',
    "an encoded pair of surrogates": b'{MEMBERS, "x": "\xed\xa0\xbd\xed\xb8\x80"}',
    "more than U+10FFFF": b'{MEMBERS, "x": "\xf4\x90\x80\x80"}',
    "five octets": b'{MEMBERS, "x": "\xf8\x88\x80\x80\x80"}',
    "no UTF-8 in a key": b'{MEMBERS, "\xff": 1}',
    "no UTF-8 outside a string": b'{MEMBERS\xff}',
    "Latin-1": '{MEMBERS, "x": "é"}'.encode("latin-1"),
    "UTF-16": '{"x": 1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"x": 1}'.encode("utf-16-le"),
    "UTF-32": '{"x": 1}'.encode("utf-32"),
    # Duplicate keys.
    "a key twice": b'{MEMBERS, "x": 1, "x": 1}',
    "a key twice, once escaped": rb'{MEMBERS, "x": 1, "\u0078": 2}',
    "a key twice, in two ways of escaping": rb'{MEMBERS, "\u00e9": 1, "\u00E9": 2}',
    "a key twice, once as a pair": '{MEMBERS, "😀": 1, "\\ud83d\\ude00": 2}'.encode(),
    "the empty key twice": b'{MEMBERS, "": 1, "": 2}',
    "a key twice further down": b'{MEMBERS, "x": [{"y": {"z": 1, "z": 2}}]}',
    "a key twice among the free ones": b'{MEMBERS, "fields": {"z": 1, "z": 2}}',
    "a good request twice": b"{MEMBERS, MEMBERS}",
    # Depth.
    "50,000 arrays": b'{MEMBERS, "x": ' + b"[" * 50000 + b"]" * 50000 + b"}",
    "20,000 objects": b'{MEMBERS, "x": ' + b'{"x":' * 20000 + b"1" + b"}" * 20000 + b"}",
    "100,000 brackets": b"[" * 100000,
    "50,000 braces": b'{"' * 50000,
}

# Unusual, and valid.
WELL_FORMED = {
    "blanks around it": b" \t\r\n{MEMBERS}\r\n\t ",
    "an unknown key": b'{MEMBERS, "x": null}',
    "an empty key": b'{MEMBERS, "": {"": [""]}}',
    "a huge integer": b'{MEMBERS, "x": 123456789012345678901234567890}',
    "a huge exponent": b'{MEMBERS, "x": [1e400, -1E+999999, 1e-400, 1e999999999999999999999]}',
    "a thousand digits": b'{MEMBERS, "x": 0.' + b"1" * 1000 + b"}",
    "zeros": b'{MEMBERS, "x": [0, -0, 0.0, -0e0, 0E+00]}',
    "every escape": rb'{MEMBERS, "x": "\"\\\/\b\f\n\r\t\u0001\u007f\u00e9\uFFFF"}',
    "a pair of surrogates": rb'{MEMBERS, "x": "\ud83d\ude00\uD83D\uDE00"}',
    "a delete": b'{MEMBERS, "x": "\x7f"}',
    "line separators": '{MEMBERS, "x": "\u2028\u2029\ufeff\u00a0"}'.encode(),
    "all of Unicode": '{MEMBERS, "x": "\ufffe\uffff\U0010ffff\U0001f468\u200d"}'.encode(),
    "keys that differ in case": b'{MEMBERS, "x": 1, "X": 2}',
    "keys that differ in their composition":
        '{MEMBERS, "\u00e9": 1, "e\u0301": 2}'.encode(),
    "the same key in different objects": b'{MEMBERS, "x": [{"y": 1}, {"y": 1}], "y": 1}',
    "brackets in a string": b'{MEMBERS, "x": "' + b"[{" * 10000 + b'"}',
    "a quote behind a backslash": rb'{MEMBERS, "x": "\\", "y": "\\\"", "z": "]"}',
    "depth 20": b'{MEMBERS, "x": ' + b"[" * 20 + b"]" * 20 + b"}",
    "many arrays beside each other": b'{MEMBERS, "x": [' + b"[]," * 10000 + b"[]]}",
    "many keys": b"{MEMBERS" + b"".join(b',"x%d":%d' % (n, n) for n in range(8000)) + b"}",
}


def with_members(octets, text):
    """The octets, with MEMBERS replaced by the members of the JSON object `text`."""
    return octets.replace(b"MEMBERS", text[1:-1].encode())


@pytest.fixture
def send(admin, good):
    """send("live", b"{MEMBERS, …}"): posts a body to the API."""
    def post(api, octets):
        request = good(api)
        return admin.post(request.path, data=with_members(octets, request.text))
    return post


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
def test_malformed_body_is_400(admin, octets):
    for api in APIS:
        answer = admin.post(post_path(api), data=with_members(octets, '{"role": "host"}'))
        error = check_error(answer, api, 400)
        assert "errors" not in error
        if api == "families":
            assert error == FAMILIES_MALFORMED


def test_malformed_body_of_update_is_400(api, good):
    registration = good("events")
    answer = api.post(registration.path, json=registration.body)
    location, made = answer.headers["Location"], answer.json()
    for octets in MALFORMED.values():
        check_error(api.put(location, data=with_members(octets, '{"status": "PENDING"}')),
                    "events", 400)
    assert api.get(location).json() == made


def test_missing_body_is_400(wire, admin_token, each_api):
    one = wire()
    one.send(message("POST", post_path(each_api), token=admin_token))
    error = check_error(one.answer(), each_api, 400)
    assert each_api != "families" or error == FAMILIES_MALFORMED


@pytest.mark.parametrize("octets", WELL_FORMED.values(), ids=WELL_FORMED)
def test_unusual_valid_body_is_accepted(send, octets):
    for api in APIS:
        answer = send(api, octets)
        assert answer.status_code == 201, (api, answer.text)


def test_escaped_key_is_the_same_key(api, live_session):
    answer = api.post(f"/v1/sessions/{live_session()}/register",
                      data=rb'{"\u0070atient\u005fid": "\u006fne \u00e9\ud83d\ude00\/"}')
    assert (answer.status_code, answer.json()["patient_id"]) == (201, "one é😀/")


def test_keys_are_case_sensitive(api, live_session):
    answer = api.post(f"/v1/sessions/{live_session()}/register",
                      data='{"patient_id": "one", "Patient_Id": 2, "ROLE": 3}')
    assert (answer.status_code, answer.json()["patient_id"]) == (201, "one")


def test_duplicate_key_is_400(api, live_session, sql):
    session = live_session()
    for octets in (b'{"patient_id": "one", "patient_id": "two"}',
                   rb'{"patient_id": "one", "\u0070atient_id": "two"}'):
        check_error(api.post(f"/v1/sessions/{session}/register", data=octets), "live", 400)
    assert sql("SELECT 1 FROM live_registrations WHERE session_id = %s", session) == []


# --- Free JSON ------------------------------------------------------------------------------

# Each is returned with the same value.
FREE = {
    "numbers": '[0.1, -0.1, 12345678901234567890, 1e21, 1E-7, 0.30000000000000004, 5e-324,'
               ' 123456789.123456789123456789, 1.10, -0.0, 1e308, 1e400, 9007199254740993]',
    "controls": r'"\u0001\u001f\u007f\n\t\r\b\f"',
    "text": r'"<script>\"\\\/ \u2028 %s $1 \u0027; DROP TABLE x; -- {} [] null"',
    "long text": f'"{"é😀" * 2500}"',
    "keys": '{"": 1, " ": 2, "a.b": 3, "$x": 4, "\\"": 5, "\\\\": 6, "é": 7, "__proto__": 8}',
    "literals": "[null, true, false, [], {}, [[]], [{}]]",
    "depth": "[" * 20 + "1" + "]" * 20,
    "braces in text": r'"}\"]{[\\"',
}


def exactly(text):
    """Numbers with all digits, as Decimal; keys in any order."""
    return json.loads(text, parse_float=decimal.Decimal, parse_int=decimal.Decimal)


@pytest.mark.parametrize("value", FREE.values(), ids=FREE)
def test_free_json_is_returned_exactly(api, good, value):
    registration, one = good("events"), good("groups")
    text = f'{{"x": {value}, "y": [{value}]}}'
    answer = api.post(registration.path, data=(
        registration.text[:-1] + f', "fields": {text}}}').encode())
    assert answer.status_code == 201, answer.text
    assert exactly(answer.text)["fields"] == exactly(text)
    answer = api.get(answer.headers["Location"])
    assert exactly(answer.text)["fields"] == exactly(text)
    answer = api.put(f"{MOUNTS['events']}/{answer.json()['id']}",
                     data=f'{{"fields": {{"z": {value}}}}}'.encode())
    assert exactly(answer.text)["fields"] == {**exactly(text), "z": exactly(value)}

    answer = api.post(one.path, data=(one.text[:-2] + f', "attributes": {text}}}}}').encode())
    assert answer.status_code == 201, answer.text
    assert exactly(answer.text)["attributes"] == exactly(text)
    answer = api.get(answer.headers["Location"])
    assert exactly(answer.text)["attributes"] == exactly(text)


def test_free_json_is_found_at_top_level_only(api, good):
    """Not keys of that name inside strings or other objects."""
    registration = good("events")
    members = registration.text[1:-1]
    answer = api.post(registration.path, data=(
        r'{"x": "\"fields\": {\"a\": 1}", "y": {"fields": {"a": 2}}, "\u0066ields" : '
        r'{"a" : 3}, "z": [{"fields": 4}], ' + members + "}").encode())
    assert (answer.status_code, answer.json()["fields"]) == (201, {"a": 3})


@pytest.mark.parametrize("depth", [30, 100, 500, 1000, 2000, 5000, 10000, 20000])
def test_free_json_of_any_depth_is_stored_or_refused(api, good, depth):
    """An accepted depth has to be readable afterwards."""
    for start, end in [("[", "]"), ('{"x":', "}")]:
        value = start * depth + "1" + end * depth
        for name, key, tail in [("events", "fields", "}"), ("groups", "attributes", "}}")]:
            request = good(name)
            answer = api.post(request.path, data=(
                f'{request.text[:-len(tail)]}, "{key}": {{"x": {value}}}{tail}'))
            if answer.status_code == 201:
                assert start * depth in answer.text.replace(" ", "")
                assert api.get(answer.headers["Location"]).status_code == 200
            else:
                check_error(answer, name, 400)


# jsonb's numeric has at most 131,072 digits before the point and 16,383 after it.
TOO_LARGE = ["1e131072", "-1e131072", "1e999999999", "1e-999999999", "1e-16384",
             "1e99999999999999999999", "9" * 100000]


@pytest.mark.parametrize("number", TOO_LARGE, ids=[number[:30] for number in TOO_LARGE])
def test_number_out_of_exact_range_is_refused(api, good, number):
    for name, key, tail in [("events", "fields", "}"), ("groups", "attributes", "}}")]:
        request = good(name)
        answer = api.post(request.path, data=(
            f'{request.text[:-len(tail)]}, "{key}": {{"x": {number}}}{tail}'))
        check_error(answer, name, INVALID[name])


def test_numbers_with_large_exponents_do_not_blow_up(api, good):
    """1e131071 takes 8 octets to send, and 131,072 when written out."""
    request = good("events")
    numbers = ",".join(["1e131000"] * 3000)
    begin = time.monotonic()
    answer = api.post(request.path, data=f'{request.text[:-1]}, "fields": {{"x": [{numbers}]}}}}')
    assert answer.status_code in (201, 400, 413, 422)
    assert len(answer.content) < 50 * LIMIT
    assert time.monotonic() - begin < 5


# --- Size -----------------------------------------------------------------------------------

def filled(text, key, end, size=LIMIT):
    """A body of that size, most of which is the value of that key."""
    start = f'{text}, "{key}": '.encode()
    return start + b'"' + b"x" * (size - len(start) - len(end) - 2) + b'"' + end


def test_large_free_json_is_stored_completely(api, good):
    request = good("events")
    data = filled(request.text[:-1] + ', "fields": {"a": 1', "b", b"}}", MAX_FIELDS)
    assert len(data) == MAX_FIELDS
    answer = api.post(request.path, data=data)
    assert answer.status_code == 201
    assert answer.json()["fields"] == json.loads(data)["fields"]
    assert api.get(answer.headers["Location"]).json()["fields"] == json.loads(data)["fields"]
    request = good("groups")
    data = filled(request.text[:-2] + ', "attributes": {"a": 1', "b", b"}}}", MAX_FIELDS)
    answer = api.post(request.path, data=data)
    assert answer.status_code == 201
    assert answer.json()["attributes"] == json.loads(data)["groupMember"]["attributes"]


LARGE = {"a value": lambda text: filled(text[:-1], "x", b"}"),
         "a key": lambda text: (text[:-1] + ', "' + "x" * 100000 + '": 1}').encode(),
         "keys": lambda text: (text[:-1] + "".join(f',"{n}":1' for n in range(10000))
                               + "}").encode(),
         "items": lambda text: (text[:-1] + ', "x": [' + "0," * 45000 + "0]}").encode(),
         "escapes": lambda text: (text[:-1] + ', "x": "' + "\\\\" * 50000 + '"}').encode()}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_large_body_is_processed_quickly(admin, good, make):
    for api in APIS:
        request = good(api)
        data = make(request.text)
        assert len(data) <= LIMIT
        begin = time.monotonic()
        assert admin.post(request.path, data=data).status_code == 201
        assert time.monotonic() - begin < 2


FREE_AND_LARGE = {"numbers": "[" + "0," * 20000 + "0]",
                  "long numbers": "[" + "0.1234567890123456789," * 2700 + "0]",
                  "objects": "[" + '{"a":{}},' * 5500 + "0]",
                  "quotes": '"' + r"\"" * 32000 + '"'}


@pytest.mark.parametrize("value", FREE_AND_LARGE.values(), ids=FREE_AND_LARGE)
def test_large_free_json_is_processed_quickly(api, good, value):
    for name, key, tail in [("events", "fields", "}"), ("groups", "attributes", "}}")]:
        request = good(name)
        begin = time.monotonic()
        answer = api.post(request.path, data=(
            f'{request.text[:-len(tail)]}, "{key}": {{"x": {value}}}{tail}'))
        assert answer.status_code == 201, answer.text[:1000]
        assert time.monotonic() - begin < 4


def test_large_invalid_fields_are_refused_quickly(admin, good):
    """Each error names all problems, or the first."""
    one, family = good("groups"), good("families").body
    ids = [f"{number:024x}" for number in range(4000)]
    for api, path, body in [
            ("live", good("live").path, {"patient_id": "x" * 100000}),
            ("live", good("live").path, {"guest_email": "x@" + "a." * 50000}),
            ("groups", one.path, {**one.body, "inviteCode": "x" * 100000}),
            ("groups", one.path, {**one.body, "groupMember": {
                **one.body["groupMember"], "tags": [""] * 25000}}),
            ("families", "/v1/families", {**family, "children": ids}),
            ("families", "/v1/families", {**family, "children": [i + "x" for i in ids]}),
            ("families", "/v1/families", {**family, "password": "x" * 100000}),
            ("events", MOUNTS["events"], {"occurrenceId": "x" * 100000})]:
        begin = time.monotonic()
        check_error(admin.post(path, json=body), api, INVALID[api])
        assert time.monotonic() - begin < 4, (api, list(body))


# --- Order of checks -----------------------------------------------------------------------

@pytest.fixture
def strict(start_httpd, client, issuer):
    """strict(user): a client of a site that allows one user only, and small bodies."""
    httpd = start_httpd(inside="".join(f"""
        <Location "{path}">
            AuthMerging Off
            Require user chief
            RegistrationMaxBody 1000
        </Location>""" for path in MOUNTS.values()))
    return lambda user: client(user and issuer.token(user), httpd)


def test_checks_have_a_fixed_order(strict, each_api):
    """The first request has all errors; each following one corrects the reported error."""
    chief = strict("chief")
    nowhere, there = f"{MOUNTS[each_api]}/a/b/c/d", post_path(each_api)
    other, json_type = {"Content-Type": "text/plain"}, {"Content-Type": "application/json"}
    too_large, malformed = "x" * 1001, "x"
    check_error(strict(None).post(nowhere, data=too_large, headers=other), each_api, 401)
    check_error(strict("other").post(nowhere, data=too_large, headers=other), each_api, 403)
    check_error(chief.post(nowhere, data=too_large, headers=other), each_api, 404)
    check_error(chief.request("BREW", there, data=too_large, headers=other), each_api, 405)
    check_error(chief.post(there, data=too_large, headers=other), each_api, 415)
    check_error(chief.post(there, data=too_large, headers=json_type), each_api, 413)
    check_error(chief.post(there, data=malformed, headers=json_type), each_api, 400)
    check_error(chief.post(there, json={"username": 1, "patient_id": 1}), each_api,
                INVALID[each_api])


def test_tenant_is_checked_before_path_and_body(client, issuer):
    """A missing organization is an authorization error."""
    one = client(issuer.token("somebody"))
    path = "/tenant/api/v1/event-registrations"
    for method, tail in [("GET", ""), ("POST", ""), ("GET", "/nonsense"), ("PUT", "/a/b"),
                         ("BREW", "")]:
        check_error(one.request(method, path + tail, data="x" * (LIMIT + 1),
                                headers={"Content-Type": "text/plain"}), "events", 403)


def test_fields_are_checked_before_database(api, admin, group):
    """No id here exists; some are well-formed."""
    for session in (new_uuid(), "nonsense"):
        path = f"/v1/sessions/{session}/register"
        check_error(api.post(path, json={"role": "captain"}), "live", 400)
        check_error(api.post(path, json={"patient_id": "one"}), "live", 404)
    for one in (new_uuid(), "nonsense"):
        path = f"/api/v1/groups/{one}/members"
        check_error(api.post(path, json={"inviteCode": 1}), "groups", 422)
        check_error(api.post(path, json={"inviteCode": "x", "groupMember": {
            "user": {"email": "one@example.org"}}}), "groups", 404)
    path = f"{MOUNTS['events']}/{new_uuid()}"
    check_error(api.put(path, json={"status": "NONE"}), "events", 400)
    check_error(api.put(path, json={}), "events", 404)
    check_error(api.post(MOUNTS["events"], json={"occurrenceId": new_uuid()}), "events", 400)
    check_error(api.post(MOUNTS["events"], json={
        "occurrenceId": new_uuid(), "externalUserId": "one"}), "events", 404)


def test_json_syntax_is_checked_before_id_in_path(api):
    error = check_error(api.put(f"{MOUNTS['events']}/nonsense", data="{"), "events", 400)
    assert "errors" not in error
    error = check_error(api.put(f"{MOUNTS['events']}/nonsense", json={}), "events", 400)
    assert [problem["field"] for problem in error.get("errors", [])] in ([], ["id"])
