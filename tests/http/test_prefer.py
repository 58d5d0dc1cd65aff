# SPDX-License-Identifier: Apache-2.0
"""Prefer: return=minimal (RFC 7240): a success without its body, and nothing else changed."""

import secrets

import pytest

from apis import APIS, INVALID, MOUNTS, check_error, good, post_path   # noqa: F401, fixtures

MINIMAL = {"Prefer": "return=minimal"}


def check_minimal(answer, status):
    assert (answer.status_code, answer.content) == (status, b"")
    assert answer.headers["Preference-Applied"] == "return=minimal"
    assert "Content-Type" not in answer.headers
    assert answer.headers.get("Content-Length") == ("0" if status == 201 else None)


def made(api, answer):
    """What a whole answer would have told: it is there to be read at its address."""
    return api.get(answer.headers["Location"])


@pytest.mark.parametrize("name", APIS)
def test_a_registration_is_made_all_the_same(admin, good, name):
    request = good(name)
    answer = admin.post(request.path, json=request.body, headers=MINIMAL)
    check_minimal(answer, 201)
    assert ("ETag" in answer.headers) == (name == "events")
    assert ("Location" in answer.headers) == (name in ("groups", "users", "events"))
    if "Location" in answer.headers:
        assert made(admin, answer).status_code == 200
    else:
        check_error(admin.post(request.path, json=request.body, headers=MINIMAL), name, 409)


def test_an_update_has_no_content(admin, good):
    request = good("events")
    address = admin.post(request.path, json=request.body).headers["Location"]
    answer = admin.put(address, json={"status": "ATTENDED"}, headers=MINIMAL)
    check_minimal(answer, 204)
    now = admin.get(address)
    assert now.json()["status"] == "ATTENDED"
    assert answer.headers["ETag"] == now.headers["ETag"]
    # That tag is as good as any for the next update.
    headers = {**MINIMAL, "If-Match": answer.headers["ETag"]}
    check_minimal(admin.put(address, json={"status": "CANCELLED"}, headers=headers), 204)
    check_error(admin.put(address, json={"status": "CONFIRMED"}, headers=headers), "events",
                412)


@pytest.mark.parametrize("name", APIS)
def test_an_error_keeps_its_body(admin, anonymous, good, name):
    invalid = admin.post(post_path(name), headers={"Content-Type": "application/json",
                                                   **MINIMAL}, data='{"patient_id": 1}')
    check_error(invalid, name, INVALID[name])
    check_error(anonymous.post(good(name).path, json={}, headers=MINIMAL), name, 401)
    assert "Preference-Applied" not in invalid.headers


def test_get_and_delete_answer_as_ever(admin, good):
    request = good("events")
    address = admin.post(request.path, json=request.body).headers["Location"]
    for answer in (admin.get(address, headers=MINIMAL),
                   admin.get(MOUNTS["events"], headers=MINIMAL),
                   admin.delete(address, headers=MINIMAL)):
        assert answer.status_code == 200 and answer.json()
        assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize("value", ["return=representation", "respond-async", "return", "x"])
def test_what_is_not_minimal_has_its_body(admin, good, value):
    request = good("live")
    answer = admin.post(request.path, json=request.body, headers={"Prefer": value})
    assert answer.status_code == 201 and answer.json()["id"]
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize("name", APIS)
def test_a_repeated_request_is_answered_as_it_prefers(admin, good, name):
    """Under an Idempotency-Key the whole answer is kept, however the first was given."""
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
