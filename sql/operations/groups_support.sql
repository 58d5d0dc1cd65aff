-- SPDX-License-Identifier: Apache-2.0
--
-- The answers of the groups API, and the triggers on its tables.

-- CREATE TYPE knows no IF NOT EXISTS.
DO $$
BEGIN
    IF to_regtype('groups_link') IS NULL THEN
        CREATE TYPE groups_link AS (href text, title text);
    END IF;
END
$$;

COMMENT ON TYPE groups_link IS 'A reference to another object, key by key.';

CREATE OR REPLACE FUNCTION groups_link(href text, title text)
RETURNS json
LANGUAGE sql STABLE
AS $$
    SELECT row_to_json(ROW(href, title)::groups_link)
$$;

COMMENT ON FUNCTION groups_link IS 'A reference to another object.';

-- In PL/pgSQL, because it keeps the plan from call to call.
CREATE OR REPLACE FUNCTION groups_member_body(member group_members, path text)
RETURNS text
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    group_href text := path || '/' || member.group_id;
    member_href text := group_href || '/users/' || member.id;
BEGIN
    RETURN (
        SELECT row_to_json(answer)
          FROM (SELECT groups_link(group_href, g.name) AS "group",
                       member_href AS href,
                       groups_link(group_href || '/plans/' || p.id, p.name) AS plan,
                       (SELECT row_to_json(settings)
                          FROM (SELECT member.start_date AS "startDate",
                                       member.end_date AS "endDate") AS settings)
                           AS "planSettings",
                       member.tags,
                       (SELECT row_to_json(person)
                          FROM (SELECT member.birth_date AS "birthDate",
                                       member.email,
                                       member.first_name AS "firstName",
                                       member.gender,
                                       member.last_name AS "lastName",
                                       member.locale,
                                       member.mobile_number AS "mobileNumber",
                                       member.time_zone AS "timeZone",
                                       member.id AS uuid,
                                       member.settings,
                                       member.notification_settings
                                           AS "notificationSettings",
                                       member.account_status AS "accountStatus",
                                       member.locked,
                                       member.verified,
                                       member.mobile_number_verified
                                           AS "mobileNumberVerified",
                                       member.password_assigned AS "passwordAssigned",
                                       member.guest,
                                       member.type,
                                       member.attributes,
                                       iso_timestamp(member.created_at) AS created,
                                       iso_timestamp(member.updated_at) AS modified,
                                       member_href AS href) AS person) AS "user",
                       member.attributes
                  FROM groups AS g
                  JOIN plans AS p ON p.id = member.plan_id
                 WHERE g.id = member.group_id) AS answer);
END
$$;

COMMENT ON FUNCTION groups_member_body IS
    'A member as the client sees it; path is where the groups API is mounted.';

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

CREATE OR REPLACE TRIGGER count_uses
    BEFORE UPDATE OF max_uses ON invite_codes
    FOR EACH ROW
    WHEN (OLD.max_uses IS NULL AND NEW.max_uses IS NOT NULL)
    EXECUTE FUNCTION invite_codes_count_uses();

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

CREATE OR REPLACE TRIGGER set_updated_at
    BEFORE UPDATE ON group_members
    FOR EACH ROW
    EXECUTE FUNCTION group_members_set_updated_at();
