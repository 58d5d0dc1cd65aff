# SPDX-License-Identifier: Apache-2.0
"""What the tests' clients have sent, and whether a server has written any of it in a log.

Everything a client sends may be somebody's name, address or password, so none of it belongs
in a log: the strings of the bodies, the values of queries, tokens, Idempotency-Keys. Clients
only note what they send; it is taken apart once, when all tests are done.
"""

import base64
import json
import pathlib
import re
import secrets
import urllib.parse

import requests

# What says nothing of anybody. What is shorter, or a single word like "second", is in every
# log by chance; names, addresses and keys that tests make have digits in them.
WORD = re.compile("[a-z]+")
SHORTEST = 6
EXEMPT = {"PENDING", "CONFIRMED", "CANCELLED", "WAITING_LIST", "ATTENDED",
          "families:create", "createdAt", "updatedAt", "startDate", "eventName", "firstName",
          "lastName", "created_at", "example.org"}

# Enough of a body to have all its fields in; a large one is made of one of them.
MOST = 16384

bodies = set()      # octets: what followed the headers, or all that was sent
headers = set()
queries = set()
forgotten = set()   # what a test had a server log on purpose

TELLING = ("Authorization", "Idempotency-Key", "Referer")

# The page that a browser comes from; its address may name a person.
REFERER = f"https://app.example.org/?who={secrets.token_hex(8)}@example.org"

STRING = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?')   # with a colon it is a key
HEADER = re.compile(rf"(?im)^(?:{'|'.join(TELLING)}): *([^\r\n]*)")


def note(octets):
    """For clients that make the whole request themselves."""
    bodies.add(bytes(octets[:MOST]))


def forget(*texts):
    """These are in a log because a test wanted to see them there."""
    forgotten.update(texts)


class Adapter(requests.adapters.HTTPAdapter):
    """Notes what a client of requests sends."""

    def send(self, request, *args, **options):
        if isinstance(request.body, (str, bytes)):
            body = request.body[:MOST]
            bodies.add(body.encode() if isinstance(body, str) else body)
        headers.update(request.headers[name] for name in TELLING if name in request.headers)
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
    """The strings in a token, when it is one. Scopes say nothing of anybody."""
    try:
        payload = token.split(".")[1]
        content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return values_in(json.dumps({**content, "scope": None}))
    except (IndexError, TypeError, ValueError):
        return []


def strings():
    """All strings that were sent and would tell something."""
    texts = [octets.decode(errors="replace") for octets in bodies]
    lines = [line.decode(errors="replace") if isinstance(line, bytes) else line
             for line in headers]
    found = {one for text in texts for one in values_in(text)}
    found.update(value for query in queries for _, value in urllib.parse.parse_qsl(query))
    for line in {*lines, *(line for text in texts for line in HEADER.findall(text))}:
        token = line.partition(" ")[2]   # behind the scheme
        found.update([line, line.strip('"'), token, *claims(token)])
    return {one for one in found if len(one) >= SHORTEST and len(set(one)) > 2
            and not WORD.fullmatch(one)
            and not any(known in one for known in forgotten)} - EXEMPT


def messages(lines, prefix):
    """What the lines say, each once, without what precedes a message."""
    return "\n".join({re.sub(prefix, "", line) for line in lines})


def found_in(text, sent):
    """Those strings that are in the text, and not as a part of words."""
    beginnings = {text[at:at + SHORTEST] for at in range(len(text))}
    return {one for one in sent if one[:SHORTEST] in beginnings and one in text
            and re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text)}


# --- Logs ----------------------------------------------------------------------------------

# Each kind: the name of its files, the lines that count, and what precedes their message.
# The access log is not among them: it has the paths, which is what it is for. The module's own
# lines count at every level.
KINDS = {
    "error.log": (r"^(?!\[[^]]*\] \[(?!registration:)\w*:(debug|trace\d)\])",
                  r"^(\[[^]]*\] )*"),
    "postgresql.log": (r" registration@(?!\S+ STATEMENT:  (?!SELECT item, ))|^\t",
                       r"^\S+ \S+ \S+ \[\d+\] \S+@\S+ |^\t"),
}


def leaks(directory):
    """What was sent and is in a log below this directory: which log, and what."""
    sent = strings()
    for name, (wanted, prefix) in KINDS.items():
        for path in pathlib.Path(directory).rglob(name):
            lines = path.read_text(errors="replace").splitlines()
            text = messages((line for line in lines if re.search(wanted, line)), prefix)
            for one in sorted(found_in(text, sent)):
                line = next(line for line in text.splitlines() if one.splitlines()[0] in line)
                yield f"{path}: {one[:80]!r} in {line[:300]!r}"
