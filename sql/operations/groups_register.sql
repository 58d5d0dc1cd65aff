-- SPDX-License-Identifier: Apache-2.0

-- Locks an invite code for a registration; all its fields are null when there is none. A
-- code with a limit is locked against other registrations. One without is not; the shared
-- lock only makes an administrator who gives it a limit wait until these members can be
-- counted. When that has happened just now, the whole call has to be made again.
CREATE OR REPLACE FUNCTION groups_lock_code(wanted text)
RETURNS invite_codes
LANGUAGE plpgsql
AS $$
DECLARE
    code invite_codes;
BEGIN
    SELECT c.* INTO code FROM invite_codes AS c WHERE c.code = wanted;
    IF code.max_uses IS NOT NULL THEN
        SELECT c.* INTO code FROM invite_codes AS c WHERE c.code = wanted
           FOR NO KEY UPDATE;
        RETURN code;
    END IF;

    SELECT c.* INTO code FROM invite_codes AS c WHERE c.code = wanted FOR SHARE;
    IF code.max_uses IS NOT NULL THEN
        RAISE serialization_failure
            USING MESSAGE = 'the invite code was given a limit at this moment';
    END IF;
    RETURN code;
END
$$;

COMMENT ON FUNCTION groups_lock_code IS 'Locks an invite code for a registration.';

-- Registers members of groups. The codes are locked first, in their own order, then the
-- requests are taken in the order of their e-mails, so that two calls lock in the same
-- order. An e-mail is claimed only when everything else is right, and looked up
-- otherwise: the client is told all that is wrong at once.
--
-- Outcomes: created (detail: the member's href), not_found (the group), invalid (detail:
-- what is wrong, in words separated by spaces).
CREATE OR REPLACE FUNCTION groups_register(
    ids uuid[],
    group_ids uuid[],           -- null: the group is the code's
    paths text[],               -- where the groups API is mounted
    invite_codes text[],
    emails text[],
    birth_dates date[],
    first_names text[],
    genders text[],
    last_names text[],
    locales text[],
    mobile_numbers text[],
    time_zones text[],
    tags jsonb[],
    attributes jsonb[],
    start_dates date[],
    end_dates date[])
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    codes text[] := ARRAY(SELECT DISTINCT c FROM unnest(invite_codes) AS c ORDER BY c);
    locked invite_codes[];      -- these codes, with uses counted up as they happen
    slot integer;               -- where the request's code is in both
    code invite_codes;
    plan plans;
    home groups;
    zone text;
    first_day date;
    last_day date;
    wrong_code text;
    wrong_email text;
    wrong_zone text;
    wrong_dates text;
    member group_members;
    moment timestamptz;
BEGIN
    FOR slot IN SELECT generate_subscripts(codes, 1) LOOP
        locked[slot] := groups_lock_code(codes[slot]);
    END LOOP;

    FOR item IN
        SELECT r.n
          FROM unnest(emails) WITH ORDINALITY AS r (email, n)
         ORDER BY lower(r.email COLLATE "C"), r.n
    LOOP
        body := NULL;
        detail := NULL;
        slot := array_position(codes, invite_codes[item]);
        code := locked[slot];

        SELECT p.* INTO plan FROM plans AS p WHERE p.id = code.plan_id;
        SELECT g.* INTO home
          FROM groups AS g
         WHERE g.id = coalesce(group_ids[item], plan.group_id);
        IF home.id IS NULL AND group_ids[item] IS NOT NULL THEN
            outcome := 'not_found';
            RETURN NEXT;
            CONTINUE;
        END IF;

        wrong_code := CASE
            WHEN plan.id IS NULL THEN 'code_unknown'
            WHEN plan.group_id <> home.id THEN 'code_of_another_group'
            WHEN code.expires_at <= clock_timestamp() THEN 'code_expired'
            WHEN code.uses >= code.max_uses THEN 'code_used_up'
        END;

        zone := coalesce(time_zones[item], home.time_zone, 'UTC');
        wrong_zone := CASE
            WHEN NOT EXISTS (SELECT FROM time_zones AS z WHERE z.name = zone)
            THEN 'time_zone_unknown'
        END;

        first_day := start_dates[item];
        IF first_day IS NULL AND wrong_zone IS NULL THEN
            first_day := clock_timestamp() AT TIME ZONE zone;
        END IF;
        -- No plan ends later than yyyy-MM-dd can say.
        last_day := coalesce(end_dates[item], first_day + plan.duration_days);
        IF last_day > '9999-12-31' THEN
            last_day := '9999-12-31';
        END IF;
        wrong_dates := CASE WHEN last_day < first_day THEN 'end_before_start' END;

        IF concat(wrong_code, wrong_zone, wrong_dates) = '' THEN
            INSERT INTO member_emails (email, member_id, group_id)
            VALUES (lower(emails[item] COLLATE "C"), ids[item], home.id)
                ON CONFLICT DO NOTHING;
            wrong_email := CASE WHEN NOT FOUND THEN 'email_taken' END;
        ELSE
            wrong_email := (SELECT 'email_taken'
                              FROM member_emails AS e
                             WHERE e.email = lower(emails[item] COLLATE "C"));
        END IF;

        detail := concat_ws(' ', wrong_code, wrong_email, wrong_zone, wrong_dates);
        IF detail = '' THEN
            moment := clock_timestamp();
            INSERT INTO group_members AS m
                   (id, group_id, plan_id, invite_code, email, birth_date, first_name,
                    gender, last_name, locale, mobile_number, time_zone,
                    tags, attributes, start_date, end_date, created_at, updated_at)
            VALUES (ids[item], home.id, plan.id, code.code, emails[item],
                    birth_dates[item], first_names[item], genders[item],
                    last_names[item], coalesce(locales[item], home.locale, 'en-US'),
                    mobile_numbers[item], zone, coalesce(tags[item], '[]'),
                    coalesce(attributes[item], '{}'), first_day, last_day, moment,
                    moment)
            RETURNING * INTO member;
            IF code.max_uses IS NOT NULL THEN
                locked[slot].uses := code.uses + 1;
            END IF;
        ELSE
            -- A call that was sent twice finds what the first one wrote.
            SELECT * INTO member
              FROM group_members AS m
             WHERE m.id = ids[item] AND m.group_id = home.id;
        END IF;

        IF member.id IS NULL THEN
            outcome := 'invalid';
        ELSE
            outcome := 'created';
            detail := paths[item] || '/' || member.group_id || '/users/' || member.id;
            body := groups_member_body(member, paths[item]);
        END IF;
        RETURN NEXT;
    END LOOP;

    FOR slot IN SELECT generate_subscripts(codes, 1) LOOP
        code := locked[slot];
        IF code.max_uses IS NOT NULL THEN
            UPDATE invite_codes AS c
               SET uses = code.uses
             WHERE c.code = code.code AND c.uses <> code.uses;
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION groups_register IS
    'POST {group}/members, one array element a request.';

GRANT EXECUTE ON FUNCTION groups_register TO registration;
