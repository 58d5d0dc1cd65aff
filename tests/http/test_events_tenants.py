# SPDX-License-Identifier: Apache-2.0
"""RegistrationOrganization: a mount restricted to one tenant, the organization of the token.

test_rights.py tests each operation with the token of this, another and no organization.
"""

import types

import pytest

from conftest import ORGANIZATION, new_uuid
from event_registrations import (MOUNT, OTHER_ORGANIZATION, TENANT_MOUNT, UNKNOWN, category_of,
                                 create, created, error)

OTHER_OCCURRENCE = "123e4567-e89b-12d3-a456-426614174009"   # Other Org's, of the demo data


@pytest.fixture
def of(client, issuer):
    """of(organization): a client with a token of that organization."""
    return lambda organization: client(issuer.token("somebody", org=organization))


@pytest.fixture
def two(api, of, organization, event, occurrence):
    """Two organizations, each with an occurrence, a registration for it, and a client."""
    def make():
        one = types.SimpleNamespace(id=organization("A tenant"))
        one.event = event(one.id, name="A tenant's event")
        one.occurrence = occurrence(event_id=one.event)
        one.registration = created(api, one.occurrence, "somebody")
        one.url = f"{TENANT_MOUNT}/{one.registration['id']}"
        one.api = of(one.id)
        return one
    return make(), make()


# --- The tenant's own registrations --------------------------------------------------------

def test_own_registration_can_be_created_read_changed_and_deleted(two):
    own, _ = two
    answer = create(own.api, own.occurrence, "another", mount=TENANT_MOUNT)
    assert answer.status_code == 201
    url = answer.headers["Location"]
    assert url == f"{TENANT_MOUNT}/{answer.json()['id']}"
    assert answer.json()["organization"]["id"] == own.id
    assert own.api.get(url).json() == answer.json()
    assert own.api.put(url, json={"status": "ATTENDED"}).json()["status"] == "ATTENDED"
    assert own.api.delete(url).status_code == 200
    assert own.api.get(url + "?withTrashed=1").status_code == 200


def test_organization_claim_is_case_insensitive(two, of):
    own, _ = two
    assert of(own.id.upper()).get(own.url).status_code == 200


# --- Registrations of another tenant -------------------------------------------------------

def test_occurrence_of_other_tenant_is_404_like_unknown_one(two):
    own, other = two
    answers = [create(own.api, occurrence, "another", mount=TENANT_MOUNT)
               for occurrence in (other.occurrence, UNKNOWN)]
    for answer in answers:
        error(answer, 404, "Occurrence not found")
    assert answers[0].text == answers[1].text


@pytest.mark.parametrize("headers", [{}, {"If-Match": "*"}, {"If-None-Match": "*"}], ids=str)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_registration_of_other_tenant_is_404_like_unknown_one(two, method, headers):
    own, other = two
    answers = [own.api.request(method, f"{TENANT_MOUNT}/{id}?withTrashed=1",
                               json={"status": "CANCELLED"}, headers=headers)
               for id in (other.registration["id"], UNKNOWN)]
    for answer in answers:
        assert answer.status_code == 404
        assert "ETag" not in answer.headers
        if method != "HEAD":
            error(answer, 404, "Registration not found")
    assert answers[0].text == answers[1].text
    assert answers[0].headers["Content-Length"] == answers[1].headers["Content-Length"]
    assert other.api.get(other.url).json() == other.registration


def test_trashed_registration_of_other_tenant_is_404(two):
    own, other = two
    other.api.delete(other.url)
    for method in ("GET", "DELETE"):
        error(own.api.request(method, other.url + "?withTrashed=true"), 404)


@pytest.mark.parametrize("accept", ["text/csv", "application/x-ndjson"])
def test_whole_list_has_own_registrations_only(two, accept):
    own, other = two
    text = own.api.get(TENANT_MOUNT, headers={"Accept": accept}).text
    assert own.registration["id"] in text
    assert other.registration["id"] not in text and other.id not in text


def test_waiting_registration_of_other_tenant_cannot_be_promoted(two, sql):
    own, other = two
    sql("UPDATE occurrences SET capacity = 1 WHERE id = %s", other.occurrence)
    waiting = create(other.api, other.occurrence, "another", mount=TENANT_MOUNT).json()
    assert waiting["status"] == "WAITING_LIST"
    for method in ("PUT", "DELETE"):
        error(own.api.request(method, other.url, json={"status": "CANCELLED"}), 404)
    assert other.api.get(f"{TENANT_MOUNT}/{waiting['id']}").json()["status"] == "WAITING_LIST"


@pytest.mark.parametrize("filter", [
    "", "eventId={event}", "occurrenceId={occurrence}", "search={event}",
    "search=tenant's event", "search=somebody", "search={user}", "status=CONFIRMED",
    "withTrashed=true", "categories={category}", "sort=eventName", "sort=startDate DESC"])
def test_search_finds_own_registrations_only(two, sql, filter):
    own, other = two
    query = filter.format(event=other.event, occurrence=other.occurrence,
                          category=category_of(sql, other.event),
                          user=other.registration["user"]["id"])
    listed = other.api.get(f"{TENANT_MOUNT}?{query}")
    assert {one["organization"]["id"] for one in listed.json()} <= {other.id}
    if "somebody" not in filter:   # An external id is not searched.
        assert listed.json() == [other.registration]
        assert listed.headers["X-Total-Count"] == "1"
    listed = own.api.get(f"{TENANT_MOUNT}?{query}")
    assert {one["organization"]["id"] for one in listed.json()} <= {own.id}
    assert listed.headers["X-Total-Count"] == str(len(listed.json()))


def test_links_stay_within_mount(two):
    own, _ = two
    created(own.api, own.occurrence, "another", mount=TENANT_MOUNT)
    answer = own.api.get(f"{TENANT_MOUNT}?limit=1")
    assert answer.headers["X-Total-Count"] == "2"
    assert answer.links["next"]["url"].startswith(TENANT_MOUNT + "?")
    assert len(own.api.get(answer.links["next"]["url"]).json()) == 1


def test_mount_without_directive_has_no_tenant_limit(two):
    own, other = two
    for one in (own, other):
        assert own.api.get(f"{MOUNT}/{one.registration['id']}").status_code == 200
        assert len(own.api.get(f"{MOUNT}?eventId={one.event}").json()) == 1


def test_other_organization_of_demo_is_not_accessible(api):
    error(create(api, OTHER_OCCURRENCE, mount=TENANT_MOUNT), 404, "Occurrence not found")
    registration = created(api, OTHER_OCCURRENCE, new_uuid())
    assert registration["organization"] == {"id": OTHER_ORGANIZATION, "name": "Other Org"}
    error(api.get(f"{TENANT_MOUNT}/{registration['id']}"), 404)
    api.delete(f"{MOUNT}/{registration['id']}")


# --- Tokens without organization -----------------------------------------------------------

@pytest.mark.parametrize("organization", [
    None, "", "x", "Tech Corp", ORGANIZATION + "0", "{" + ORGANIZATION + "}", 7, True,
    [ORGANIZATION], {"id": ORGANIZATION}, f"{ORGANIZATION} {OTHER_ORGANIZATION}", "*", "%"],
    ids=str)
def test_token_without_valid_organization_is_403(of, organization):
    assert error(of(organization).get(TENANT_MOUNT), 403) == {}


def test_missing_organization_is_403_before_other_errors(of):
    without_tenant = of(None)
    # A CORS preflight has no token.
    assert without_tenant.options(TENANT_MOUNT).status_code == 204
    for method in ("GET", "HEAD", "POST"):
        assert without_tenant.request(method, TENANT_MOUNT, json={}).status_code == 403
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = without_tenant.request(method, f"{TENANT_MOUNT}/{UNKNOWN}", json={})
        assert answer.status_code == 403
    for method, url in (("PATCH", TENANT_MOUNT), ("GET", f"{TENANT_MOUNT}/x/y"),
                        ("GET", f"{TENANT_MOUNT}?limit=x"), ("PUT", f"{TENANT_MOUNT}/x")):
        answer = without_tenant.request(method, url, data="no json",
                                        headers={"Content-Type": "text/plain"})
        assert error(answer, 403) == {}


def test_organization_in_request_header_is_ignored(of):
    without_tenant = of(None)
    for name in ("OAUTH2_CLAIM_org", "OAUTH2-CLAIM-org", "org"):
        answer = without_tenant.get(f"{TENANT_MOUNT}?org={ORGANIZATION}&OAUTH2_CLAIM_org="
                                    f"{ORGANIZATION}", headers={name: ORGANIZATION})
        error(answer, 403)


def test_organization_in_process_environment_is_ignored(start_httpd, client, issuer,
                                                        monkeypatch):
    monkeypatch.setenv("OAUTH2_CLAIM_org", ORGANIZATION)
    without_tenant = client(issuer.token("somebody"), start_httpd())
    error(without_tenant.get(TENANT_MOUNT), 403)


def test_organization_may_be_any_expression(start_httpd, client, token, two):
    own, other = two
    httpd = start_httpd(inside=f"""
        <Location "/fixed">
            RegistrationAPI events
            RegistrationOrganization {own.id}
        </Location>
        <Location "/header">
            RegistrationAPI events
            RegistrationOrganization "%{{HTTP:X-Organization}}"
        </Location>""")
    api = client(token, httpd)
    assert api.get(f"/fixed/{own.registration['id']}").status_code == 200
    error(api.get(f"/fixed/{other.registration['id']}"), 404)
    error(api.get(f"/header/{own.registration['id']}"), 403)
    headers = {"X-Organization": own.id}
    assert api.get(f"/header/{own.registration['id']}", headers=headers).status_code == 200
    error(api.get(f"/header/{other.registration['id']}", headers=headers), 404)
