# SPDX-License-Identifier: Apache-2.0
"""Calls each operation with the Python client of openapi-generator.

The environment has its parameters, see test_clients.py. It prints the id of each operation
whose answer is correct.
"""

import datetime
import json
import os
import types
import uuid

import registration as r

data = types.SimpleNamespace(**json.loads(os.environ["REGISTRATION_DATA"]))
configuration = r.Configuration(host=os.environ["REGISTRATION_URL"],
                                access_token=os.environ["REGISTRATION_TOKEN"],
                                ssl_ca_cert=os.environ["REGISTRATION_CACERT"])
api = r.ApiClient(configuration)
live, groups, families, events = (r.LiveApi(api), r.GroupsApi(api), r.FamiliesApi(api),
                                  r.EventsApi(api))
YEAR = datetime.timedelta(days=365)


def is_now(time):
    return abs(datetime.datetime.now(datetime.timezone.utc) - time) < YEAR


def done(operation, is_right):
    assert is_right, operation
    print(operation)


def member(email):
    return r.MemberRequest(
        invite_code=data.code, group_member=r.MemberRequestGroupMember(
            user=r.MemberRequestGroupMemberUser(
                email=email, gender=r.Gender.PREFERNOTTOSAY, locale="de-AT",
                birth_date=datetime.date(2000, 2, 29), mobile_number="+19195551212"),
            tags=["one"], attributes={"room": {"floor": 2}},
            plan_settings=r.MemberRequestGroupMemberPlanSettings(
                start_date=datetime.date(2030, 1, 1))))


def is_member(found, email):
    return (isinstance(found, r.Member) and found.user.email == email
            and found.attributes == {"room": {"floor": 2}} and found.tags == ["one"]
            and found.user.birth_date == datetime.date(2000, 2, 29)
            and found.plan_settings.start_date == datetime.date(2030, 1, 1)
            and found.plan_settings.end_date is None and found.user.first_name is None
            and found.user.gender == r.Gender.PREFERNOTTOSAY and is_now(found.user.created))


made = live.register_for_live_session(
    uuid.UUID(data.session), r.LiveRequest(guest_email=data.emails[0]),
    idempotency_key=str(uuid.uuid4()))
done("registerForLiveSession",
     made.guest_email == data.emails[0] and made.patient_id is None
     and made.role == r.LiveRole.GUEST and str(made.session_id) == data.session
     and is_now(made.registered_at))

group, plan = uuid.UUID(data.group), uuid.UUID(data.plan)
first = groups.register_group_member(group, member(data.emails[0]))
done("registerGroupMember", is_member(first, data.emails[0]))
done("registerUser", is_member(groups.register_user(member(data.emails[1])), data.emails[1]))
done("getGroup", groups.get_group(group).uuid == group)
done("getPlan", groups.get_plan(group, plan).uuid == plan)
done("getUser", groups.get_user(group, first.user.uuid) == first)
done("getMember", groups.get_member(group, first.user.uuid) == first)

family = families.register_family(r.FamilyRequest(
    username=data.username, password="mys3cr3tp4ss", children=[data.child],
    institution_id=data.institution))
done("registerFamily", family.username == data.username
     and [(child.id, child.age) for child in family.children] == [(data.child, 7)])

occurrence = uuid.UUID(data.occurrence)
fields = {"email": data.emails[0], "seat": {"row": 1, "near": ["aisle"]}}
event = events.create_event_registration(r.EventRequest(
    occurrence_id=occurrence, external_user_id=data.username, fields=fields))
done("createEventRegistration",
     event.fields == fields and event.status == r.EventStatus.CONFIRMED
     and event.occurrence.id == occurrence and event.occurrence.registrations == 1
     and event.user.email == data.emails[0] and is_now(event.created_at)
     and event.occurrence.start_date == datetime.datetime.fromisoformat(data.start_date))
done("getEventRegistration", events.get_event_registration(event.id) == event)
done("searchEventRegistrations",
     events.search_event_registrations(occurrence_id=occurrence, limit=5) == [event])

answer = events.update_event_registration_with_http_info(
    event.id, r.EventUpdate(status=r.EventStatus.ATTENDED), prefer="return=minimal")
assert (answer.status_code, answer.data) == (204, None)
changed = events.update_event_registration(
    event.id, r.EventUpdate(fields={"seat": None, "note": "early"}),
    if_match=answer.headers["ETag"])
done("updateEventRegistration", changed.status == r.EventStatus.ATTENDED
     and changed.fields == {"email": data.emails[0], "note": "early"})
deleted = events.delete_event_registration(event.id)
done("deleteEventRegistration", deleted.id == event.id and is_now(deleted.deleted_at))

try:
    events.get_event_registration(event.id)
except r.exceptions.NotFoundException as error:
    assert isinstance(error.data, r.EventsError) and error.data.status_code == 404
else:
    raise AssertionError("a deleted registration was found")
