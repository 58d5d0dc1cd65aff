-- SPDX-License-Identifier: Apache-2.0
--
-- The audit: who registered, changed or deleted what, and when.

-- Enumerations instead of CHECK constraints, which each statement would load and evaluate.
CREATE TYPE audit_action AS ENUM
    ('registered', 'changed', 'promoted', 'deleted', 'removed', 'erased');
CREATE TYPE audit_kind AS ENUM
    ('live_registration', 'group_member', 'family', 'event_user',
     'event_registration');

COMMENT ON TYPE audit_action IS
    'registered, changed, deleted: by an operation; promoted: from a waiting list; '
    'removed: by a function for administrators; erased: by erase_person().';
COMMENT ON TYPE audit_kind IS 'The kind of row that an entry of the audit is about.';

CREATE TABLE audit (
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

-- Ids begin with the time, so inserts go to the last page of the index.
CREATE INDEX audit_by_id ON audit (id);

COMMENT ON TABLE audit IS
    'Who registered, changed or deleted what, and when. An entry is added in the transaction of '
    'the change: by the operations, by the functions for administrators, and by the promotion '
    'after a capacity was raised. Statements that an administrator executes on other tables add '
    'no entry. Entries cannot be changed or deleted: a trigger allows only the replacement of a '
    'caller by "erased", for erase_person().';
COMMENT ON COLUMN audit.at IS 'The time of the change, shortly before its commit.';
COMMENT ON COLUMN audit.action IS 'The kind of change.';
COMMENT ON COLUMN audit.kind IS 'The kind of row.';
COMMENT ON COLUMN audit.id IS 'The id of the row, which may have been deleted since.';
COMMENT ON COLUMN audit.belongs_to IS
    'The id of the session, group, institution, organization or occurrence that the row '
    'belongs to.';
COMMENT ON COLUMN audit.status_before IS
    'The status of an event registration before the change; null for other rows.';
COMMENT ON COLUMN audit.status_after IS
    'The status of an event registration after the change; equal to status_before if only '
    'fields were changed, null after a deletion and for other rows.';
COMMENT ON COLUMN audit.caller IS
    'The caller that httpd authenticated, null without authentication; the login role if a '
    'function was called in SQL. For a promotion, the caller that freed the place.';
COMMENT ON COLUMN audit.request_id IS
    'The id of the request in httpd''s logs: that of mod_unique_id if it is loaded. Null if a '
    'function was called in SQL.';

CREATE FUNCTION audit_append_only()
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
    RAISE EXCEPTION 'entries of the audit cannot be changed or deleted'
        USING ERRCODE = 'restrict_violation';
END
$$;

COMMENT ON FUNCTION audit_append_only IS 'Trigger: refuses changes of the audit.';

CREATE TRIGGER append_only
    BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_append_only();
CREATE TRIGGER append_only_all
    BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only();
-- Also in sessions with session_replication_role = replica.
ALTER TABLE audit ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit ENABLE ALWAYS TRIGGER append_only_all;
