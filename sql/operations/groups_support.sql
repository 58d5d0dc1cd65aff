-- SPDX-License-Identifier: Apache-2.0
--
-- The answers of the groups API, and the triggers on its tables.

-- What the client sees, key by key. Named types instead of sub-selects, because the
-- function that fills them is called for every member and is then expanded in place.
-- CREATE TYPE knows no IF NOT EXISTS.
DO $$
BEGIN
    IF to_regtype('groups_member_answer') IS NULL THEN
        CREATE TYPE groups_link AS (href text, title text);
        CREATE TYPE groups_plan_settings AS ("startDate" date, "endDate" date);
        CREATE TYPE groups_user_answer AS (
            "birthDate" date,
            email text,
            "firstName" text,
            gender text,
            "lastName" text,
            locale text,
            "mobileNumber" text,
            "timeZone" text,
            uuid uuid,
            settings jsonb,
            "notificationSettings" jsonb,
            "accountStatus" text,
            locked boolean,
            verified boolean,
            "mobileNumberVerified" boolean,
            "passwordAssigned" boolean,
            guest boolean,
            type text,
            attributes jsonb,
            created text,
            modified text,
            href text
        );
        CREATE TYPE groups_member_answer AS (
            "group" groups_link,
            href text,
            plan groups_link,
            "planSettings" groups_plan_settings,
            tags jsonb,
            "user" groups_user_answer,
            attributes jsonb
        );
        CREATE TYPE groups_plan_answer AS (
            href text,
            title text,
            uuid uuid,
            "group" groups_link
        );
    END IF;
END
$$;

COMMENT ON TYPE groups_link IS 'A reference to another object.';
COMMENT ON TYPE groups_plan_settings IS 'From when to when a member is in a plan.';
COMMENT ON TYPE groups_user_answer IS 'The user that a member is.';
COMMENT ON TYPE groups_member_answer IS 'A member as the client sees it.';
COMMENT ON TYPE groups_plan_answer IS 'A plan as the client sees it.';

CREATE OR REPLACE FUNCTION groups_href(path text, home groups)
RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT path || '/' || home.id
$$;

COMMENT ON FUNCTION groups_href IS
    'Where a group is; path is where the groups API is mounted.';

CREATE OR REPLACE FUNCTION groups_member_href(path text, group_id uuid, member_id uuid)
RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT path || '/' || group_id || '/users/' || member_id
$$;

COMMENT ON FUNCTION groups_member_href IS 'Where a member is.';

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

COMMENT ON FUNCTION groups_member_body IS 'A member of a group as the client sees it.';

-- While a code has no limit its uses are not counted, so that nobody has to wait for
-- anybody. Registrations hold a shared lock on such a code; this update has waited for
-- them, and those that come after it see the limit.
CREATE OR REPLACE FUNCTION invite_codes_count_uses()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
BEGIN
    NEW.uses := (SELECT count(*)
                   FROM group_members AS m
                  WHERE m.invite_code = OLD.code);
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION invite_codes_count_uses IS
    'Trigger: counts the members of a code that becomes limited.';

\if :pending
CREATE OR REPLACE TRIGGER count_uses
    BEFORE UPDATE OF max_uses ON invite_codes
    FOR EACH ROW
    WHEN (OLD.max_uses IS NULL AND NEW.max_uses IS NOT NULL)
    EXECUTE FUNCTION invite_codes_count_uses();
\endif

CREATE OR REPLACE FUNCTION group_members_set_updated_at()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION group_members_set_updated_at IS
    'Trigger: notes when a member was changed.';

\if :pending
CREATE OR REPLACE TRIGGER set_updated_at
    BEFORE UPDATE ON group_members
    FOR EACH ROW
    EXECUTE FUNCTION group_members_set_updated_at();
\endif
