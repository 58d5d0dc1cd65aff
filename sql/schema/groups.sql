-- SPDX-License-Identifier: Apache-2.0
--
-- Groups, their plans and invite codes, and their members.

-- Looking into pg_timezone_names reads a directory of files each time, so the names are
-- copied here. Left out is what only looks like a time zone there.
CREATE TABLE IF NOT EXISTS time_zones (
    name text COLLATE "C",
    CONSTRAINT time_zones_pkey PRIMARY KEY (name)
);

COMMENT ON TABLE time_zones IS
    'The IANA time zones this database knows; refreshed by each installation.';
COMMENT ON COLUMN time_zones.name IS 'The name as IANA spells it.';

CREATE TABLE IF NOT EXISTS groups (
    id uuid DEFAULT gen_random_uuid(),
    name text NOT NULL,
    locale text,
    time_zone text COLLATE "C",
    CONSTRAINT groups_pkey PRIMARY KEY (id),
    CONSTRAINT groups_time_zone_fkey
        FOREIGN KEY (time_zone) REFERENCES time_zones (name)
);

COMMENT ON TABLE groups IS 'The groups one can become a member of.';
COMMENT ON COLUMN groups.id IS 'The id in the URL.';
COMMENT ON COLUMN groups.name IS 'The title of every link to the group.';
COMMENT ON COLUMN groups.locale IS
    'The locale of members who name none, in BCP 47; null: en-US.';
COMMENT ON COLUMN groups.time_zone IS
    'The time zone of members who name none; null: UTC.';

CREATE TABLE IF NOT EXISTS plans (
    id uuid DEFAULT gen_random_uuid(),
    group_id uuid NOT NULL,
    name text NOT NULL,
    duration_days integer,
    CONSTRAINT plans_pkey PRIMARY KEY (id),
    CONSTRAINT plans_group_fkey FOREIGN KEY (group_id) REFERENCES groups (id),
    CONSTRAINT plans_duration_days_in_range CHECK (duration_days BETWEEN 0 AND 365250)
);

COMMENT ON TABLE plans IS 'The plans a group has for its members.';
COMMENT ON COLUMN plans.id IS 'The id in the plan''s href.';
COMMENT ON COLUMN plans.group_id IS 'The group whose plan it is.';
COMMENT ON COLUMN plans.name IS 'The title of every link to the plan.';
COMMENT ON COLUMN plans.duration_days IS
    'Days from a member''s start to its end, unless it names an end; null: without end.';

-- Half-empty pages: as for live_sessions, a registration changes nothing but uses.
CREATE TABLE IF NOT EXISTS invite_codes (
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

COMMENT ON TABLE invite_codes IS 'The codes that let somebody into a plan of a group.';
COMMENT ON COLUMN invite_codes.code IS 'The code; upper and lower case differ.';
COMMENT ON COLUMN invite_codes.plan_id IS 'The plan, and by it the group, it is for.';
COMMENT ON COLUMN invite_codes.expires_at IS
    'From then on it lets nobody in; null: never.';
COMMENT ON COLUMN invite_codes.max_uses IS
    'How many members it lets in; null: any number.';
COMMENT ON COLUMN invite_codes.uses IS
    'How many members it let in; kept by the operations, never given by hand, and only '
    'while there is a max_uses: without one, registrations need not wait for each other.';

CREATE TABLE IF NOT EXISTS group_members (
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

-- To count a code's members when the code gets a limit.
CREATE INDEX IF NOT EXISTS group_members_invite_code ON group_members (invite_code);

COMMENT ON TABLE group_members IS
    'The members of all groups. To delete one, call remove_group_member(id), which also '
    'gives its use of the invite code back and frees its e-mail.';
COMMENT ON COLUMN group_members.id IS
    'The user''s uuid; made by the module before the row is written.';
COMMENT ON COLUMN group_members.group_id IS 'The group.';
COMMENT ON COLUMN group_members.plan_id IS 'The plan the invite code was for.';
COMMENT ON COLUMN group_members.invite_code IS 'The invite code that let the member in.';
COMMENT ON COLUMN group_members.email IS
    'The address as given. It is claimed in member_emails, so change it there as well.';
COMMENT ON COLUMN group_members.birth_date IS 'Date of birth.';
COMMENT ON COLUMN group_members.first_name IS 'First name.';
COMMENT ON COLUMN group_members.gender IS 'male, female, other or preferNotToSay.';
COMMENT ON COLUMN group_members.last_name IS 'Last name.';
COMMENT ON COLUMN group_members.locale IS 'Language and region, in BCP 47.';
COMMENT ON COLUMN group_members.mobile_number IS 'Mobile number, in E.164.';
COMMENT ON COLUMN group_members.time_zone IS 'An IANA time zone.';
COMMENT ON COLUMN group_members.tags IS 'Tags, an array of texts.';
COMMENT ON COLUMN group_members.attributes IS 'Whatever else is known, an object.';
COMMENT ON COLUMN group_members.start_date IS 'First day in the plan.';
COMMENT ON COLUMN group_members.end_date IS 'Last day in the plan; null: without end.';
COMMENT ON COLUMN group_members.settings IS 'How systems deal with the user.';
COMMENT ON COLUMN group_members.notification_settings IS
    'How and when the user may be notified.';
COMMENT ON COLUMN group_members.account_status IS
    'pendingInvite, invited, inviteBounced or active.';
COMMENT ON COLUMN group_members.locked IS 'Whether the account is locked.';
COMMENT ON COLUMN group_members.verified IS 'Whether the account is verified.';
COMMENT ON COLUMN group_members.mobile_number_verified IS
    'Whether the mobile number is verified.';
COMMENT ON COLUMN group_members.password_assigned IS 'Whether the user has a password.';
COMMENT ON COLUMN group_members.guest IS 'Whether the user is a guest only.';
COMMENT ON COLUMN group_members.type IS 'endUser, guest or api.';
COMMENT ON COLUMN group_members.created_at IS 'When the member was registered.';
COMMENT ON COLUMN group_members.updated_at IS
    'When the row was last changed; kept by a trigger.';

-- An address belongs to one member of all groups together. Members may one day be spread
-- over several machines by their group; this table is then spread by the address, and its
-- primary key still holds. That is also why it has no foreign key to group_members.
CREATE TABLE IF NOT EXISTS member_emails (
    email text COLLATE "C",
    member_id uuid NOT NULL,
    group_id uuid NOT NULL,
    CONSTRAINT member_emails_pkey PRIMARY KEY (email),
    CONSTRAINT member_emails_lower_case CHECK (email = lower(email))
);

COMMENT ON TABLE member_emails IS
    'Which member an e-mail address belongs to; kept by the operations.';
COMMENT ON COLUMN member_emails.email IS 'The address in lower case.';
COMMENT ON COLUMN member_emails.member_id IS 'The member.';
COMMENT ON COLUMN member_emails.group_id IS 'The member''s group.';
