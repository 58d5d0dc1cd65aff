-- SPDX-License-Identifier: Apache-2.0
--
-- How export_person() and erase_person() find the rows of a person: by indexes of names in lower
-- case, without a lock; person_is() then compares exactly.
--
-- These and other functions for administrators have SET enable_seqscan = off, as sessions of
-- administrators do not have the settings of role registration (see schema/roles.sql): each
-- row is found by an index.

CREATE OR REPLACE FUNCTION person_is(person text, id text, email text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT person <> ''
           AND (coalesce(id = person, false)
                OR coalesce(lower(email COLLATE "C") = lower(person COLLATE "C"), false)
                OR coalesce(person LIKE '%@%'
                            AND lower(id COLLATE "C") = lower(person COLLATE "C"), false))
$$;

COMMENT ON FUNCTION person_is IS
    'Whether the id or the e-mail address belongs to the person. Addresses are compared without '
    'regard to case, also an id that is an address. An empty text matches nothing.';

CREATE OR REPLACE FUNCTION person_rows(person text)
RETURNS TABLE (kind audit_kind, id text, belongs_to text)
LANGUAGE plpgsql STABLE
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    name text COLLATE "C" := lower(person COLLATE "C");
    pattern text := '%' || regexp_replace(events_searchable(person), '([\\%_])', '\\\1', 'g')
                        || '%';
    users uuid[] := ARRAY(
        SELECT u.id FROM event_users AS u
         WHERE lower(u.external_id) = name AND person_is(person, u.external_id, NULL)
         UNION
        SELECT u.id FROM event_users AS u
         WHERE u.search_text LIKE pattern AND person_is(person, NULL, u.email));
BEGIN
    RETURN QUERY
    SELECT 'live_registration'::audit_kind, r.id::text, r.session_id::text
      FROM live_registrations AS r
     WHERE (lower(r.patient_id) = name OR lower(r.guest_email) = name)
       AND person_is(person, r.patient_id, r.guest_email)
     UNION ALL
    SELECT 'group_member', m.id::text, m.group_id::text
      FROM member_emails AS e
      JOIN group_members AS m ON m.id = e.member_id AND m.group_id = e.group_id
     WHERE e.email = name AND person_is(person, NULL, m.email)
     UNION ALL
    SELECT 'family', f.id, f.institution_id
      FROM families AS f
     WHERE lower(f.username) = name AND person_is(person, f.username, NULL)
     UNION ALL
    SELECT 'event_user', u.id::text, u.organization_id::text
      FROM event_users AS u
     WHERE u.id = ANY (users)
     UNION ALL
   (SELECT 'event_registration'::audit_kind, r.id::text, r.occurrence_id::text
      FROM event_registrations AS r
     WHERE r.user_id = ANY (users)
     UNION
    SELECT 'event_registration'::audit_kind, r.id::text, r.occurrence_id::text
      FROM event_registrations AS r
     WHERE r.fields_email = left(name, 255)
       AND person_is(person, NULL, r.fields ->> 'email'));
END
$$;

COMMENT ON FUNCTION person_rows IS
    'The registrations of a person, and the event users that are the person. For '
    'administrators.';

-- Also finds answers about registrations that were removed or changed later.
CREATE OR REPLACE FUNCTION person_answers(person text, row_ids text[])
RETURNS SETOF idempotency_keys
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    names text[] := array_append(row_ids, left(lower(person COLLATE "C"), 255));
BEGIN
    RETURN QUERY
    SELECT k.*
      FROM idempotency_keys AS k
     CROSS JOIN LATERAL (SELECT k.body::jsonb, k.body::jsonb -> 'user') AS a (body, "user")
     WHERE answer_names(k.body) && names
       AND (person_is(person, a.body ->> 'patient_id', a.body ->> 'guest_email')
            OR person_is(person, a.body ->> 'username', a."user" ->> 'email')
            OR person_is(person, NULL, a.body -> 'fields' ->> 'email')
            OR ARRAY[a.body ->> 'id', a."user" ->> 'id', a."user" ->> 'uuid'] && row_ids);
END
$$;

COMMENT ON FUNCTION person_answers IS
    'The answers stored under an Idempotency-Key that contain the person or one of these rows.';

-- Not part of export_person(), as it reads both tables completely.
CREATE OR REPLACE FUNCTION person_mentions(person text)
RETURNS TABLE (kind audit_kind, id text, belongs_to text)
LANGUAGE plpgsql STABLE
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    -- As a JSON string, without its quotation marks.
    written text := lower(substr(to_json(person)::text, 2, length(to_json(person)::text) - 2));
BEGIN
    RETURN QUERY
    SELECT m.* FROM (
        SELECT 'event_registration'::audit_kind, r.id::text, r.occurrence_id::text
          FROM event_registrations AS r
         WHERE strpos(lower(r.fields::text), written) > 0
         UNION ALL
        SELECT 'group_member', g.id::text, g.group_id::text
          FROM group_members AS g
         WHERE strpos(lower(g.attributes::text || ' ' || g.tags::text || ' '
                            || g.settings::text || ' ' || g.notification_settings::text),
                      written) > 0) AS m (kind, id, belongs_to)
     WHERE written <> ''
       AND (m.kind, m.id) NOT IN (SELECT p.kind, p.id FROM person_rows(person) AS p);
END
$$;

COMMENT ON FUNCTION person_mentions IS
    'Registrations and group members of other persons whose fields, attributes, tags or '
    'settings contain the person, in any case. erase_person() does not change them: check each. '
    'Reads both tables completely, without a lock. For administrators.';
