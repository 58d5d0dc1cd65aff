-- SPDX-License-Identifier: Apache-2.0

-- Locks an invite code for a registration; all fields are null if there is no such code. A code
-- with a limit is locked exclusively. A code without a limit is locked in share mode, so that
-- setting a limit waits for this registration and counts its member. If a limit was set before
-- this lock was granted, the module retries the call.
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
            USING MESSAGE = 'the invite code got a limit from a concurrent transaction';
    END IF;
    RETURN code;
END
$$;

COMMENT ON FUNCTION groups_lock_code IS 'Locks an invite code for a registration and returns it.';

-- Registers members of groups. First it locks the codes, in alphabetical order; then it processes
-- the requests in the order of their e-mails: so two calls lock in the same order. If the rest of a
-- request is valid, its e-mail is inserted into member_emails; otherwise it is looked up, so that
-- the client gets all errors at once. A request without a valid code gets no information from the
-- database except about time zones: its e-mail is not looked up. One statement inserts all
-- members, as starting a statement costs more than a row.
--
-- The joins must be nested loops: with hash and merge joins, a plan for small tables could scan
-- them after they have grown.
--
-- Outcomes: created (detail: the member's href), not_found (the group), invalid (detail:
-- the errors, words with spaces between them).
CREATE OR REPLACE FUNCTION groups_register(
    ids uuid[],
    group_ids uuid[],           -- null: the group of the code
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
    end_dates date[],
    callers text[],
    request_ids text[],
    max_fields integer[] DEFAULT NULL)
RETURNS TABLE (item integer, outcome text, detail text, body text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    codes text[] := ARRAY(SELECT DISTINCT c FROM unnest(invite_codes) AS c ORDER BY c);
    locked invite_codes[];      -- these codes, with the uses of this call added
    slot integer;               -- the index of the request's code in both
    code invite_codes;
    plan plans;
    home groups;
    wanted_zone text;
    zone text;                  -- the same in IANA's spelling; null: unknown
    first_day date;
    last_day date;
    wrong_sizes text;
    wrong_code text;
    wrong_email text;
    wrong_zone text;
    wrong_dates text;
    moment timestamptz;
    -- The requests whose members are inserted, and their values.
    members integer[] := '{}';
    member_plans uuid[];
    member_groups uuid[];
    member_locales text[];
    member_zones text[];
    first_days date[];
    last_days date[];
BEGIN
    FOR slot IN SELECT generate_subscripts(codes, 1) LOOP
        locked[slot] := groups_lock_code(codes[slot]);
    END LOOP;

    FOR item IN
        SELECT r.n
          FROM unnest(emails) WITH ORDINALITY AS r (email, n)
         ORDER BY lower(r.email COLLATE "C"), r.n
    LOOP
        slot := array_position(codes, invite_codes[item]);
        code := locked[slot];

        -- Most requests have the same plan as the request before.
        IF plan.id IS DISTINCT FROM code.plan_id THEN
            SELECT p.* INTO plan FROM plans AS p WHERE p.id = code.plan_id;
        END IF;
        IF home.id IS DISTINCT FROM coalesce(group_ids[item], plan.group_id) THEN
            SELECT g.* INTO home
              FROM groups AS g
             WHERE g.id = coalesce(group_ids[item], plan.group_id);
        END IF;
        IF home.id IS NULL AND group_ids[item] IS NOT NULL THEN
            outcome := 'not_found';
            detail := NULL;
            body := NULL;
            RETURN NEXT;
            CONTINUE;
        END IF;

        wrong_sizes := nullif(concat_ws(' ',
            CASE WHEN octet_length(tags[item]::text) > max_fields[item]
                 THEN 'tags_too_large' END,
            CASE WHEN octet_length(attributes[item]::text) > max_fields[item]
                 THEN 'attributes_too_large' END), '');
        wrong_code := CASE
            WHEN plan.id IS NULL THEN 'code_unknown'
            WHEN plan.group_id <> home.id THEN 'code_of_another_group'
            WHEN code.expires_at <= clock_timestamp() THEN 'code_expired'
            WHEN code.uses >= code.max_uses THEN 'code_used_up'
        END;

        IF wanted_zone IS DISTINCT FROM coalesce(time_zones[item], home.time_zone, 'UTC')
        THEN
            wanted_zone := coalesce(time_zones[item], home.time_zone, 'UTC');
            zone := (SELECT z.name
                       FROM time_zones AS z
                      WHERE lower(z.name) = lower(wanted_zone COLLATE "C"));
            wrong_zone := CASE WHEN zone IS NULL THEN 'time_zone_unknown' END;
        END IF;

        wrong_dates := NULL;
        IF wrong_code IS NULL AND wrong_zone IS NULL THEN
            first_day := coalesce(start_dates[item],
                                  (clock_timestamp() AT TIME ZONE zone)::date);
            -- yyyy-MM-dd has no later date.
            last_day := coalesce(end_dates[item], first_day + plan.duration_days);
            IF last_day > '9999-12-31' THEN
                last_day := '9999-12-31';
            END IF;
            wrong_dates := CASE WHEN last_day < first_day THEN 'end_before_start' END;
        END IF;

        wrong_email := NULL;
        IF concat(wrong_sizes, wrong_code, wrong_zone, wrong_dates) = '' THEN
            INSERT INTO member_emails (email, member_id, group_id)
            VALUES (lower(emails[item] COLLATE "C"), ids[item], home.id)
                ON CONFLICT DO NOTHING;
            wrong_email := CASE WHEN NOT FOUND THEN 'email_taken' END;
        ELSIF wrong_code IS NULL THEN
            wrong_email := (SELECT 'email_taken'
                              FROM member_emails AS e
                             WHERE e.email = lower(emails[item] COLLATE "C"));
        END IF;

        detail := concat_ws(' ', wrong_code, wrong_email, wrong_zone, wrong_dates,
                            wrong_sizes);
        IF detail = '' THEN
            members := members || item;
            member_plans := member_plans || plan.id;
            member_groups := member_groups || home.id;
            member_locales := member_locales
                              || coalesce(locales[item], home.locale, 'en-US');
            member_zones := member_zones || zone;
            first_days := first_days || first_day;
            last_days := last_days || last_day;
            IF code.max_uses IS NOT NULL THEN
                locked[slot].uses := code.uses + 1;
            END IF;
        ELSE
            -- The retry of a call finds the row that the first attempt wrote.
            body := (SELECT groups_member_body(paths[item], g, p, m)
                       FROM group_members AS m
                       JOIN groups AS g ON g.id = m.group_id
                       JOIN plans AS p ON p.id = m.plan_id
                      WHERE m.id = ids[item] AND m.group_id = home.id);
            outcome := CASE WHEN body IS NULL THEN 'invalid' ELSE 'created' END;
            IF body IS NOT NULL THEN
                detail := groups_member_href(paths[item], home.id, ids[item]);
            END IF;
            RETURN NEXT;
        END IF;
    END LOOP;

    outcome := 'created';
    moment := clock_timestamp();
    FOR item, detail, body IN
        WITH new AS (
            INSERT INTO group_members AS m
                   (id, group_id, plan_id, invite_code, email, birth_date, first_name,
                    gender, last_name, locale, mobile_number, time_zone,
                    tags, attributes, start_date, end_date, created_at, updated_at)
            SELECT ids[x.n], x.group_id, x.plan_id, invite_codes[x.n], emails[x.n],
                   birth_dates[x.n], first_names[x.n], genders[x.n], last_names[x.n],
                   x.locale, mobile_numbers[x.n], x.time_zone,
                   coalesce(tags[x.n], '[]'), coalesce(attributes[x.n], '{}'),
                   x.first_day, x.last_day, moment, moment
              FROM unnest(members, member_plans, member_groups, member_locales,
                          member_zones, first_days, last_days)
                   AS x (n, plan_id, group_id, locale, time_zone, first_day, last_day)
            RETURNING m.*)
        SELECT q.n, groups_member_href(paths[q.n], m.group_id, m.id),
               groups_member_body(paths[q.n], g, p, m)
          FROM new AS m
          JOIN groups AS g ON g.id = m.group_id
          JOIN plans AS p ON p.id = m.plan_id
         CROSS JOIN LATERAL (SELECT array_position(ids, m.id)) AS q (n)
    LOOP
        RETURN NEXT;
    END LOOP;

    IF members <> '{}' THEN
        INSERT INTO audit (action, kind, id, belongs_to, caller, request_id)
        SELECT 'registered', 'group_member', ids[x.n], x.group_id, callers[x.n],
               request_ids[x.n]
          FROM unnest(members, member_groups) AS x (n, group_id);
    END IF;

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
    'POST {group}/members; arrays with an element for each request.';

GRANT EXECUTE ON FUNCTION groups_register TO registration;
