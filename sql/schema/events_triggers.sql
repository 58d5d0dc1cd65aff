-- SPDX-License-Identifier: Apache-2.0
--
-- Triggers on the tables of events, which keep the data consistent when administrators change
-- rows.

CREATE FUNCTION events_capacity_changed()
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
    'Trigger: gives added places to the waiting list.';

CREATE TRIGGER occurrences_capacity_changed
    AFTER UPDATE OF capacity ON occurrences
    FOR EACH ROW WHEN (OLD.capacity IS DISTINCT FROM NEW.capacity)
    EXECUTE FUNCTION events_capacity_changed();

-- Only for the named columns: an operation that changes the count of an occurrence must not set
-- updated_at.
CREATE TRIGGER events_updated
    BEFORE UPDATE OF name, slug, description ON events
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER occurrences_updated
    BEFORE UPDATE OF start_date, end_date, capacity, waiting_list ON occurrences
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();
CREATE TRIGGER event_users_updated
    BEFORE UPDATE OF external_id, email, first_name, last_name, phone, role, avatar,
                     is_active ON event_users
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- Registrations have copies of these columns, and the operations read them without a lock.
CREATE FUNCTION events_refuse_move()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION '%.% cannot be changed', TG_TABLE_NAME, TG_ARGV[0]
        USING ERRCODE = 'restrict_violation',
              HINT = 'Insert a new row instead.';
END
$$;

COMMENT ON FUNCTION events_refuse_move IS
    'Trigger: refuses to change the event of an occurrence and the organization of an event or '
    'a user.';

CREATE TRIGGER occurrences_stay
    BEFORE UPDATE OF event_id ON occurrences
    FOR EACH ROW WHEN (OLD.event_id <> NEW.event_id)
    EXECUTE FUNCTION events_refuse_move('event_id');
CREATE TRIGGER events_stay
    BEFORE UPDATE OF organization_id ON events
    FOR EACH ROW WHEN (OLD.organization_id <> NEW.organization_id)
    EXECUTE FUNCTION events_refuse_move('organization_id');
CREATE TRIGGER event_users_stay
    BEFORE UPDATE OF organization_id ON event_users
    FOR EACH ROW WHEN (OLD.organization_id <> NEW.organization_id)
    EXECUTE FUNCTION events_refuse_move('organization_id');

CREATE FUNCTION events_user_renamed()
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
    'Trigger: copies a changed name or address of a user to the user''s registrations.';

CREATE TRIGGER event_users_renamed
    AFTER UPDATE OF email, first_name, last_name ON event_users
    FOR EACH ROW
    WHEN ((OLD.email, OLD.first_name, OLD.last_name)
          IS DISTINCT FROM (NEW.email, NEW.first_name, NEW.last_name))
    EXECUTE FUNCTION events_user_renamed();
