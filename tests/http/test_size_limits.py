# SPDX-License-Identifier: Apache-2.0
"""RegistrationMaxFields limits the stored size of fields, attributes and tags."""

import contextlib
import json
import secrets
import threading

import psycopg2.errors
import pytest

import samples
import servers
from apis import check_error, each_api, good   # noqa: F401 (fixtures)
from conftest import ORGANIZATION, new_uuid
from event_registrations import (MOUNT, create, created, delete, error, get, update,
                                 updated)
from idempotency import seen, send

LIMIT = 65536   # the default


def stored_size(value):
    """Bytes of a jsonb's text: with a space after each colon and comma."""
    return len(json.dumps(value, ensure_ascii=False).encode())


def of_size(size, **more):
    """An object whose text has that many bytes."""
    empty = {**more, "filler": ""}
    return {**more, "filler": "x" * (size - stored_size(empty))}


def check_too_large(answer, limit=LIMIT):
    problems = error(answer, 400)
    assert set(problems) == {"fields"}
    assert str(limit) in problems["fields"]


# --- fields ----------------------------------------------------------------------------------

def test_fields_over_limit_at_registration_are_400(api, sql, occurrence):
    one = occurrence()
    check_too_large(create(api, one, fields=of_size(LIMIT + 1)))
    assert sql("SELECT count(*) FROM event_registrations WHERE occurrence_id = %s",
               one) == [(0,)]
    registration = created(api, one, fields=of_size(LIMIT))
    assert stored_size(registration["fields"]) == LIMIT


def test_limit_applies_to_stored_size(api, occurrence):
    """Not to the size of the request: a number may be short when sent and long when stored."""
    short = '{"occurrenceId": "%s", "externalUserId": "x", "fields": {"n": [%s]}}' % (
        occurrence(), ",".join(["1e999"] * 66))
    assert len(short) < 1000
    check_too_large(api.post(MOUNT, data=short, headers={"Content-Type": "application/json"}))


def test_update_is_limited_after_merge(api, occurrence):
    registration = created(api, occurrence(), fields=of_size(LIMIT - 100))
    before = get(api, registration)
    check_too_large(update(api, registration, fields={"more": "x" * 200}, status="ATTENDED"))
    after = get(api, registration)
    assert (after.json(), after.headers["ETag"]) == (before.json(), before.headers["ETag"])
    grown = updated(api, registration, fields={"more": "x" * 50})
    assert stored_size(grown["fields"]) <= LIMIT
    # The size after the merge counts.
    assert updated(api, registration, fields={"filler": None, "more": "y" * 60000})


def test_repeated_updates_cannot_exceed_limit(api, occurrence):
    registration = created(api, occurrence())
    statuses = [update(api, registration, fields={f"key {n}": "x" * 20000}).status_code
                for n in range(8)]
    assert statuses == [200] * 3 + [400] * 5
    assert stored_size(get(api, registration).json()["fields"]) <= LIMIT


@pytest.fixture
def oversized(api, sql, occurrence):
    """A registration over the limit, made so by an administrator."""
    registration = created(api, occurrence())
    sql("UPDATE event_registrations SET fields = %s WHERE id = %s",
        json.dumps(of_size(100000, a=1)), registration["id"])
    return registration


def test_update_of_oversized_registration_may_not_grow_it(api, oversized):
    assert updated(api, oversized, status="ATTENDED")["status"] == "ATTENDED"
    assert updated(api, oversized, fields={})["status"] == "ATTENDED"
    assert updated(api, oversized, fields={"a": 2})["fields"]["a"] == 2   # the same size
    check_too_large(update(api, oversized, fields={"a": 10}))
    assert updated(api, oversized, fields={"filler": "x" * 90000})
    assert updated(api, oversized, fields={"filler": None})["fields"] == {"a": 2}


def test_oversized_registration_can_be_deleted(api, oversized):
    assert delete(api, oversized).status_code == 200


def add_constraints(sql):
    """Adds the constraints as the migration does."""
    text = (servers.ROOT / "sql" / "migrations" / "0002_bounds.sql").read_text()
    begin = text.index("DO $$")
    sql(text[begin:text.index("$$;", begin) + 3])


BOUNDED = [("event_registrations", "fields"), ("group_members", "attributes"),
           ("group_members", "tags")]


def drop_constraints(sql):
    for table, column in BOUNDED:
        sql(f"ALTER TABLE {table} DROP CONSTRAINT {table}_{column}_size")


@pytest.fixture
def from_version_1(api, sql, occurrence):
    """A waiting registration larger than the constraint allows, stored before the migration."""
    one = occurrence(capacity=1)
    first, waiting = created(api, one, "first"), created(api, one, "second")
    drop_constraints(sql)
    sql("UPDATE event_registrations SET fields = %s WHERE id = %s",
        json.dumps(of_size(1100000)), waiting["id"])
    add_constraints(sql)
    yield first, waiting
    sql("UPDATE event_registrations SET fields = '{}' WHERE id = %s", waiting["id"])
    drop_constraints(sql)
    add_constraints(sql)


def test_oversized_registration_of_version_1_is_promoted_and_deleted(api, from_version_1):
    first, waiting = from_version_1
    assert updated(api, first, status="CANCELLED")
    assert get(api, waiting).json()["status"] == "CONFIRMED"
    check_too_large(update(api, waiting, fields={"more": 1}))
    assert delete(api, waiting).status_code == 200


def test_control_constraint_for_all_rows_breaks_promotion(
        api, sql, from_version_1, expect_log):
    expect_log("violates check constraint")
    sql("ALTER TABLE event_registrations ADD CONSTRAINT for_all"
        " CHECK (octet_length(fields::text) <= 1048576) NOT VALID")
    try:
        assert update(api, from_version_1[0], status="CANCELLED").status_code == 400
    finally:
        sql("ALTER TABLE event_registrations DROP CONSTRAINT for_all")


def test_constraint_limits_writes_in_sql(api, sql, occurrence, expect_log):
    expect_log("violates check constraint")
    registration = created(api, occurrence())
    with pytest.raises(psycopg2.errors.CheckViolation):
        sql("UPDATE event_registrations SET fields = %s WHERE id = %s",
            json.dumps(of_size(1048577)), registration["id"])


def test_precondition_and_404_take_precedence_over_size(api, occurrence):
    registration = created(api, occurrence())
    error(update(api, registration, if_match='"9-0"', fields=of_size(LIMIT + 1)), 412)
    delete(api, registration)
    error(update(api, registration, fields=of_size(LIMIT + 1)), 404)


# --- Names longer than an index entry ------------------------------------------------------

# Random, so that PostgreSQL cannot compress it.
LONG = secrets.token_urlsafe(4000)


def test_long_email_in_fields_is_accepted_and_found(api, sql, occurrence):
    """person_rows() finds it by its whole text."""
    one, key = occurrence(), {"Idempotency-Key": secrets.token_hex(8)}
    body = {"occurrenceId": one, "externalUserId": "keyed", "fields": {"email": LONG}}
    answers = [api.post(MOUNT, json=body, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].text == answers[1].text
    registration = created(api, one, fields={"email": LONG})
    assert updated(api, registration, fields={"email": {"no": LONG}})
    mine = updated(api, registration, fields={"email": LONG + "@example.org"})
    [[found]] = sql("SELECT array_agg(id::uuid) FROM person_rows(%s)", LONG + "@example.org")
    assert str(mine["id"]) in str(found) and found.count(",") == 0
    assert sql("SELECT 1 FROM person_rows(%s)", LONG[:255]) == []
    [[exported]] = sql("SELECT export_person(%s)", LONG)
    assert {table: len(rows) for table, rows in exported.items() if table != "audit"} == {
        "event_registrations": 1, "idempotency_keys": 1}


def test_long_caller_name_is_accepted_and_erased(client, issuer, sql, occurrence):
    name = LONG[:3500]
    caller = client(issuer.token(name, org=ORGANIZATION))
    assert get(caller, created(caller, occurrence())).status_code == 200
    assert caller.get(MOUNT).status_code == 200
    assert sql("SELECT count(*) FROM audit WHERE caller = %s", name) == [(2,)]
    assert sql("CALL erase_person(%s)", name[:255])[0][0]["audit"] == 0
    assert sql("CALL erase_person(%s)", name)[0][0]["audit"] == 2


def test_keyed_request_of_caller_with_long_name_is_replayed_and_erased(client, issuer, sql,
                                                                       good, each_api):
    name, key = LONG[:3000] + new_uuid(), new_uuid()
    caller, other = (client(issuer.token(one, scope="families:create"))
                     for one in (name, name[:-1]))
    request = good(each_api)
    first = send(caller, request.path, request.body, key)
    assert first.status_code == 201
    assert seen(send(caller, request.path, request.body, key)) == seen(first)
    # A caller whose name is a prefix has its own keys.
    assert send(other, request.path, request.body, key).status_code in (409, 422)
    assert sql("CALL erase_person(%s)", name)[0][0]["audit"] == 1
    assert sql("SELECT count(*) FROM audit WHERE caller = %s", name) == [(0,)]


# --- attributes and tags -----------------------------------------------------------------------

def member_with(code, **more):
    body = samples.member(code)
    body["groupMember"].update(more)
    return body


def tags_of_size(size):
    """A list of tags whose text has that many bytes."""
    count = size // 250
    tags = ["x" * 200] * count
    missing = size - stored_size(tags)
    return [tag + "y" * (missing // count + (n < missing % count))
            for n, tag in enumerate(tags)]


def test_attributes_and_tags_over_limit_are_422(api, sql, group):
    one = group()
    cases = [({"attributes": of_size(LIMIT + 1)}, {"groupMember.attributes"}),
             ({"tags": tags_of_size(LIMIT + 1)}, {"groupMember.tags"})]
    for more, fields in cases:
        for url in (f"/api/v1/groups/{one.id}/members", "/api/v1/users"):
            body = check_error(api.post(url, json=member_with(one.code, **more)), "groups", 422)
            assert {problem["field"] for problem in body["errors"]} == fields
            assert str(LIMIT) in body["errors"][0]["message"]
    assert sql("SELECT count(*) FROM group_members WHERE group_id = %s", one.id) == [(0,)]
    for more in ({"attributes": of_size(LIMIT)}, {"tags": tags_of_size(LIMIT)}):
        answer = api.post(f"/api/v1/groups/{one.id}/members",
                          json=member_with(one.code, **more))
        assert answer.status_code == 201, answer.text


def test_size_error_is_reported_with_other_database_errors(api, group):
    """After a missing group, together with other field errors; the e-mail stays free."""
    one, email = group(), samples.new_email()
    large = {"tags": tags_of_size(LIMIT + 1)}
    for where in ("x", "00000000-0000-4000-8000-000000000000"):
        check_error(api.post(f"/api/v1/groups/{where}/members",
                             json=member_with(one.code, **large)), "groups", 404)

    def wrong_fields(code, zone, **more):
        body = samples.member(code, {"email": email, "timeZone": zone}, **large, **more)
        error = check_error(api.post("/api/v1/users", json=body), "groups", 422)
        return [problem["field"] for problem in error["errors"]]

    size = "groupMember.tags"
    assert wrong_fields("x", "Mars/Olympus") == ["inviteCode", "groupMember.user.timeZone", size]
    assert wrong_fields(one.code, "UTC", planSettings={"endDate": "2001-01-01"}) == [
        "groupMember.planSettings.endDate", size]
    assert wrong_fields(one.code, "UTC") == [size]
    assert api.post("/api/v1/users",
                    json=samples.member(one.code, {"email": email})).status_code == 201
    assert wrong_fields(one.code, "UTC") == ["groupMember.user.email", size]
    assert wrong_fields("x", "UTC") == ["inviteCode", size]


def new_member(api, group):
    answer = api.post(f"/api/v1/groups/{group.id}/members", json=member_with(group.code))
    return answer.json()["user"]["uuid"]


@pytest.fixture(params=["attributes", "tags"])
def member_from_version_1(request, api, sql, group):
    """A member with more than the constraint allows, stored before the migration."""
    one = group()
    member = new_member(api, one)
    drop_constraints(sql)
    large = of_size(1100000) if request.param == "attributes" else tags_of_size(1100000)
    assert sql(f"UPDATE group_members SET {request.param} = %s WHERE id = %s RETURNING 1",
               json.dumps(large), member) == [(1,)]
    add_constraints(sql)
    yield one, member
    sql("DELETE FROM group_members WHERE id = %s", member)
    drop_constraints(sql)
    add_constraints(sql)


LOCK = "UPDATE group_members SET locked = true WHERE id = %s"


def test_oversized_member_of_version_1_is_read_changed_and_removed(
        api, sql, member_from_version_1, expect_log):
    expect_log("violates check constraint")
    one, member = member_from_version_1
    sql(LOCK, member)
    assert api.get(f"/api/v1/groups/{one.id}/members/{member}").status_code == 200
    new_one = new_member(api, one)
    for column, value in (("attributes", of_size(1048577)), ("tags", tags_of_size(1048577))):
        with pytest.raises(psycopg2.errors.CheckViolation):
            sql(f"UPDATE group_members SET {column} = %s WHERE id = %s", json.dumps(value),
                new_one)
    sql("SELECT remove_group_member(%s)", member)


def test_control_constraint_for_all_members_refuses_changes_of_oversized_one(
        sql, member_from_version_1, expect_log):
    expect_log("violates check constraint")
    _, member = member_from_version_1
    sql("ALTER TABLE group_members ADD CONSTRAINT for_all CHECK (octet_length("
        "attributes::text) + octet_length(tags::text) <= 1048576) NOT VALID")
    try:
        with pytest.raises(psycopg2.errors.CheckViolation):
            sql(LOCK, member)
    finally:
        sql("ALTER TABLE group_members DROP CONSTRAINT for_all")


# --- The directive -----------------------------------------------------------------------------

@pytest.fixture
def limited(start_httpd, client, token):
    return client(token, start_httpd(inside="""
        RegistrationMaxFields 100
        <Location "/api/v1/groups">
            RegistrationMaxFields 50
        </Location>"""))


def test_each_mount_has_its_own_limit(limited, occurrence, group):
    check_too_large(create(limited, occurrence(), fields=of_size(101)), limit=100)
    assert create(limited, occurrence(), fields=of_size(100)).status_code == 201
    one = group()
    check_error(limited.post(f"/api/v1/groups/{one.id}/members", json=member_with(
        one.code, attributes=of_size(51), tags=["x" * 47], email="no")), "groups", 422)
    answer = limited.post(f"/api/v1/groups/{one.id}/members", json=member_with(
        one.code, attributes=of_size(51), tags=["x" * 47]))
    body = check_error(answer, "groups", 422)
    assert {problem["field"] for problem in body["errors"]} == {
        "groupMember.attributes", "groupMember.tags"}
    assert "50" in body["errors"][0]["message"]


def test_limit_is_not_part_of_key_fingerprint(api, limited, occurrence):
    body = {"occurrenceId": occurrence(), "externalUserId": "x", "fields": of_size(200)}
    key = {"Idempotency-Key": f"key-{body['occurrenceId']}"}
    check_too_large(limited.post(MOUNT, json=body, headers=key), limit=100)
    first = api.post(MOUNT, json=body, headers=key)
    assert first.status_code == 201
    again = limited.post(MOUNT, json=body, headers=key)
    assert (again.status_code, again.text) == (201, first.text)


def test_keyed_request_over_limit_is_refused(api, occurrence, group):
    headers = {"Idempotency-Key": "large"}
    answer = api.post(MOUNT, headers=headers, json={
        "occurrenceId": occurrence(), "externalUserId": "x", "fields": of_size(LIMIT + 1)})
    check_too_large(answer)
    one = group()
    check_error(api.post(f"/api/v1/groups/{one.id}/members", headers=headers,
                         json=member_with(one.code, attributes=of_size(LIMIT + 1))),
                "groups", 422)


def test_oversized_request_in_batch_fails_alone(api, occurrence, at_once):
    one = occurrence()
    statuses = at_once(20, lambda n: create(
        api, one, f"user {n}", fields=of_size(LIMIT + 1 if n % 4 == 0 else 50)).status_code)
    assert statuses == [400 if n % 4 == 0 else 201 for n in range(20)]


def test_call_of_module_version_1_has_no_limit(sql, occurrence):
    """It does not pass the newer parameters; only the constraint limits it."""
    one, large = occurrence(), json.dumps(of_size(LIMIT + 1))
    registration = "01890a5d-ac96-774b-bcce-b302099a8057"
    sql("DELETE FROM event_registrations WHERE id = %s", registration)
    assert sql(
        "SELECT outcome FROM events_create(ARRAY[%s::uuid], ARRAY[%s::uuid], ARRAY['v1'],"
        " ARRAY[%s::jsonb], ARRAY[gen_random_uuid()], ARRAY[NULL], ARRAY[NULL], ARRAY[NULL],"
        " ARRAY[NULL], ARRAY[NULL::uuid], ARRAY['me'], ARRAY['id'])",
        registration, one, large) == [("created",)]
    assert sql(
        "SELECT outcome FROM events_update(ARRAY[%s::uuid], ARRAY[NULL], ARRAY[%s::jsonb],"
        " ARRAY[NULL], ARRAY[NULL::uuid], ARRAY[gen_random_uuid()], ARRAY['me'], ARRAY['id'])",
        registration, json.dumps({"more": "x" * 1000})) == [("updated",)]
    assert sql(
        "SELECT outcome FROM events_delete(ARRAY[%s::uuid], ARRAY[false], ARRAY[NULL],"
        " ARRAY[NULL::uuid], ARRAY[gen_random_uuid()], ARRAY['me'], ARRAY['id'])",
        registration) == [("deleted",)]


def test_control_without_check_in_operation_fields_grow(api, changed_functions, occurrence):
    with changed_functions(("events_update", "octet_length(new_fields::text) > max_fields[item]",
                            "false")):
        registration = created(api, occurrence())
        assert [update(api, registration, fields={f"key {n}": "x" * 20000}).status_code
                for n in range(8)] == [200] * 8


# --- Concurrent deletion of an occurrence or a user ----------------------------------------

def register_while_deleted(api, sql, postgres, occurrences):
    """Deletes the first occurrence while calls for all occurrences wait for its lock."""
    answers = {}

    def register(one):
        answers[one] = create(api, one).status_code
    threads = [threading.Thread(target=register, args=(one,)) for one in occurrences]
    with contextlib.closing(postgres.connect()) as connection:
        connection.autocommit = False
        cursor = connection.cursor()
        cursor.execute("DELETE FROM registration.occurrences WHERE id = %s", (occurrences[0],))
        for thread in threads:
            thread.start()
        servers.wait_until(
            lambda: sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'registration'"
                        " AND wait_event_type = 'Lock'") != [(0,)], 10, "no call waited")
        connection.commit()
    for thread in threads:
        thread.join()
    return [answers[one] for one in occurrences]


def test_registration_for_occurrence_deleted_meanwhile_is_404(api, sql, postgres,
                                                              occurrence, expect_log):
    expect_log("canceling statement due to lock timeout")
    assert register_while_deleted(api, sql, postgres, [occurrence(), occurrence()]) == \
        [404, 201]


def test_control_with_select_into_strict_is_500(api, sql, postgres, occurrence,
                                                changed_functions, expect_log):
    expect_log("canceling statement due to lock timeout", "REG0303", "query returned no rows")
    with changed_functions(("events_create", "INTO places_left, has_list",
                            "INTO STRICT places_left, has_list")):
        statuses = register_while_deleted(api, sql, postgres, [occurrence(), occurrence()])
        assert statuses[0] == 500


VANISHING = """
CREATE FUNCTION appear() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.external_id = 'vanishing' AND pg_trigger_depth() = 1
       AND current_setting('test.vanished', true) IS DISTINCT FROM 'yes' THEN
        PERFORM set_config('test.vanished', 'no', true);
        INSERT INTO registration.event_users (organization_id, external_id)
        VALUES (NEW.organization_id, NEW.external_id);
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() = 1 AND current_setting('test.vanished', true) = 'no' THEN
        DELETE FROM registration.event_users WHERE external_id = 'vanishing';
        PERFORM set_config('test.vanished', 'yes', true);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER appear BEFORE INSERT ON event_users FOR EACH ROW EXECUTE FUNCTION appear();
CREATE TRIGGER vanish AFTER INSERT ON event_users EXECUTE FUNCTION vanish();
"""


@pytest.fixture
def vanishing(sql):
    """An external id whose user exists when a call inserts it and is gone when the call
    selects it, once in a transaction."""
    sql("DELETE FROM event_registrations AS r USING event_users AS u"
        " WHERE u.id = r.user_id AND u.external_id = 'vanishing';"
        "DELETE FROM event_users WHERE external_id = 'vanishing';"
        "SELECT recount()")
    try:
        sql(VANISHING)
        yield "vanishing"
    finally:
        sql("DROP FUNCTION IF EXISTS appear CASCADE; DROP FUNCTION IF EXISTS vanish CASCADE")


def test_user_deleted_meanwhile_is_created_again(api, occurrence, vanishing):
    assert create(api, occurrence(), vanishing).status_code == 201


def test_control_without_retry_deleted_user_is_an_error(api, changed_functions, occurrence,
                                                        vanishing, expect_log):
    expect_log("REG0308", "the user was created and deleted by concurrent")
    with changed_functions(("events_create", "attempt = 10", "attempt = 2")):
        assert create(api, occurrence(), vanishing).status_code in (500, 503)
