-- SPDX-License-Identifier: Apache-2.0
--
-- Event registrations: the reference data an administrator writes, and the
-- registrations the operations write.

-- The form in which text is stored to be searched, and in which a search is
-- put before it is looked for. Case does not count. pg_trgm finds nothing by
-- fewer than three characters, but a name in Japanese or Chinese often has two,
-- so every character outside ASCII stands three times: then one is enough, and
-- a text contains another exactly if their forms do.
CREATE OR REPLACE FUNCTION events_searchable(given text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN regexp_replace(lower(given), '([^\x01-\x7f])', '\1\1\1', 'g');

COMMENT ON FUNCTION events_searchable(text) IS
    'The form in which text is searched: lower case, every character outside ASCII '
    'three times.';

CREATE TABLE IF NOT EXISTS organizations (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name text NOT NULL,
    CONSTRAINT organizations_pkey PRIMARY KEY (id)
);

COMMENT ON TABLE organizations IS 'The organizations that hold events.';
COMMENT ON COLUMN organizations.id IS 'Identifier, shown to clients.';
COMMENT ON COLUMN organizations.name IS 'Name, shown to clients.';

CREATE TABLE IF NOT EXISTS events (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    name text NOT NULL,
    slug text,
    description text,
    created_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    search_text text NOT NULL GENERATED ALWAYS AS
                        (events_searchable(id::text || chr(31) || name)) STORED,
    CONSTRAINT events_pkey PRIMARY KEY (id),
    CONSTRAINT events_organization_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT events_name_length CHECK (char_length(name) <= 255)
);
CREATE INDEX IF NOT EXISTS events_by_organization ON events (organization_id);
CREATE INDEX IF NOT EXISTS events_by_name ON events (name);
CREATE INDEX IF NOT EXISTS events_by_text ON events USING gin (search_text gin_trgm_ops);

COMMENT ON TABLE events IS
    'Events, each of one organization; what one registers for is an occurrence.';
COMMENT ON COLUMN events.id IS 'Identifier, shown to clients and searched.';
COMMENT ON COLUMN events.organization_id IS
    'The organization that holds the event; it never changes.';
COMMENT ON COLUMN events.name IS 'Name, shown to clients, searched and sorted by.';
COMMENT ON COLUMN events.slug IS 'The name as it stands in an address.';
COMMENT ON COLUMN events.description IS 'Description, shown to clients.';
COMMENT ON COLUMN events.created_at IS 'When the row was made.';
COMMENT ON COLUMN events.updated_at IS
    'When an administrator last changed the row; kept by a trigger.';
COMMENT ON COLUMN events.search_text IS
    'What a search looks through, made from id and name.';

CREATE TABLE IF NOT EXISTS categories (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    name text NOT NULL,
    CONSTRAINT categories_pkey PRIMARY KEY (id),
    CONSTRAINT categories_organization_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX IF NOT EXISTS categories_by_organization ON categories (organization_id);

COMMENT ON TABLE categories IS 'Categories by which an organization sorts its events.';
COMMENT ON COLUMN categories.id IS 'Identifier, by which clients filter.';
COMMENT ON COLUMN categories.organization_id IS 'The organization whose category it is.';
COMMENT ON COLUMN categories.name IS 'Name.';

CREATE TABLE IF NOT EXISTS event_categories (
    event_id uuid NOT NULL,
    category_id uuid NOT NULL,
    CONSTRAINT event_categories_pkey PRIMARY KEY (category_id, event_id),
    CONSTRAINT event_categories_event_fkey
        FOREIGN KEY (event_id) REFERENCES events (id) ON DELETE CASCADE,
    CONSTRAINT event_categories_category_fkey
        FOREIGN KEY (category_id) REFERENCES categories (id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS event_categories_by_event ON event_categories (event_id);

COMMENT ON TABLE event_categories IS 'Which event belongs to which categories.';
COMMENT ON COLUMN event_categories.event_id IS 'The event.';
COMMENT ON COLUMN event_categories.category_id IS 'A category it belongs to.';

CREATE TABLE IF NOT EXISTS occurrences (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    event_id uuid NOT NULL,
    start_date timestamptz(3),
    end_date timestamptz(3),
    capacity integer,
    waiting_list boolean NOT NULL DEFAULT true,
    registrations integer NOT NULL DEFAULT 0,
    created_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT occurrences_pkey PRIMARY KEY (id),
    CONSTRAINT occurrences_event_fkey FOREIGN KEY (event_id) REFERENCES events (id),
    CONSTRAINT occurrences_dates CHECK (end_date >= start_date),
    CONSTRAINT occurrences_capacity CHECK (capacity >= 0),
    CONSTRAINT occurrences_registrations CHECK (registrations >= 0)
) WITH (fillfactor = 50); -- room for the count to change without touching an index
CREATE INDEX IF NOT EXISTS occurrences_by_event ON occurrences (event_id);
CREATE INDEX IF NOT EXISTS occurrences_by_start ON occurrences (start_date);

COMMENT ON TABLE occurrences IS
    'The times at which an event takes place. A row is locked while registrations for'
    ' it change.';
COMMENT ON COLUMN occurrences.id IS 'Identifier, by which clients register.';
COMMENT ON COLUMN occurrences.event_id IS 'The event that takes place; it never changes.';
COMMENT ON COLUMN occurrences.start_date IS 'When it starts.';
COMMENT ON COLUMN occurrences.end_date IS 'When it ends.';
COMMENT ON COLUMN occurrences.capacity IS
    'Number of places, null for unlimited. Raised, those who wait are promoted; '
    'lowered below the places held, nobody loses one.';
COMMENT ON COLUMN occurrences.waiting_list IS
    'Whether one may wait for a place when none is left.';
COMMENT ON COLUMN occurrences.registrations IS
    'Places held; kept by the operations, never given by hand.';
COMMENT ON COLUMN occurrences.created_at IS 'When the row was made.';
COMMENT ON COLUMN occurrences.updated_at IS
    'When an administrator last changed the row; kept by a trigger. The count does '
    'not touch it.';

CREATE TABLE IF NOT EXISTS event_users (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    external_id text COLLATE "C" NOT NULL,
    email text,
    first_name text,
    last_name text,
    phone text,
    role text NOT NULL DEFAULT 'attendee',
    avatar text,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    search_text text NOT NULL GENERATED ALWAYS AS (events_searchable(
                        id::text || chr(31) || coalesce(email, '') || chr(31)
                        || coalesce(phone, '') || chr(31) || coalesce(first_name, '')
                        || chr(31) || coalesce(last_name, ''))) STORED,
    CONSTRAINT event_users_pkey PRIMARY KEY (id),
    CONSTRAINT event_users_external_id_key UNIQUE (organization_id, external_id),
    CONSTRAINT event_users_organization_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id),
    CONSTRAINT event_users_external_id_length
        CHECK (char_length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT event_users_email_length CHECK (char_length(email) <= 254),
    CONSTRAINT event_users_first_name_length CHECK (char_length(first_name) <= 255),
    CONSTRAINT event_users_last_name_length CHECK (char_length(last_name) <= 255)
);
CREATE INDEX IF NOT EXISTS event_users_by_text
    ON event_users USING gin (search_text gin_trgm_ops);

COMMENT ON TABLE event_users IS
    'The people who register, each known to one organization.';
COMMENT ON COLUMN event_users.id IS 'Identifier, shown to clients and searched.';
COMMENT ON COLUMN event_users.organization_id IS
    'The organization that knows the user; it never changes.';
COMMENT ON COLUMN event_users.external_id IS
    'What the organization''s own system calls the user.';
COMMENT ON COLUMN event_users.email IS 'E-mail address, searched and sorted by.';
COMMENT ON COLUMN event_users.first_name IS 'First name, searched and sorted by.';
COMMENT ON COLUMN event_users.last_name IS 'Last name, searched and sorted by.';
COMMENT ON COLUMN event_users.phone IS 'Phone number, searched.';
COMMENT ON COLUMN event_users.role IS 'Role, shown to clients.';
COMMENT ON COLUMN event_users.avatar IS 'Address of a picture.';
COMMENT ON COLUMN event_users.is_active IS
    'Whether the user is active, shown to clients.';
COMMENT ON COLUMN event_users.created_at IS 'When the row was made.';
COMMENT ON COLUMN event_users.updated_at IS
    'When an administrator last changed the row; kept by a trigger.';
COMMENT ON COLUMN event_users.search_text IS
    'What a search looks through, made from id, email, phone and names.';

-- Numbers are taken under the occurrence's lock, so that they tell who came first.
-- One at a time, not cached by session: a cached one would be out of order.
CREATE SEQUENCE IF NOT EXISTS event_waiting_numbers AS bigint CACHE 1;

COMMENT ON SEQUENCE event_waiting_numbers IS
    'Gives the places in the waiting lists their order.';

CREATE TABLE IF NOT EXISTS event_registrations (
    id uuid NOT NULL,
    occurrence_id uuid NOT NULL,
    event_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    user_id uuid NOT NULL,
    status text NOT NULL,
    fields jsonb NOT NULL DEFAULT '{}',
    version integer NOT NULL DEFAULT 1,
    last_call uuid,
    waiting_number bigint,
    email text,
    first_name text,
    last_name text,
    created_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz(3),
    CONSTRAINT event_registrations_pkey PRIMARY KEY (id, occurrence_id),
    CONSTRAINT event_registrations_occurrence_fkey
        FOREIGN KEY (occurrence_id) REFERENCES occurrences (id),
    CONSTRAINT event_registrations_user_fkey
        FOREIGN KEY (user_id) REFERENCES event_users (id),
    CONSTRAINT event_registrations_status CHECK
        (status IN ('PENDING', 'CONFIRMED', 'CANCELLED', 'WAITING_LIST', 'ATTENDED')),
    CONSTRAINT event_registrations_fields CHECK (jsonb_typeof(fields) = 'object'),
    CONSTRAINT event_registrations_waiting_number CHECK
        ((waiting_number IS NOT NULL) = (status = 'WAITING_LIST' AND deleted_at IS NULL))
);
-- For a database that was made before there was one.
ALTER TABLE event_registrations ADD COLUMN IF NOT EXISTS last_call uuid;

COMMENT ON TABLE event_registrations IS
    'Registrations for occurrences. One that is deleted stays, with its deleted_at.';
COMMENT ON COLUMN event_registrations.id IS 'Identifier, shown to clients.';
COMMENT ON COLUMN event_registrations.occurrence_id IS 'What the user registered for.';
COMMENT ON COLUMN event_registrations.event_id IS
    'The occurrence''s event, copied to filter by.';
COMMENT ON COLUMN event_registrations.organization_id IS
    'The event''s organization, copied to filter by.';
COMMENT ON COLUMN event_registrations.user_id IS 'Who registered.';
COMMENT ON COLUMN event_registrations.status IS
    'PENDING, CONFIRMED and ATTENDED hold a place; CANCELLED and WAITING_LIST do not.';
COMMENT ON COLUMN event_registrations.fields IS
    'What the registrant gave, any JSON object.';
COMMENT ON COLUMN event_registrations.version IS
    'Raised by each change to the row, promotion too.';
COMMENT ON COLUMN event_registrations.last_call IS
    'The id of the call that last changed or deleted it, by which that call, made again '
    'because its answer was lost, recognizes what it did.';
COMMENT ON COLUMN event_registrations.waiting_number IS
    'The order in the waiting list, the lowest first; only while waiting.';
COMMENT ON COLUMN event_registrations.email IS
    'The user''s, copied to sort by; kept by a trigger.';
COMMENT ON COLUMN event_registrations.first_name IS
    'The user''s, copied to sort by; kept by a trigger.';
COMMENT ON COLUMN event_registrations.last_name IS
    'The user''s, copied to sort by; kept by a trigger.';
COMMENT ON COLUMN event_registrations.created_at IS 'When the registration was made.';
COMMENT ON COLUMN event_registrations.updated_at IS 'When it was last changed.';
COMMENT ON COLUMN event_registrations.deleted_at IS
    'When it was deleted, null while it is not.';

-- A user holds at most one registration for an occurrence that counts.
CREATE UNIQUE INDEX IF NOT EXISTS event_registrations_one_per_user
    ON event_registrations (occurrence_id, user_id)
    WHERE deleted_at IS NULL AND status <> 'CANCELLED';
CREATE INDEX IF NOT EXISTS event_registrations_waiting
    ON event_registrations (occurrence_id, waiting_number)
    WHERE waiting_number IS NOT NULL;
CREATE INDEX IF NOT EXISTS event_registrations_by_user
    ON event_registrations (user_id);

-- The lists. Each index ends with the id, which breaks ties, so a page is read off the
-- index in order, and what a deep page skips is not looked at. Deleted rows are kept out
-- of them, so that many of those do not slow a list down.
--
-- By time, all and in an event, and by time with a status. An organization's and an
-- occurrence's list of every status is merged from the five; one of everything is not,
-- where a search would have to be made five times, nor is an event's, where a category's
-- is merged from its events already.
CREATE INDEX IF NOT EXISTS event_registrations_live_created
    ON event_registrations (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS event_registrations_live_event_created
    ON event_registrations (event_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS event_registrations_live_status_created
    ON event_registrations (status, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS event_registrations_live_organization_status_created
    ON event_registrations (organization_id, status, created_at, id)
    WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS event_registrations_live_occurrence_status_created
    ON event_registrations (occurrence_id, status, created_at, id)
    WHERE deleted_at IS NULL;
-- By status. Those of events and occurrences are also for the lists by the event's name
-- and by the start, which go through the events or the occurrences in that order and in
-- each through its registrations, and for the registrations of one status in an event.
CREATE INDEX IF NOT EXISTS event_registrations_live_status
    ON event_registrations (status, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS event_registrations_live_organization_status
    ON event_registrations (organization_id, status, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS event_registrations_live_event_status
    ON event_registrations (event_id, status, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS event_registrations_live_occurrence_status
    ON event_registrations (occurrence_id, status, id) WHERE deleted_at IS NULL;
-- By what else they are sorted by.
CREATE INDEX IF NOT EXISTS event_registrations_live_updated
    ON event_registrations (updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS event_registrations_live_email
    ON event_registrations (email, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS event_registrations_live_first_name
    ON event_registrations (first_name, id) WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS event_registrations_live_last_name
    ON event_registrations (last_name, id) WHERE deleted_at IS NULL;

-- A list by time with the deleted ones is merged from both. These cost nothing until a
-- registration is deleted.
CREATE INDEX IF NOT EXISTS event_registrations_deleted_created
    ON event_registrations (created_at, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS event_registrations_deleted_status_created
    ON event_registrations (status, created_at, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS event_registrations_deleted_organization_status_created
    ON event_registrations (organization_id, status, created_at, id)
    WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS event_registrations_deleted_occurrence_status_created
    ON event_registrations (occurrence_id, status, created_at, id)
    WHERE deleted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS event_registrations_deleted_event_created
    ON event_registrations (event_id, created_at, id) WHERE deleted_at IS NOT NULL;
