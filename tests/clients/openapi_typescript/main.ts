// SPDX-License-Identifier: Apache-2.0
//
// Calls each operation with the client of openapi-typescript and openapi-fetch. The
// environment has its parameters, see test_clients.py. It prints the id of each operation
// whose answer is correct. Types are checked by tsc, values here.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];

declare const process: { env: Record<string, string> };

const { REGISTRATION_URL, REGISTRATION_TOKEN, REGISTRATION_DATA } = process.env;
const data: {
    session: string; group: string; plan: string; code: string; institution: string;
    child: string; occurrence: string; start_date: string; username: string; emails: string[];
} = JSON.parse(REGISTRATION_DATA!);
const client = createClient<paths>({
    baseUrl: REGISTRATION_URL!,
    headers: { Authorization: `Bearer ${REGISTRATION_TOKEN}` },
});
const year = 365 * 24 * 3600 * 1000;

function isNow(time: string): boolean {
    return Math.abs(Date.now() - Date.parse(time)) < year;
}

function equal(one: unknown, other: unknown): boolean {
    return JSON.stringify(one) === JSON.stringify(other);
}

function done(operation: string, isRight: boolean): void {
    if (!isRight) {
        throw new Error(operation);
    }
    console.log(operation);
}

/** Returns the data of a success; exits for any other answer. */
function got<Data>(answer: { data?: Data; error?: unknown }): NonNullable<Data> {
    if (answer.error !== undefined || answer.data === undefined) {
        throw new Error(JSON.stringify(answer.error));
    }
    return answer.data!;
}

function member(email: string): Schemas["MemberRequest"] {
    return {
        inviteCode: data.code,
        groupMember: {
            user: {
                email, gender: "preferNotToSay", locale: "de-AT", birthDate: "2000-02-29",
                mobileNumber: "+19195551212",
            },
            tags: ["one"],
            attributes: { room: { floor: 2 } },
            planSettings: { startDate: "2030-01-01" },
        },
    };
}

function isMember(found: Schemas["Member"], email: string): boolean {
    return found.user.email === email && equal(found.attributes, { room: { floor: 2 } })
        && equal(found.tags, ["one"]) && found.user.birthDate === "2000-02-29"
        && equal(found.planSettings, { startDate: "2030-01-01", endDate: null })
        && found.user.firstName === null && found.user.gender === "preferNotToSay"
        && isNow(found.user.created);
}

const made: Schemas["LiveRegistration"] = got(await client.POST(
    "/v1/sessions/{id}/register", {
        params: {
            path: { id: data.session },
            header: { "Idempotency-Key": data.session },
        },
        body: { guest_email: data.emails[0]! },
    }));
done("registerForLiveSession", made.guest_email === data.emails[0] && made.patient_id === null
    && made.role === "guest" && made.session_id === data.session && isNow(made.registered_at));

const group = data.group;
const first = got(await client.POST("/api/v1/groups/{group}/members", {
    params: { path: { group } }, body: member(data.emails[0]!),
}));
done("registerGroupMember", isMember(first, data.emails[0]!));
done("registerUser", isMember(
    got(await client.POST("/api/v1/users", { body: member(data.emails[1]!) })),
    data.emails[1]!));
done("getGroup", got(await client.GET(
    "/api/v1/groups/{group}", { params: { path: { group } } })).uuid === group);
done("getPlan", got(await client.GET("/api/v1/groups/{group}/plans/{plan}", {
    params: { path: { group, plan: data.plan } },
})).uuid === data.plan);
const user = first.user.uuid;
done("getUser", equal(first, got(await client.GET(
    "/api/v1/groups/{group}/users/{user}", { params: { path: { group, user } } }))));
done("getMember", equal(first, got(await client.GET(
    "/api/v1/groups/{group}/members/{user}", { params: { path: { group, user } } }))));

const family = got(await client.POST("/v1/families", {
    body: {
        username: data.username, password: "mys3cr3tp4ss", children: [data.child],
        institution_id: data.institution,
    },
}));
done("registerFamily", family.username === data.username
    && equal(family.children.map(({ id, age }) => [id, age]), [[data.child, 7]]));

const fields = { email: data.emails[0], seat: { row: 1, near: ["aisle"] } };
const event = got(await client.POST("/api/v1/event-registrations", {
    body: { occurrenceId: data.occurrence, externalUserId: data.username, fields },
}));
const status: "PENDING" | "CONFIRMED" | "CANCELLED" | "WAITING_LIST" | "ATTENDED" =
    event.status;
const startDate: string | null = event.occurrence.startDate;
const seat: unknown = event.fields["seat"];
done("createEventRegistration", event.fields["email"] === data.emails[0]
    && (seat as { row: number }).row === 1 && status === "CONFIRMED"
    && event.occurrence.id === data.occurrence && event.occurrence.registrations === 1
    && event.user.email === data.emails[0] && isNow(event.createdAt)
    && Date.parse(startDate!) === Date.parse(data.start_date));
const path = { id: event.id };
done("getEventRegistration", equal(event, got(await client.GET(
    "/api/v1/event-registrations/{id}", { params: { path } }))));
done("searchEventRegistrations", equal([event], got(await client.GET(
    "/api/v1/event-registrations", {
        params: { query: { occurrenceId: data.occurrence, limit: 5 } },
    }))));

const minimal = await client.PUT("/api/v1/event-registrations/{id}", {
    params: { path, header: { Prefer: "return=minimal" } }, body: { status: "ATTENDED" },
});
if (minimal.response.status !== 204 || minimal.data !== undefined) {
    throw new Error("an answer without a body was expected");
}
const changed = got(await client.PUT("/api/v1/event-registrations/{id}", {
    params: { path, header: { "If-Match": minimal.response.headers.get("ETag")! } },
    body: { fields: { seat: null, note: "early" } },
}));
done("updateEventRegistration", changed.status === "ATTENDED"
    && Object.keys(changed.fields).length === 2 && changed.fields["note"] === "early");
const deleted = got(await client.DELETE(
    "/api/v1/event-registrations/{id}", { params: { path } }));
done("deleteEventRegistration", deleted.id === event.id && isNow(deleted.deletedAt!));

const missing = await client.GET("/api/v1/event-registrations/{id}", { params: { path } });
const error: Schemas["EventsError"] | undefined = missing.error;
if (error?.statusCode !== 404) {
    throw new Error("a deleted registration was found");
}
