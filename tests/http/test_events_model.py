# SPDX-License-Identifier: Apache-2.0
"""Places, waiting list and versions of an occurrence, compared with a model of the contract
after each of many random requests and administrator's changes."""

import dataclasses
import itertools
import random

import pytest

from event_registrations import HOLDING, STATUSES, UNKNOWN, create, delete, error, update

USERS = ["Ann", "Bea", "Cem", "Dov", "Eve"]
DUPLICATE = (409, "User is already registered for this occurrence")
FULL = (409, "Occurrence is full")
NO_LIST = (409, "Occurrence has no waiting list")
NOT_FOUND = (404, "Registration not found")


@dataclasses.dataclass
class Registration:
    user: str
    status: str
    version: int = 1
    is_deleted: bool = False
    number: int = 0   # position in the waiting list

    def is_held(self):
        return not self.is_deleted and self.status in HOLDING

    def is_waiting(self):
        return not self.is_deleted and self.status == "WAITING_LIST"


class Model:
    """An occurrence as the contract describes it."""

    def __init__(self, capacity, waiting_list):
        self.capacity = capacity
        self.waiting_list = waiting_list
        self.registrations = {}
        self.numbers = itertools.count(1)

    def held(self):
        return sum(one.is_held() for one in self.registrations.values())

    def has_place(self):
        return self.capacity is None or self.held() < self.capacity

    def has_another(self, user):
        return any(one.user == user and not one.is_deleted and one.status != "CANCELLED"
                   for one in self.registrations.values())

    def promote(self, changed=None):
        waiting = sorted((one for one in self.registrations.values() if one.is_waiting()),
                         key=lambda one: one.number)
        for one in waiting:
            if self.has_place():
                one.status = "CONFIRMED"
                one.version += one is not changed

    def create(self, user):
        """The Registration, or the status and message of the error."""
        if self.has_another(user):
            return DUPLICATE
        if not self.has_place() and not self.waiting_list:
            return FULL
        return Registration(user, "CONFIRMED" if self.has_place() else "WAITING_LIST",
                            number=next(self.numbers))

    def update(self, id, status):
        """None, or the status and message of the error."""
        one = self.registrations.get(id)
        if one is None or one.is_deleted:
            return NOT_FOUND
        if one.status == "CANCELLED" != status and self.has_another(one.user):
            return DUPLICATE
        if status in HOLDING and not one.is_held() and not self.has_place():
            return FULL
        if status == "WAITING_LIST" != one.status and not self.waiting_list:
            return NO_LIST
        if status != one.status:
            one.status, one.number = status, next(self.numbers)
            one.version += 1
            self.promote(changed=one)
        return None

    def delete(self, id):
        one = self.registrations.get(id)
        if one is None or one.is_deleted:
            return NOT_FOUND
        one.is_deleted = True
        one.version += 1
        self.promote()
        return None

    def state(self):
        return {id: (one.status, one.version, one.is_deleted)
                for id, one in self.registrations.items()}


@pytest.fixture
def play(api, sql, occurrence):
    """play(seed): applies random steps to an occurrence and to its model."""
    def check_answer(answer, expected):
        if expected is None:
            assert answer.status_code == 200, answer.text
        else:
            error(answer, *expected)

    def register(one, model, chance):
        user = chance.choice(USERS)
        expected = model.create(user)
        answer = create(api, one, user)
        if isinstance(expected, Registration):
            assert answer.status_code == 201, answer.text
            model.registrations[answer.json()["id"]] = expected
            assert answer.json()["occurrence"]["registrations"] == model.held()
        else:
            error(answer, *expected)

    def change(one, model, chance):
        id = chance.choice([*model.registrations, UNKNOWN])
        status = chance.choice(STATUSES)
        check_answer(update(api, {"id": id}, status=status), model.update(id, status))

    def remove(one, model, chance):
        id = chance.choice([*model.registrations, UNKNOWN])
        check_answer(delete(api, {"id": id}), model.delete(id))

    def set_capacity(one, model, chance):
        model.capacity = chance.choice([0, 1, 2, 3, None])
        sql("UPDATE occurrences SET capacity = %s WHERE id = %s", model.capacity, one)
        model.promote()

    def set_waiting_list(one, model, chance):
        model.waiting_list = not model.waiting_list
        sql("UPDATE occurrences SET waiting_list = %s WHERE id = %s", model.waiting_list, one)

    def run(seed, steps=60):
        chance = random.Random(seed)
        model = Model(chance.choice([0, 1, 2, 3, None]), chance.random() < 0.8)
        one = occurrence(capacity=model.capacity, waiting_list=model.waiting_list)
        for _ in range(steps):
            [step] = chance.choices([register, change, remove, set_capacity, set_waiting_list],
                                    [8, 10, 2, 1, 1])
            step(one, model, chance)
            rows = sql("SELECT id::text, status, version, deleted_at IS NOT NULL"
                       " FROM event_registrations WHERE occurrence_id = %s", one)
            assert {id: tuple(rest) for id, *rest in rows} == model.state()
            assert sql("SELECT registrations FROM occurrences WHERE id = %s",
                       one) == [(model.held(),)]
    return run


@pytest.mark.parametrize("seed", range(20))
def test_occurrence_behaves_like_model(play, seed):
    play(seed)


@pytest.mark.parametrize("change", [
    ("events_promote", "ORDER BY r.waiting_number", "ORDER BY r.waiting_number DESC"),
    ("events_promote", "greatest(places - held, 0)", "0"),
    ("events_update", "AND r.version > registration.version + 1", "AND false"),
    ("events_update", "registration.status = 'CANCELLED' AND new_status <> 'CANCELLED'",
     "false"),
    ("events_update", "AND NOT occurrence.waiting_list", "AND false"),
    ("events_update", "WHEN places_taken > 0 AND", "WHEN false AND"),
    ("events_create", "IF has_list THEN", "IF true THEN"),
    ("events_delete", "- event_status_holds_place(registration.status)::integer", "0"),
], ids=["order", "promotion", "version", "another", "list off", "full", "no list", "delete"])
def test_control_changed_operation_is_detected(play, changed_functions, expect_log, sql, change):
    expect_log("event_registrations_one_per_user")
    with changed_functions(change), pytest.raises(AssertionError):
        for seed in range(20):
            play(seed)
    sql("SELECT recount()")   # The changed operation kept wrong counts.
