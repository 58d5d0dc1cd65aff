# SPDX-License-Identifier: Apache-2.0
"""Group members: POST /api/v1/groups/{group}/members and POST /api/v1/users."""

import datetime
import json
import re
import types
import uuid
import zoneinfo

import pytest

import samples
from conftest import new_uuid
from samples import member, new_email

KEYS = ["group", "href", "plan", "planSettings", "tags", "user", "attributes"]
USER_KEYS = ["birthDate", "email", "firstName", "gender", "lastName", "locale",
             "mobileNumber", "timeZone", "uuid",
             "settings", "notificationSettings", "accountStatus", "locked", "verified",
             "mobileNumberVerified", "passwordAssigned", "guest", "type", "attributes",
             "created", "modified", "href"]

PAGE_BODY = """{
    "inviteCode": "EXAMPLE123",
    "groupMember": {
        "user": {
            "birthDate": "2000-01-01",
            "email": "example_user@example.org",
            "firstName": "John",
            "gender": "male",
            "lastName": "Doe",
            "locale": "en-US",
            "mobileNumber": "+19195551212",
            "timeZone": "America/New_York"
        },
        "tags": [
            "ExampleTag"
        ],
        "attributes": {
            "ExampleAttribute": "example value"
        },
        "planSettings": {
            "startDate": "2022-06-14",
            "endDate": "2023-06-14"
        }
    }
}"""


def path(group):
    return f"/api/v1/groups/{group}/members"


@pytest.fixture
def register(api, group):
    """register(body): a POST to the group the body's code is for; register.in_(id, body)."""
    def in_(group, body):
        return api.post(path(group), json=body)

    def registered(made, user=None, **more):
        """The object of a registration that has to succeed."""
        answer = in_(made.id, member(made.code, user, **more))
        assert answer.status_code == 201, answer.text
        return answer.json()
    return types.SimpleNamespace(in_=in_, registered=registered)


# --- Success -------------------------------------------------------------------------------

@pytest.mark.parametrize("url", [path("5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10"), "/api/v1/users"])
def test_example_of_api_page(api, sql, url):
    answer = api.post(url, data=PAGE_BODY, headers={"Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    user = body["user"]["uuid"]
    sql("SELECT remove_group_member(%s)", user)

    group = "/api/v1/groups/5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10"
    assert answer.headers["Location"] == f"{group}/users/{user}"
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    attributes = {"ExampleAttribute": "example value"}
    assert body == {
        "group": {"href": group, "title": "Group 1"},
        "href": f"{group}/users/{user}",
        "plan": {"href": f"{group}/plans/7c1d2e3f-4a5b-4c6d-8e7f-901234567890",
                 "title": "Plan 1"},
        "planSettings": {"startDate": "2022-06-14", "endDate": "2023-06-14"},
        "tags": ["ExampleTag"],
        "user": {"birthDate": "2000-01-01", "email": "example_user@example.org",
                 "firstName": "John", "gender": "male", "lastName": "Doe",
                 "locale": "en-US", "mobileNumber": "+19195551212",
                 "timeZone": "America/New_York", "uuid": user,
                 "settings": {}, "notificationSettings": {}, "accountStatus": "active",
                 "locked": False, "verified": False, "mobileNumberVerified": False,
                 "passwordAssigned": False, "guest": False, "type": "endUser",
                 "attributes": attributes, "created": body["user"]["created"],
                 "modified": body["user"]["modified"], "href": f"{group}/users/{user}"},
        "attributes": attributes}


def test_keys_are_in_order_of_api_page(register, group):
    body = register.registered(group())
    assert list(body) == KEYS
    assert list(body["user"]) == USER_KEYS
    assert list(body["group"]) == list(body["plan"]) == ["href", "title"]
    assert list(body["planSettings"]) == ["startDate", "endDate"]


def test_ids_are_uuid_version_7_and_times_are_current(register, group):
    user = register.registered(group())["user"]
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    made = uuid.UUID(user["uuid"])
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert now - 60 < (made.int >> 80) / 1000 < now + 1
    for moment in (user["created"], user["modified"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
        moment = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00"))
        assert now - 60 < moment.timestamp() < now + 1


def test_absent_fields_have_defaults(register, group):
    body = register.registered(group())
    absent = ["birthDate", "firstName", "gender", "lastName", "mobileNumber"]
    assert {key: body["user"][key] for key in absent} == dict.fromkeys(absent)
    assert (body["user"]["locale"], body["user"]["timeZone"]) == ("en-US", "UTC")
    assert (body["tags"], body["attributes"], body["user"]["attributes"]) == ([], {}, {})
    assert body["planSettings"]["endDate"] is None


def test_null_is_the_same_as_absent(register, group):
    made = group()
    user = dict.fromkeys(["birthDate", "firstName", "gender", "lastName", "locale",
                          "mobileNumber", "timeZone", "timezone"])
    for more in ({"tags": None, "attributes": None, "planSettings": None},
                 {"planSettings": {"startDate": None, "endDate": None}}):
        body = register.registered(made, user, **more)
        assert (body["user"]["locale"], body["user"]["timeZone"]) == ("en-US", "UTC")
        assert (body["tags"], body["attributes"]) == ([], {})
        assert body["planSettings"]["startDate"] and body["planSettings"]["endDate"] is None


def test_locale_and_time_zone_default_to_those_of_group(register, group):
    made = group(locale="fr-CA", time_zone="America/Montreal")
    user = register.registered(made)["user"]
    assert (user["locale"], user["timeZone"]) == ("fr-CA", "America/Montreal")
    user = register.registered(made, {"locale": "de", "timeZone": "Europe/Berlin"})["user"]
    assert (user["locale"], user["timeZone"]) == ("de", "Europe/Berlin")


@pytest.mark.parametrize("sent, known", [
    ("america/new_york", "America/New_York"), ("AMERICA/NEW_YORK", "America/New_York"),
    ("utc", "UTC"), ("etc/gmt+5", "Etc/GMT+5"), ("gmt", "GMT"),
    ("america/port-au-prince", "America/Port-au-Prince"),
    ("antarctica/dumontdurville", "Antarctica/DumontDUrville"),
    ("america/argentina/buenos_aires", "America/Argentina/Buenos_Aires")])
def test_time_zone_is_case_insensitive(register, group, sql, sent, known):
    for key in ("timeZone", "timezone"):
        user = register.registered(group(), {key: sent})["user"]
        assert user["timeZone"] == known
        assert sql("SELECT time_zone FROM group_members WHERE id = %s", user["uuid"]) == [(known,)]


def test_default_start_uses_time_zone_in_any_case(register, group):
    made = [register.registered(group(), {"timeZone": zone})["planSettings"]["startDate"]
            for zone in ("pacific/kiritimati", "PACIFIC/PAGO_PAGO")]
    assert made[0] > made[1]


def test_key_timezone_is_accepted(register, group):
    user = register.registered(group(), {"timezone": "Asia/Tokyo"})["user"]
    assert user["timeZone"] == "Asia/Tokyo" and "timezone" not in user


def test_key_time_zone_precedes_timezone(register, group):
    user = register.registered(group(), {"timezone": "Asia/Tokyo", "timeZone": "Europe/Rome"})
    assert user["user"]["timeZone"] == "Europe/Rome"
    user = register.registered(group(), {"timezone": "Asia/Tokyo", "timeZone": None})
    assert user["user"]["timeZone"] == "Asia/Tokyo"


def test_code_can_be_used_by_several_members(register, group):
    made = group()
    assert (register.registered(made)["user"]["uuid"]
            != register.registered(made)["user"]["uuid"])


# --- Plan dates ----------------------------------------------------------------------------

def today(zone):
    return str(datetime.datetime.now(zoneinfo.ZoneInfo(zone)).date())


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "UTC"])
def test_plan_starts_today_in_time_zone_of_member(register, group, zone):
    before = today(zone)
    dates = [register.registered(group(), {"timeZone": zone})["planSettings"]["startDate"],
             register.registered(group(time_zone=zone))["planSettings"]["startDate"]]
    assert set(dates) <= {before, today(zone)}


@pytest.mark.parametrize("days, settings, end", [
    (None, {"startDate": "2022-06-14"}, None),
    (365, {"startDate": "2022-06-14"}, "2023-06-14"),
    (365, {"startDate": "2024-01-01"}, "2024-12-31"),
    (1, {"startDate": "2024-02-28"}, "2024-02-29"),
    (0, {"startDate": "2024-02-28"}, "2024-02-28"),
    (365, {"startDate": "2022-06-14", "endDate": "2022-06-15"}, "2022-06-15"),
    (None, {"startDate": "2022-06-14", "endDate": "2099-01-01"}, "2099-01-01"),
    (None, {"startDate": "2022-06-14", "endDate": "2022-06-14"}, "2022-06-14"),
])
def test_plan_end_is_given_or_computed(register, group, days, settings, end):
    body = register.registered(group(duration_days=days), planSettings=settings)
    assert body["planSettings"] == {"startDate": settings["startDate"], "endDate": end}


def test_plan_end_without_start_starts_today(register, group):
    body = register.registered(group(duration_days=7), planSettings={"endDate": "2099-12-31"})
    assert body["planSettings"]["startDate"] in (today("UTC"), body["user"]["created"][:10])
    assert body["planSettings"]["endDate"] == "2099-12-31"


# --- Stored values -------------------------------------------------------------------------

@pytest.mark.parametrize("text", samples.TEXTS)
def test_texts_are_stored_exactly(register, group, text):
    body = register.registered(group(), {"firstName": text, "lastName": text}, tags=[text],
                               attributes={text: text})
    assert (body["user"]["firstName"], body["user"]["lastName"]) == (text, text)
    assert body["tags"] == [text]
    assert body["attributes"] == body["user"]["attributes"] == {text: text}


def test_titles_are_names_of_group_and_plan(register, group, sql):
    made = group()
    title = 'Gruppe "Ä" \\ \U0001f600 </a>'
    sql("UPDATE groups SET name = %s WHERE id = %s", title, made.id)
    sql("UPDATE plans SET name = %s WHERE id = %s", title, made.plan)
    body = register.registered(made)
    assert body["group"]["title"] == body["plan"]["title"] == title


GOOD = {
    "email": samples.GOOD_EMAILS,
    "birthDate": samples.GOOD_DATES,
    "gender": ["male", "female", "other", "preferNotToSay"],
    "mobileNumber": ["+19195551212", "+4915112345678", "+123456789012345", "+6281234567"],
    "locale": ["en", "en-US", "EN-us", "zh-Hant-TW", "sr-Latn-RS", "es-419", "de-CH-1901",
               "sl-rozaj-biske-1994", "zh-cmn-Hans-CN", "hy-Latn-IT-arevela", "haw", "gsw-CH",
               "de-DE-u-co-phonebk", "en-a-myext-b-another", "x-whatever", "de-x-a-b",
               "i-klingon", "zh-min-nan", "en-GB-oed", "qaa-Qaaa-QM-x-southern"],
    "timeZone": ["America/New_York", "America/Argentina/Buenos_Aires", "Europe/Berlin",
                 "Asia/Kolkata", "Australia/Lord_Howe", "Etc/GMT+12", "UTC"],
}


@pytest.mark.parametrize("field", GOOD)
def test_valid_values_are_accepted(register, group, sql, field):
    made = group()
    for value in GOOD[field]:
        user = register.registered(made, {field: value})["user"]
        assert user[field] == value
        sql("SELECT remove_group_member(%s)", user["uuid"])   # frees the e-mail


def test_tags_keep_order_and_duplicates(register, group):
    tags = ["b", "a", "B", "b", "x" * 255, "\U0001f600" * 255]
    assert register.registered(group(), tags=tags)["tags"] == tags


NUMBERS = ["0.1", "0.10000000000000001", "12345678901234567890", "-12345678901234567890.5",
           "1e2", "1.5E-7", "0", "9007199254740993", "1e400", "1.7976931348623159e308",
           "0." + "123456789" * 50, "9" * 400, "4.9e-324", "1e-400"]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_in_attributes_are_stored_exactly(api, group, number):
    from decimal import Decimal
    made = group()
    body = json.dumps(member(made.code, attributes={"n": [{"deep": "@"}]}))
    answer = api.post(path(made.id), data=body.replace('"@"', number))
    assert answer.status_code == 201, answer.text
    parsed = json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)
    for attributes in (parsed["attributes"], parsed["user"]["attributes"]):
        assert attributes == {"n": [{"deep": Decimal(number)}]}


def test_numbers_with_large_exponent_do_not_blow_up_answer(api, group):
    """Written out, a number of nine characters would have 131,072."""
    made = group()
    body = json.dumps(member(made.code, attributes={"n": "@"}))
    answer = api.post(path(made.id), data=body.replace('"@"', f"[{'1e131071,' * 99}0]"))
    assert answer.status_code in (201, 400, 422)
    assert len(answer.content) < 1_000_000


def test_attributes_are_not_checked_inside(register, group):
    attributes = {"long": "x" * 300, "control": "\u0001\n\u007f", "": "", "k" * 300: None,
                  "\n": [True, False, None, {}, [], "", 0], "group": {"href": 1}}
    body = register.registered(group(), attributes=attributes)
    assert body["attributes"] == body["user"]["attributes"] == attributes


@pytest.mark.parametrize("key", ['"attributes"', '"\\u0061ttributes"',
                                 '"attr\\u0069b\\u0075tes"'])
def test_attributes_are_found_in_any_json_notation(api, group, key):
    made = group()
    decoy = '"note": "\\"groupMember\\": {\\"attributes\\": {\\"n\\": 2}}", "attributes": {"n": 3}'
    body = (f' \n{{{decoy}, "inviteCode": "{made.code}",\t"group\\u004dember" :'
            f' {{"tags":["]","}}"],"user" : {{"email":"{new_email()}", "attributes": {{"n": 4}}}}'
            f' ,{key}\r\n:\n{{ "n" : 1.0 }} }} }} ')
    answer = api.post(path(made.id), data=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["attributes"] == {"n": 1}
    assert answer.json()["tags"] == ["]", "}"]


def test_unknown_keys_are_ignored_everywhere(register, group):
    made = group()
    body = member(made.code, {"uuid": new_uuid(), "verified": True, "accountStatus": "invited"},
                  planSettings={"length": 1}, group="another", href=1)
    body["planId"] = 7
    answer = register.in_(made.id, body)
    assert answer.status_code == 201, answer.text
    user = answer.json()["user"]
    assert (user["verified"], user["accountStatus"]) == (False, "active")
    assert user["uuid"] != body["groupMember"]["user"]["uuid"]


# --- POST /api/v1/users --------------------------------------------------------------------

def test_users_finds_group_by_code(api, group):
    made = group()
    answer = api.post("/api/v1/users", json=member(made.code))
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["group"]["href"] == f"/api/v1/groups/{made.id}"
    assert body["plan"]["href"] == f"/api/v1/groups/{made.id}/plans/{made.plan}"
    assert body["href"] == answer.headers["Location"]
    assert api.get(answer.headers["Location"]).json() == body


def test_hrefs_begin_with_groups_path(start_httpd, client, token, group):
    """RegistrationGroupsPath tells the users API where groups is mounted."""
    httpd = start_httpd(inside="""
        <Location "/other/groups">
            RegistrationAPI groups
        </Location>
        <Location "/other/users">
            RegistrationAPI users
            RegistrationGroupsPath /other/groups
        </Location>""")
    api = client(token, httpd)
    made = group()
    for url in ("/other/users", f"/other/groups/{made.id}/members"):
        answer = api.post(url, json=member(made.code))
        assert answer.status_code == 201, answer.text
        body = answer.json()
        assert body["group"]["href"] == f"/other/groups/{made.id}"
        assert answer.headers["Location"].startswith(f"/other/groups/{made.id}/users/")
        for href in (body["href"], body["group"]["href"], body["plan"]["href"]):
            assert api.get(href).status_code == 200, href
    assert api.post("/api/v1/users", json=member(made.code)).json()["group"] == {
        "href": f"/api/v1/groups/{made.id}", "title": "A group"}


# --- Removal by an administrator -----------------------------------------------------------

def test_remove_group_member_frees_email_and_code_use(register, group, api, sql):
    made = group(max_uses=1)
    email = new_email()
    first = register.registered(made, {"email": email})
    assert sql("SELECT remove_group_member(%s)", first["user"]["uuid"]) == [(True,)]
    assert api.get(first["href"]).status_code == 404
    # The e-mail is free again, and one use of the code.
    register.registered(made, {"email": email.upper()})
    assert register.in_(made.id, member(made.code)).status_code == 422


def test_remove_group_member_keeps_email_of_other_member(register, group, sql):
    """Also if the e-mail was changed by hand in group_members but not in member_emails."""
    made = group()
    first, second = (register.registered(made)["user"] for _ in range(2))
    sql("UPDATE group_members SET email = %s WHERE id = %s", second["email"], first["uuid"])
    assert sql("SELECT remove_group_member(%s)", first["uuid"]) == [(True,)]
    assert register.in_(made.id,
                        member(made.code, {"email": second["email"]})).status_code == 422


def test_remove_unknown_group_member_changes_nothing(register, group, sql):
    made = group(max_uses=2)
    first = register.registered(made)["user"]["uuid"]
    register.registered(made)
    for removed in (new_uuid(), first, first):
        sql("SELECT remove_group_member(%s)", removed)
    assert sql("SELECT uses FROM invite_codes WHERE code = %s", made.code) == [(1,)]


def test_group_and_code_need_no_optional_columns(api, sql):
    group, = sql("INSERT INTO groups (name) VALUES ('Bare') RETURNING id")[0]
    plan, = sql("INSERT INTO plans (group_id, name) VALUES (%s, 'Bare') RETURNING id", group)[0]
    code = f"code {new_uuid()}"
    sql("INSERT INTO invite_codes (code, plan_id) VALUES (%s, %s)", code, plan)
    answer = api.post(path(group), json=member(code))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("column, good, bad", [
    ("account_status", ["pendingInvite", "invited", "inviteBounced", "active"],
     ["Active", "", None]),
    ("type", ["endUser", "guest", "api"], ["admin", "", None])])
def test_account_status_and_type_are_constrained(register, group, sql, expect_log, column,
                                                 good, bad):
    import psycopg2
    expect_log(r"violates (check|not-null) constraint")
    user = register.registered(group())["user"]["uuid"]
    for value in good:
        sql(f"UPDATE group_members SET {column} = %s WHERE id = %s", value, user)
    for value in bad:
        with pytest.raises(psycopg2.IntegrityError):
            sql(f"UPDATE group_members SET {column} = %s WHERE id = %s", value, user)
