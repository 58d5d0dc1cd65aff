-- SPDX-License-Identifier: Apache-2.0
--
-- What the operations on event registrations share, and the triggers that keep what an
-- administrator's statements would otherwise leave behind.

-- The registration a client sees. The rows are passed in, not looked up, because a call
-- that registers many has them at hand, with a count that is not written yet.
CREATE OR REPLACE FUNCTION event_registration_body(
    registration event_registrations,
    attendee event_users,
    occurrence occurrences,
    event events,
    organization organizations)
RETURNS text
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    body text;
BEGIN
    SELECT row_to_json(answer)::text
      INTO body
      FROM (SELECT registration.id,
                   iso_timestamp(registration.created_at) AS "createdAt",
                   iso_timestamp(registration.updated_at) AS "updatedAt",
                   registration.status,
                   registration.fields,
                   (SELECT row_to_json(part)
                      FROM (SELECT attendee.id,
                                   iso_timestamp(attendee.created_at) AS "createdAt",
                                   iso_timestamp(attendee.updated_at) AS "updatedAt",
                                   attendee.organization_id AS "organizationId",
                                   attendee.email,
                                   attendee.first_name AS "firstName",
                                   attendee.last_name AS "lastName",
                                   attendee.role,
                                   attendee.avatar,
                                   attendee.is_active AS "isActive") AS part) AS "user",
                   (SELECT row_to_json(part)
                      FROM (SELECT occurrence.id,
                                   iso_timestamp(occurrence.created_at) AS "createdAt",
                                   iso_timestamp(occurrence.updated_at) AS "updatedAt",
                                   iso_timestamp(occurrence.start_date) AS "startDate",
                                   iso_timestamp(occurrence.end_date) AS "endDate",
                                   occurrence.capacity,
                                   occurrence.registrations) AS part) AS occurrence,
                   (SELECT row_to_json(part)
                      FROM (SELECT event.id,
                                   iso_timestamp(event.created_at) AS "createdAt",
                                   iso_timestamp(event.updated_at) AS "updatedAt",
                                   event.name,
                                   event.slug,
                                   event.description) AS part) AS event,
                   (SELECT row_to_json(part)
                      FROM (SELECT organization.id,
                                   organization.name) AS part) AS organization) AS answer;

    -- deletedAt is there only when there is one.
    IF registration.deleted_at IS NOT NULL THEN
        body := left(body, -1) || ',"deletedAt":"'
                || iso_timestamp(registration.deleted_at) || '"}';
    END IF;
    RETURN body;
END
$$;

COMMENT ON FUNCTION event_registration_body IS
    'An event registration as the client sees it.';

CREATE OR REPLACE VIEW event_registration_answers AS
    SELECT r.id,
           r.occurrence_id,
           r.organization_id,
           r.deleted_at,
           r.version::text AS version,
           event_registration_body(r, u, o, e, g) AS body
      FROM event_registrations AS r
      JOIN event_users AS u ON u.id = r.user_id
      JOIN occurrences AS o ON o.id = r.occurrence_id
      JOIN events AS e ON e.id = r.event_id
      JOIN organizations AS g ON g.id = r.organization_id;

COMMENT ON VIEW event_registration_answers IS
    'Event registrations as the operations answer them.';
COMMENT ON COLUMN event_registration_answers.id IS 'The registration.';
COMMENT ON COLUMN event_registration_answers.occurrence_id IS 'Its occurrence.';
COMMENT ON COLUMN event_registration_answers.organization_id IS 'Its organization.';
COMMENT ON COLUMN event_registration_answers.deleted_at IS 'When it was deleted.';
COMMENT ON COLUMN event_registration_answers.version IS 'Its version.';
COMMENT ON COLUMN event_registration_answers.body IS 'The JSON the client gets.';

-- RFC 7396. Neither of PostgreSQL's own means will do: || is shallow, and
-- jsonb_strip_nulls drops nulls that were stored on purpose.
CREATE OR REPLACE FUNCTION json_merge_patch(target jsonb, patch jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    member record;
BEGIN
    IF jsonb_typeof(patch) <> 'object' THEN
        RETURN patch;
    END IF;
    IF target IS NULL OR jsonb_typeof(target) <> 'object' THEN
        target := '{}';
    END IF;
    FOR member IN SELECT m.key, m.value FROM jsonb_each(patch) AS m LOOP
        IF member.value = 'null' THEN
            target := target - member.key;
        ELSE
            target := target || jsonb_build_object(
                member.key, json_merge_patch(target -> member.key, member.value));
        END IF;
    END LOOP;
    RETURN target;
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

-- Adds to the count of places held and gives free places to those who wait, the
-- longest-waiting first. The occurrence's lock makes the count and the order exact.
-- Returns how many were promoted.
CREATE OR REPLACE FUNCTION events_promote(occurrence uuid, places_taken integer DEFAULT 0)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    places integer;             -- null: any number
    held integer;
    waiting uuid;
    promoted integer := 0;
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
        promoted := promoted + 1;
    END LOOP;

    IF places_taken + promoted <> 0 THEN
        UPDATE occurrences AS o
           SET registrations = held + promoted
         WHERE o.id = occurrence;
    END IF;
    RETURN promoted;
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

CREATE OR REPLACE TRIGGER occurrences_capacity_changed
    AFTER UPDATE OF capacity ON occurrences
    FOR EACH ROW WHEN (OLD.capacity IS DISTINCT FROM NEW.capacity)
    EXECUTE FUNCTION events_capacity_changed();

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

CREATE OR REPLACE TRIGGER event_users_renamed
    AFTER UPDATE OF email, first_name, last_name ON event_users
    FOR EACH ROW
    WHEN ((OLD.email, OLD.first_name, OLD.last_name)
          IS DISTINCT FROM (NEW.email, NEW.first_name, NEW.last_name))
    EXECUTE FUNCTION events_user_renamed();
