-- SPDX-License-Identifier: Apache-2.0
--
-- What export_person() and erase_person() share: how a person's rows are found. They are
-- looked for among all, without an index: that takes seconds and is seldom done.

CREATE OR REPLACE FUNCTION person_is(person text, id text, email text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT coalesce(id = person, false)
           OR coalesce(lower(email COLLATE "C") = lower(person COLLATE "C"), false)
$$;

COMMENT ON FUNCTION person_is IS
    'Whether the id or, without regard to case, the e-mail address is that of the person.';

CREATE OR REPLACE FUNCTION person_is_caller(person text, caller text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT person_is(person, caller, CASE WHEN caller LIKE '%@%' THEN caller END)
$$;

COMMENT ON FUNCTION person_is_caller IS
    'Whether the person is that caller, who may have an id or an e-mail address.';

CREATE OR REPLACE FUNCTION person_rows(person text)
RETURNS TABLE (kind audit_kind, id text, belongs_to text)
LANGUAGE sql STABLE
AS $$
    SELECT 'live_registration'::audit_kind, r.id::text, r.session_id::text
      FROM live_registrations AS r
     WHERE person_is(person, r.patient_id, r.guest_email)
     UNION ALL
    SELECT 'group_member', m.id::text, m.group_id::text
      FROM group_members AS m
     WHERE person_is(person, NULL, m.email)
     UNION ALL
    SELECT 'family', f.id, f.institution_id
      FROM families AS f
     WHERE f.username = person
     UNION ALL
    SELECT 'event_user', u.id::text, u.organization_id::text
      FROM event_users AS u
     WHERE person_is(person, u.external_id, u.email)
     UNION ALL
    SELECT 'event_registration', r.id::text, r.occurrence_id::text
      FROM event_users AS u
      JOIN event_registrations AS r ON r.user_id = u.id
     WHERE person_is(person, u.external_id, u.email)
$$;

COMMENT ON FUNCTION person_rows IS
    'What is registered of a person, and which event users the person is.';

-- Also those whose registration has been removed or has had another address since.
CREATE OR REPLACE FUNCTION person_answers(person text, row_ids text[])
RETURNS SETOF idempotency_keys
LANGUAGE sql STABLE
AS $$
    SELECT k.*
      FROM idempotency_keys AS k
     CROSS JOIN LATERAL (SELECT k.body::jsonb, k.body::jsonb -> 'user') AS a (body, "user")
     WHERE person_is(person, a.body ->> 'patient_id', a.body ->> 'guest_email')
        OR person_is(person, a.body ->> 'username', a."user" ->> 'email')
        OR ARRAY[a.body ->> 'id', a."user" ->> 'id', a."user" ->> 'uuid'] && row_ids
$$;

COMMENT ON FUNCTION person_answers IS
    'The answers kept under an Idempotency-Key that show the person or one of these rows.';
