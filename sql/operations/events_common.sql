-- SPDX-License-Identifier: Apache-2.0
--
-- Functions that several operations on event registrations use.

-- The body of an answer is concatenated from columns: types and row_to_json cost half as much
-- again. It has the parts head, user, place (of the view occurrence_json) and end. A function
-- with a row as its parameter is inlined, so that only the named columns are read.
CREATE OR REPLACE FUNCTION event_registration_head(registration event_registrations)
RETURNS text
LANGUAGE sql STABLE
RETURN '{"id":"' || registration.id
    || '","createdAt":' || json_timestamp(registration.created_at)
    || ',"updatedAt":' || json_timestamp(registration.updated_at)
    || ',"status":"' || registration.status
    || '","fields":' || registration.fields::text
    || ',"user":';

COMMENT ON FUNCTION event_registration_head IS
    'The beginning of an answer about an event registration, before the user.';

CREATE OR REPLACE FUNCTION event_user_json(attendee event_users)
RETURNS text
LANGUAGE sql STABLE
RETURN '{"id":"' || attendee.id
    || '","createdAt":' || json_timestamp(attendee.created_at)
    || ',"updatedAt":' || json_timestamp(attendee.updated_at)
    || ',"organizationId":"' || attendee.organization_id
    || '","email":' || json_text(attendee.email)
    || ',"firstName":' || json_text(attendee.first_name)
    || ',"lastName":' || json_text(attendee.last_name)
    || ',"role":' || json_text(attendee.role)
    || ',"avatar":' || json_text(attendee.avatar)
    || ',"isActive":' || attendee.is_active || '},';

COMMENT ON FUNCTION event_user_json IS 'The user in an answer, with the comma behind it.';

-- The ids that the module makes are UUIDs of version 7, which begin with the milliseconds since
-- 1970. So the order by time of creation and then by id is the order by id.
CREATE OR REPLACE FUNCTION event_created_at(id uuid)
RETURNS timestamptz
LANGUAGE sql STABLE
RETURN CASE
    WHEN substr(id::text, 15, 1) = '7'
    THEN to_timestamp(('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint
                      / 1000::double precision)
    ELSE now()
END;

COMMENT ON FUNCTION event_created_at IS
    'The time of creation of a registration: that in its id; now if the id has none.';

-- deletedAt is omitted, not null, while the registration is not deleted.
CREATE OR REPLACE FUNCTION event_registration_end(registration event_registrations)
RETURNS text
LANGUAGE sql STABLE
RETURN CASE
    WHEN registration.deleted_at IS NULL THEN '}'
    ELSE ',"deletedAt":' || json_timestamp(registration.deleted_at) || '}'
END;

COMMENT ON FUNCTION event_registration_end IS
    'The end of an answer about an event registration, after the place.';

CREATE OR REPLACE FUNCTION event_registration_answer(wanted uuid)
RETURNS TABLE (version text, body text)
LANGUAGE sql STABLE
AS $$
    SELECT r.version::text,
           event_registration_head(r) || event_user_json(u) || p.answer
           || event_registration_end(r)
      FROM event_registrations AS r
      JOIN event_users AS u ON u.id = r.user_id
      JOIN occurrence_json AS p ON p.id = r.occurrence_id
     WHERE r.id = wanted
$$;

COMMENT ON FUNCTION event_registration_answer IS
    'The version and the body of an event registration.';

-- RFC 7396. PostgreSQL has no function for it: || is shallow, and jsonb_strip_nulls drops stored
-- nulls. Each level is merged in one pass. A || or - for each key would copy the object each time:
-- quadratic cost, under the lock of the occurrence. A hash join would cost the same for keys that
-- a client chose to have the same hash, so the join is a merge join, also if the caller of the
-- function has merge joins switched off. An SQL null stands for a key that one side does not have.
CREATE OR REPLACE FUNCTION json_merge_patch(target jsonb, patch jsonb)
RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE
SET enable_hashjoin = off
SET enable_mergejoin = on
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
    'Applies a JSON merge patch (RFC 7396).';

CREATE OR REPLACE FUNCTION event_status_holds_place(status text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status IN ('PENDING', 'CONFIRMED', 'ATTENDED');

COMMENT ON FUNCTION event_status_holds_place IS
    'Whether a registration with this status holds a place of its occurrence.';

-- Update and delete lock occurrences in the order of their ids, so that two calls lock in the
-- same order. An id of a registration alone does not name its occurrence.
CREATE OR REPLACE FUNCTION events_in_lock_order(ids uuid[], organization_ids uuid[])
RETURNS TABLE (item integer, occurrence_id uuid)
LANGUAGE sql STABLE
AS $$
    SELECT q.n::integer, r.occurrence_id
      FROM unnest(ids, organization_ids) WITH ORDINALITY AS q (id, organization_id, n)
      LEFT JOIN event_registrations AS r
        ON r.id = q.id
       AND (q.organization_id IS NULL OR r.organization_id = q.organization_id)
     ORDER BY r.occurrence_id, q.n
$$;

COMMENT ON FUNCTION events_in_lock_order IS
    'The requests of a batch in the order in which they are processed, each with the '
    'occurrence of its registration; null: the organization has no such registration.';

-- The registration is read after the lock is granted, as it may have changed while the call
-- waited.
CREATE OR REPLACE FUNCTION events_lock(
    registration_id uuid,
    target uuid,                -- its occurrence
    call_id uuid,
    with_trashed boolean,
    versions text,              -- that If-Match accepts; null: no condition; '': none
    excluded_versions text,     -- that If-None-Match excludes; null: none; '*': all
    OUT occurrence occurrences,
    OUT registration event_registrations,
    OUT is_repeated boolean,    -- a retry of the call that last changed the registration
    OUT refusal text)           -- not_found; changed: a condition does not hold; null: none
LANGUAGE plpgsql
AS $$
BEGIN
    SELECT o.* INTO occurrence
      FROM occurrences AS o WHERE o.id = target FOR NO KEY UPDATE;
    SELECT r.* INTO registration
      FROM event_registrations AS r
     WHERE r.id = registration_id AND r.occurrence_id = target
       AND (r.deleted_at IS NULL OR with_trashed OR r.last_call = call_id);
    is_repeated := registration.last_call = call_id;
    refusal := CASE
        WHEN registration.id IS NULL THEN 'not_found'
        WHEN is_repeated THEN NULL
        WHEN registration.version::text <> ALL (string_to_array(versions, ' '))
             OR excluded_versions = '*'
             OR registration.version::text = ANY (string_to_array(excluded_versions, ' '))
        THEN 'changed'
    END;
END
$$;

COMMENT ON FUNCTION events_lock IS
    'Locks the occurrence of an event registration, reads both, and checks the conditions of '
    'the request. For events_update() and events_delete().';

-- Adds to the number of held places and gives free places to the waiting list, the longest-waiting
-- first. Under the lock of the occurrence, the count and the order are exact. Returns the number of
-- promoted registrations.
CREATE OR REPLACE FUNCTION events_promote(
    occurrence uuid,
    places_taken integer DEFAULT 0,
    caller text DEFAULT session_user,       -- that freed the places
    request_id text DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    places integer;             -- null: unlimited
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
               updated_at = greatest(clock_timestamp(), r.updated_at)
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
    'Gives the free places of an occurrence to its waiting list, in order.';
