# SPDX-License-Identifier: Apache-2.0
"""Registration of a group member: refused requests, and the order of checks."""

import copy
import datetime

import pytest

import metrics
import samples
from apis import check_error
from conftest import new_uuid
from samples import member, new_email
from scratch import OnScratch

USER = "groupMember.user."
PLAN = "groupMember.planSettings."
MISSING = object()


def path(group):
    return f"/api/v1/groups/{group}/members"


def assert_error(answer, status, *fields):
    """Checks that it is this error, for exactly these fields."""
    error = check_error(answer, "groups", status)
    assert ("errors" in error) == bool(fields)
    assert sorted(problem["field"] for problem in error.get("errors", [])) == sorted(fields)


def changed(body, field, value):
    """A copy of a body with another value at a dotted path, or without it."""
    body = copy.deepcopy(body)
    *outer, last = field.split(".")
    place = body
    for key in outer:
        place = place.setdefault(key, {})
    if value is MISSING:
        place.pop(last, None)
    else:
        place[last] = value
    return body


@pytest.fixture
def register(api):
    """register(group, body): a POST to a group, or to /api/v1/users if group is None."""
    return lambda group, body: api.post(path(group) if group else "/api/v1/users", json=body)


@pytest.fixture
def used_up(group, api):
    """A group whose single-use code was used by the member with the e-mail `taken`."""
    made = group(max_uses=1)
    made.taken = new_email()
    assert api.post(path(made.id),
                    json=member(made.code, {"email": made.taken})).status_code == 201
    return made


# --- Errors of the body --------------------------------------------------------------------

NOT_STRINGS = [1, 0.5, True, False, [], {}, ["x"]]
NOT_OBJECTS = [1, "x", "", True, [], [{}]]

WRONG = {
    "inviteCode": [MISSING, None, "", *NOT_STRINGS, *samples.TOO_LONG, *samples.CONTROLS],
    USER + "email": [MISSING, None, *NOT_STRINGS, *samples.BAD_EMAILS],
    USER + "gender": ["", "Male", "MALE", "m", "preferNotToSay ", "prefernottosay", "unknown",
                      *NOT_STRINGS],
    USER + "birthDate": [*samples.BAD_DATES, 20000101, *NOT_STRINGS, "9999-12-31",
                         str(datetime.date.today() + datetime.timedelta(days=2))],
    USER + "mobileNumber": [
        "", "+", "19195551212", "0019195551212", "+0123456789", "+1234567890123456",
        "+1 919 555 1212", "+1-919-555-1212", "+1(919)5551212", "+1919555121x", " +19195551212",
        "+19195551212 ", "+19195551212\n", "++19195551212", "tel:+19195551212", "+１９１９５５５",
        "+٩٩٩٩٩٩٩", *NOT_STRINGS],
    USER + "timeZone": ["", *NOT_STRINGS, *samples.TOO_LONG, *samples.CONTROLS],
    USER + "timezone": ["", *NOT_STRINGS],
    USER + "locale": [
        "", "e", "en_US", "en-", "-en", "en--US", "en US", " en", "en-US ", "en-US\n", "1", "12-34",
        "abcdefghi", "en-abcdefghi", "en-US-a", "en-a", "a-en", "en-x", "x", "x-", "x-abcdefghi",
        "i", "i-notregistered", "en-Latn-Latn", "en-US-GB", "en-12", "en-1ab", "en-US.UTF-8",
        "en-US@euro", "en-é", "zh-\u4e2d", "C", "*", "x" * 1000, *NOT_STRINGS],
    USER + "firstName": [*NOT_STRINGS, *samples.TOO_LONG, *samples.CONTROLS],
    USER + "lastName": [*NOT_STRINGS, *samples.TOO_LONG, *samples.CONTROLS],
    "groupMember.tags": [
        "", "x", 1, True, {}, {"0": "x"}, [""], ["x", ""], ["", "x"], [None], [1], ["x", 1],
        [["x"]], [{}], [True], ["x" * 256], ["a\u0001b"], ["a\nb"]],
    "groupMember.attributes": [1, "x", "", True, False, [], [{}], '{"a": 1}'],
    PLAN + "startDate": [*samples.BAD_DATES, *NOT_STRINGS],
    PLAN + "endDate": [*samples.BAD_DATES, *NOT_STRINGS],
}


@pytest.mark.parametrize("field", WRONG)
def test_invalid_field_is_422(register, group, field):
    """Reported before the database is queried, also for an unknown group."""
    made = group()
    good = member(made.code)
    for value in WRONG[field]:
        for where in (made.id, "x", new_uuid()):
            assert_error(register(where, changed(good, field, value)), 422, field)
    assert register(made.id, good).status_code == 201


@pytest.mark.parametrize("field, values, named", [
    ("groupMember", [MISSING, None, {}, {"user": None}], "groupMember.user"),
    ("groupMember.user", [MISSING, None], "groupMember.user"),
    ("groupMember.user", NOT_OBJECTS, "groupMember.user"),
    ("groupMember.user", [{}, {"firstName": "x"}, {"email": None}], USER + "email"),
])
def test_missing_user_is_422(register, group, field, values, named):
    made = group()
    for value in values:
        assert_error(register(made.id, changed(member(made.code), field, value)), 422, named)


@pytest.mark.parametrize("field", ["groupMember", "groupMember.planSettings"])
def test_value_not_an_object_is_422(register, group, field):
    made = group()
    for value in NOT_OBJECTS:
        answer = register(made.id, changed(member(made.code), field, value))
        assert (answer.status_code, answer.json()["status"]) == (422, 422)
        assert any(error["field"].startswith(field) for error in answer.json()["errors"])


@pytest.mark.parametrize("start, end", [
    ("2022-06-14", "2022-06-13"), ("2023-01-01", "2022-12-31"), ("9999-12-31", "0001-01-01")])
def test_plan_end_before_start_is_422(register, group, start, end):
    made = group()
    body = member(made.code, planSettings={"startDate": start, "endDate": end})
    assert_error(register(made.id, body), 422, PLAN + "endDate")


def test_plan_end_before_default_start_is_422(register, group):
    made = group()
    body = member(made.code, planSettings={"endDate": "2001-01-01"})
    assert_error(register(made.id, body), 422, PLAN + "endDate")


def test_birth_date_today_is_accepted(register, group):
    made = group()
    birthday = str(datetime.datetime.now(datetime.timezone.utc).date())
    answer = register(made.id, member(made.code, {"birthDate": birthday}))
    assert answer.status_code == 201, answer.text


def test_plan_start_on_last_possible_date_is_no_server_error(register, group):
    """Its end has no representation as yyyy-MM-dd."""
    made = group(duration_days=365)
    answer = register(made.id, member(made.code, planSettings={"startDate": "9999-12-31"}))
    assert answer.status_code in (201, 422)


def test_all_body_errors_are_reported_at_once(register, group):
    body = {"inviteCode": 1, "groupMember": {
        "user": {"birthDate": "x", "email": "x", "firstName": 1, "gender": "x", "lastName": 1,
                 "locale": "_", "mobileNumber": "x", "timeZone": 1},
        "tags": [""], "attributes": [], "planSettings": {"startDate": "x", "endDate": "x"}}}
    fields = ["inviteCode",
              *(USER + key for key in body["groupMember"]["user"]),
              "groupMember.tags", "groupMember.attributes",
              PLAN + "startDate", PLAN + "endDate"]
    for where in (group().id, None, new_uuid(), "x"):
        assert_error(register(where, body), 422, *fields)


def test_empty_object_lacks_both_required_keys(register, group):
    for where in (group().id, None):
        assert_error(register(where, {}), 422, "inviteCode", "groupMember.user")


# --- Errors found by the database ----------------------------------------------------------

@pytest.mark.parametrize("where", [
    "00000000-0000-0000-0000-000000000000", "x", "1", "users", "%20",
    "%7B5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10%7D", "5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10%0A",
    "5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a1", "%F0%9F%98%80", "x" * 2000])
def test_unknown_group_is_404(register, where):
    assert_error(register(where, member("EXAMPLE123")), 404)


@pytest.mark.parametrize("code", ["UNKNOWN", "example123", "EXAMPLE123 ", " EXAMPLE123",
                                  "EXAMPLE12", "%", "EXAMPLE12_", "\u0395XAMPLE123",
                                  "EXAMPLE456", "EXPIRED789"])
def test_invalid_code_is_422(register, code):
    group_1 = "5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10"
    assert_error(register(group_1, member(code)), 422, "inviteCode")


def test_demo_codes(register, sql):
    group_2 = "6a1b2c3d-4e5f-4a6b-8c7d-8e9f0a1b2c3d"
    made = []
    for code, status in [("EXAMPLE456", 201), ("EXAMPLE123", 422), ("EXPIRED789", 422),
                         ("ONCE000", 201), ("ONCE000", 422)]:
        answer = register(group_2, member(code))
        assert answer.status_code == status, (code, answer.text)
        if status == 201:
            made.append(answer.json())
    for one in made:
        sql("SELECT remove_group_member(%s)", one["user"]["uuid"])
        assert one["plan"]["title"] == "Plan 2"
        assert one["planSettings"]["endDate"] is None


def test_expired_code_is_422(register, group):
    now = datetime.datetime.now(datetime.timezone.utc)
    for seconds, status in [(-1, 422), (3600, 201)]:
        made = group(expires_at=now + datetime.timedelta(seconds=seconds))
        answer = register(made.id, member(made.code))
        assert answer.status_code == status
        if status == 422:
            assert_error(answer, 422, "inviteCode")
            assert_error(register(None, member(made.code)), 422, "inviteCode")


@pytest.mark.parametrize("uses", [0, 1, 3])
def test_used_up_code_is_422(register, group, uses):
    made = group(max_uses=uses)
    for _ in range(uses):
        assert register(made.id, member(made.code)).status_code == 201
    assert_error(register(made.id, member(made.code)), 422, "inviteCode")
    assert_error(register(None, member(made.code)), 422, "inviteCode")


def test_refused_request_does_not_use_code(register, group):
    made = group(max_uses=1)
    taken = group()
    email = new_email()
    assert register(taken.id, member(taken.code, {"email": email})).status_code == 201
    for user in ({"email": email}, {"timeZone": "Mars/Olympus"}, {"gender": "x"}):
        assert register(made.id, member(made.code, user)).status_code == 422
    assert register(made.id, member(made.code)).status_code == 201


def test_code_limited_later_counts_earlier_uses(register, group, sql):
    made = group()
    for _ in range(2):
        assert register(made.id, member(made.code)).status_code == 201
    sql("UPDATE invite_codes SET max_uses = 3 WHERE code = %s", made.code)
    assert register(made.id, member(made.code)).status_code == 201
    assert_error(register(made.id, member(made.code)), 422, "inviteCode")
    sql("UPDATE invite_codes SET max_uses = 2 WHERE code = %s", made.code)
    assert_error(register(made.id, member(made.code)), 422, "inviteCode")
    sql("UPDATE invite_codes SET max_uses = NULL WHERE code = %s", made.code)
    assert register(made.id, member(made.code)).status_code == 201


def test_email_is_unique_across_groups(register, group):
    here, there = group(), group()
    email = new_email()
    assert register(here.id, member(here.code, {"email": email})).status_code == 201
    for made in (here, there):
        for again in (email, email.upper(), email.capitalize()):
            for where in (made.id, None):
                answer = register(where, member(made.code, {"email": again}))
                assert_error(answer, 422, USER + "email")


@pytest.mark.parametrize("zone", [
    "Mars/Olympus", "America/New York", "America/New_York ", " UTC", "America/New_York\u200b",
    "EST5EDT4,M3.2.0,M11.1.0", "+02:00", "UTC+2", "GMT+25", "localtime", "Factory", "posixrules",
    "posix/America/New_York", "right/America/New_York", "../../../etc/passwd", "/etc/localtime",
    "'; SELECT 1", "<+03>-3", "America", "x" * 255])
def test_unknown_time_zone_is_422(register, group, zone):
    made = group()
    for user in ({"timeZone": zone}, {"timezone": zone}):
        assert_error(register(made.id, member(made.code, user)), 422, USER + "timeZone")


@pytest.mark.parametrize("pair", [("inviteCode", "timeZone"), ("email", "timeZone")])
def test_two_database_errors_are_reported_together(register, group, used_up, pair):
    made = group()
    body = member("UNKNOWN" if "inviteCode" in pair else made.code)
    if "email" in pair:
        body["groupMember"]["user"]["email"] = used_up.taken
    if "timeZone" in pair:
        body["groupMember"]["user"]["timeZone"] = "Mars/Olympus"
    assert_error(register(made.id, body), 422,
                 *(field if field == "inviteCode" else USER + field for field in pair))


# --- Without a valid code ------------------------------------------------------------------

@pytest.fixture
def bad_codes(group, used_up):
    """Pairs of a group, or None for /users, and a code invalid there, for each reason."""
    now = datetime.datetime.now(datetime.timezone.utc)
    expired, other = group(expires_at=now - datetime.timedelta(seconds=1)), group()
    return [(expired.id, expired.code), (None, expired.code), (used_up.id, used_up.code),
            (None, used_up.code), (other.id, used_up.code), (used_up.id, other.code),
            (other.id, expired.code), (other.id, new_uuid()), (None, new_uuid())]


def distinct_answers(register, codes, *users, **more):
    """The set of answers to all of these."""
    return {(answer.status_code, answer.text) for where, code in codes for user in users
            for answer in [register(where, member(code, user, **more))]}


def test_all_invalid_codes_get_the_same_answer(register, bad_codes, used_up):
    """Whether or not the e-mail is registered, and whatever else is sent."""
    users = [{}, {"email": used_up.taken}, {"email": used_up.taken.upper()}]
    assert len(distinct_answers(register, bad_codes, *users)) == 1
    assert len(distinct_answers(register, bad_codes, *users,
                                planSettings={"endDate": "2001-01-01"})) == 1
    assert len(distinct_answers(register, bad_codes, *({**user, "timeZone": "Mars/Olympus"}
                                                       for user in users))) == 1


class TestControlWithoutCodeCheckFirst(OnScratch):
    """Negative control: the e-mail is looked up for invalid codes too, and answers differ."""
    broken = """DO $$ BEGIN EXECUTE replace(pg_get_functiondef('groups_register'::regproc),
        'ELSIF wrong_code IS NULL THEN', 'ELSE'); END $$;"""

    def test_control_registered_email_is_disclosed(self, register, bad_codes, used_up):
        assert len(distinct_answers(register, bad_codes, {}, {"email": used_up.taken})) == 2


def test_invalid_code_does_not_disclose_time_zone_of_group(register, group):
    """At /users only the code identifies the group, and with it the start of its day."""
    now = datetime.datetime.now(datetime.timezone.utc)
    expired = group(time_zone="Pacific/Kiritimati",
                    expires_at=now - datetime.timedelta(seconds=1))
    yesterday = str(now.date() - datetime.timedelta(days=1))
    codes = [(None, expired.code), (None, new_uuid())]
    for day in (yesterday, str(now.date())):
        assert len(distinct_answers(register, codes, {}, planSettings={"endDate": day})) == 1


def test_all_errors_with_valid_code_are_reported_at_once(register, group, used_up):
    made = group()
    body = member(made.code, {"email": used_up.taken, "timeZone": "Mars/Olympus"})
    for where in (made.id, None):
        assert_error(register(where, body), 422, USER + "email", USER + "timeZone")
    body = member(made.code, {"email": used_up.taken}, planSettings={"endDate": "2001-01-01"})
    assert_error(register(made.id, body), 422, USER + "email", PLAN + "endDate")


def refused_codes(api):
    samples = metrics.read(api.get("/metrics").text)
    return {reason: metrics.one(samples, "invite_codes_refused_total", f'reason="{reason}"')
            for reason in ("unknown", "of_another_group", "expired", "used_up")}


def test_refused_codes_are_counted_by_reason(start_httpd, client, token, bad_codes, group):
    one = client(token, start_httpd())
    assert set(refused_codes(one).values()) == {0}
    for where, code in bad_codes:
        url = path(where) if where else "/api/v1/users"
        assert one.post(url, json=member(code)).status_code == 422
    expected = {"unknown": 2, "of_another_group": 3, "expired": 2, "used_up": 2}
    assert refused_codes(one) == expected
    made = group()   # Other errors and valid codes are not counted.
    assert one.post(path(made.id),
                    json=member(made.code, {"timeZone": "Mars/Olympus"})).status_code == 422
    assert one.post(path(made.id), json=member(made.code)).status_code == 201
    assert refused_codes(one) == expected
    where, code = bad_codes[0]   # With an Idempotency-Key, too.
    assert one.post(path(where), json=member(code),
                    headers={"Idempotency-Key": new_uuid()}).status_code == 422
    assert refused_codes(one) == {**expected, "expired": 3}


# --- Order of checks -----------------------------------------------------------------------

def test_body_errors_precede_database_errors(register, used_up):
    body = member(used_up.code, {"email": used_up.taken, "timeZone": "Mars/Olympus",
                                 "gender": "x"})
    for where in (used_up.id, new_uuid(), "x", None):
        assert_error(register(where, body), 422, USER + "gender")


def test_unknown_group_precedes_other_database_errors(register, used_up):
    body = member(used_up.code, {"email": used_up.taken, "timeZone": "Mars/Olympus"})
    for where in (new_uuid(), "x"):
        assert_error(register(where, body), 404)


def test_users_has_no_unknown_group_error(register):
    assert_error(register(None, member("UNKNOWN")), 422, "inviteCode")


# --- Authentication and authorization ------------------------------------------------------

def test_missing_token_is_401(anonymous, group):
    made = group()
    for url in (path(made.id), "/api/v1/users"):
        answer = anonymous.post(url, json=member(made.code))
        assert_error(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_refused_authorization_is_403(start_httpd, client, token, group):
    httpd = start_httpd(inside='<Location "/api/v1">\nRequire user chief\n</Location>')
    made = group()
    for url in (path(made.id), "/api/v1/users"):
        assert_error(client(token, httpd).post(url, json=member(made.code)), 403)
