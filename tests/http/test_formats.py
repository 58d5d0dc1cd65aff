# SPDX-License-Identifier: Apache-2.0
"""Formats of values, compared with an independent implementation: the regular expression of a
standard, or Python's calendar, numbers and time zones.

Values are generated from samples by a few random edits.
"""

import datetime
import decimal
import json
import random
import re
import zoneinfo

import pytest

import samples
from apis import check_error

# input type=email of the HTML standard.
LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
EMAIL = re.compile(rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{LABEL}(?:\.{LABEL})*")

# E.164: a country code, and at most 15 digits.
PHONE = re.compile(r"\+[1-9][0-9]{1,14}")

# RFC 5646, section 2.1, rule by rule. Other grandfathered tags match as langtags.
LANGUAGE_TAG = re.compile(r"""
    (?: (?: [a-z]{2,3} (?:-[a-z]{3}){0,3} | [a-z]{4,8} )
        (?:-[a-z]{4})?
        (?:-(?:[a-z]{2}|[0-9]{3}))?
        (?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*
        (?:-[0-9a-wy-z](?:-[a-z0-9]{2,8})+)*
        (?:-x(?:-[a-z0-9]{1,8})+)?
      | x(?:-[a-z0-9]{1,8})+
      | en-GB-oed | i-(?:ami|bnn|default|enochian|hak|klingon|lux|mingo|navajo|pwn|tao|tay|tsu)
      | sgn-(?:BE-FR|BE-NL|CH-DE)
    )""", re.VERBOSE | re.IGNORECASE | re.ASCII)


def is_text(value, least=0):
    return least <= len(value) <= 255 and not re.search("[\x00-\x1f\x7f]", value)


def is_date(value):
    try:
        return bool(re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value)
                    and datetime.date(*map(int, value.split("-"))))
    except ValueError:
        return False


def is_birth_date(value):
    return is_date(value) and value <= str(datetime.datetime.now(datetime.timezone.utc).date())


# For each field of a member: a predicate for valid values, samples, and characters for edits.
FIELDS = {
    "email": (lambda value: len(value) <= 254 and bool(EMAIL.fullmatch(value)),
              samples.GOOD_EMAILS + samples.BAD_EMAILS, "aZ9@@..--_+!\"(é \n"),
    "mobileNumber": (lambda value: bool(PHONE.fullmatch(value)),
                     ["+19195551212", "+12", "+123456789012345", "19195551212"],
                     "0123456789+- ٣\n"),
    "locale": (lambda value: len(value) <= 255 and bool(LANGUAGE_TAG.fullmatch(value)),
               ["en", "en-US", "zh-Hant-TW", "es-419", "de-CH-1901", "zh-cmn-Hans-CN", "x-whatever",
                "de-DE-u-co-phonebk", "en-a-myext-b-another", "de-x-a-b", "i-klingon", "en-GB-oed",
                "sgn-BE-FR", "zh-min-nan", "abcd-efgh", "sl-rozaj-biske-1994-x-1",
                *(f"x{'-abcdefgh' * 28}-{end}" for end in ("a", "ab"))], "aZ19xi---_é"),
    "birthDate": (is_birth_date, samples.GOOD_DATES * 4 + samples.BAD_DATES, "0123-- /T"),
    "firstName": (is_text, samples.TEXTS, "aé\U0001f600\u0080\x01\x7f\t\u2028"),
    "lastName": (is_text, samples.TEXTS + samples.TOO_LONG[:3], "a"),
    "timeZone": (lambda value: is_text(value, 1), ["UTC", "x", "x" * 255, "é" * 255], "aé\x1f\x7f"),
    "gender": (["male", "female", "other", "preferNotToSay"].__contains__,
               ["male", "female", "other", "preferNotToSay", "unknown"], "mM "),
}


def edited(source, value, characters):
    """The value after up to three random edits."""
    for _ in range(source.choice((0, 1, 1, 2, 3))):
        at = source.randint(0, len(value))
        piece = source.choice(characters)
        value = source.choice((
            value[:at] + piece + value[at:], value[:at] + piece + value[at + 1:],
            value[:at] + value[at + 1:], value[:at] + value[:at] + value[at:],
            value[:at] + value[at:].swapcase()))
    return value


def generated(field, seed, count):
    source = random.Random(f"{field} {seed}")
    _, values, characters = FIELDS[field]
    return [edited(source, source.choice(values), characters) for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_member_field_is_refused_exactly_when_invalid(api, seed):
    """Each request has a value in each field, and invalid tags, so that it never registers."""
    made = {field: generated(field, seed, 50) for field in FIELDS}
    for number in range(50):
        user = {field: values[number] for field, values in made.items()}
        answer = api.post("/api/v1/users", json={
            "inviteCode": "x", "groupMember": {"user": user, "tags": 1}})
        problems = check_error(answer, "groups", 422)["errors"]
        at_fault = {problem["field"].split(".")[-1] for problem in problems} - {"tags"}
        expected = {field for field, value in user.items() if not FIELDS[field][0](value)}
        assert at_fault == expected, {field: user[field] for field in at_fault ^ expected}


@pytest.mark.parametrize("field", FIELDS)
def test_control_generator_makes_valid_and_invalid_values(field):
    verdicts = [FIELDS[field][0](value) for seed in range(8)
                for value in generated(field, seed, 50)]
    assert verdicts.count(True) >= 40 and verdicts.count(False) >= 40


@pytest.mark.parametrize("seed", range(2))
def test_guest_email_has_the_same_format(api, live_session, seed):
    session = live_session()
    for email in generated("email", seed, 50):
        answer = api.post(f"/v1/sessions/{session}/register",
                          json={"guest_email": email, "role": "boss"})
        message = check_error(answer, "live", 400)["message"]
        assert ("guest_email" not in message) == FIELDS["email"][0](email), email


# --- Ids -----------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(2))
def test_object_id_is_24_hex_digits(admin, seed):
    source = random.Random(seed)
    for _ in range(50):
        id = edited(source, "5a62be07de34500146d9c624", "09afAFgG-\n é٣")
        answer = admin.post("/v1/families", json={"institution_id": id, "children": [id]})
        description = check_error(answer, "families", 400)["description"]
        assert ("24-byte hex" not in description) == bool(
            re.fullmatch("[0-9a-fA-F]{24}", id)), id


# --- Numbers -------------------------------------------------------------------------------

def number(source):
    """A random number of JSON (RFC 8259, section 6), with up to about 60 digits."""
    def digits(least, most):
        return "".join(source.choice("0123456789") for _ in range(source.randint(least, most)))
    whole = source.choice(("0", source.choice("123456789") + digits(0, 25)))
    fraction = source.choice(("", ".0", ".10", f".{digits(1, 20)}"))
    exponent = source.choice(("", "", "e0", "E+00", f"{source.choice('eE')}"
                              f"{source.choice(('', '+', '-'))}{digits(1, 2)}"))
    return source.choice(("", "-")) + whole + fraction + exponent


@pytest.mark.parametrize("seed", range(5))
def test_numbers_in_attributes_are_stored_exactly(api, group, seed):
    source = random.Random(seed)
    numbers = [number(source) for _ in range(100)]
    body = json.dumps(samples.member(group().code, attributes={"n": "@"}))
    answer = api.post("/api/v1/users", data=body.replace('"@"', f"[{','.join(numbers)}]"))
    assert answer.status_code == 201, answer.text
    parsed = json.loads(answer.text, parse_float=decimal.Decimal, parse_int=decimal.Decimal)
    for attributes in (parsed["attributes"], parsed["user"]["attributes"]):
        assert attributes == {"n": [decimal.Decimal(one) for one in numbers]}
    assert api.get(answer.headers["Location"]).text == answer.text


# --- Time zones ----------------------------------------------------------------------------

def test_time_zones_are_those_of_iana(sql):
    """As Python's zoneinfo reads them from the same files."""
    known = {name for name, in sql("SELECT name FROM time_zones")}
    assert known == zoneinfo.available_timezones() - {"Factory", "localtime"}


def test_time_zones_are_case_insensitive(api, sql):
    """The invalid code refuses the request, and the time zone is checked all the same."""
    source = random.Random(1)
    names = source.sample([name for name, in sql("SELECT name FROM time_zones ORDER BY 1")], 60)
    for name in names:
        for zone in (name, name.upper(), name.lower(), name.swapcase()):
            answer = api.post("/api/v1/users", json=samples.member("x", {"timeZone": zone}))
            problems = check_error(answer, "groups", 422)["errors"]
            assert [problem["field"] for problem in problems] == ["inviteCode"], zone
