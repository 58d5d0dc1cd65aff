-- SPDX-License-Identifier: Apache-2.0
--
-- Groups, their plans and invite codes, and their members.

-- A copy of the names in pg_timezone_names, as each query of that view reads a directory of files.
-- administration/time_zones.sql fills it.
CREATE TABLE time_zones (
    name text COLLATE "C",
    CONSTRAINT time_zones_pkey PRIMARY KEY (name)
);

COMMENT ON TABLE time_zones IS
    'The IANA time zones that the server has; updated by each installation and upgrade.';
COMMENT ON COLUMN time_zones.name IS 'The name in IANA''s spelling.';

CREATE TABLE groups (
    id uuid DEFAULT gen_random_uuid(),
    name text NOT NULL,
    locale text,
    time_zone text COLLATE "C",
    CONSTRAINT groups_pkey PRIMARY KEY (id),
    CONSTRAINT groups_time_zone_fkey
        FOREIGN KEY (time_zone) REFERENCES time_zones (name)
);

COMMENT ON TABLE groups IS 'Groups, which have members.';
COMMENT ON COLUMN groups.id IS 'The id in URLs.';
COMMENT ON COLUMN groups.name IS 'The name, the title of links to the group.';
COMMENT ON COLUMN groups.locale IS
    'The default locale of members, as a BCP 47 tag; null: en-US.';
COMMENT ON COLUMN groups.time_zone IS
    'The default time zone of members; null: UTC.';

CREATE TABLE plans (
    id uuid DEFAULT gen_random_uuid(),
    group_id uuid NOT NULL,
    name text NOT NULL,
    duration_days integer,
    CONSTRAINT plans_pkey PRIMARY KEY (id),
    CONSTRAINT plans_group_fkey FOREIGN KEY (group_id) REFERENCES groups (id),
    CONSTRAINT plans_duration_days_in_range CHECK (duration_days BETWEEN 0 AND 365250)
);

COMMENT ON TABLE plans IS 'The plans of groups; each member has one.';
COMMENT ON COLUMN plans.id IS 'The id in URLs.';
COMMENT ON COLUMN plans.group_id IS 'The group.';
COMMENT ON COLUMN plans.name IS 'The name, the title of links to the plan.';
COMMENT ON COLUMN plans.duration_days IS
    'The default number of days from the start to the end of a membership; null: without end.';

-- fillfactor as of live_sessions: a registration changes uses only.
CREATE TABLE invite_codes (
    code text COLLATE "C",
    plan_id uuid NOT NULL,
    expires_at timestamptz(3),
    max_uses integer,
    uses integer NOT NULL DEFAULT 0,
    CONSTRAINT invite_codes_pkey PRIMARY KEY (code),
    CONSTRAINT invite_codes_plan_fkey FOREIGN KEY (plan_id) REFERENCES plans (id),
    CONSTRAINT invite_codes_code_not_empty CHECK (code <> ''),
    CONSTRAINT invite_codes_max_uses_not_negative CHECK (max_uses >= 0),
    CONSTRAINT invite_codes_uses_not_negative CHECK (uses >= 0)
) WITH (fillfactor = 50);

COMMENT ON TABLE invite_codes IS 'Invite codes, each for a plan of a group.';
COMMENT ON COLUMN invite_codes.code IS 'The code; case-sensitive.';
COMMENT ON COLUMN invite_codes.plan_id IS 'The plan, which determines the group.';
COMMENT ON COLUMN invite_codes.expires_at IS
    'The time from which on the code is refused; null: never.';
COMMENT ON COLUMN invite_codes.max_uses IS
    'The maximum number of members; null: unlimited.';
COMMENT ON COLUMN invite_codes.uses IS
    'The number of members; maintained by the operations, never written by hand, and only while '
    'max_uses is not null: otherwise registrations with the code do not lock each other out.';

CREATE TABLE group_members (
    id uuid,
    group_id uuid NOT NULL,
    plan_id uuid NOT NULL,
    invite_code text COLLATE "C" NOT NULL,
    email text COLLATE "C" NOT NULL,
    birth_date date,
    first_name text,
    gender text,
    last_name text,
    locale text NOT NULL,
    mobile_number text,
    time_zone text NOT NULL,
    tags jsonb NOT NULL DEFAULT '[]',
    attributes jsonb NOT NULL DEFAULT '{}',
    start_date date NOT NULL,
    end_date date,
    settings jsonb NOT NULL DEFAULT '{}',
    notification_settings jsonb NOT NULL DEFAULT '{}',
    account_status text NOT NULL DEFAULT 'active',
    locked boolean NOT NULL DEFAULT false,
    verified boolean NOT NULL DEFAULT false,
    mobile_number_verified boolean NOT NULL DEFAULT false,
    password_assigned boolean NOT NULL DEFAULT false,
    guest boolean NOT NULL DEFAULT false,
    type text NOT NULL DEFAULT 'endUser',
    created_at timestamptz(3) NOT NULL,
    updated_at timestamptz(3) NOT NULL,
    CONSTRAINT group_members_pkey PRIMARY KEY (id, group_id),
    CONSTRAINT group_members_group_fkey FOREIGN KEY (group_id) REFERENCES groups (id),
    CONSTRAINT group_members_plan_fkey FOREIGN KEY (plan_id) REFERENCES plans (id),
    CONSTRAINT group_members_invite_code_fkey
        FOREIGN KEY (invite_code) REFERENCES invite_codes (code),
    CONSTRAINT group_members_gender_known
        CHECK (gender IN ('male', 'female', 'other', 'preferNotToSay')),
    CONSTRAINT group_members_account_status_known
        CHECK (account_status IN ('pendingInvite', 'invited', 'inviteBounced', 'active')),
    CONSTRAINT group_members_type_known CHECK (type IN ('endUser', 'guest', 'api')),
    CONSTRAINT group_members_tags_array CHECK (jsonb_typeof(tags) = 'array'),
    CONSTRAINT group_members_attributes_object
        CHECK (jsonb_typeof(attributes) = 'object'),
    CONSTRAINT group_members_settings_object CHECK (jsonb_typeof(settings) = 'object'),
    CONSTRAINT group_members_notification_settings_object
        CHECK (jsonb_typeof(notification_settings) = 'object'),
    CONSTRAINT group_members_dates_in_order CHECK (end_date >= start_date)
);

-- To count the members of a code that gets a limit.
CREATE INDEX group_members_invite_code ON group_members (invite_code);

COMMENT ON TABLE group_members IS
    'The members of all groups. To delete one, call remove_group_member(id), which also '
    'returns its use of the invite code and releases its e-mail.';
COMMENT ON COLUMN group_members.id IS
    'The user''s uuid, generated by the module before the row is written.';
COMMENT ON COLUMN group_members.group_id IS 'The group.';
COMMENT ON COLUMN group_members.plan_id IS 'The plan of the invite code.';
COMMENT ON COLUMN group_members.invite_code IS 'The invite code that the member registered with.';
COMMENT ON COLUMN group_members.email IS
    'The address as given. When you change it, change it in member_emails, too.';
COMMENT ON COLUMN group_members.birth_date IS 'Date of birth.';
COMMENT ON COLUMN group_members.first_name IS 'First name.';
COMMENT ON COLUMN group_members.gender IS 'male, female, other or preferNotToSay.';
COMMENT ON COLUMN group_members.last_name IS 'Last name.';
COMMENT ON COLUMN group_members.locale IS 'Language and region, a BCP 47 tag.';
COMMENT ON COLUMN group_members.mobile_number IS 'Mobile number, in E.164 format.';
COMMENT ON COLUMN group_members.time_zone IS 'An IANA time zone.';
COMMENT ON COLUMN group_members.tags IS 'Tags, an array of texts.';
COMMENT ON COLUMN group_members.attributes IS 'Additional attributes, an object.';
COMMENT ON COLUMN group_members.start_date IS 'First day in the plan.';
COMMENT ON COLUMN group_members.end_date IS 'Last day in the plan; null: without end.';
COMMENT ON COLUMN group_members.settings IS 'Settings of the user, an object.';
COMMENT ON COLUMN group_members.notification_settings IS
    'Notification settings of the user, an object.';
COMMENT ON COLUMN group_members.account_status IS
    'pendingInvite, invited, inviteBounced or active.';
COMMENT ON COLUMN group_members.locked IS 'Whether the account is locked.';
COMMENT ON COLUMN group_members.verified IS 'Whether the account is verified.';
COMMENT ON COLUMN group_members.mobile_number_verified IS
    'Whether the mobile number is verified.';
COMMENT ON COLUMN group_members.password_assigned IS 'Whether the user has a password.';
COMMENT ON COLUMN group_members.guest IS 'Whether the user is a guest.';
COMMENT ON COLUMN group_members.type IS 'endUser, guest or api.';
COMMENT ON COLUMN group_members.created_at IS 'The time of the registration.';
COMMENT ON COLUMN group_members.updated_at IS
    'The time of the last change; set by a trigger.';

-- An address is unique among the members of all groups. This table could be distributed over
-- several machines by the address, and group_members by the group: so it has no foreign key.
CREATE TABLE member_emails (
    email text COLLATE "C",
    member_id uuid NOT NULL,
    group_id uuid NOT NULL,
    CONSTRAINT member_emails_pkey PRIMARY KEY (email),
    CONSTRAINT member_emails_lower_case CHECK (email = lower(email))
);

COMMENT ON TABLE member_emails IS
    'The member that an e-mail address belongs to; maintained by the operations.';
COMMENT ON COLUMN member_emails.email IS 'The address in lower case.';
COMMENT ON COLUMN member_emails.member_id IS 'The member.';
COMMENT ON COLUMN member_emails.group_id IS 'The member''s group.';

-- The bodies of answers. Named types instead of subqueries: the planner can then inline the
-- function that fills them, which is called for each member.
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

COMMENT ON TYPE groups_link IS 'A link to another object.';
COMMENT ON TYPE groups_plan_settings IS 'The first and the last day of a membership.';
COMMENT ON TYPE groups_user_answer IS 'The user of a member.';
COMMENT ON TYPE groups_member_answer IS 'The body of an answer about a member.';
COMMENT ON TYPE groups_plan_answer IS 'The body of an answer about a plan.';

-- The uses of a code without a limit are not counted, so that registrations do not wait for each
-- other. They hold a shared lock on such a code; this update waits for them, and later
-- registrations see the limit.
CREATE FUNCTION invite_codes_count_uses()
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
    'Trigger: counts the members of a code that gets a limit.';

CREATE TRIGGER count_uses
    BEFORE UPDATE OF max_uses ON invite_codes
    FOR EACH ROW
    WHEN (OLD.max_uses IS NULL AND NEW.max_uses IS NOT NULL)
    EXECUTE FUNCTION invite_codes_count_uses();

CREATE TRIGGER set_updated_at
    BEFORE UPDATE ON group_members
    FOR EACH ROW
    EXECUTE FUNCTION set_updated_at();
