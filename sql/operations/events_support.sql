-- SPDX-License-Identifier: Apache-2.0
--
-- What the operations on event registrations share, and the triggers that keep what an
-- administrator's statements would otherwise leave behind.

-- What the client sees, key by key. Named types instead of sub-selects, because the
-- function that fills them is called for every registration and is then expanded in place.
-- CREATE TYPE knows no IF NOT EXISTS.
DO $$
BEGIN
    IF to_regtype('event_answer') IS NULL THEN
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
    END IF;
END
$$;

COMMENT ON TYPE event_answer IS 'An event registration as the client sees it.';
COMMENT ON TYPE event_answer_user IS 'Its user.';
COMMENT ON TYPE event_answer_occurrence IS 'What it is for.';
COMMENT ON TYPE event_answer_event IS 'The event of that.';
COMMENT ON TYPE event_answer_organization IS 'Whose event it is.';

\if :pending
CREATE OR REPLACE VIEW occurrence_answers AS
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
\endif

COMMENT ON VIEW occurrence_answers IS
    'What the answers about its registrations say of an occurrence.';
COMMENT ON COLUMN occurrence_answers.id IS 'The occurrence.';
COMMENT ON COLUMN occurrence_answers.occurrence IS 'The occurrence as the client sees it.';
COMMENT ON COLUMN occurrence_answers.event IS 'Its event.';
COMMENT ON COLUMN occurrence_answers.organization IS 'Its organization.';

CREATE OR REPLACE FUNCTION event_registration_json(
    registration event_registrations,
    attendee event_users,
    place occurrence_answers)
RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT row_to_json(
        ROW(registration.id,
            iso_timestamp(registration.created_at),
            iso_timestamp(registration.updated_at),
            registration.status,
            registration.fields,
            ROW(attendee.id,
                iso_timestamp(attendee.created_at),
                iso_timestamp(attendee.updated_at),
                attendee.organization_id,
                attendee.email,
                attendee.first_name,
                attendee.last_name,
                attendee.role,
                attendee.avatar,
                attendee.is_active)::event_answer_user,
            place.occurrence,
            place.event,
            place.organization)::event_answer)::text
$$;

COMMENT ON FUNCTION event_registration_json IS
    'An event registration as the client sees it while it is not deleted.';

-- deletedAt is there only when there is one.
CREATE OR REPLACE FUNCTION event_registration_body(
    registration event_registrations,
    attendee event_users,
    place occurrence_answers)
RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT CASE
        WHEN registration.deleted_at IS NULL
        THEN event_registration_json(registration, attendee, place)
        ELSE left(event_registration_json(registration, attendee, place), -1)
             || ',"deletedAt":"' || iso_timestamp(registration.deleted_at) || '"}'
    END
$$;

COMMENT ON FUNCTION event_registration_body IS
    'An event registration as the client sees it.';

\if :pending
CREATE OR REPLACE VIEW event_registration_answers AS
    SELECT r.id,
           r.occurrence_id,
           r.organization_id,
           r.deleted_at,
           r.version::text AS version,
           event_registration_body(r, u, p) AS body
      FROM event_registrations AS r
      JOIN event_users AS u ON u.id = r.user_id
      JOIN occurrence_answers AS p ON p.id = r.occurrence_id;
\endif

COMMENT ON VIEW event_registration_answers IS
    'Event registrations as the operations answer them.';
COMMENT ON COLUMN event_registration_answers.id IS 'The registration.';
COMMENT ON COLUMN event_registration_answers.occurrence_id IS 'Its occurrence.';
COMMENT ON COLUMN event_registration_answers.organization_id IS 'Its organization.';
COMMENT ON COLUMN event_registration_answers.deleted_at IS 'When it was deleted.';
COMMENT ON COLUMN event_registration_answers.version IS 'Its version.';
COMMENT ON COLUMN event_registration_answers.body IS 'The JSON the client gets.';

-- RFC 7396. Neither of PostgreSQL's own means will do: || is shallow, and
-- jsonb_strip_nulls drops nulls that were stored on purpose. Each level is merged in one
-- pass: || and - copy the whole object, and one of them a key makes the cost quadratic,
-- under the occurrence's lock. So would hashing them: anybody can make keys that have one
-- hash. SQL's null is a key that one side does not have.
CREATE OR REPLACE FUNCTION json_merge_patch(target jsonb, patch jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET enable_hashjoin = off
AS $$
BEGIN
    IF jsonb_typeof(patch) <> 'object' THEN
        RETURN patch;
    END IF;
    RETURN (
        SELECT coalesce(jsonb_object_agg(key, CASE
                   WHEN p.value IS NULL THEN t.value
                   WHEN jsonb_typeof(p.value) = 'object'
                   THEN json_merge_patch(t.value, p.value)
                   ELSE p.value
               END), '{}')
          FROM jsonb_each(CASE WHEN jsonb_typeof(target) = 'object' THEN target
                               ELSE '{}' END) AS t
          FULL JOIN jsonb_each(patch) AS p USING (key)
         WHERE p.value IS DISTINCT FROM 'null'::jsonb);
END
$$;

COMMENT ON FUNCTION json_merge_patch IS
    'Merges a patch into a JSON value, as RFC 7396 says.';

CREATE OR REPLACE FUNCTION event_status_holds_place(status text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status IN ('PENDING', 'CONFIRMED', 'ATTENDED');

COMMENT ON FUNCTION event_status_holds_place IS
    'Whether a registration of this status holds one of its occurrence''s places.';

CREATE OR REPLACE FUNCTION event_version_excluded(version integer, excluded text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN excluded = '*' OR version::text = ANY (string_to_array(excluded, ' '));

COMMENT ON FUNCTION event_version_excluded IS
    'Whether a version is one of those that If-None-Match names.';

-- Adds to the count of places held and gives free places to those who wait, the
-- longest-waiting first. The occurrence's lock makes the count and the order exact.
-- Returns how many were promoted.
CREATE OR REPLACE FUNCTION events_promote(
    occurrence uuid,
    places_taken integer DEFAULT 0,
    caller text DEFAULT session_user,       -- who has freed the places
    request_id text DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    places integer;             -- null: any number
    held integer;
    waiting uuid;
    promoted uuid[] := '{}';
BEGIN
    SELECT o.capacity, o.registrations + places_taken
      INTO places, held
      FROM occurrences AS o
     WHERE o.id = occurrence
       FOR NO KEY UPDATE;

    FOR waiting IN
        SELECT r.id
          FROM event_registrations AS r
         WHERE r.occurrence_id = occurrence AND r.waiting_number IS NOT NULL
         ORDER BY r.waiting_number
         LIMIT CASE WHEN places IS NOT NULL THEN greatest(places - held, 0) END
    LOOP
        UPDATE event_registrations AS r
           SET status = 'CONFIRMED',
               waiting_number = NULL,
               version = r.version + 1,
               updated_at = clock_timestamp()
         WHERE r.id = waiting AND r.occurrence_id = occurrence;
        promoted := promoted || waiting;
    END LOOP;

    IF promoted <> '{}' THEN
        INSERT INTO audit (action, kind, id, belongs_to, status_before, status_after,
                           caller, request_id)
        SELECT 'promoted', 'event_registration', id, occurrence, 'WAITING_LIST',
               'CONFIRMED', events_promote.caller, events_promote.request_id
          FROM unnest(promoted) AS id;
    END IF;
    IF places_taken + cardinality(promoted) <> 0 THEN
        UPDATE occurrences AS o
           SET registrations = held + cardinality(promoted)
         WHERE o.id = occurrence;
    END IF;
    RETURN cardinality(promoted);
END
$$;

COMMENT ON FUNCTION events_promote IS
    'Gives an occurrence''s free places to those who wait for them, in order.';

CREATE OR REPLACE FUNCTION events_capacity_changed()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM events_promote(NEW.id);
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION events_capacity_changed IS
    'Promotes those who wait when places were added.';

\if :pending
CREATE OR REPLACE TRIGGER occurrences_capacity_changed
    AFTER UPDATE OF capacity ON occurrences
    FOR EACH ROW WHEN (OLD.capacity IS DISTINCT FROM NEW.capacity)
    EXECUTE FUNCTION events_capacity_changed();
\endif

CREATE OR REPLACE FUNCTION events_touch()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION events_touch IS 'Keeps updated_at.';

-- The columns are named so that a count written by an operation is no change.
\if :pending
CREATE OR REPLACE TRIGGER events_updated
    BEFORE UPDATE OF name, slug, description ON events
    FOR EACH ROW EXECUTE FUNCTION events_touch();
CREATE OR REPLACE TRIGGER occurrences_updated
    BEFORE UPDATE OF start_date, end_date, capacity, waiting_list ON occurrences
    FOR EACH ROW EXECUTE FUNCTION events_touch();
CREATE OR REPLACE TRIGGER event_users_updated
    BEFORE UPDATE OF external_id, email, first_name, last_name, phone, role, avatar,
                     is_active ON event_users
    FOR EACH ROW EXECUTE FUNCTION events_touch();
\endif

-- Registrations carry copies of these, and the operations read them without a lock.
CREATE OR REPLACE FUNCTION events_refuse_move()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '%.% cannot be changed', TG_TABLE_NAME, TG_ARGV[0]
        USING ERRCODE = 'restrict_violation',
              HINT = 'Make a new row and leave this one.';
END
$$;

COMMENT ON FUNCTION events_refuse_move IS
    'Keeps an occurrence with its event, and events and users with their '
    'organization.';

\if :pending
CREATE OR REPLACE TRIGGER occurrences_stay
    BEFORE UPDATE OF event_id ON occurrences
    FOR EACH ROW WHEN (OLD.event_id <> NEW.event_id)
    EXECUTE FUNCTION events_refuse_move('event_id');
CREATE OR REPLACE TRIGGER events_stay
    BEFORE UPDATE OF organization_id ON events
    FOR EACH ROW WHEN (OLD.organization_id <> NEW.organization_id)
    EXECUTE FUNCTION events_refuse_move('organization_id');
CREATE OR REPLACE TRIGGER event_users_stay
    BEFORE UPDATE OF organization_id ON event_users
    FOR EACH ROW WHEN (OLD.organization_id <> NEW.organization_id)
    EXECUTE FUNCTION events_refuse_move('organization_id');
\endif

CREATE OR REPLACE FUNCTION events_user_renamed()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    occurrence uuid;
BEGIN
    FOR occurrence IN
        SELECT DISTINCT r.occurrence_id
          FROM event_registrations AS r
         WHERE r.user_id = NEW.id
         ORDER BY r.occurrence_id
    LOOP
        UPDATE event_registrations AS r
           SET email = NEW.email, first_name = NEW.first_name, last_name = NEW.last_name
         WHERE r.occurrence_id = occurrence AND r.user_id = NEW.id;
    END LOOP;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION events_user_renamed IS
    'Carries a user''s new name and address over to where registrations are sorted by'
    ' them.';

\if :pending
CREATE OR REPLACE TRIGGER event_users_renamed
    AFTER UPDATE OF email, first_name, last_name ON event_users
    FOR EACH ROW
    WHEN ((OLD.email, OLD.first_name, OLD.last_name)
          IS DISTINCT FROM (NEW.email, NEW.first_name, NEW.last_name))
    EXECUTE FUNCTION events_user_renamed();
\endif
