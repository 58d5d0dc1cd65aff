-- SPDX-License-Identifier: Apache-2.0
--
-- The bodies of answers about event registrations. Named types instead of subqueries: the
-- planner can then inline the function that fills them, which is called for each registration.

CREATE TYPE event_answer_user AS (
    id uuid,
    "createdAt" text,
    "updatedAt" text,
    "organizationId" uuid,
    email text,
    "firstName" text,
    "lastName" text,
    role text,
    avatar text,
    "isActive" boolean
);
CREATE TYPE event_answer_occurrence AS (
    id uuid,
    "createdAt" text,
    "updatedAt" text,
    "startDate" text,
    "endDate" text,
    capacity integer,
    registrations integer
);
CREATE TYPE event_answer_event AS (
    id uuid,
    "createdAt" text,
    "updatedAt" text,
    name text,
    slug text,
    description text
);
CREATE TYPE event_answer_organization AS (
    id uuid,
    name text
);
CREATE TYPE event_answer AS (
    id uuid,
    "createdAt" text,
    "updatedAt" text,
    status text,
    fields jsonb,
    "user" event_answer_user,
    occurrence event_answer_occurrence,
    event event_answer_event,
    organization event_answer_organization
);

COMMENT ON TYPE event_answer IS 'The body of an answer about an event registration.';
COMMENT ON TYPE event_answer_user IS 'Its user.';
COMMENT ON TYPE event_answer_occurrence IS 'Its occurrence.';
COMMENT ON TYPE event_answer_event IS 'The event of the occurrence.';
COMMENT ON TYPE event_answer_organization IS 'The organization of the event.';

CREATE VIEW occurrence_answers AS
    SELECT o.id,
           ROW(o.id, iso_timestamp(o.created_at), iso_timestamp(o.updated_at),
               iso_timestamp(o.start_date), iso_timestamp(o.end_date), o.capacity,
               o.registrations)::event_answer_occurrence AS occurrence,
           ROW(e.id, iso_timestamp(e.created_at), iso_timestamp(e.updated_at), e.name,
               e.slug, e.description)::event_answer_event AS event,
           ROW(g.id, g.name)::event_answer_organization AS organization
      FROM occurrences AS o
      JOIN events AS e ON e.id = o.event_id
      JOIN organizations AS g ON g.id = e.organization_id;

COMMENT ON VIEW occurrence_answers IS
    'The parts of an answer that are the same for all registrations of an occurrence.';
COMMENT ON COLUMN occurrence_answers.id IS 'The id of the occurrence.';
COMMENT ON COLUMN occurrence_answers.occurrence IS 'The occurrence, in answers.';
COMMENT ON COLUMN occurrence_answers.event IS 'Its event, in answers.';
COMMENT ON COLUMN occurrence_answers.organization IS 'Its organization, in answers.';
