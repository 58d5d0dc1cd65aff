-- SPDX-License-Identifier: Apache-2.0
--
-- Fewer indexes of event registrations, as each registration writes all of them.

-- Lists break ties by the time of creation and then by the id, so the indexes by time, which end
-- with both, also serve lists by status, start and event's name.
DROP INDEX event_registrations_live_status;
DROP INDEX event_registrations_live_organization_status;
DROP INDEX event_registrations_live_event_status;
DROP INDEX event_registrations_live_occurrence_status;

-- CREATE INDEX reads its table under a lock. If a table has more than a few million rows, create
-- these indexes before the upgrade with CREATE INDEX CONCURRENTLY.
--
-- The index by update must have the same order of ties. It alone makes each change of fields write
-- all indexes; docs/operating.md says when to drop it.
CREATE INDEX IF NOT EXISTS event_registrations_live_updated_created
    ON event_registrations (updated_at, created_at, id) WHERE deleted_at IS NULL;
DROP INDEX event_registrations_live_updated;

-- Lists by address and names read the users in this order, and then the registrations of each,
-- for which they need no row: neither to skip deleted ones nor to sort.
CREATE INDEX IF NOT EXISTS event_registrations_by_user_created
    ON event_registrations (user_id, created_at, id) INCLUDE (deleted_at);
DROP INDEX event_registrations_by_user;
CREATE INDEX IF NOT EXISTS event_users_by_email ON event_users (email, id);
CREATE INDEX IF NOT EXISTS event_users_by_first_name ON event_users (first_name, id);
CREATE INDEX IF NOT EXISTS event_users_by_last_name ON event_users (last_name, id);
DROP INDEX event_registrations_live_email;
DROP INDEX event_registrations_live_first_name;
DROP INDEX event_registrations_live_last_name;

-- Answers are concatenated from columns. 0003_unused.sql drops what version 2 had for them.
CREATE VIEW occurrence_json AS
    SELECT o.id,
           '"occurrence":{"id":"' || o.id
           || '","createdAt":' || json_timestamp(o.created_at)
           || ',"updatedAt":' || json_timestamp(o.updated_at)
           || ',"startDate":' || json_timestamp(o.start_date)
           || ',"endDate":' || json_timestamp(o.end_date)
           || ',"capacity":' || coalesce(o.capacity::text, 'null')
           || ',"registrations":' || o.registrations
           || '},"event":{"id":"' || e.id
           || '","createdAt":' || json_timestamp(e.created_at)
           || ',"updatedAt":' || json_timestamp(e.updated_at)
           || ',"name":' || json_text(e.name)
           || ',"slug":' || json_text(e.slug)
           || ',"description":' || json_text(e.description)
           || '},"organization":{"id":"' || g.id
           || '","name":' || json_text(g.name) || '}' AS answer
      FROM occurrences AS o
      JOIN events AS e ON e.id = o.event_id
      JOIN organizations AS g ON g.id = e.organization_id;

COMMENT ON VIEW occurrence_json IS
    'The part of an answer that is the same for all registrations of an occurrence.';
COMMENT ON COLUMN occurrence_json.id IS 'The id of the occurrence.';
COMMENT ON COLUMN occurrence_json.answer IS
    'The occurrence, its event and its organization, as JSON without the braces around them.';
