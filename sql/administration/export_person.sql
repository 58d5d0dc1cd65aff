-- SPDX-License-Identifier: Apache-2.0

CREATE OR REPLACE FUNCTION export_person(person text)
RETURNS jsonb
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    name text COLLATE "C" := lower(person COLLATE "C");
    ids text[];
    exported jsonb;
BEGIN
    ids := ARRAY(SELECT k.id FROM person_rows(person) AS k);

    WITH known AS MATERIALIZED (
        SELECT k.kind, k.id AS text_id,
               CASE WHEN k.kind <> 'family' THEN k.id::uuid END AS id,
               CASE WHEN k.kind <> 'family' THEN k.belongs_to::uuid END AS belongs_to
          FROM person_rows(person) AS k),
    exported (table_name, content, position) AS (
        SELECT 'live_registrations', to_jsonb(r), r.id::text
          FROM known AS k
          JOIN live_registrations AS r ON r.id = k.id AND r.session_id = k.belongs_to
         WHERE k.kind = 'live_registration'
         UNION ALL
        SELECT 'group_members', to_jsonb(m), m.id::text
          FROM known AS k
          JOIN group_members AS m ON m.id = k.id AND m.group_id = k.belongs_to
         WHERE k.kind = 'group_member'
         UNION ALL
        SELECT 'member_emails', to_jsonb(e), e.email
          FROM member_emails AS e
         WHERE e.email = name
         UNION ALL
        SELECT 'families', to_jsonb(f) - 'password_hash', f.id
          FROM known AS k
          JOIN families AS f ON f.id = k.text_id
         WHERE k.kind = 'family'
         UNION ALL
        SELECT 'family_children', to_jsonb(m), m.family_id || ' ' || m.position
          FROM known AS k
          JOIN family_children AS m ON m.family_id = k.text_id
         WHERE k.kind = 'family'
         UNION ALL
        SELECT 'event_users', to_jsonb(u) - 'search_text', u.id::text
          FROM known AS k
          JOIN event_users AS u ON u.id = k.id
         WHERE k.kind = 'event_user'
         UNION ALL
        SELECT 'event_registrations', to_jsonb(r) - '{last_call,fields_email}'::text[],
               r.id::text
          FROM known AS k
          JOIN event_registrations AS r ON r.id = k.id AND r.occurrence_id = k.belongs_to
         WHERE k.kind = 'event_registration'
         UNION ALL
        SELECT 'idempotency_keys',
               jsonb_build_object('body', a.body::jsonb, 'detail', a.detail,
                                  'expires_at', a.expires_at),
               a.expires_at::text
          FROM person_answers(person, ids) AS a
         UNION ALL
        SELECT 'audit', to_jsonb(a), a.at::text
          FROM audit AS a
         WHERE a.id = ANY (ids)
            OR left(lower(a.caller), 255) = left(name, 255)
               AND person_is(person, a.caller, NULL))
    SELECT coalesce(jsonb_object_agg(t.table_name, t.rows), '{}')
      INTO exported
      FROM (SELECT e.table_name, jsonb_agg(e.content ORDER BY e.position COLLATE "C") AS rows
              FROM exported AS e
             GROUP BY e.table_name) AS t;

    INSERT INTO audit (action, kind, id, belongs_to, caller, row_count)
    VALUES ('exported', 'person', 'export_person', 'export_person', session_user,
            (SELECT coalesce(sum(jsonb_array_length(t.value)), 0)
               FROM jsonb_each(exported) AS t));
    RETURN exported;
END
$$;

COMMENT ON FUNCTION export_person IS
    'Returns all stored data about a person, given as a patient_id, a username of a family, an '
    'external_id of an event user, a caller or an e-mail address, also one in the fields of a '
    'registration. Addresses are compared without regard to case. One array of rows for each '
    'table that has such rows. Adds an entry to the audit with the number of rows. '
    'For administrators.';
