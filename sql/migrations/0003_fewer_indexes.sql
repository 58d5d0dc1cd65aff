-- SPDX-License-Identifier: Apache-2.0
--
-- Fewer indexes of event registrations, as each registration writes all of them.

-- Lists break ties by the time of creation and then by the id, so the indexes by time, which end
-- with both, also serve lists by status, start and event's name.
DROP INDEX event_registrations_live_status;
DROP INDEX event_registrations_live_organization_status;
DROP INDEX event_registrations_live_event_status;
DROP INDEX event_registrations_live_occurrence_status;

-- Lists by address and names read the users in this order, and then the registrations of each.
-- CREATE INDEX reads its table under a lock. If event_users has more than a few million rows,
-- create these before the upgrade with CREATE INDEX CONCURRENTLY.
CREATE INDEX IF NOT EXISTS event_users_by_email ON event_users (email, id);
CREATE INDEX IF NOT EXISTS event_users_by_first_name ON event_users (first_name, id);
CREATE INDEX IF NOT EXISTS event_users_by_last_name ON event_users (last_name, id);
DROP INDEX event_registrations_live_email;
DROP INDEX event_registrations_live_first_name;
DROP INDEX event_registrations_live_last_name;

DROP INDEX event_registrations_live_updated;
ALTER TABLE event_registrations SET (fillfactor = 85);

-- Functions of version 2 whose names or parameters have changed.
DROP FUNCTION IF EXISTS events_list_after(text, boolean, boolean);
DROP FUNCTION IF EXISTS events_list_statement(
    text, text, text, text, text, text, boolean, boolean);
