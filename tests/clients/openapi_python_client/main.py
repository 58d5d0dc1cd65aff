# SPDX-License-Identifier: Apache-2.0
"""Calls each operation with the client of openapi-python-client.

The environment has its parameters, see test_clients.py. It prints the id of each operation
whose answer is correct.
"""

import datetime
import json
import os
import ssl
import types
import uuid

from registration import AuthenticatedClient, models as m
from registration.api.events import (create_event_registration, delete_event_registration,
                                     get_event_registration, search_event_registrations,
                                     update_event_registration)
from registration.api.families import register_family
from registration.api.groups import (get_group, get_member, get_plan, get_user,
                                     register_group_member, register_user)
from registration.api.live import register_for_live_session

data = types.SimpleNamespace(**json.loads(os.environ["REGISTRATION_DATA"]))
client = AuthenticatedClient(
    base_url=os.environ["REGISTRATION_URL"], token=os.environ["REGISTRATION_TOKEN"],
    verify_ssl=ssl.create_default_context(cafile=os.environ["REGISTRATION_CACERT"]),
    raise_on_unexpected_status=True)
YEAR = datetime.timedelta(days=365)


def is_now(time):
    return abs(datetime.datetime.now(datetime.timezone.utc) - time) < YEAR


def done(operation, is_right):
    assert is_right, operation
    print(operation)


def member(email):
    attributes = m.MemberRequestGroupMemberAttributesType0.from_dict({"room": {"floor": 2}})
    return m.MemberRequest(
        invite_code=data.code, group_member=m.MemberRequestGroupMember(
            user=m.MemberRequestGroupMemberUser(
                email=email, gender=m.Gender.PREFERNOTTOSAY, locale="de-AT",
                birth_date=datetime.date(2000, 2, 29), mobile_number="+19195551212"),
            tags=["one"], attributes=attributes,
            plan_settings=m.MemberRequestGroupMemberPlanSettingsType0(
                start_date=datetime.date(2030, 1, 1))))


def is_member(found, email):
    return (isinstance(found, m.Member) and found.user.email == email
            and found.attributes["room"] == {"floor": 2} and found.tags == ["one"]
            and found.user.birth_date == datetime.date(2000, 2, 29)
            and found.plan_settings.start_date == datetime.date(2030, 1, 1)
            and found.plan_settings.end_date is None and found.user.first_name is None
            and found.user.gender == m.Gender.PREFERNOTTOSAY and is_now(found.user.created))


made = register_for_live_session.sync(
    uuid.UUID(data.session), client=client, body=m.LiveRequest(guest_email=data.emails[0]),
    idempotency_key=str(uuid.uuid4()))
done("registerForLiveSession",
     isinstance(made, m.LiveRegistration) and made.guest_email == data.emails[0]
     and made.patient_id is None and made.role == m.LiveRole.GUEST
     and str(made.session_id) == data.session and is_now(made.registered_at))

group, plan = uuid.UUID(data.group), uuid.UUID(data.plan)
first = register_group_member.sync(group, client=client, body=member(data.emails[0]))
done("registerGroupMember", is_member(first, data.emails[0]))
second = register_user.sync(client=client, body=member(data.emails[1]))
done("registerUser", is_member(second, data.emails[1]))
done("getGroup", get_group.sync(group, client=client).uuid == group)
done("getPlan", get_plan.sync(group, plan, client=client).uuid == plan)
done("getUser", get_user.sync(group, first.user.uuid, client=client) == first)
done("getMember", get_member.sync(group, first.user.uuid, client=client) == first)

family = register_family.sync(client=client, body=m.FamilyRequest(
    username=data.username, password="mys3cr3tp4ss", children=[data.child],
    institution_id=data.institution))
done("registerFamily", isinstance(family, m.Family) and family.username == data.username
     and [(child.id, child.age) for child in family.children] == [(data.child, 7)])

occurrence = uuid.UUID(data.occurrence)
fields = {"email": data.emails[0], "seat": {"row": 1, "near": ["aisle"]}}
event = create_event_registration.sync(client=client, body=m.EventRequest(
    occurrence_id=occurrence, external_user_id=data.username,
    fields=m.EventRequestFields.from_dict(fields)))
done("createEventRegistration",
     isinstance(event, m.EventRegistration) and event.fields.to_dict() == fields
     and event.status == m.EventStatus.CONFIRMED and event.occurrence.id == occurrence
     and event.occurrence.registrations == 1 and event.user.email == data.emails[0]
     and is_now(event.created_at)
     and event.occurrence.start_date == datetime.datetime.fromisoformat(data.start_date))
done("getEventRegistration", get_event_registration.sync(event.id, client=client) == event)
done("searchEventRegistrations", search_event_registrations.sync(
    client=client, occurrence_id=occurrence, limit=5) == [event])

answer = update_event_registration.sync_detailed(
    event.id, client=client, body=m.EventUpdate(status=m.EventStatus.ATTENDED),
    prefer="return=minimal")
assert (answer.status_code, answer.parsed) == (204, None)
changed = update_event_registration.sync(
    event.id, client=client, if_match=answer.headers["ETag"],
    body=m.EventUpdate(fields=m.EventUpdateFields.from_dict({"seat": None, "note": "early"})))
done("updateEventRegistration", changed.status == m.EventStatus.ATTENDED
     and changed.fields.to_dict() == {"email": data.emails[0], "note": "early"})
deleted = delete_event_registration.sync(event.id, client=client)
done("deleteEventRegistration", deleted.id == event.id and is_now(deleted.deleted_at))

missing = get_event_registration.sync(event.id, client=client)
assert isinstance(missing, m.EventsError) and missing.status_code == 404
