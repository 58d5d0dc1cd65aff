# SPDX-License-Identifier: Apache-2.0
"""Random searches, compared with a model that filters and sorts all registrations.

The operation's query plan depends on the number of rows. The tests lower its thresholds, so
that a few registrations exercise each plan.
"""

import itertools
import json
import random
import types

import pytest

from event_registrations import MOUNT, STATUSES, TENANT_MOUNT, delete, person

VALUES = {"createdAt": lambda one: one["createdAt"], "updatedAt": lambda one: one["updatedAt"],
          "status": lambda one: one["status"],
          "startDate": lambda one: one["occurrence"]["startDate"],
          "eventName": lambda one: one["event"]["name"],
          "firstName": lambda one: one["user"]["firstName"],
          "lastName": lambda one: one["user"]["lastName"],
          "email": lambda one: one["user"]["email"]}

# For each threshold: function, text and replacement.
THRESHOLDS = {
    "counted": ("events_find", "most_counted constant integer := 10000",
                "most_counted constant integer := 4"),
    "merged": ("events_find", "most_merged constant integer := 200",
               "most_merged constant integer := 1"),
    "matching": ("events_matching", "LIMIT 1001", "LIMIT 3"),
    "matched": ("events_matching", "<= 1000", "<= 2"),
    "nulls": ("events_find", "most_nulls constant integer := 1000",
              "most_nulls constant integer := 1"),
}
PLANS = {"few of all": [], "many to count": ["counted"],
         "many to count and to merge": ["counted", "merged"],
         "many to count, without names": ["counted", "nulls"],
         "many that match": ["matching", "matched"], "many of all": list(THRESHOLDS)}


@pytest.fixture
def world(api, sql, client, issuer, organization, event, occurrence):
    """An organization's registrations, with nulls and ties in all nullable columns."""
    def make(seed):
        chance = random.Random(seed)
        home = organization()
        events = [event(home, name=name) for name in ("Alpha", "Beta", "Beta", "gamma Ann")]
        places = [occurrence(event_id=one, start_date=start, end_date=None, capacity=4)
                  for one in events for start in ("2031-01-02T00:00:00Z", None)]
        categories = [made for (made,) in sql(
            "INSERT INTO categories (organization_id, name) SELECT %s, 'One' FROM"
            " generate_series(1, 3) RETURNING id::text", home)]
        for one, category in itertools.product(events, categories):
            if chance.random() < 0.6:
                sql("INSERT INTO event_categories (event_id, category_id) VALUES (%s, %s)", one,
                    category)
        made = []
        for _ in range(40):
            one = person(api, sql, chance.choice(places),
                         email=chance.choice([None, "a@example.org", "b@Example.org"]),
                         first_name=chance.choice([None, "Ann", "ann", "Zoë \U0001F600"]),
                         last_name=chance.choice([None, "Bea", "Éa", "%"]))
            if chance.random() < 0.4:
                api.put(f"{MOUNT}/{one['id']}", json={"status": chance.choice(STATUSES)})
            made.append(one)
        sql("UPDATE event_registrations SET created_at = '2031-01-01' WHERE id = ANY (%s::uuid[])",
            [one["id"] for one in made[5:15]])
        for one in made[::6]:
            delete(api, one)
        of = sql("SELECT event_id::text, category_id::text FROM event_categories"
                 " WHERE category_id = ANY (%s::uuid[])", categories)
        tenant = client(issuer.token("somebody", org=home))
        return types.SimpleNamespace(
            api=tenant, of=of, events=events, places=places, categories=categories,
            all=[tenant.get(f"{TENANT_MOUNT}/{one['id']}?withTrashed=1").json() for one in made])
    return make


def random_search(world, chance):
    """Random parameters of a search."""
    some = {
        "eventId": lambda: chance.choice(world.events),
        "occurrenceId": lambda: chance.choice(world.places),
        "status": lambda: chance.choice(STATUSES),
        "categories": lambda: ",".join(chance.sample(world.categories, chance.randint(1, 3))),
        "withTrashed": lambda: "true",
        "search": lambda: chance.choice([
            "ann", "bet", "É", "%", "example.org", "a", "nobody", world.events[0],
            chance.choice(world.all)["user"]["id"]])}
    chosen = {name: value() for name, value in some.items() if chance.random() < 0.35}
    return {**chosen, "sort": f"{chance.choice([*VALUES])} {chance.choice(['ASC', 'DESC'])}"}


def is_found(world, one, wanted):
    user, event = one["user"], one["event"]
    texts = [event["name"], event["id"], user["id"], user["email"], user["firstName"],
             user["lastName"]]
    categories = {category for found, category in world.of if found == event["id"]}
    return (wanted.get("eventId", event["id"]) == event["id"]
            and wanted.get("occurrenceId", one["occurrence"]["id"]) == one["occurrence"]["id"]
            and wanted.get("status", one["status"]) == one["status"]
            and ("categories" not in wanted
                 or categories & set(wanted["categories"].split(",")))
            and ("withTrashed" in wanted or "deletedAt" not in one)
            and any(wanted.get("search", "").lower() in (text or "").lower() for text in texts))


def expected(world, wanted):
    """The expected ids in order: nulls last when ascending, ties by time of creation and id."""
    field, direction = wanted["sort"].split()
    value = VALUES[field]
    found = [one for one in world.all if is_found(world, one, wanted)]
    found.sort(key=lambda one: (value(one) is None, value(one) or "", one["createdAt"],
                                one["id"]), reverse=direction == "DESC")
    return [one["id"] for one in found]


def check(world, chance, most_counted):
    wanted = random_search(world, chance)
    whole, limit = expected(world, wanted), chance.choice([1, 3, 7, 100])
    total = str(len(whole)) if len(whole) <= most_counted else None
    pages = [whole[n:n + limit] for n in range(0, len(whole), limit)] or [[]]
    following, url = [], None
    while url or not following:
        answer = (world.api.get(url) if url else
                  world.api.get(TENANT_MOUNT, params={**wanted, "limit": limit}))
        assert answer.headers.get("X-Total-Count") == total, wanted
        following.append([one["id"] for one in answer.json()])
        assert following == pages[:len(following)], wanted
        url = answer.links.get("next", {}).get("url")
    assert following == pages, wanted
    number = chance.randint(1, len(pages) + 1)
    answer = world.api.get(TENANT_MOUNT, params={**wanted, "limit": limit, "page": number})
    assert [one["id"] for one in answer.json()] == (pages + [[]])[number - 1], (wanted, number)
    if wanted["sort"].startswith("createdAt"):
        lines = world.api.get(TENANT_MOUNT, params=wanted,
                              headers={"Accept": "application/x-ndjson"}).text.splitlines()
        assert [json.loads(line)["id"] for line in lines] == whole, wanted


@pytest.mark.parametrize("plan", PLANS)
def test_search_result_equals_model(world, changed_functions, plan):
    one = world(plan)
    with changed_functions(*(THRESHOLDS[name] for name in PLANS[plan])):
        for seed in range(40):
            check(one, random.Random(f"{plan} {seed}"),
                  4 if "counted" in PLANS[plan] else 10000)


@pytest.mark.parametrize("change", [
    ("events_list_ranges", "value IS NULL OR NOT descending", "value IS NULL"),
    ("events_list_ranges", "IF NOT is_rest OR descending THEN", "IF NOT is_rest THEN"),
    ("events_find", "replace(b.owner_condition, 'w.', 'r.')", "'true'"),
    ("events_list_statement", "AND ($1 IS NULL OR o.id = $1)", ""),
    ("events_find", "|| (condition || ' AND r.deleted_at IS NOT NULL')", "|| ARRAY[]::text[]"),
    ("events_find", "ELSE ARRAY(SELECT unnest(in_events) INTERSECT SELECT unnest(events))",
     "ELSE events"),
    ("events_find", "AND ($3 IS NULL OR r.event_id = ANY ($3))", ""),
], ids=str)
def test_control_changed_search_is_detected(world, changed_functions, change):
    one = world("control")
    with changed_functions(*THRESHOLDS.values(), change), pytest.raises(AssertionError):
        for seed in range(200):
            check(one, random.Random(seed), 4)
