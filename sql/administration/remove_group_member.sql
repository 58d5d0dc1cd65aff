-- SPDX-License-Identifier: Apache-2.0

-- Locks the invite code and then the e-mail, the order in which groups_register() locks them. A
-- code without a limit is locked, too, as a concurrent transaction may give it one.
CREATE OR REPLACE FUNCTION remove_group_member(registered_id uuid)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    member group_members;
BEGIN
    SELECT * INTO member FROM group_members AS m WHERE m.id = registered_id;
    PERFORM FROM invite_codes AS c WHERE c.code = member.invite_code FOR NO KEY UPDATE;

    DELETE FROM group_members AS m
     WHERE m.id = member.id AND m.group_id = member.group_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    DELETE FROM member_emails AS e
     WHERE e.email = lower(member.email) AND e.member_id = member.id;
    UPDATE invite_codes AS c
       SET uses = c.uses - 1
     WHERE c.code = member.invite_code AND c.max_uses IS NOT NULL;
    INSERT INTO audit (action, kind, id, belongs_to, caller)
    VALUES ('removed', 'group_member', member.id, member.group_id, session_user);
    RETURN true;
END
$$;

COMMENT ON FUNCTION remove_group_member IS
    'Deletes a member, returns its use of a limited invite code and releases its e-mail; '
    'false: there is none. For administrators.';
