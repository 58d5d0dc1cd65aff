# SPDX-License-Identifier: Apache-2.0
"""The behaviour of the APIs is what openapi.json describes.

Each described answer is provoked, for each operation and example. Answers of the shared httpd
in all other tests are compared with the description by the Client.
"""

import json
import secrets
import types

import jsonschema
import pytest

import faults
import openapi
import samples
import servers
from conftest import new_object_id, new_uuid
from openapi import DOCUMENT, OPERATIONS


# --- The mount of the document -------------------------------------------------------------

PATH = "/openapi.json"


def test_document_is_public(anonymous):
    answer = anonymous.get(PATH)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.json() == DOCUMENT


def test_document_is_cacheable(anonymous):
    etag = anonymous.get(PATH).headers["ETag"]
    again = anonymous.get(PATH, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    head = anonymous.head(PATH)
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", etag)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_document_is_read_only(anonymous, method):
    answer = anonymous.request(method, PATH)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert list(answer.json()) == ["error", "message"]


def test_path_below_document_is_404(anonymous):
    answer = anonymous.get(PATH + "/x")
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


def test_document_needs_no_database(client, start_httpd):
    httpd = start_httpd("""<VirtualHost *:*>
        <Location "/openapi.json">
            RegistrationAPI openapi
        </Location>
        </VirtualHost>""", modules=["authz_core"])
    answer = client(httpd=httpd)
    answer.base = f"http://localhost:{httpd.port}"
    assert answer.get(PATH).json() == DOCUMENT


# --- Each described answer -----------------------------------------------------------------

@pytest.fixture(scope="module")
def broken(tmp_path_factory, postgres):
    """An httpd without authentication whose database has no operations, and one whose
    database is unreachable."""
    def make(dsn):
        site = faults.CHILD + faults.MOUNTS + faults.database(dsn)
        httpd = servers.Httpd(tmp_path_factory.mktemp("broken"), site, modules=faults.MODULES)
        httpd.start()
        return httpd
    postgres.psql("-c", "CREATE DATABASE without_operations", database="postgres")
    postgres.psql("-c", "CREATE SCHEMA registration; GRANT USAGE ON SCHEMA registration TO"
                        " registration; CREATE FUNCTION registration.schema_version("
                        "OUT version integer, OUT oldest integer) RETURN (1000, 0)",
                  database="without_operations")
    httpds = {"fault": make(postgres.dsn(dbname="without_operations")),
              "unavailable": make(postgres.dsn(port=servers.free_port()))}
    yield httpds
    for httpd in httpds.values():
        httpd.stop()


@pytest.fixture(scope="module")
def closed(tmp_path_factory, certificates, issuer, postgres):
    """The shared site, with every token refused."""
    port = servers.free_port()
    site = servers.example_site(port, certificates, issuer, postgres).replace(
        "</VirtualHost>", """<LocationMatch "^/(v1|api)/">
            Require registration-scope nobody:may
        </LocationMatch>
        </VirtualHost>""")
    httpd = servers.Httpd(tmp_path_factory.mktemp("closed"), site, port)
    httpd.start()
    yield httpd
    httpd.stop()


@pytest.fixture
def world(admin, anonymous, client, admin_token, broken, closed, live_session, group,
          institution, child, occurrence, sql, expect_log):
    """What the requests below need."""
    return types.SimpleNamespace(**locals())


SESSIONS, GROUPS, USERS = "/v1/sessions", "/api/v1/groups", "/api/v1/users"
FAMILIES, EVENTS = "/v1/families", "/api/v1/event-registrations"


def live(w, json=None, session=None, **options):
    session = session or w.live_session()
    return w.admin.post(f"{SESSIONS}/{session}/register",
                        json=json or {"patient_id": secrets.token_hex(8)}, **options)


def member(w, address, change=None, code=None, **options):
    """The answer to the registration of a new member; `change` modifies a valid body."""
    if not code:
        made = w.group()
        code, address = made.code, address.replace("GROUP", made.id)
    body = samples.member(code)
    if change:
        change(body)
    return w.admin.post(address, json=body, **options)


def family(w, *missing, **change):
    school = w.institution()
    body = {**samples.family(school, [w.child(school)]), **change}
    return w.admin.post(FAMILIES, json={name: value for name, value in body.items()
                                        if name not in missing})


def event(w, occurrence=None, user=None, **options):
    return w.admin.post(EVENTS, json={"occurrenceId": occurrence or w.occurrence(),
                                      "externalUserId": user or secrets.token_hex(8)},
                        **options)


def event_id(w, occurrence=None, user=None):
    return event(w, occurrence, user).json()["id"]


def update(w, status, registration=None, **options):
    return w.admin.put(f"{EVENTS}/{registration or event_id(w)}", json={"status": status},
                       **options)


def made_member(w):
    return member(w, GROUPS + "/GROUP/members").json()


# A successful request of each operation: method, path, body.
GOOD = {
    "registerForLiveSession": lambda w: (
        "POST", f"{SESSIONS}/{w.live_session()}/register", {"patient_id": "one"}),
    "registerGroupMember": lambda w: (
        "POST", f"{GROUPS}/{(made := w.group()).id}/members", samples.member(made.code)),
    "registerUser": lambda w: ("POST", USERS, samples.member(w.group().code)),
    "getGroup": lambda w: ("GET", f"{GROUPS}/{w.group().id}", None),
    "getPlan": lambda w: ("GET", f"{GROUPS}/{(made := w.group()).id}/plans/{made.plan}", None),
    "getUser": lambda w: ("GET", made_member(w)["href"], None),
    "getMember": lambda w: ("GET", made_member(w)["href"].replace("/users/", "/members/"),
                            None),
    "registerFamily": lambda w: (
        "POST", FAMILIES, samples.family((school := w.institution()), [w.child(school)])),
    "createEventRegistration": lambda w: (
        "POST", EVENTS, {"occurrenceId": w.occurrence(), "externalUserId": "one"}),
    "searchEventRegistrations": lambda w: ("GET", EVENTS, None),
    "getEventRegistration": lambda w: ("GET", f"{EVENTS}/{event_id(w)}", None),
    "updateEventRegistration": lambda w: (
        "PUT", f"{EVENTS}/{event_id(w)}", {"status": "ATTENDED"}),
    "deleteEventRegistration": lambda w: ("DELETE", f"{EVENTS}/{event_id(w)}", None),
}


def good(w, operation, caller=None, **options):
    method, address, body = GOOD[operation](w)
    options.setdefault("json", body)
    return (caller or w.admin).request(method, address, **options)


def with_bad_token(w, operation):
    return good(w, operation, w.anonymous, headers={"Authorization": "Bearer nonsense"})


def where(httpd_name):
    def send(w, operation):
        w.expect_log(*faults.OUTAGE, "REG0303", "ERROR:  function registration", "STATEMENT:", "REG0302")
        caller = w.client(httpd=w.broken[httpd_name])
        caller.base = caller.base.replace("https", "http")
        return good(w, operation, caller)
    return send


def reuse_key(w, operation):
    key = {"Idempotency-Key": secrets.token_hex(16)}
    method, address, body = GOOD[operation](w)
    assert w.admin.request(method, address, json=body, headers=key).status_code == 201
    for name in ("patient_id", "externalUserId", "username"):
        body = {**body, name: secrets.token_hex(8)} if name in body else body
    if "groupMember" in body:
        body["groupMember"]["user"]["firstName"] = secrets.token_hex(8)
    return w.admin.request(method, address, json=body, headers=key)


# Requests for answers that several operations have, by status and name of the example.
COMMON = {
    ("400", "malformed"): lambda w, o: good(w, o, json=None, data=b"{",
                                            headers={"Content-Type": "application/json"}),
    ("400", "key"): lambda w, o: good(w, o, headers={"Idempotency-Key": "k" * 256}),
    ("401", "noToken"): lambda w, o: good(w, o, w.anonymous),
    ("401", "badToken"): with_bad_token,
    ("403", "notAllowed"): lambda w, o: good(w, o, w.client(w.admin_token, w.closed)),
    ("413", "tooLarge"): lambda w, o: good(w, o, json={"x": "x" * 1048577}),
    ("415", "notJSON"): lambda w, o: good(w, o, headers={"Content-Type": "text/plain"}),
    ("415", "encoded"): lambda w, o: good(w, o, headers={"Content-Encoding": "gzip"}),
    ("422", "keyReused"): reuse_key,
    ("500", "fault"): where("fault"),
    ("503", "unavailable"): where("unavailable"),
    ("503", "notRead"): where("unavailable"),
    ("default", "expectation"): lambda w, o: good(w, o, headers={"Expect": "a miracle"}),
}


def full_live(w):
    return live(w, session=w.live_session(max_participants=0))


def twice_live(w):
    session = w.live_session()
    return [live(w, {"patient_id": "one"}, session) for _ in range(2)][1]


def user_of(body):
    return body["groupMember"]["user"]


def many_faults(body):
    user_of(body).update(birthDate="never", firstName=1, gender="none", lastName=1,
                         locale="x", mobileNumber="555", timeZone="")
    del user_of(body)["email"]
    body["groupMember"].update(tags=[""], attributes=[], planSettings={
        "startDate": "now", "endDate": "then"})


def wrong_dates(body):
    body["groupMember"]["planSettings"] = {"startDate": "2023-06-14", "endDate": "2022-06-14"}


def unknown_things(body):
    body["inviteCode"] = "no such code"
    user_of(body)["timeZone"] = "Mars/Olympus"


def used_up(w, address):
    made = w.group(max_uses=0)
    return member(w, address.replace("GROUP", made.id), code=made.code)


def expired(w, address):
    made = w.group(expires_at="2020-01-01")
    return member(w, address.replace("GROUP", made.id), code=made.code)


def email_taken(w, address):
    email = samples.new_email()
    return [member(w, address, lambda body: user_of(body).update(email=email))
            for _ in range(2)][1]


def members(address):
    return {
        ("201", None): lambda w: member(w, address),
        ("422", "fields"): lambda w: member(w, address, many_faults),
        ("422", "dates"): lambda w: member(w, address, wrong_dates),
        ("422", "unknown"): lambda w: member(w, address, unknown_things),
        ("422", "expired"): lambda w: expired(w, address),
        ("422", "usedUp"): lambda w: used_up(w, address),
        ("422", "taken"): lambda w: email_taken(w, address),
    }


def taken_username(w):
    username = secrets.token_hex(8)
    return [family(w, username=username) for _ in range(2)][1]


def two_places(w, capacity=1):
    """The second registration of an occurrence, which waits if there is one place."""
    occurrence = w.occurrence(capacity=capacity)
    return [event_id(w, occurrence) for _ in range(2)][1]


def without_waiting_list(w):
    occurrence = w.occurrence(capacity=1, waiting_list=False)
    return update(w, "WAITING_LIST", event_id(w, occurrence))


def back_beside_another(w):
    occurrence = w.occurrence()
    first = event_id(w, occurrence, "one")
    update(w, "CANCELLED", first)
    event_id(w, occurrence, "one")
    return update(w, "CONFIRMED", first)


def registered_event(w):
    occurrence = w.occurrence()
    return [event(w, occurrence, "one") for _ in range(2)][1]


def full_event(w):
    return event(w, w.occurrence(capacity=0, waiting_list=False))


STALE = {"If-Match": '"0-0"'}


def not_changed(w):
    address = f"{EVENTS}/{event_id(w)}"
    return w.admin.get(address, headers={
        "If-None-Match": w.admin.get(address).headers["ETag"]})


# Requests for answers of one operation only.
OWN = {
    "registerForLiveSession": {
        ("201", None): live,
        ("400", "fields"): lambda w: live(w, {"patient_id": "", "guest_email": "nobody",
                                              "role": "king"}),
        ("404", "notFound"): lambda w: live(w, session=new_uuid()),
        ("409", "registered"): twice_live,
        ("412", "full"): full_live,
        ("412", "notJoinable"): lambda w: live(w, session=w.live_session(status="ended")),
    },
    "registerGroupMember": {
        **members(GROUPS + "/GROUP/members"),
        ("404", "notFound"): lambda w: member(w, f"{GROUPS}/{new_uuid()}/members"),
        ("422", "anotherGroup"): lambda w: member(w, f"{GROUPS}/{w.group().id}/members",
                                                  code=w.group().code),
    },
    "registerUser": members(USERS),
    "getGroup": {("404", "notFound"): lambda w: w.admin.get(f"{GROUPS}/{new_uuid()}")},
    "getPlan": {("404", "notFound"): lambda w: w.admin.get(
        f"{GROUPS}/{w.group().id}/plans/{new_uuid()}")},
    "getUser": {("404", "notFound"): lambda w: w.admin.get(
        f"{GROUPS}/{w.group().id}/users/{new_uuid()}")},
    "getMember": {("404", "notFound"): lambda w: w.admin.get(
        f"{GROUPS}/{w.group().id}/members/none")},
    "registerFamily": {
        ("201", None): family,
        ("400", "usernameNoString"): lambda w: family(w, username=1),
        ("400", "usernameEmpty"): lambda w: family(w, username=" "),
        ("400", "usernameLong"): lambda w: family(w, username="x" * 256),
        ("400", "usernameControl"): lambda w: family(w, username="a\tb"),
        ("400", "passwordNoString"): lambda w: family(w, password=None),
        ("400", "passwordEmpty"): lambda w: family(w, password=""),
        ("400", "passwordLong"): lambda w: family(w, password="x" * 73),
        ("400", "institutionFormat"): lambda w: family(w, institution_id="one"),
        ("400", "childrenNoArray"): lambda w: family(w, children="one"),
        ("400", "childNoString"): lambda w: family(w, children=[""]),
        ("400", "childFormat"): lambda w: family(
            w, children=["5a62be07de34500146d9c5434", "5db05279fcfefe5c3de204971"]),
        ("400", "missing"): lambda w: family(w, "username", "password", "institution_id",
                                             "children"),
        ("400", "childrenUnknown"): lambda w: family(
            w, children=["5db05279fcfefe5c3de20497", "5a62be07de34500146d9c545"]),
        ("400", "institutionUnknown"): lambda w: family(w, institution_id=new_object_id()),
        ("409", "taken"): taken_username,
    },
    "createEventRegistration": {
        ("201", None): event,
        ("400", "fields"): lambda w: w.admin.post(EVENTS, json={"occurrenceId": "one",
                                                                "fields": []}),
        ("404", "notFound"): lambda w: event(w, new_uuid()),
        ("409", "registered"): registered_event,
        ("409", "full"): full_event,
        ("412", "notYet"): lambda w: event(w, w.occurrence(), headers=STALE),
    },
    "searchEventRegistrations": {
        ("400", "parameters"): lambda w: w.admin.get(EVENTS, params={
            "limit": "0", "page": "first", "sort": "id", "search": "x" * 256,
            "eventId": "one", "occurrenceId": "one", "status": "done", "categories": "one",
            "withTrashed": "perhaps", "bom": "perhaps", "after": "x"}),
        ("400", "whole"): lambda w: w.admin.get(EVENTS, params={"sort": "email"},
                                                headers={"Accept": "text/csv"}),
    },
    "getEventRegistration": {
        ("304", None): not_changed,
        ("400", "id"): lambda w: w.admin.get(f"{EVENTS}/one?withTrashed=perhaps"),
        ("404", "notFound"): lambda w: w.admin.get(f"{EVENTS}/{new_uuid()}"),
        ("412", "changed"): lambda w: w.admin.get(f"{EVENTS}/{event_id(w)}", headers=STALE),
    },
    "updateEventRegistration": {
        ("200", None): lambda w: update(w, "ATTENDED"),
        ("204", None): lambda w: update(w, "ATTENDED", headers={"Prefer": "return=minimal"}),
        ("400", "fields"): lambda w: w.admin.put(f"{EVENTS}/one", json={"status": "done",
                                                                        "fields": []}),
        ("404", "notFound"): lambda w: update(w, "ATTENDED", new_uuid()),
        ("409", "full"): lambda w: update(w, "CONFIRMED", two_places(w)),
        ("409", "noWaitingList"): without_waiting_list,
        ("409", "registered"): back_beside_another,
        ("412", "changed"): lambda w: update(w, "ATTENDED", headers=STALE),
    },
    "deleteEventRegistration": {
        ("400", "id"): lambda w: w.admin.delete(f"{EVENTS}/one?withTrashed=perhaps"),
        ("404", "notFound"): lambda w: w.admin.delete(f"{EVENTS}/{new_uuid()}"),
        ("412", "changed"): lambda w: w.admin.delete(f"{EVENTS}/{event_id(w)}",
                                                     headers=STALE),
    },
}


def described():
    """Each answer of each operation; errors by example."""
    for operation in OPERATIONS.values():
        for status, response in operation.responses.items():
            names = [None]
            if status == "default" or int(status) >= 400:
                names = openapi.examples(openapi.content(response))
            for name in names:
                yield operation.id, status, name


@pytest.mark.parametrize("operation, status, example", described())
def test_described_answer_is_given(world, operation, status, example):
    """The body of an error equals its example."""
    own = OWN.get(operation, {}).get((status, example))
    if own:
        answer = own(world)
    elif example is None:
        answer = good(world, operation)
    else:
        answer = COMMON[status, example](world, operation)
    assert openapi.find(answer.request.method, answer.request.path_url.split("?")[0]).id \
        == operation
    assert str(answer.status_code) == status or status == "default"
    openapi.check(answer)
    if example:
        response = OPERATIONS[operation].responses[status]
        assert answer.json() == openapi.examples(openapi.content(response))[example]


def test_control_undescribed_answer_is_detected(world):
    answer = live(world)
    openapi.check(answer)
    for status, change in [(202, {}), (201, {"more": 1}), (201, {"id": "none"})]:
        wrong = types.SimpleNamespace(
            request=answer.request, headers=answer.headers, content=answer.content,
            status_code=status, json=lambda: {**answer.json(), **change})   # noqa: B023
        with pytest.raises((AssertionError, jsonschema.ValidationError)):
            openapi.check(wrong)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_head_options_and_other_methods_are_answered(world, operation):
    """HEAD like GET, OPTIONS with the described methods, others with 405."""
    address = GOOD[operation](world)[1]
    item = DOCUMENT["paths"][OPERATIONS[operation].path]
    expected = [method.upper() for method in ("get", "head", "post", "put", "delete")
                if method in item or method == "head" and "get" in item] + ["OPTIONS"]
    options = world.admin.options(address)
    assert (options.status_code, options.content) == (204, b"")
    assert sorted(options.headers["Allow"].split(", ")) == sorted(expected)
    refused = world.admin.patch(address)
    assert (refused.status_code, refused.headers["Allow"]) == (405, options.headers["Allow"])
    openapi.check_schema(refused.json(), openapi.content(
        OPERATIONS[operation].responses["default"])["schema"])
    if "get" in item:
        assert world.admin.head(address).content == b""


# --- Examples of requests ------------------------------------------------------------------

def sendable():
    for operation in OPERATIONS.values():
        if "requestBody" in operation.node:
            for name in openapi.examples(openapi.content(operation.node["requestBody"])):
                yield operation.id, name


# Removes the registrations of the examples and those of other tests.
UNDO = """
DELETE FROM live_registrations WHERE patient_id IN ('patient-1', 'doctor-1')
    OR guest_email IN ('guest@example.org', 'doctor@example.org');
SELECT remove_group_member(id) FROM group_members WHERE email = 'example_user@example.org';
SELECT remove_family('family01');
DELETE FROM event_registrations WHERE user_id IN
    (SELECT id FROM event_users WHERE external_id IN ('ext_user_12345', 'jane-1'))
    AND occurrence_id = '123e4567-e89b-12d3-a456-426614174001';
SELECT recount();
"""


@pytest.mark.parametrize("operation, example", sendable())
def test_example_of_request_is_accepted(world, sql, operation, example):
    one = OPERATIONS[operation]
    body = openapi.examples(openapi.content(one.node["requestBody"]))[example]
    address = one.path
    for parameter in map(openapi.resolved, one.node["parameters"]):
        if parameter["in"] == "path":
            value = parameter.get("example") or event_id(world)
            address = address.replace("{" + parameter["name"] + "}", value)
    sql(UNDO)
    answer = world.admin.request(one.method, address, json=body)
    sql(UNDO)
    assert answer.status_code == (200 if one.method == "PUT" else 201), answer.text
    openapi.check(answer)
