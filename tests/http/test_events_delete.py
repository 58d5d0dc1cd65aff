# SPDX-License-Identifier: Apache-2.0
"""DELETE of an event registration, which moves it to the trash."""

import pytest

from event_registrations import (HOLDING, MOUNT, TIMESTAMP, UNKNOWN, check_keys, created,
                                 delete, error, get, path, places_held, status_of, update,
                                 updated)


def test_deleted_registration_is_returned_with_deletion_time(api, occurrence):
    registration = created(api, occurrence(), fields={"a": 1})
    answer = delete(api, registration)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    trashed = answer.json()
    check_keys(trashed, deleted=True)
    assert TIMESTAMP.fullmatch(trashed["deletedAt"])
    assert registration["createdAt"] < trashed["deletedAt"]
    assert trashed["occurrence"].pop("registrations") == 0
    del registration["occurrence"]["registrations"]
    del trashed["deletedAt"]
    assert trashed == {**registration, "updatedAt": trashed["updatedAt"]}


def test_second_delete_is_404(api, occurrence):
    registration = created(api, occurrence())
    delete(api, registration)
    error(delete(api, registration), 404, "Registration not found")
    error(delete(api, registration, withTrashed="false"), 404, "Registration not found")


def test_second_delete_with_trashed_returns_it_unchanged(api, occurrence):
    registration = created(api, occurrence())
    trashed = delete(api, registration).json()
    for yes in ("true", "1"):
        answer = delete(api, registration, withTrashed=yes)
        assert (answer.status_code, answer.json()) == (200, trashed)
    assert get(api, registration, params={"withTrashed": 1}).json() == trashed


def test_delete_with_trashed_deletes_live_registration(api, occurrence):
    registration = created(api, occurrence())
    answer = delete(api, registration, withTrashed="true")
    assert answer.status_code == 200
    check_keys(answer.json(), deleted=True)
    error(get(api, registration), 404)


@pytest.mark.parametrize("status", HOLDING)
def test_place_is_freed_once(api, occurrence, status):
    one = occurrence(capacity=3)
    stays = created(api, one, "stays")
    goes = created(api, one, "goes", status=status)
    assert delete(api, goes).json()["occurrence"]["registrations"] == 1
    delete(api, goes)
    delete(api, goes, withTrashed="true")
    assert places_held(api, stays) == 1


@pytest.mark.parametrize("status", ["CANCELLED", "WAITING_LIST"])
def test_delete_without_place_frees_none(api, occurrence, status):
    one = occurrence(capacity=2)
    goes = created(api, one, "goes", status="CANCELLED")
    stays = [created(api, one, f"stays {n}") for n in range(2)]
    if status == "WAITING_LIST":
        updated(api, goes, status=status)
    assert delete(api, goes).json()["status"] == status
    assert places_held(api, stays[0]) == 2


@pytest.mark.parametrize("status", HOLDING)
def test_freed_place_goes_to_first_of_waiting_list(api, occurrence, status):
    one = occurrence(capacity=1)
    first = created(api, one, "first", status=status)
    second, third = (created(api, one, user) for user in ("second", "third"))
    answer = delete(api, first).json()
    assert answer["occurrence"]["registrations"] == 1
    assert status_of(api, second) == "CONFIRMED"
    assert status_of(api, third) == "WAITING_LIST"


def test_deleted_registration_is_not_promoted(api, occurrence):
    one = occurrence(capacity=1)
    first, second, third = (created(api, one, f"user {n}") for n in range(3))
    delete(api, second)
    delete(api, first)
    assert status_of(api, third) == "CONFIRMED"
    trashed = get(api, second, params={"withTrashed": 1}).json()
    assert trashed["status"] == "WAITING_LIST"


# --- If-Match ------------------------------------------------------------------------------

@pytest.mark.parametrize("form", ["{}", "*", '"other", {}'])
def test_if_match_with_current_version_succeeds(api, occurrence, form):
    one = occurrence()
    registration = created(api, one, "first")
    tag = get(api, registration).headers["ETag"]
    created(api, one, "neighbour")
    assert delete(api, registration, if_match=form.format(tag)).status_code == 200


@pytest.mark.parametrize("form", ['"other"', "W/{}"])
def test_if_match_with_other_value_is_412(api, occurrence, form):
    registration = created(api, occurrence())
    other = form.format(get(api, registration).headers["ETag"])
    assert error(delete(api, registration, if_match=other), 412) == {}
    assert get(api, registration).json() == registration


def test_outdated_tag_is_412(api, occurrence):
    registration = created(api, occurrence())
    old = get(api, registration).headers["ETag"]
    new = update(api, registration, fields={"a": 1}).headers["ETag"]
    error(delete(api, registration, if_match=old), 412)
    assert delete(api, registration, if_match=new).status_code == 200


def test_missing_registration_is_404_whatever_the_condition(api, occurrence):
    answer = api.delete(f"{MOUNT}/{UNKNOWN}", headers={"If-Match": "*"})
    error(answer, 404, "Registration not found")
    registration = created(api, occurrence())
    tag = get(api, registration).headers["ETag"]
    delete(api, registration)
    error(delete(api, registration, if_match=tag), 404, "Registration not found")


# --- Invalid requests ----------------------------------------------------------------------

@pytest.mark.parametrize("value", ["yes", "TRUE", "2", "-1", "null"])
def test_boolean_is_true_false_1_or_0(api, occurrence, value):
    registration = created(api, occurrence())
    assert set(error(delete(api, registration, withTrashed=value), 400)) == {"withTrashed"}
    assert get(api, registration).json() == registration


def test_all_errors_are_reported_at_once(api):
    assert set(error(api.delete(f"{MOUNT}/x?withTrashed=x"), 400)) == {"id", "withTrashed"}


def test_id_is_case_insensitive(api, occurrence):
    registration = created(api, occurrence())
    url = path(registration).replace(registration["id"], registration["id"].upper())
    assert api.delete(url).json()["id"] == registration["id"]
