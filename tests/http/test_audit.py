# SPDX-License-Identifier: Apache-2.0
"""The audit table: caller and request of each registration, change and deletion."""

import base64
import json
import re

import pytest

import samples
import servers
from apis import INVALID, MOUNTS, each_api, good   # noqa: F401 (fixtures)
from conftest import ORGANIZATION, new_object_id, new_uuid
from audit_entries import entries   # noqa: F401 (a fixture)
from event_registrations import (MOUNT, TENANT_MOUNT, create, created, crowd, delete, path,
                                 update)
from faults import CHILD, MODULES, Caller, database
from faults import MOUNTS as OPEN_MOUNTS
from scratch import OnScratch

KINDS = {"live": "live_registration", "groups": "group_member", "users": "group_member",
         "families": "family", "events": "event_registration"}
ONE_BY_ONE = pytest.mark.parametrize("directive", ["", "RegistrationBatchSize 1"],
                                     ids=["batched", "one by one"])

# Shows the client the request id of mod_unique_id.
SHOW_ID = 'Header always set X-Request "%{UNIQUE_ID}e"\n'


@pytest.fixture(scope="session")
def audited(tmp_path_factory, certificates, issuer, postgres):
    """The shared site, but each answer shows its request id."""
    port = servers.free_port()
    site = servers.example_site(port, certificates, issuer, postgres)
    httpd = servers.Httpd(tmp_path_factory.mktemp("audited"),
                          site.replace("</VirtualHost>", SHOW_ID + "</VirtualHost>"), port)
    httpd.start()
    yield httpd
    httpd.stop()


@pytest.fixture
def admin(client, admin_token, audited, watched_logs):
    watched_logs.append(audited.log)
    return client(admin_token, audited)


@pytest.fixture
def of_request(entries):
    """of_request(answer): the audit entries of the request with that answer."""
    return lambda answer: entries(request_id=answer.headers["X-Request"])


def id_of(api, answer):
    body = answer.json()
    return body["user"]["uuid"] if api in ("groups", "users") else body["id"]


def owner_of(api, answer):
    """The id of the parent row of the registration."""
    body = answer.json()
    return {"live": lambda: body["session_id"],
            "groups": lambda: body["group"]["href"].split("/")[-1],
            "users": lambda: body["group"]["href"].split("/")[-1],
            "families": lambda: body["institution_id"],
            "events": lambda: body["occurrence"]["id"]}[api]()


def summary(entry):
    return (entry.action, entry.kind, entry.id, entry.belongs_to, entry.status_before,
            entry.status_after, entry.caller)


def post(api, one, key=None):
    return api.post(one.path, json=one.body, headers={"Idempotency-Key": key} if key else {})


# --- What clients do -----------------------------------------------------------------------

def test_registration_is_audited(admin, sql, good, of_request, each_api):
    [[before]] = sql("SELECT clock_timestamp()")
    answer = post(admin, good(each_api))
    [[after]] = sql("SELECT clock_timestamp()")
    [entry] = of_request(answer)
    assert summary(entry) == ("registered", KINDS[each_api], id_of(each_api, answer),
                              owner_of(each_api, answer), None,
                              "CONFIRMED" if each_api == "events" else None, "admin")
    assert before < entry.at < after


def test_waiting_registration_is_audited_with_its_status(admin, occurrence, of_request):
    one = occurrence(capacity=0)
    [entry] = of_request(create(admin, one))
    assert (entry.action, entry.status_after) == ("registered", "WAITING_LIST")


@ONE_BY_ONE
def test_concurrent_registrations_are_audited_with_own_caller_and_request(
        client, issuer, start_httpd, at_once, good, of_request, each_api, directive):
    httpd = start_httpd(inside=SHOW_ID + directive)
    clients = [client(issuer.token(f"caller {n}", org=ORGANIZATION, scope="families:create"),
                      httpd) for n in range(24)]
    requests = [good(each_api) for _ in clients]
    if each_api == "live":   # All for one session, so that they share a batch.
        for one in requests:
            one.path = requests[0].path
    answers = at_once(len(clients), lambda n: post(clients[n], requests[n]))
    for n, answer in enumerate(answers):
        assert answer.status_code == 201, answer.text
        [entry] = of_request(answer)
        assert (entry.caller, entry.id, entry.belongs_to) == (
            f"caller {n}", id_of(each_api, answer), owner_of(each_api, answer))
    assert len({answer.headers["X-Request"] for answer in answers}) == len(answers)


@ONE_BY_ONE
def test_registration_without_authentication_is_audited_without_caller(
        start_httpd, postgres, good, entries, each_api, directive):
    """Without mod_unique_id the request id is the one that httpd logs as %L."""
    httpd = start_httpd(CHILD + OPEN_MOUNTS + database(postgres.dsn()) + f"""
        {directive}
        LogFormat "%L" id
        CustomLog "id.log" id""", modules=MODULES)
    one = Caller(httpd)
    answer = post(one, good(each_api))
    assert answer.status_code == 201, answer.text
    [entry] = entries(id=id_of(each_api, answer))
    assert (entry.action, entry.caller) == ("registered", None)
    one.close()
    servers.wait_until(lambda: (httpd.directory / "id.log").read_text(), 10, "nothing logged")
    assert (httpd.directory / "id.log").read_text() == f"{entry.request_id}\n"
    assert re.fullmatch(r"[\w@+/-]{8,}", entry.request_id)


def test_caller_name_not_utf8_is_audited_escaped(start_httpd, client, good, entries):
    httpd = start_httpd(modules=[*servers.MODULES, "auth_basic", "authn_anon"], inside="""
        <Location "/v1/sessions">
            AuthType Basic
            AuthBasicProvider anon
            Anonymous *
            Anonymous_MustGiveEmail Off
            Require valid-user
        </Location>""")
    name = base64.b64encode(b"m\xe9:x").decode()
    one = good("live")
    answer = client(httpd=httpd).post(one.path, json=one.body,
                                      headers={"Authorization": f"Basic {name}"})
    assert answer.status_code == 201, answer.text
    [entry] = entries(id=answer.json()["id"])
    assert entry.caller == "m%e9"


def test_change_is_audited_with_status_before_and_after(admin, occurrence, of_request,
                                                        entries):
    registration = created(admin, occurrence())
    for change, before, after in [({"status": "ATTENDED"}, "CONFIRMED", "ATTENDED"),
                                  ({"fields": {"a": 1}}, "ATTENDED", "ATTENDED"),
                                  ({"status": "CANCELLED"}, "ATTENDED", "CANCELLED")]:
        [entry] = of_request(update(admin, registration, **change))
        assert summary(entry) == ("changed", "event_registration", registration["id"],
                                  registration["occurrence"]["id"], before, after, "admin")
        assert of_request(update(admin, registration, **change)) == []   # changes nothing
    [entry] = of_request(delete(admin, registration))
    assert summary(entry) == ("deleted", "event_registration", registration["id"],
                              registration["occurrence"]["id"], "CANCELLED", None, "admin")
    assert of_request(delete(admin, registration, withTrashed="true")) == []
    assert [entry.action for entry in entries(id=registration["id"])] == [
        "registered", "changed", "changed", "changed", "deleted"]


@pytest.mark.parametrize("leave", [
    lambda api, registration: delete(api, registration),
    lambda api, registration: update(api, registration, status="CANCELLED")],
    ids=["DELETE", "PUT"])
def test_promotion_is_audited_with_request_that_freed_the_place(
        client, issuer, admin, audited, occurrence, of_request, leave):
    held, waiting, _ = crowd(admin, occurrence(capacity=1), 3)
    other = client(issuer.token("another", org=ORGANIZATION), audited)
    first, promoted = of_request(leave(other, held))
    assert (first.id, first.caller) == (held["id"], "another")
    assert summary(promoted) == ("promoted", "event_registration", waiting["id"],
                                 waiting["occurrence"]["id"], "WAITING_LIST", "CONFIRMED",
                                 "another")


def test_read_requests_are_not_audited(admin, occurrence, of_request):
    registration = created(admin, occurrence())
    for method, address in [("GET", path(registration)), ("HEAD", path(registration)),
                            ("OPTIONS", MOUNT)]:
        answer = admin.request(method, address)
        assert answer.status_code in (200, 204)
        assert of_request(answer) == []


# --- Lists ---------------------------------------------------------------------------------

FORMS = {"a page": ({"limit": 2}, "application/json"),
         "a page of a table": ({"limit": 2}, "text/csv"),
         "a table": ({}, "text/csv"), "lines": ({}, "application/x-ndjson")}


@pytest.mark.parametrize("form", FORMS)
def test_list_is_audited_with_row_count(admin, occurrence, of_request, sql, form):
    one = occurrence()
    crowd(admin, one, 3)
    params, accept = FORMS[form]
    answer = admin.get(MOUNT, params={"occurrenceId": one, **params},
                       headers={"Accept": accept})
    [entry] = of_request(answer)
    [[count]] = sql("SELECT row_count FROM audit WHERE request_id = %s",
                    answer.headers["X-Request"])
    assert summary(entry) == ("listed" if params else "exported", "event_registration", one, "",
                              None, None, "admin")
    assert count == (2 if params else 3)


def test_empty_list_is_audited_and_refused_list_is_not(admin, of_request, sql):
    nothing = admin.get(MOUNT, params={"eventId": new_uuid()})
    [[count]] = sql("SELECT row_count FROM audit WHERE request_id = %s",
                    nothing.headers["X-Request"])
    assert (nothing.json(), count) == ([], 0)
    for params in ({"limit": 0}, {"after": "x"}):
        assert of_request(admin.get(MOUNT, params=params)) == []


def test_tenant_list_is_audited_with_organization(client, token, start_httpd, of_request):
    tenant = client(token, start_httpd(inside=SHOW_ID))
    [entry] = of_request(tenant.get(TENANT_MOUNT))
    assert (entry.action, entry.id, entry.belongs_to) == ("listed", "", ORGANIZATION)


def test_each_chunk_of_streamed_list_is_audited_before_it_is_sent(
        client, admin_token, start_httpd, occurrence, sql):
    """Also when the client closes the connection before the end."""
    one = occurrence()
    admin = client(admin_token, start_httpd(inside=SHOW_ID + f"""
        <Location "{MOUNT}">
            RegistrationMaxPageSize 3
        </Location>"""))
    people = crowd(admin, one, 7)
    sql("UPDATE event_registrations SET fields = jsonb_build_object('x', (SELECT"
        " string_agg(md5(id::text || n), '') FROM generate_series(1, 30000) AS n))"
        " WHERE occurrence_id = %s", one)   # More than the buffers of both ends hold.
    with admin.get(MOUNT, params={"occurrenceId": one}, stream=True,
                   headers={"Accept": "application/x-ndjson"}) as answer:
        assert json.loads(next(answer.iter_lines()))["id"] == people[6]["id"]
    counts = [count for count, in sql(
        "SELECT row_count FROM audit WHERE request_id = %s ORDER BY at",
        answer.headers["X-Request"])]
    assert counts in ([3], [3, 3], [3, 3, 1])
    whole = admin.get(MOUNT, params={"occurrenceId": one}, headers={"Accept": "text/csv"})
    assert [count for count, in sql(
        "SELECT row_count FROM audit WHERE request_id = %s ORDER BY at",
        whole.headers["X-Request"])] == [3, 3, 1]


class TestControlWithoutListEntries(OnScratch):
    """Negative control: lists leave no audit entry."""

    broken = """
        CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RETURN NULL; END $$;
        CREATE TRIGGER nothing BEFORE INSERT ON audit
            FOR EACH ROW WHEN (NEW.action = 'listed') EXECUTE FUNCTION nothing();"""
    directives = SHOW_ID

    @pytest.fixture
    def admin(self, client, admin_token):
        return client(admin_token)

    def test_control_missing_list_entry_is_detected(self, admin, occurrence, of_request,
                                                    sql):
        with pytest.raises(ValueError):
            test_list_is_audited_with_row_count(admin, occurrence, of_request, sql,
                                                "a page")


def test_refused_requests_are_not_audited(admin, live_session, group, good, occurrence,
                                          of_request, each_api):
    one = good(each_api)
    answers = [admin.post(one.path, json={"role": 1, "occurrenceId": 1})]
    assert answers[0].status_code == INVALID[each_api]
    assert len(of_request(post(admin, one))) == 1
    answers.append(post(admin, one))   # a duplicate
    if each_api == "live":
        full = {"patient_id": "p"}
        answers += [admin.post(f"{MOUNTS['live']}/{session}/register", json=full)
                    for session in (new_uuid(), live_session(0), live_session(0, "ended"))]
    if each_api == "groups":
        used_up = group(max_uses=0)
        answers.append(admin.post(f"{MOUNTS['groups']}/{used_up.id}/members",
                                  json=samples.member(used_up.code)))
    if each_api == "events":
        full = occurrence(capacity=0, waiting_list=False)
        waiting = crowd(admin, occurrence(capacity=1), 2)[1]
        answers += [create(admin, full), create(admin, new_uuid()),
                    update(admin, waiting, status="CONFIRMED"),
                    update(admin, waiting, if_match='"7-x"', status="CANCELLED"),
                    delete(admin, waiting, if_match='"7-x"'),
                    delete(admin, {"id": new_uuid()})]
    for answer in answers:
        assert answer.status_code >= 400, answer.text
        assert of_request(answer) == []


class TestRefusedByConstraint(OnScratch):
    """A batch that fails as a whole is split, and each request is called by itself."""

    broken = """
        ALTER TABLE live_registrations ADD CONSTRAINT refused CHECK (patient_id <> 'poison');
        CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$;
        CREATE TRIGGER pause AFTER INSERT ON audit
            FOR EACH STATEMENT EXECUTE FUNCTION pause();"""
    directives = SHOW_ID + "RegistrationBatchSize 64\n"

    @pytest.fixture
    def admin(self, client, admin_token):
        return client(admin_token)

    def test_refused_request_is_not_audited_and_rest_of_batch_once(
            self, admin, at_once, sql, live_session, of_request, expect_log):
        expect_log("violates check constraint")
        address = f"{MOUNTS['live']}/{live_session()}/register"
        patients = [*(f"p{n}" for n in range(30)), "poison", *(f"q{n}" for n in range(9))]
        answers = at_once(len(patients), lambda n: admin.post(
            address, json={"patient_id": patients[n]}))
        for patient, answer in zip(patients, answers):
            assert answer.status_code == (400 if patient == "poison" else 201)
            assert len(of_request(answer)) == (0 if patient == "poison" else 1)
        [[writes]] = sql("SELECT count(DISTINCT xmin::text) FROM audit")
        assert writes < len(patients) - 1   # Some shared a transaction.


# --- Under an Idempotency-Key --------------------------------------------------------------

@ONE_BY_ONE
def test_repeated_key_is_not_audited_again(start_httpd, client, admin_token, good,
                                           of_request, entries, each_api, directive):
    admin = client(admin_token, start_httpd(inside=SHOW_ID + directive))
    one, key = good(each_api), new_uuid()
    first = post(admin, one, key)
    assert first.status_code == 201, first.text
    [entry] = of_request(first)
    assert (entry.caller, entry.id) == ("admin", id_of(each_api, first))
    again = post(admin, one, key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["X-Request"] != first.headers["X-Request"]
    assert of_request(again) == []
    other = json.loads(json.dumps(one.body).replace("@example.org", "@example.com"))
    other.update(username="another", patient_id="another", externalUserId="another")
    reused = admin.post(one.path, json=other, headers={"Idempotency-Key": key})
    assert (reused.status_code, of_request(reused)) == (422, [])
    assert len(entries(id=entry.id)) == 1


def test_concurrent_requests_with_one_key_are_audited_once(admin, at_once, good, entries,
                                                           each_api):
    one, key = good(each_api), new_uuid()
    admin.close()   # A busy httpd closes idle connections.
    answers = at_once(20, lambda _: post(admin, one, key))
    assert {answer.status_code for answer in answers} == {201}
    [entry] = entries(id=id_of(each_api, answers[0]))
    assert entry.request_id in {answer.headers["X-Request"] for answer in answers}


# --- Administrator's functions -------------------------------------------------------------

def test_removal_by_administrator_is_audited(admin, sql, good, entries):
    removals = {"live": "cancel_live_registration", "groups": "remove_group_member",
                "families": "remove_family"}
    for api, function in removals.items():
        answer = post(admin, good(api))
        removed = id_of(api, answer)
        for _ in range(2):   # The second call finds no row.
            sql(f"SELECT {function}(%s)", removed)
        registered, entry = entries(id=removed)
        assert summary(entry) == ("removed", KINDS[api], removed, owner_of(api, answer), None,
                                  None, "postgres")
        assert (registered.action, entry.request_id) == ("registered", None)


def test_promotion_by_capacity_change_in_sql_is_audited(admin, sql, occurrence, entries):
    one = occurrence(capacity=0)
    first, second, third = crowd(admin, one, 3)
    sql("UPDATE occurrences SET capacity = 1 WHERE id = %s", one)
    sql("BEGIN")
    sql("UPDATE occurrences SET capacity = 2 WHERE id = %s", one)
    sql("ROLLBACK")
    sql("UPDATE occurrences SET capacity = NULL WHERE id = %s", one)
    for registration in (first, second, third):
        assert [summary(entry)[0] for entry in entries(id=registration["id"])] == [
            "registered", "promoted"]
        promoted = entries(id=registration["id"])[1]
        assert (promoted.caller, promoted.request_id) == ("postgres", None)


def test_promotion_by_recount_is_audited(admin, sql, occurrence, entries):
    one = occurrence(capacity=1)
    _, waiting = crowd(admin, one, 2)
    sql("DELETE FROM event_registrations WHERE occurrence_id = %s AND status = 'CONFIRMED'",
        one)
    sql("SELECT recount()")
    promoted = entries(id=waiting["id"])[1]
    assert (promoted.action, promoted.caller) == ("promoted", "postgres")


# --- Operations called in SQL --------------------------------------------------------------

def calls(session, group, institution, child, occurrence):
    """The arguments of each operation that registers, as the module passes them."""
    user = new_uuid()
    return {
        "live_register": [new_uuid(), session, "p", None, "guest"],
        "groups_register": [new_uuid(), group.id, "/", group.code, samples.new_email(),
                            *[None] * 11],
        "families_register": [new_object_id(), new_uuid(), "hash", institution, child],
        "events_create": [new_uuid(), occurrence, user, "{}", new_uuid(), *[None] * 5],
    }


def run(sql, operation, values):
    arrays = ["{NULL}" if value is None else "{" + json.dumps(value) + "}" for value in values]
    return sql(f"SELECT outcome FROM {operation}({', '.join(['%s'] * len(arrays))})", *arrays)


@pytest.fixture
def all_calls(live_session, group, institution, child, occurrence):
    school = institution()
    return calls(live_session(), group(), school, child(school), occurrence())


def test_retried_call_is_audited_once(sql, all_calls, entries):
    """The module retries a call whose result was lost."""
    for operation, values in all_calls.items():
        for request in ("first", "second"):
            assert run(sql, operation, [*values, "me", request]) == [("created",)]
        assert [entry.request_id for entry in entries(id=values[0])] == ["first"]
    registration, call = all_calls["events_create"][0], new_uuid()
    for request in ("third", "fourth"):
        assert run(sql, "events_update", [registration, "ATTENDED", None, None, None, call,
                                          "me", request]) == [("updated",)]
    call = new_uuid()
    for request in ("fifth", "sixth"):
        assert run(sql, "events_delete", [registration, False, None, None, call, "me",
                                          request]) == [("deleted",)]
    assert [entry.request_id for entry in entries(id=registration)] == ["first", "third",
                                                                        "fifth"]


def test_audit_entry_is_in_transaction_of_the_change(sql, all_calls, entries):
    for end, noted in (("ROLLBACK", 0), ("COMMIT", 1)):
        sql("BEGIN")
        for operation, values in all_calls.items():
            assert run(sql, operation, [*values, "me", end]) == [("created",)]
            assert len(entries(id=values[0])) == 1
        sql(end)
        for values in all_calls.values():
            assert len(entries(id=values[0])) == noted


# --- Personal data -------------------------------------------------------------------------

def test_audit_holds_no_submitted_value(admin, good, sql, each_api):
    """Only ids that the module generated."""
    mark = f"mark{new_object_id()}"
    one = good(each_api)
    if each_api == "live":
        one.body = {"patient_id": mark, "guest_email": f"{mark}@example.org"}
    elif each_api == "families":
        one.body.update(username=mark, password=mark)
    elif each_api == "events":
        one.body.update(externalUserId=mark, fields={"firstName": mark, "lastName": mark,
                                                     "email": f"{mark}@example.org"})
    else:
        member = one.body["groupMember"]
        member["user"].update(email=f"{mark}@example.org", firstName=mark, lastName=mark)
        member.update(tags=[mark], attributes={mark: mark})
    answer = post(admin, one, mark)
    assert answer.status_code == 201, answer.text
    assert sql("SELECT a FROM audit AS a WHERE a::text ILIKE %s", f"%{mark}%") == []
    assert sql("SELECT 1 FROM audit AS a WHERE a::text ILIKE %s",
               f"%{id_of(each_api, answer)}%") == [(1,)]
