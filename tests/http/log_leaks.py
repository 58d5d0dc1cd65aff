# SPDX-License-Identifier: Apache-2.0
"""Finds values that clients sent in servers' logs.

Values that clients send may be personal data or secrets, so logs must not contain them: strings
of bodies, values of queries, tokens, Idempotency-Keys. Clients record what they send; it is
parsed once, after all tests.
"""

import base64
import json
import pathlib
import re
import secrets
import urllib.parse

import requests

# Strings without personal data. Shorter strings and single words like "second" are in each log
# by chance; names, addresses and keys that tests generate contain digits.
WORD = re.compile("[a-z]+")
SHORTEST = 6
EXEMPT = {"PENDING", "CONFIRMED", "CANCELLED", "WAITING_LIST", "ATTENDED",
          "families:create", "createdAt", "updatedAt", "startDate", "eventName", "firstName",
          "lastName", "created_at", "example.org", "DEFAULT"}

# Enough of a body for all its fields.
MOST = 16384

bodies = set()      # octets after the headers, or of the whole request
headers = set()
queries = set()
forgotten = set()   # logged on purpose

SENSITIVE = ("Authorization", "Idempotency-Key", "Referer")

# The page of the browser; its URL may name a person.
REFERER = f"https://app.example.org/?who={secrets.token_hex(8)}@example.org"

STRING = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?')   # with a colon: a key
HEADER = re.compile(rf"(?im)^(?:{'|'.join(SENSITIVE)}): *([^\r\n]*)")


def record(octets):
    """Records the octets of clients that build the whole request themselves."""
    bodies.add(bytes(octets[:MOST]))


def forget(*texts):
    """Exempts texts that a test logs on purpose."""
    forgotten.update(texts)


class Adapter(requests.adapters.HTTPAdapter):
    """Records what a client of requests sends."""

    def send(self, request, *args, **options):
        if isinstance(request.body, (str, bytes)):
            body = request.body[:MOST]
            bodies.add(body.encode() if isinstance(body, str) else body)
        headers.update(request.headers[name] for name in SENSITIVE if name in request.headers)
        queries.add(request.url.partition("?")[2])
        return super().send(request, *args, **options)


def unescaped(string):
    try:
        return json.loads(string)
    except ValueError:
        return string[1:-1]


def values_in(text):
    return [unescaped(string) for string, colon in STRING.findall(text) if not colon]


def claims(token):
    """The strings in a JWT, except scopes; none if the text is not a JWT."""
    try:
        payload = token.split(".")[1]
        content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return values_in(json.dumps({**content, "scope": None}))
    except (IndexError, TypeError, ValueError):
        return []


def strings():
    """All sent strings that may be personal."""
    texts = [octets.decode(errors="replace") for octets in bodies]
    lines = [line.decode(errors="replace") if isinstance(line, bytes) else line
             for line in headers]
    found = {one for text in texts for one in values_in(text)}
    found.update(value for query in queries for _, value in urllib.parse.parse_qsl(query))
    for line in {*lines, *(line for text in texts for line in HEADER.findall(text))}:
        token = line.partition(" ")[2]   # after the scheme
        found.update([line, line.strip('"'), token, *claims(token)])
    return {one for one in found if len(one) >= SHORTEST and len(set(one)) > 2
            and not WORD.fullmatch(one)
            and not any(known in one for known in forgotten)} - EXEMPT


def messages(lines, prefix):
    """The distinct messages of log lines, without prefix."""
    return "\n".join({re.sub(prefix, "", line) for line in lines})


def found_in(text, sent):
    """The strings that the text contains as whole words."""
    beginnings = {text[at:at + SHORTEST] for at in range(len(text))}
    return {one for one in sent if one[:SHORTEST] in beginnings and one in text
            and re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text)}


# --- Logs ----------------------------------------------------------------------------------

# For each kind of log: its file name, a pattern for relevant lines, and their prefix. The
# access log is not included: it contains paths by purpose. The module's own lines count at each
# level.
KINDS = {
    "error.log": (r"^(?!\[[^]]*\] \[(?!registration:)\w*:(debug|trace\d)\])",
                  r"^(\[[^]]*\] )*"),
    "postgresql.log": (r" registration@(?!\S+ STATEMENT:  (?!SELECT item, ))|^\t",
                       r"^\S+ \S+ \S+ \[\d+\] \S+@\S+ |^\t"),
}


def leaks(directory):
    """The sent strings found in logs below a directory, with log and line."""
    sent = strings()
    for name, (wanted, prefix) in KINDS.items():
        for path in pathlib.Path(directory).rglob(name):
            lines = path.read_text(errors="replace").splitlines()
            text = messages((line for line in lines if re.search(wanted, line)), prefix)
            for one in sorted(found_in(text, sent)):
                line = next(line for line in text.splitlines() if one.splitlines()[0] in line)
                yield f"{path}: {one[:80]!r} in {line[:300]!r}"
