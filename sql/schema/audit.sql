-- SPDX-License-Identifier: Apache-2.0
--
-- Who registered, changed or deleted what, and when.

-- Enumerations check themselves: a constraint would be read again by every statement.
-- CREATE TYPE knows no IF NOT EXISTS.
DO $$
BEGIN
    IF to_regtype('audit_action') IS NULL THEN
        CREATE TYPE audit_action AS ENUM
            ('registered', 'changed', 'promoted', 'deleted', 'removed', 'erased');
        CREATE TYPE audit_kind AS ENUM
            ('live_registration', 'group_member', 'family', 'event_user',
             'event_registration');
    END IF;
END
$$;

COMMENT ON TYPE audit_action IS
    'registered, changed, deleted: by an operation; promoted: from a waiting list; '
    'removed: by a function for administrators; erased: by erase_person().';
COMMENT ON TYPE audit_kind IS 'What an entry of the audit is about.';

CREATE TABLE IF NOT EXISTS audit (
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    action audit_action NOT NULL,
    kind audit_kind NOT NULL,
    id text COLLATE "C" NOT NULL,
    belongs_to text COLLATE "C" NOT NULL,
    status_before text,
    status_after text,
    caller text COLLATE "C",
    request_id text COLLATE "C"
);

-- Ids begin with the time, so new ones go to the end of it.
CREATE INDEX IF NOT EXISTS audit_by_id ON audit (id);

COMMENT ON TABLE audit IS
    'Who registered, changed or deleted what, and when; written in the transaction that '
    'did it, by the operations and the functions for administrators, and by the promotion '
    'that follows a raised capacity. Statements on other tables by hand are not in '
    'it. Entries are only added: a trigger refuses all else but that erase_person() puts '
    '"erased" in the place of a caller.';
COMMENT ON COLUMN audit.at IS 'When it was done, a moment before it was committed.';
COMMENT ON COLUMN audit.action IS 'What was done.';
COMMENT ON COLUMN audit.kind IS 'To what.';
COMMENT ON COLUMN audit.id IS 'To which: the id of a row, which may be gone by now.';
COMMENT ON COLUMN audit.belongs_to IS
    'The id of what that belongs to: a session, a group, an institution, an organization '
    'or an occurrence.';
COMMENT ON COLUMN audit.status_before IS
    'The status of an event registration before it; null for others.';
COMMENT ON COLUMN audit.status_after IS
    'The status of an event registration after it; the same as before where only its '
    'fields were changed, null when it was deleted and for others.';
COMMENT ON COLUMN audit.caller IS
    'Who did it: the caller that httpd authenticated, null where it asks for none; the '
    'role that was logged in, where a function was called in SQL. For a promotion, who '
    'freed the place.';
COMMENT ON COLUMN audit.request_id IS
    'httpd''s own id of the request, as its logs have it: mod_unique_id''s where that is '
    'loaded. Null where a function was called in SQL.';

CREATE OR REPLACE FUNCTION audit_append_only()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.caller IS NOT NULL THEN
        OLD.caller := 'erased';
        IF NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'entries of the audit are neither changed nor deleted'
        USING ERRCODE = 'restrict_violation';
END
$$;

COMMENT ON FUNCTION audit_append_only IS 'Trigger: refuses to change the audit.';

CREATE OR REPLACE TRIGGER append_only
    BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE OR REPLACE TRIGGER append_only_all
    BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
-- Also where a session has put session_replication_role to replica.
ALTER TABLE audit ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit ENABLE ALWAYS TRIGGER append_only_all;
