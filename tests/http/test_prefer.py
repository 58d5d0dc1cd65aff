# SPDX-License-Identifier: Apache-2.0
"""Prefer: return=minimal (RFC 7240): a success has no body; otherwise it is the same."""

import secrets

import pytest

from apis import APIS, INVALID, MOUNTS, check_error, good, post_path   # noqa: F401, fixtures

MINIMAL = {"Prefer": "return=minimal"}


def check_minimal(answer, status):
    assert (answer.status_code, answer.content) == (status, b"")
    assert answer.headers["Preference-Applied"] == "return=minimal"
    assert "Content-Type" not in answer.headers
    assert answer.headers.get("Content-Length") == ("0" if status == 201 else None)


def get_location(api, answer):
    """The registration, read at the answer's Location."""
    return api.get(answer.headers["Location"])


@pytest.mark.parametrize("name", APIS)
def test_minimal_registration_has_no_body(admin, good, name):
    request = good(name)
    answer = admin.post(request.path, json=request.body, headers=MINIMAL)
    check_minimal(answer, 201)
    assert ("ETag" in answer.headers) == (name == "events")
    assert ("Location" in answer.headers) == (name in ("groups", "users", "events"))
    if "Location" in answer.headers:
        assert get_location(admin, answer).status_code == 200
    else:
        check_error(admin.post(request.path, json=request.body, headers=MINIMAL), name, 409)


def test_minimal_update_is_204(admin, good):
    request = good("events")
    address = admin.post(request.path, json=request.body).headers["Location"]
    answer = admin.put(address, json={"status": "ATTENDED"}, headers=MINIMAL)
    check_minimal(answer, 204)
    now = admin.get(address)
    assert now.json()["status"] == "ATTENDED"
    assert answer.headers["ETag"] == now.headers["ETag"]
    # The tag is valid for the next update.
    headers = {**MINIMAL, "If-Match": answer.headers["ETag"]}
    check_minimal(admin.put(address, json={"status": "CANCELLED"}, headers=headers), 204)
    check_error(admin.put(address, json={"status": "CONFIRMED"}, headers=headers), "events",
                412)


@pytest.mark.parametrize("name", APIS)
def test_minimal_error_has_a_body(admin, anonymous, good, name):
    invalid = admin.post(post_path(name), headers={"Content-Type": "application/json",
                                                   **MINIMAL}, data='{"patient_id": 1}')
    check_error(invalid, name, INVALID[name])
    check_error(anonymous.post(good(name).path, json={}, headers=MINIMAL), name, 401)
    assert "Preference-Applied" not in invalid.headers


def test_get_and_delete_ignore_minimal(admin, good):
    request = good("events")
    address = admin.post(request.path, json=request.body).headers["Location"]
    for answer in (admin.get(address, headers=MINIMAL),
                   admin.get(MOUNTS["events"], headers=MINIMAL),
                   admin.delete(address, headers=MINIMAL)):
        assert answer.status_code == 200 and answer.json()
        assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize("value", ["return=representation", "respond-async", "return", "x"])
def test_other_preferences_are_ignored(admin, good, value):
    request = good("live")
    answer = admin.post(request.path, json=request.body, headers={"Prefer": value})
    assert answer.status_code == 201 and answer.json()["id"]
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize("name", APIS)
def test_repeated_request_is_answered_by_its_own_preference(admin, good, name):
    """The complete answer is stored with an Idempotency-Key, whatever the first preference."""
    request = good(name)
    key = {"Idempotency-Key": secrets.token_hex(16)}

    def send(headers):
        return admin.post(request.path, json=request.body, headers={**key, **headers})

    first = send(MINIMAL)
    check_minimal(first, 201)
    whole = send({})
    assert whole.status_code == 201 and whole.json()
    again = send(MINIMAL)
    check_minimal(again, 201)
    for header in ("Location", "ETag"):
        assert first.headers.get(header) == whole.headers.get(header) \
            == again.headers.get(header)
