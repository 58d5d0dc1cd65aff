# SPDX-License-Identifier: Apache-2.0
"""GET of each href in an answer of the groups API."""

import datetime
import json

import pytest

from apis import check_error
from conftest import new_uuid
from samples import member


@pytest.fixture
def made(api, group):
    """A group with a member; made.body is the answer to its registration."""
    made = group(duration_days=365)
    answer = api.post(f"/api/v1/groups/{made.id}/members", json=member(
        made.code, {"firstName": "Zoë", "birthDate": "2000-02-29"}, tags=["b", "a"],
        attributes={"n": 0.1}))
    assert answer.status_code == 201, answer.text
    made.path = f"/api/v1/groups/{made.id}"
    made.body = answer.json()
    made.text = answer.text
    made.user = made.body["user"]["uuid"]
    return made


def found(api, path):
    answer = api.get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        200, "application/json; charset=utf-8"), answer.text
    return answer


def test_get_member(api, made):
    for path in (made.body["href"], made.body["user"]["href"],
                 f"{made.path}/users/{made.user}", f"{made.path}/members/{made.user}"):
        assert found(api, path).text == made.text


def test_get_group(api, made):
    body = found(api, made.body["group"]["href"]).json()
    assert list(body) == ["href", "title", "uuid"]
    assert body == {"href": made.path, "title": "A group", "uuid": made.id}


def test_get_plan(api, made):
    body = found(api, made.body["plan"]["href"]).json()
    assert list(body) == ["href", "title", "uuid", "group"]
    assert body == {"href": f"{made.path}/plans/{made.plan}", "title": "A plan",
                    "uuid": made.plan, "group": {"href": made.path, "title": "A group"}}
    assert list(body["group"]) == ["href", "title"]


def test_get_group_and_plan_without_members(api, group):
    made = group()
    path = f"/api/v1/groups/{made.id}"
    assert found(api, path).json()["uuid"] == made.id
    assert found(api, f"{path}/plans/{made.plan}").json()["uuid"] == made.plan


def test_ids_are_case_insensitive(api, made):
    path = f"/api/v1/groups/{made.id.upper()}"
    assert found(api, path).json()["href"] == made.path
    assert found(api, f"{path}/users/{made.user.upper()}").text == made.text


CHANGED = {"account_status": "invited", "locked": True, "verified": True,
           "mobile_number_verified": True, "password_assigned": True, "guest": True,
           "type": "guest", "settings": {"a": 1}, "notification_settings": {"b": 2}}


@pytest.mark.parametrize("column", CHANGED)
def test_change_in_sql_is_returned(api, made, sql, column):
    """Only this key changes, and `modified`."""
    value = CHANGED[column]
    sql(f"UPDATE group_members SET {column} = %s WHERE id = %s",
        json.dumps(value) if isinstance(value, dict) else value, made.user)
    first, *words = column.split("_")
    key = first + "".join(word.capitalize() for word in words)
    before, user = made.body["user"], found(api, made.body["href"]).json()["user"]
    assert user[key] == value
    assert {name for name in user if user[name] != before[name]} == {key, "modified"}
    assert (datetime.datetime.fromisoformat(user["modified"][:-1])
            > datetime.datetime.fromisoformat(before["modified"][:-1]))


def test_head_is_get_without_body(api, made):
    for path in (made.body["href"], made.body["group"]["href"], made.body["plan"]["href"],
                 f"{made.path}/members/{made.user}"):
        head, get = api.head(path), api.get(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("Content-Type", "Content-Length"):
            assert head.headers[name] == get.headers[name]
    assert api.head(f"/api/v1/groups/{new_uuid()}").status_code == 404


def test_member_and_plan_of_other_group_are_404(api, made, group):
    other = group()
    for path in (f"users/{made.user}", f"members/{made.user}", f"plans/{made.plan}"):
        check_error(api.get(f"/api/v1/groups/{other.id}/{path}"), "groups", 404)


@pytest.mark.parametrize("id", ["00000000-0000-4000-8000-00000000dead", "x", "1", "%20",
                                "%27", "%7Bx%7D", "x" * 2000,
                                "5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10%0A", "%F0%9F%98%80"])
def test_unknown_id_is_404(api, made, id):
    for path in (id, f"{id}/users/{made.user}", f"{id}/members/{made.user}",
                 f"{id}/plans/{made.plan}"):
        check_error(api.get(f"/api/v1/groups/{path}"), "groups", 404)
    for path in ("users", "members", "plans"):
        check_error(api.get(f"{made.path}/{path}/{id}"), "groups", 404)
