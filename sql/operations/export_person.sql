-- SPDX-License-Identifier: Apache-2.0

CREATE OR REPLACE FUNCTION export_person(person text)
RETURNS jsonb
LANGUAGE sql STABLE
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
    WITH known AS MATERIALIZED (
        SELECT k.kind, k.id, k.belongs_to FROM person_rows(person) AS k),
    ids AS MATERIALIZED (
        SELECT coalesce(array_agg(k.id), '{}') AS list FROM known AS k),
    exported (table_name, content, position) AS (
        SELECT 'live_registrations', to_jsonb(r), r.id::text
          FROM known AS k
          JOIN live_registrations AS r ON r.id::text = k.id AND r.session_id::text = k.belongs_to
         WHERE k.kind = 'live_registration'
         UNION ALL
        SELECT 'group_members', to_jsonb(m), m.id::text
          FROM known AS k
          JOIN group_members AS m ON m.id::text = k.id AND m.group_id::text = k.belongs_to
         WHERE k.kind = 'group_member'
         UNION ALL
        SELECT 'member_emails', to_jsonb(e), e.email
          FROM member_emails AS e
         WHERE person_is(person, NULL, e.email)
            OR e.member_id::text IN (SELECT k.id FROM known AS k WHERE k.kind = 'group_member')
         UNION ALL
        SELECT 'families', to_jsonb(f) - 'password_hash', f.id
          FROM known AS k
          JOIN families AS f ON f.id = k.id
         WHERE k.kind = 'family'
         UNION ALL
        SELECT 'family_children', to_jsonb(m), m.family_id || ' ' || m.position
          FROM known AS k
          JOIN family_children AS m ON m.family_id = k.id
         WHERE k.kind = 'family'
         UNION ALL
        SELECT 'event_users', to_jsonb(u) - 'search_text', u.id::text
          FROM known AS k
          JOIN event_users AS u ON u.id::text = k.id
         WHERE k.kind = 'event_user'
         UNION ALL
        SELECT 'event_registrations', to_jsonb(r) - 'last_call', r.id::text
          FROM known AS k
          JOIN event_registrations AS r
            ON r.id::text = k.id AND r.occurrence_id::text = k.belongs_to
         WHERE k.kind = 'event_registration'
         UNION ALL
        SELECT 'idempotency_keys',
               jsonb_build_object('body', a.body::jsonb, 'detail', a.detail,
                                  'expires_at', a.expires_at),
               a.expires_at::text
          FROM ids
         CROSS JOIN LATERAL person_answers(person, ids.list) AS a
         UNION ALL
        SELECT 'audit', to_jsonb(a), a.at::text
          FROM audit AS a
         WHERE a.id = ANY ((SELECT ids.list FROM ids)::text[])
            OR person_is_caller(person, a.caller))
    SELECT coalesce(jsonb_object_agg(t.table_name, t.rows), '{}')
      FROM (SELECT e.table_name, jsonb_agg(e.content ORDER BY e.position COLLATE "C") AS rows
              FROM exported AS e
             GROUP BY e.table_name) AS t
$$;

COMMENT ON FUNCTION export_person IS
    'All that is kept about the person who is known by that text: as patient_id, family''s '
    'username or event user''s external_id, as caller, or, without regard to case, by an '
    'e-mail address. One array of rows for each table in which there are any. For '
    'administrators.';
