# SPDX-License-Identifier: Apache-2.0
"""Valid and invalid values for fields of several APIs, and whole bodies."""

import secrets


# --- Bodies --------------------------------------------------------------------------------

def new_email():
    return f"{secrets.token_hex(8)}@example.org"


def member(code, user=None, **more):
    """A group member's registration; `more` goes into groupMember."""
    return {"inviteCode": code,
            "groupMember": {"user": {"email": new_email(), **(user or {})}, **more}}


def family(institution, children, **more):
    return {"username": f"family {secrets.token_hex(8)}", "password": "mys3cr3tp4ss",
            "children": children, "institution_id": institution, **more}


def trimmed(text):
    """As trim() of ECMA-262, with which the original families service trims usernames."""
    return text.strip("\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
                      "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff")


# --- E-mail: the grammar of the HTML standard's input type=email ---------------------------

def email_of_length(length):
    """An address of that length, with labels of the maximum length 63."""
    domain = ".".join(["d" * 63] * 3)
    return "l" * (length - len(domain) - 1) + "@" + domain


GOOD_EMAILS = [
    "a@b", "a@1", "1@2.3", "A.B@Example.ORG", ".a@b", "a.@b", "a..b@c", "a@a-b.c--d",
    "!#$%&'*+/=?^_`{|}~-@x.org", "a+b@x.org", f"a@{'x' * 63}", f"a@{'x' * 63}.{'y' * 63}",
    "x" * 65 + "@x.org", "a@xn--bcher-kva.example", email_of_length(254)]

BAD_EMAILS = [
    "", "a", "@", "a@", "@b", "a@@b", "a@b@c", "a@-b", "a@b-", "a@b-.c", "a@b.-c", "a@.b",
    "a@b.", "a@b..c", "a@b_c", f"a@{'x' * 64}", f"a@b.{'x' * 64}", " a@b", "a@b ", "a b@c",
    "a@b c", "a@b\n", "\ta@b", "a@b\u007f", '"a"@b', "a(b)@c", "a,b@c", "a:b@c",
    "a;b@c", "<a@b>", "A <a@b>", "a\\b@c", "[a]@b", "a@[127.0.0.1]", "mailto:a@b", "é@b",
    "a@bücher.example", "a@b。c", "a＠b", "a@\U0001f4e7", email_of_length(255)]


# --- Text ----------------------------------------------------------------------------------

# Stored code point for code point.
TEXTS = [
    "O'Brien", 'say "x"', "back\\slash", "</script>", "%s %n $1", "'; DROP TABLE x; --",
    "{curly,\"array\"}", "NULL", " both ends ", "é", "e\u0301", "Ångström",
    "Straße", "İstanbul ıI", "日本語", "العربية", "עברית", "ไทย", "हिन्दी", "\u202eright to left",
    "zero\u200bwidth", "\u2028\u2029", "\u0080\u0085\u009f", "\u00a0", "\ufeffmark", "\ufffe\uffff",
    "\ufffd", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U00010000\U0010ffff", "x" * 255,
    "é" * 255, "日" * 255, "\U0001f600" * 255]

TOO_LONG = ["x" * 256, "é" * 256, "\U0001f600" * 256, "x" * 100_000]
CONTROLS = [f"a{chr(code)}b" for code in (*range(1, 0x20), 0x7f)] + ["\n", "a\r\n"]


# --- Dates ---------------------------------------------------------------------------------

GOOD_DATES = ["2000-01-01", "2000-02-29", "2004-02-29", "1999-12-31", "1900-02-28",
              "1582-10-10", "1752-09-03", "0001-01-01"]

BAD_DATES = [
    "", " ", "2000", "2000-01", "2000-1-1", "2000-01-1", "20000101", "2000/01/01",
    "01-01-2000", "01/02/2000", "2000-00-01", "2000-13-01", "2000-01-00", "2000-01-32",
    "2000-04-31", "2001-02-29", "1900-02-29", "2000-02-30", "0000-01-01", "-2000-01-01",
    "+2000-01-01", "02000-01-01", "12000-01-01", "2000-01-01T00:00:00Z",
    "2000-01-01 ", " 2000-01-01", "2000-01-01\n", "2000–01–01", "２０００-01-01",
    "٢٠٠٠-٠١-٠١", "today", "infinity", "-infinity", "now", "epoch", "2000-W01-1", "2000-001",
    "J2451545", "2000-Jan-01", "2000-01-01 BC"]


# --- Bodies with all fields ----------------------------------------------------------------

def full_live():
    return {"patient_id": secrets.token_hex(8), "guest_email": new_email(), "role": "host"}


def full_member(code):
    return member(
        code,
        {"birthDate": "2000-02-29", "firstName": "Jane", "lastName": "Doe", "gender": "female",
         "locale": "de-AT", "mobileNumber": "+19195551212", "timeZone": "Europe/Vienna"},
        tags=["one", "two"], attributes={"room": "a", "nested": {"list": ["b"]}},
        planSettings={"startDate": "2030-01-01", "endDate": "2030-12-31"})


def full_event(occurrence):
    return {"occurrenceId": occurrence, "externalUserId": secrets.token_hex(8),
            "fields": {"email": new_email(), "firstName": "Jane", "lastName": "Doe",
                       "phone": "+19195551212", "note": "a", "nested": {"list": ["b"]}}}


# --- Strings of a body ---------------------------------------------------------------------

def leaves(value, path=()):
    """The path of keys to each string of a body."""
    if isinstance(value, str):
        yield path
    items = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ())
    for key, inside in items:
        yield from leaves(inside, (*path, key))


def with_leaf(value, path, text):
    """The body with another string at that path."""
    if not path:
        return text
    copy = value.copy()
    copy[path[0]] = with_leaf(value[path[0]], path[1:], text)
    return copy


def strings_in(value):
    """All strings of an answer, including keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inside in value.values():
            yield from strings_in(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from strings_in(inside)
