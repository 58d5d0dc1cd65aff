-- SPDX-License-Identifier: Apache-2.0

CREATE OR REPLACE FUNCTION remove_family(family text)
RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = registration, pg_catalog, pg_temp
AS $$
DECLARE
    found_family families;
BEGIN
    SELECT * INTO found_family FROM families AS f WHERE f.id = family;
    IF NOT FOUND THEN
        SELECT * INTO found_family FROM families AS f WHERE f.username = family;
    END IF;

    PERFORM FROM families AS f WHERE f.username = found_family.username FOR UPDATE;
    DELETE FROM family_children AS m
     WHERE m.family_id = found_family.id AND m.username = found_family.username;
    DELETE FROM families AS f
     WHERE f.id = found_family.id AND f.username = found_family.username;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    INSERT INTO audit (action, kind, id, belongs_to, caller)
    VALUES ('removed', 'family', found_family.id, found_family.institution_id,
            session_user);
    RETURN true;
END
$$;

COMMENT ON FUNCTION remove_family IS
    'Deletes a family, given its id or its username; false: there is none. '
    'For administrators.';
