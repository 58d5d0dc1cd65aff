-- SPDX-License-Identifier: Apache-2.0
--
-- The answers of the groups API.

CREATE OR REPLACE FUNCTION groups_href(path text, home groups)
RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT path || '/' || home.id
$$;

COMMENT ON FUNCTION groups_href IS
    'The URL path of a group; path: where the groups API is mounted.';

CREATE OR REPLACE FUNCTION groups_member_href(path text, group_id uuid, member_id uuid)
RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT path || '/' || group_id || '/users/' || member_id
$$;

COMMENT ON FUNCTION groups_member_href IS 'The URL path of a member.';

CREATE OR REPLACE FUNCTION groups_member_body(
    path text,
    home groups,
    plan plans,
    member group_members)
RETURNS text
LANGUAGE sql STABLE
AS $$
    SELECT row_to_json(
        ROW(ROW(groups_href(path, home), home.name)::groups_link,
            groups_member_href(path, member.group_id, member.id),
            ROW(groups_href(path, home) || '/plans/' || plan.id, plan.name)::groups_link,
            ROW(member.start_date, member.end_date)::groups_plan_settings,
            member.tags,
            ROW(member.birth_date,
                member.email,
                member.first_name,
                member.gender,
                member.last_name,
                member.locale,
                member.mobile_number,
                member.time_zone,
                member.id,
                member.settings,
                member.notification_settings,
                member.account_status,
                member.locked,
                member.verified,
                member.mobile_number_verified,
                member.password_assigned,
                member.guest,
                member.type,
                member.attributes,
                iso_timestamp(member.created_at),
                iso_timestamp(member.updated_at),
                groups_member_href(path, member.group_id, member.id))::groups_user_answer,
            member.attributes)::groups_member_answer)::text
$$;

COMMENT ON FUNCTION groups_member_body IS 'The body of an answer about a member.';
