# SPDX-License-Identifier: Apache-2.0
"""SQL injection: no value that a client sends becomes part of a statement.

Each attack is sent in each string of the bodies, parameter, path segment, header and claim. It
is stored and returned exactly, or refused by the API's rules. It never causes a 500 or a line
in a log, where a broken statement would show.
"""

import urllib.parse

import pytest

import samples
from apis import check_error
from conftest import ORGANIZATION, new_uuid
from event_registrations import MOUNT, TENANT_MOUNT, created
from scratch import OnScratch

ATTACKS = [
    # Ends of strings, in each SQL notation.
    "'", "''", "'''", '"', '""', "\\", "\\'", "'\\", "\\\\'", "$$", "$1", "$$;$$", "$q$ $q$", "`",
    "' OR '1'='1", "' OR 1=1 --", "') OR true --", "' UNION SELECT usename FROM pg_user --",
    "'; DROP TABLE registration.live_registrations CASCADE; --", "'; SELECT pg_sleep(60) --",
    "$$; DELETE FROM registration.live_sessions; $$", "E'\\x27'", "E'\\047'", "U&'\\0027'", "X'27'",
    "\\x27", "\\047", "%27", "&#39;", "\u2019", "\u02bc", "\uff07", "\u00bf'", "\u00bf\\",
    # Arrays and their elements, rows, jsonb, the module's own lists.
    "{", "}", "{}", "{a,b}", '{"a","b"}', '","', '"},{"', "NULL", '"NULL"', "null", ",", ",,", "(,)",
    "{{a},{b}}", "[1:2]={a,b}", "ARRAY['a']", '{"a": 1}', '"}', "'{}'::jsonb", "a ? b", "@>", "->>",
    "#>> '{a}'", "?|", "&", "a&b", " ", "a b", "a  b",
    # Formats, patterns, comments, placeholders.
    "%", "%s", "%I", "%L", "%1$s", "%n", "%%", "_", "%' --", "\\%", "\\_", "*", "^a", "(a+)+$",
    "--", "/*", "*/", "/* */", "#", ";", "\\copy", "\\! id", ":x", ":'x'", "${x}", "{{x}}",
    # Values with a meaning; names of columns and settings.
    "true", "0", "-1", "1e309", "infinity", "now", "today", "DEFAULT", "CURRENT_USER", "id",
    "registration.families", "pg_catalog.pg_sleep(1)", "\u0130", "x" * 255,
    ("'\"\\{},$%" * 32)[:255],
]

WRONG = (400, 404, 409, 412, 422)


def check_answer(answer, text, api, echoed=True):
    """Checks that the text is returned exactly, or refused."""
    assert answer.status_code in (201, 200, *WRONG), (text, answer.text)
    if answer.status_code in WRONG:
        check_error(answer, api, answer.status_code)
    elif echoed:
        assert text in samples.strings_in(answer.json()), (text, answer.text)


class Injection(OnScratch):
    """Tests in a private database that is inspected afterwards."""

    directives = "RegistrationPasswordCost 4"

    @pytest.fixture(autouse=True)
    def intact(self, sql):
        """Nothing was created, dropped, emptied or miscounted."""
        query = ("SELECT oid, relname, relacl::text FROM pg_class"
                 " WHERE relnamespace = 'registration'::regnamespace"
                 " UNION ALL SELECT oid, proname, prosrc FROM pg_proc"
                 " WHERE pronamespace = 'registration'::regnamespace ORDER BY 1")
        untouched = "SELECT * FROM children WHERE username LIKE 'BR000_' ORDER BY id"
        before = sql(query), sql("SELECT * FROM time_zones"), sql(untouched)
        yield
        assert (sql(query), sql("SELECT * FROM time_zones"), sql(untouched)) == before
        assert sql("SELECT * FROM recount()") == []

    @pytest.fixture
    def body_of(self, live_session, group, institution, child, occurrence):
        """body_of("live"): a path, and a function that makes bodies for it."""
        def make(api):
            if api == "live":
                return f"/v1/sessions/{live_session()}/register", samples.full_live
            if api == "families":
                school = institution()
                children = [child(school, "a child"), child(school, "a child")]
                return "/v1/families", lambda: samples.family(school, children)
            if api == "events":
                one = occurrence()
                return MOUNT, lambda: samples.full_event(one)
            one = group()
            path = f"/api/v1/groups/{one.id}/members" if api == "groups" else "/api/v1/users"
            return path, lambda: samples.full_member(one.code)
        return make


LEAVES = [(api, leaf) for api, body in [
    ("live", samples.full_live()), ("groups", samples.full_member("x")),
    ("users", samples.full_member("x")), ("families", samples.family("x", ["x", "y"])),
    ("events", samples.full_event("x"))] for leaf in samples.leaves(body)]

# Fields that are not in the answers.
NOT_ANSWERED = {"inviteCode", "password", "externalUserId"}

PARAMETERS = ["page", "limit", "sort", "eventId", "occurrenceId", "status", "search",
              "categories", "categories[]", "withTrashed", "another"]

PATHS = ["/v1/sessions/{}/register", "/api/v1/groups/{}/members", "/api/v1/groups/{}",
         "/api/v1/groups/{}/plans/{}", "/api/v1/groups/{}/users/{}", MOUNT + "/{}",
         TENANT_MOUNT + "/{}"]


def search_is_literal(api, text, registration):
    """Does a search find the registration only if one of its texts contains this text?"""
    answer = api.get(MOUNT, params={"search": text})
    assert answer.status_code in (200, 400), (text, answer.text)
    if answer.status_code == 200:
        texts = [registration["event"]["name"], registration["event"]["id"],
                 *filter(None, (registration["user"][key] for key in
                                ("id", "email", "firstName", "lastName")))]
        found = registration["id"] in [one["id"] for one in answer.json()]
        assert found == any(text.lower() in one.lower() for one in texts), text


class TestInjection(Injection):
    @pytest.mark.parametrize("api_name, leaf", LEAVES,
                             ids=[f"{api}-{'.'.join(map(str, leaf))}" for api, leaf in LEAVES])
    def test_injection_in_body_strings(self, admin, body_of, sql, api_name, leaf):
        path, make = body_of(api_name)
        accepted = 0
        for text in ATTACKS:
            answer = admin.post(path, json=samples.with_leaf(make(), leaf, text))
            check_answer(answer, text, api_name, echoed=leaf[-1] not in NOT_ANSWERED)
            accepted += answer.status_code == 201
        # Any text is accepted, once where it has to be unique.
        if leaf[-1] in ("patient_id", "firstName", "username", "externalUserId", "note"):
            assert accepted >= len(ATTACKS) - 1
        if leaf[-1] == "externalUserId":
            assert {text for text, in sql("SELECT external_id FROM event_users")} >= (
                set(ATTACKS))

    def test_injection_in_free_json(self, api, occurrence, group):
        registration = created(api, occurrence())
        url = f"{MOUNT}/{registration['id']}"
        one = group()
        for text in ATTACKS:
            fields = {text: {text: [text]}}
            answer = api.put(url, json={"fields": fields})
            assert answer.status_code == 200 and answer.json()["fields"][text] == fields[text]
            body = samples.member(one.code, attributes=fields, tags=[text, text])
            answer = api.post(f"/api/v1/groups/{one.id}/members", json=body)
            assert answer.status_code == 201
            assert (answer.json()["attributes"], answer.json()["tags"]) == (fields, [text, text])
        assert api.get(url).json()["fields"] == {text: {text: [text]} for text in ATTACKS}
        for text in ATTACKS:
            assert api.put(url, json={"fields": {text: None}}).status_code == 200
            assert api.put(url, json={"status": text}).status_code == 400
        assert api.get(url).json()["fields"] == {}

    @pytest.mark.parametrize("name", PARAMETERS)
    def test_injection_in_parameters(self, api, occurrence, name):
        registration = created(api, occurrence(), fields={"email": "jane@example.org"})
        for text in ATTACKS:
            answer = api.get(MOUNT, params={name: [text, text], text: text})
            assert answer.status_code in (200, 400), (text, answer.text)
            if answer.status_code == 400:
                check_error(answer, "events", 400)
            if name == "search":
                search_is_literal(api, text, registration)

    @pytest.mark.parametrize("path", PATHS)
    def test_injection_in_path_segments(self, api, path, group):
        known = group().id
        for text in ATTACKS:
            quoted = urllib.parse.quote(text, safe="")
            url = path.format(known, quoted) if path.count("{}") > 1 else path.format(quoted)
            for method in ("GET", "PUT", "DELETE") if MOUNT in path else ("GET", "POST"):
                answer = api.request(method, url, json={})
                assert answer.status_code in (400, 404, 405, 422), (text, answer.text)

    @pytest.mark.parametrize("name, method", [
        ("If-None-Match", "GET"), ("If-Match", "PUT"), ("Idempotency-Key", "POST"),
        ("Content-Type", "POST"), ("X-Request-Id", "POST")])
    def test_injection_in_headers(self, api, occurrence, name, method):
        one = occurrence()
        registration = created(api, one)
        url = MOUNT if method == "POST" else f"{MOUNT}/{registration['id']}"
        for text in ATTACKS:
            body = samples.full_event(one) if method == "POST" else {"status": "PENDING"}
            for value in (text, f'"{text}"'):
                if value.strip() == value:   # no client can send others
                    answer = api.request(method, url, json=body,
                                         headers={name: value.encode()})
                    assert answer.status_code in (200, 201, 304, 400, 409, 412, 415, 422), (
                        value, answer.text)

    def test_injection_in_token_claims(self, client, issuer, live_session):
        session = live_session()
        for text in ATTACKS:
            one = client(issuer.token(text, org=text, scope=text))
            answer = one.post(f"/v1/sessions/{session}/register", json={})
            assert answer.status_code == 201, (text, answer.text)
            assert answer.json()["patient_id"] == text
            answer = one.post(f"/v1/sessions/{session}/register", json={"patient_id": text + "2"},
                              headers={"Idempotency-Key": new_uuid()})
            assert answer.status_code == (201 if len(text) < 255 else 400)
            check_error(one.get(TENANT_MOUNT), "events", 403)
            check_error(one.post("/v1/families", json={}), "families", 403)

    def test_injection_in_organization_expression(self, start_httpd, client, token):
        """The value has to be a UUID, or no statement is executed."""
        httpd = start_httpd(inside=f"""
            <Location "/by/header">
                RegistrationAPI events
                RegistrationOrganization "%{{HTTP:X-Organization}}"
            </Location>""")
        one = client(token, httpd)
        for text in [*ATTACKS, f"{ORGANIZATION}' OR '1'='1", f"{ORGANIZATION},{ORGANIZATION}"]:
            if text.strip():
                check_error(one.get("/by/header", headers={"X-Organization": text.encode()}),
                            "events", 403)


class TestControlInjectableSearch(Injection):
    """A search that concatenates its text into the statement."""

    broken = """
        CREATE OR REPLACE FUNCTION events_matching(
            source regclass, pattern text, organization uuid)
        RETURNS uuid[] LANGUAGE plpgsql STABLE AS $$
        DECLARE
            matching uuid[];
        BEGIN
            EXECUTE format('SELECT ARRAY(SELECT s.id FROM %s AS s'
                           ' WHERE s.search_text LIKE ''%s'')', source, pattern)
               INTO matching;
            RETURN matching;
        END $$;"""

    def test_control_injectable_search_is_detected(self, api, occurrence, expect_log):
        expect_log("registration@scratch_", "REG0303")
        registration = created(api, occurrence())
        detected = 0
        for text in ATTACKS:
            try:
                search_is_literal(api, text, registration)
            except AssertionError:
                detected += 1
        assert detected >= 10


class TestControlInjectableTrigger(Injection):
    """A trigger that concatenates a value into a statement."""

    broken = """
        CREATE FUNCTION careless() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            EXECUTE 'SELECT ''' || NEW.patient_id || '''' INTO NEW.patient_id;
            RETURN NEW;
        END $$;
        CREATE TRIGGER careless BEFORE INSERT ON live_registrations
            FOR EACH ROW EXECUTE FUNCTION careless();"""

    def test_control_injectable_trigger_is_detected(self, api, body_of, expect_log):
        expect_log("registration@scratch_", "REG0303")
        path, make = body_of("live")
        detected = 0
        for text in ATTACKS:
            if "DROP" in text or "DELETE" in text or "sleep" in text:
                continue   # these would be executed
            try:
                check_answer(api.post(path, json={**make(), "patient_id": text}), text, "live")
            except AssertionError:
                detected += 1
        assert detected >= 10
