-- SPDX-License-Identifier: Apache-2.0
--
-- Events: reference data, which administrators write, and registrations, which the operations
-- write.

-- The normalized form of stored texts and of searches. pg_trgm indexes groups of three
-- characters, but a name in Japanese or Chinese often has two: so each character outside ASCII is
-- tripled. Then one such character is enough, and a text contains another exactly if its form
-- contains the other's form.
CREATE FUNCTION events_searchable(given text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN regexp_replace(lower(given), '([^\x01-\x7f])', '\1\1\1', 'g');

COMMENT ON FUNCTION events_searchable(text) IS
    'The normalized form of a text for searches: lower case, each character outside ASCII '
    'tripled.';

CREATE TABLE organizations (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    name text NOT NULL,
    CONSTRAINT organizations_pkey PRIMARY KEY (id)
);

COMMENT ON TABLE organizations IS 'Organizations, which hold events.';
COMMENT ON COLUMN organizations.id IS 'Identifier, shown to clients.';
COMMENT ON COLUMN organizations.name IS 'Name, shown to clients.';

CREATE TABLE events (
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
CREATE INDEX events_by_organization ON events (organization_id);
CREATE INDEX events_by_name ON events (name);
CREATE INDEX events_by_text ON events USING gin (search_text gin_trgm_ops);

COMMENT ON TABLE events IS
    'Events, each of one organization. Users register for an occurrence of an event.';
COMMENT ON COLUMN events.id IS 'Identifier, shown to clients and searched.';
COMMENT ON COLUMN events.organization_id IS
    'The organization that holds the event; cannot be changed.';
COMMENT ON COLUMN events.name IS 'Name, shown to clients, searched and sorted by.';
COMMENT ON COLUMN events.slug IS 'The name in URLs.';
COMMENT ON COLUMN events.description IS 'Description, shown to clients.';
COMMENT ON COLUMN events.created_at IS 'The time of creation.';
COMMENT ON COLUMN events.updated_at IS
    'The time of an administrator''s last change; set by a trigger.';
COMMENT ON COLUMN events.search_text IS
    'The searched text: the normalized id and name.';

CREATE TABLE categories (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id uuid NOT NULL,
    name text NOT NULL,
    CONSTRAINT categories_pkey PRIMARY KEY (id),
    CONSTRAINT categories_organization_fkey
        FOREIGN KEY (organization_id) REFERENCES organizations (id)
);
CREATE INDEX categories_by_organization ON categories (organization_id);

COMMENT ON TABLE categories IS 'Categories of the events of an organization.';
COMMENT ON COLUMN categories.id IS 'Identifier, which clients filter by.';
COMMENT ON COLUMN categories.organization_id IS 'The organization.';
COMMENT ON COLUMN categories.name IS 'Name.';

CREATE TABLE event_categories (
    event_id uuid NOT NULL,
    category_id uuid NOT NULL,
    CONSTRAINT event_categories_pkey PRIMARY KEY (category_id, event_id),
    CONSTRAINT event_categories_event_fkey
        FOREIGN KEY (event_id) REFERENCES events (id) ON DELETE CASCADE,
    CONSTRAINT event_categories_category_fkey
        FOREIGN KEY (category_id) REFERENCES categories (id) ON DELETE CASCADE
);
CREATE INDEX event_categories_by_event ON event_categories (event_id);

COMMENT ON TABLE event_categories IS 'The categories of each event.';
COMMENT ON COLUMN event_categories.event_id IS 'The event.';
COMMENT ON COLUMN event_categories.category_id IS 'One of its categories.';

CREATE TABLE occurrences (
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
) WITH (fillfactor = 50); -- as of live_sessions: a registration changes the count only
CREATE INDEX occurrences_by_event ON occurrences (event_id);
CREATE INDEX occurrences_by_start ON occurrences (start_date);

COMMENT ON TABLE occurrences IS
    'The dates of events. A row is locked while its registrations are changed.';
COMMENT ON COLUMN occurrences.id IS 'Identifier, which clients register with.';
COMMENT ON COLUMN occurrences.event_id IS 'The event; cannot be changed.';
COMMENT ON COLUMN occurrences.start_date IS 'The start.';
COMMENT ON COLUMN occurrences.end_date IS 'The end.';
COMMENT ON COLUMN occurrences.capacity IS
    'The number of places; null: unlimited. Raising it promotes registrations from the waiting '
    'list; lowering it below the number of held places takes none away.';
COMMENT ON COLUMN occurrences.waiting_list IS
    'Whether registrations go to a waiting list when no place is free.';
COMMENT ON COLUMN occurrences.registrations IS
    'The number of held places; maintained by the operations, never written by hand.';
COMMENT ON COLUMN occurrences.created_at IS 'The time of creation.';
COMMENT ON COLUMN occurrences.updated_at IS
    'The time of an administrator''s last change; set by a trigger. Changes of '
    'registrations do not set it.';

CREATE TABLE event_users (
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
CREATE INDEX event_users_by_text
    ON event_users USING gin (search_text gin_trgm_ops);

COMMENT ON TABLE event_users IS
    'The registered users, each of one organization.';
COMMENT ON COLUMN event_users.id IS 'Identifier, shown to clients and searched.';
COMMENT ON COLUMN event_users.organization_id IS
    'The organization of the user; cannot be changed.';
COMMENT ON COLUMN event_users.external_id IS
    'The id of the user in the organization''s own system.';
COMMENT ON COLUMN event_users.email IS 'E-mail address, searched and sorted by.';
COMMENT ON COLUMN event_users.first_name IS 'First name, searched and sorted by.';
COMMENT ON COLUMN event_users.last_name IS 'Last name, searched and sorted by.';
COMMENT ON COLUMN event_users.phone IS 'Phone number, searched.';
COMMENT ON COLUMN event_users.role IS 'Role, shown to clients.';
COMMENT ON COLUMN event_users.avatar IS 'URL of a picture, shown to clients.';
COMMENT ON COLUMN event_users.is_active IS
    'Whether the user is active, shown to clients.';
COMMENT ON COLUMN event_users.created_at IS 'The time of creation.';
COMMENT ON COLUMN event_users.updated_at IS
    'The time of an administrator''s last change; set by a trigger.';
COMMENT ON COLUMN event_users.search_text IS
    'The searched text: the normalized id, email, phone and names.';

-- A number is taken under the lock of the occurrence, so numbers are in the order of arrival.
-- CACHE 1: numbers cached by a session would be out of order.
CREATE SEQUENCE event_waiting_numbers AS bigint CACHE 1;

COMMENT ON SEQUENCE event_waiting_numbers IS
    'The order of the waiting lists.';

CREATE TABLE event_registrations (
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

COMMENT ON TABLE event_registrations IS
    'Registrations for occurrences. A deleted registration stays, with its deleted_at.';
COMMENT ON COLUMN event_registrations.id IS 'Identifier, shown to clients.';
COMMENT ON COLUMN event_registrations.occurrence_id IS 'The occurrence.';
COMMENT ON COLUMN event_registrations.event_id IS
    'The event of the occurrence, a copy for filters.';
COMMENT ON COLUMN event_registrations.organization_id IS
    'The organization of the event, a copy for filters.';
COMMENT ON COLUMN event_registrations.user_id IS 'The registered user.';
COMMENT ON COLUMN event_registrations.status IS
    'PENDING, CONFIRMED and ATTENDED hold a place; CANCELLED and WAITING_LIST do not.';
COMMENT ON COLUMN event_registrations.fields IS
    'Data given with the registration, any JSON object.';
COMMENT ON COLUMN event_registrations.version IS
    'Incremented by each change, including a promotion; the ETag.';
COMMENT ON COLUMN event_registrations.last_call IS
    'The id of the call that last changed or deleted the registration. By it, a retry of the '
    'call, whose answer was lost, recognizes that the change is done.';
COMMENT ON COLUMN event_registrations.waiting_number IS
    'The position in the waiting list, the lowest first; null unless waiting.';
COMMENT ON COLUMN event_registrations.email IS
    'The user''s, a copy for sorting; set by a trigger.';
COMMENT ON COLUMN event_registrations.first_name IS
    'The user''s, a copy for sorting; set by a trigger.';
COMMENT ON COLUMN event_registrations.last_name IS
    'The user''s, a copy for sorting; set by a trigger.';
COMMENT ON COLUMN event_registrations.created_at IS 'The time of the registration.';
COMMENT ON COLUMN event_registrations.updated_at IS 'The time of the last change.';
COMMENT ON COLUMN event_registrations.deleted_at IS
    'The time of the deletion; null: not deleted.';

-- A user has at most one registration for an occurrence that is neither deleted nor cancelled.
CREATE UNIQUE INDEX event_registrations_one_per_user
    ON event_registrations (occurrence_id, user_id)
    WHERE deleted_at IS NULL AND status <> 'CANCELLED';
CREATE INDEX event_registrations_waiting
    ON event_registrations (occurrence_id, waiting_number)
    WHERE waiting_number IS NOT NULL;
CREATE INDEX event_registrations_by_user
    ON event_registrations (user_id);

-- Indexes for lists. Each ends with the id, which breaks ties: a page is read from the index in
-- order, without a sort, and the rows that a deep page skips are not read. They are partial, so
-- that deleted rows do not slow lists down.
--
-- By time: of all, of an event, and by status. For an organization or an occurrence, a list of
-- all statuses is merged from five scans, one for each status. The list of all registrations is
-- not, as a search would then run five times; nor is that of an event, as the list of a category
-- is already merged from the lists of its events.
CREATE INDEX event_registrations_live_created
    ON event_registrations (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX event_registrations_live_event_created
    ON event_registrations (event_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX event_registrations_live_status_created
    ON event_registrations (status, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX event_registrations_live_organization_status_created
    ON event_registrations (organization_id, status, created_at, id)
    WHERE deleted_at IS NULL;
CREATE INDEX event_registrations_live_occurrence_status_created
    ON event_registrations (occurrence_id, status, created_at, id)
    WHERE deleted_at IS NULL;
-- By status. The indexes by event and by occurrence are also used for lists sorted by the event's
-- name or the start, which read the events or the occurrences in that order and then the
-- registrations of each.
CREATE INDEX event_registrations_live_status
    ON event_registrations (status, id) WHERE deleted_at IS NULL;
CREATE INDEX event_registrations_live_organization_status
    ON event_registrations (organization_id, status, id) WHERE deleted_at IS NULL;
CREATE INDEX event_registrations_live_event_status
    ON event_registrations (event_id, status, id) WHERE deleted_at IS NULL;
CREATE INDEX event_registrations_live_occurrence_status
    ON event_registrations (occurrence_id, status, id) WHERE deleted_at IS NULL;
-- By the other sort columns.
CREATE INDEX event_registrations_live_updated
    ON event_registrations (updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX event_registrations_live_email
    ON event_registrations (email, id) WHERE deleted_at IS NULL;
CREATE INDEX event_registrations_live_first_name
    ON event_registrations (first_name, id) WHERE deleted_at IS NULL;
CREATE INDEX event_registrations_live_last_name
    ON event_registrations (last_name, id) WHERE deleted_at IS NULL;

-- A list by time with deleted registrations is merged from both kinds of index. These have no
-- entries until a registration is deleted.
CREATE INDEX event_registrations_deleted_created
    ON event_registrations (created_at, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX event_registrations_deleted_status_created
    ON event_registrations (status, created_at, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX event_registrations_deleted_organization_status_created
    ON event_registrations (organization_id, status, created_at, id)
    WHERE deleted_at IS NOT NULL;
CREATE INDEX event_registrations_deleted_occurrence_status_created
    ON event_registrations (occurrence_id, status, created_at, id)
    WHERE deleted_at IS NOT NULL;
CREATE INDEX event_registrations_deleted_event_created
    ON event_registrations (event_id, created_at, id) WHERE deleted_at IS NOT NULL;
