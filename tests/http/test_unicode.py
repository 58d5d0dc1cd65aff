# SPDX-License-Identifier: Apache-2.0
"""Unicode in each text field: text is stored code point for code point, or refused.

Text is stored as sent, without normalization, up to 255 code points, without control
characters. E-mail addresses are ASCII and compared case-insensitively. test_json.py tests
octets that are not JSON.
"""

import json
import secrets
import unicodedata

import pytest

import samples
import servers
from apis import INVALID, check_error
from conftest import Client
from event_registrations import MOUNT, created
from scratch import OnScratch

WOMAN = "\U0001f469\u200d\U0001f469\u200d\U0001f467"

# In addition to samples.TEXTS.
KEPT = {
    "normal forms": ["\u00c5", "A\u030a", "\u212b", "\ufb01", "fi", "\u1e9b\u0323", "\uac00",
                     "\u1100\u1161", "\u0958", "\u2f80"],
    "marks in each order": ["a\u0323\u0307", "a\u0307\u0323", "q\u0307\u0323"],
    "marks alone, and many": ["\u0301", " \u0301", "a" + "\u0301" * 254, "z" + "\u0489" * 100],
    "right to left": ["\u200fab\u200e", "\u202eabc\u202c", "\u2066abc\u2069", "abc \u0634\u0643"],
    "no width": ["\u200b", "a\u200bb", "\u200c", "\u200d", "\u2060", "\ufeff", "a\u00adb", "\u180e",
                 "\u034f"],
    "spaces": ["\u00a0", "\u2003", "\u3000", " ", "  a  ", "\u2028", "\u2029", "a\u0085b"],
    "controls above ASCII": [f"a{chr(code)}b" for code in range(0x80, 0xa0)],
    "no characters": ["\ufffe", "\uffff", "\ufdd0", "\U0001fffe", "\U0010ffff", "\ufffd"],
    "private use": ["\ue000", "\U000f0000"],
    "astral": ["\U00010000", "\U0001f600", WOMAN, "\U0001f1e6\U0001f1f9", "\U000e0061"],
    "case": ["\u0130", "\u0131", "I", "\u212a", "k", "\u017f", "\u00df", "\u1e9e", "\u01c5"],
    "255": ["x" * 255, "\u00e9" * 255, "\u65e5" * 255, "\U0001f600" * 255, "e\u0301" * 127 + "x",
            WOMAN * 51],
}
REFUSED = {
    "256": ["x" * 256, "\u00e9" * 256, "\U0001f600" * 256, "e\u0301" * 128, "x" * 255 + "\u0301",
            WOMAN * 51 + "x"],
    "controls": [f"a{chr(code)}b" for code in (*range(1, 0x20), 0x7f)] + ["\x1b[31m", "\x01"],
}
assert all(len(text) <= 255 for texts in KEPT.values() for text in texts)
assert all(len(text) == 255 for text in KEPT["255"])


# --- The fields ----------------------------------------------------------------------------

@pytest.fixture
def field(live_session, group, institution, child, occurrence):
    """field("patient_id"): a path, and body(text), a body with the text in that field."""
    def make(name):
        if name == "patient_id":
            return (f"/v1/sessions/{live_session()}/register",
                    lambda text: {"patient_id": text})
        if name == "username":
            school = institution()
            children = [child(school)]
            return "/v1/families", lambda text: samples.family(school, children, username=text)
        if name == "externalUserId":
            one = occurrence()
            return MOUNT, lambda text: {"occurrenceId": one, "externalUserId": text}
        if name.startswith("fields."):
            one = occurrence()
            return MOUNT, lambda text: {
                "occurrenceId": one, "externalUserId": secrets.token_hex(8),
                "fields": {name.partition(".")[2]: text}}
        made = group()
        path = f"/api/v1/groups/{made.id}/members"
        if name == "tags":
            return path, lambda text: samples.member(made.code, tags=[text, "b"])
        return path, lambda text: samples.member(made.code, {name: text})
    return make


# For each field its API, and how to find its value in the answer.
FIELDS = {
    "patient_id": ("live", lambda body: body["patient_id"]),
    "firstName": ("groups", lambda body: body["user"]["firstName"]),
    "lastName": ("groups", lambda body: body["user"]["lastName"]),
    "tags": ("groups", lambda body: body["tags"][0]),
    "username": ("families", lambda body: body["username"]),
    "externalUserId": ("events", None),
}


@pytest.fixture(scope="module")
def fast(certificates, issuer, postgres, tmp_path_factory, admin_token):
    """A client of an httpd that hashes passwords quickly."""
    port = servers.free_port()
    site = servers.example_site(port, certificates, issuer, postgres).replace(
        "</VirtualHost>", "RegistrationPasswordCost 4\n</VirtualHost>")
    httpd = servers.Httpd(tmp_path_factory.mktemp("httpd"), site, port, log_level="info")
    httpd.start()
    with Client(httpd, certificates, admin_token) as client:
        yield client
    httpd.stop()
    assert httpd.log.problems() == []


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("kind", [*KEPT, "samples"])
def test_text_is_stored_exactly(fast, field, sql, name, kind):
    """Sent unescaped, and with each character escaped, as a surrogate pair if necessary."""
    api, answered = FIELDS[name]
    for escaped in (False, True):
        path, body = field(name)
        for text in KEPT.get(kind, samples.TEXTS):
            kept = samples.trimmed(text) if name == "username" else text
            if name == "username" and not kept:
                continue
            if name == "username":   # Another test may have registered it.
                sql("SELECT remove_family(%s)", kept)
            answer = fast.post(path, data=json.dumps(body(text), ensure_ascii=escaped).encode())
            assert answer.status_code == 201, (ascii(text), answer.text)
            got = answered(answer.json()) if answered else sql(
                "SELECT external_id FROM event_users WHERE id = %s",
                answer.json()["user"]["id"])[0][0]
            assert got == kept, (ascii(text), ascii(got))
            if name == "username":   # Usernames are unique.
                assert sql("SELECT remove_family(%s)", kept) == [(True,)]


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("kind", REFUSED)
def test_invalid_text_is_refused(fast, field, name, kind):
    api, _ = FIELDS[name]
    path, body = field(name)
    for text in REFUSED[kind]:
        check_error(fast.post(path, json=body(text)), api, INVALID[api])


def test_texts_of_different_normal_forms_are_different(api, live_session, occurrence):
    session, one = live_session(), occurrence()
    for text in ("\u00c5", "A\u030a", "\u212b", "k", "K", "\u212a", "i", "I", "\u0130", "\u0131",
                 "\u00df", "ss", "\ufb01", "fi", " a", "a", "a ", "a\u200b", "\u200ba"):
        assert unicodedata.normalize("NFC", text)   # some of them the same
        answer = api.post(f"/v1/sessions/{session}/register", json={"patient_id": text})
        assert answer.status_code == 201, ascii(text)
        again = api.post(f"/v1/sessions/{session}/register", json={"patient_id": text})
        check_error(again, "live", 409)
        created(api, one, text)
        check_error(api.post(MOUNT, json={"occurrenceId": one, "externalUserId": text}),
                    "events", 409)


@pytest.mark.parametrize("kind", [*KEPT, *REFUSED, "samples"])
def test_free_json_keeps_any_text(api, occurrence, kind):
    """The rules for text do not apply inside, keys included."""
    one = occurrence()
    for text in KEPT.get(kind, REFUSED.get(kind, samples.TEXTS)):
        fields = {"firstName": text, "email": text, "text": [text, {text: text}]}
        registration = created(api, one, secrets.token_hex(8), fields=fields)
        assert registration["fields"] == fields
        known = text if kind not in REFUSED else None   # an invalid name is not used
        assert registration["user"]["firstName"] == known
        assert registration["user"]["email"] is None


# --- E-mail addresses ----------------------------------------------------------------------

ODD_LETTERS = ["\u0131", "\u0130", "\u212a", "\u017f", "\u00df", "\u0441", "\uff41", "e\u0301",
               "\u00e9", "a\u200b", "\u200b", "\u202ea", "\u00ad", "\U0001f600", "\u0085", "\x01"]


def test_non_ascii_letters_in_email_are_refused(api, live_session, group):
    """A Turkish or Kelvin letter that lower() folds to ASCII must not make two addresses
    equal."""
    session, made = live_session(), group()
    for letter in ODD_LETTERS:
        for email in (f"{letter}@example.org", f"mi{letter}k@example.org", f"a@{letter}.org",
                      f"a@example.{letter}"):
            answer = api.post(f"/v1/sessions/{session}/register", json={"guest_email": email})
            check_error(answer, "live", 400)
            body = samples.member(made.code, {"email": email})
            check_error(api.post(f"/api/v1/groups/{made.id}/members", json=body), "groups", 422)


def test_email_is_compared_case_insensitively_and_stored_exactly(api, live_session, group):
    session, made = live_session(), group()
    name = secrets.token_hex(8)
    first, second = f"iIkKsS.{name}@Example.ORG", f"IIKKSS.{name.upper()}@EXAMPLE.org"
    answer = api.post(f"/v1/sessions/{session}/register", json={"guest_email": first})
    assert answer.json()["guest_email"] == first
    check_error(api.post(f"/v1/sessions/{session}/register", json={"guest_email": second}),
                "live", 409)
    path = f"/api/v1/groups/{made.id}/members"
    answer = api.post(path, json=samples.member(made.code, {"email": first}))
    assert answer.json()["user"]["email"] == first
    check_error(api.post(path, json=samples.member(made.code, {"email": second})),
                "groups", 422)


class TestControlNormalizedText(OnScratch):
    """Text that is normalized or trimmed before it is stored."""

    broken = """
        CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.patient_id := normalize(trim(NEW.patient_id), NFC);
            RETURN NEW;
        END $$;
        CREATE TRIGGER tidy BEFORE INSERT ON live_registrations
            FOR EACH ROW EXECUTE FUNCTION tidy();"""

    @pytest.mark.parametrize("text", ["A\u030a", "\u212b", "a\u0307\u0323", "  a  ", "\u0958"])
    def test_control_normalized_text_is_detected(self, api, field, text):
        path, body = field("patient_id")
        answer = api.post(path, json=body(text))
        assert answer.status_code == 201
        assert FIELDS["patient_id"][1](answer.json()) != text
