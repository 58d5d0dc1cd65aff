-- SPDX-License-Identifier: Apache-2.0
--
-- Institutions, children, and the families registered for them. Every id here is an
-- ObjectId in lower case.

CREATE TABLE IF NOT EXISTS institutions (
    id text COLLATE "C",
    name text NOT NULL,
    CONSTRAINT institutions_pkey PRIMARY KEY (id),
    CONSTRAINT institutions_id_lower_case_hex CHECK (id ~ '^[0-9a-f]{24}$')
);

COMMENT ON TABLE institutions IS 'The institutions that families and children belong to.';
COMMENT ON COLUMN institutions.id IS '24 hex digits, in lower case.';
COMMENT ON COLUMN institutions.name IS 'What the institution is called.';

CREATE TABLE IF NOT EXISTS children (
    id text COLLATE "C",
    username text NOT NULL,
    institution_id text COLLATE "C" NOT NULL,
    gender text,
    age integer,
    CONSTRAINT children_pkey PRIMARY KEY (id),
    CONSTRAINT children_institution_fkey
        FOREIGN KEY (institution_id) REFERENCES institutions (id),
    CONSTRAINT children_id_lower_case_hex CHECK (id ~ '^[0-9a-f]{24}$'),
    CONSTRAINT children_age_not_negative CHECK (age >= 0)
);

COMMENT ON TABLE children IS 'The children a family can be registered for.';
COMMENT ON COLUMN children.id IS '24 hex digits, in lower case.';
COMMENT ON COLUMN children.username IS 'The name the child is known by.';
COMMENT ON COLUMN children.institution_id IS 'The child''s institution.';
COMMENT ON COLUMN children.gender IS 'The child''s gender.';
COMMENT ON COLUMN children.age IS 'The child''s age in years.';

CREATE TABLE IF NOT EXISTS families (
    id text COLLATE "C",
    username text COLLATE "C" NOT NULL,
    password_hash text NOT NULL,
    institution_id text COLLATE "C" NOT NULL,
    created_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT families_pkey PRIMARY KEY (id, username),
    CONSTRAINT families_username_once UNIQUE (username),
    CONSTRAINT families_institution_fkey
        FOREIGN KEY (institution_id) REFERENCES institutions (id),
    CONSTRAINT families_id_lower_case_hex CHECK (id ~ '^[0-9a-f]{24}$'),
    CONSTRAINT families_username_not_empty CHECK (username <> '')
);

COMMENT ON TABLE families IS
    'The registered families. To delete one, call remove_family(id or username).';
COMMENT ON COLUMN families.id IS
    '24 hex digits, in lower case; made by the module before the row is written.';
COMMENT ON COLUMN families.username IS
    'The name the family logs in with; upper and lower case differ.';
COMMENT ON COLUMN families.password_hash IS 'bcrypt; never part of an answer.';
COMMENT ON COLUMN families.institution_id IS 'The family''s institution.';
COMMENT ON COLUMN families.created_at IS 'When the family was registered.';

CREATE TABLE IF NOT EXISTS family_children (
    family_id text COLLATE "C",
    username text COLLATE "C",
    position integer,
    child_id text COLLATE "C" NOT NULL,
    CONSTRAINT family_children_pkey PRIMARY KEY (family_id, username, position),
    CONSTRAINT family_children_child_once UNIQUE (family_id, username, child_id),
    CONSTRAINT family_children_family_fkey
        FOREIGN KEY (family_id, username) REFERENCES families (id, username),
    CONSTRAINT family_children_child_fkey FOREIGN KEY (child_id) REFERENCES children (id)
);

COMMENT ON TABLE family_children IS 'Which children belong to which family.';
COMMENT ON COLUMN family_children.family_id IS 'The family.';
COMMENT ON COLUMN family_children.username IS
    'The family''s username, so that a family and its children stay on one machine '
    'where the tables are spread over several.';
COMMENT ON COLUMN family_children.position IS
    'The child''s place in the request''s list.';
COMMENT ON COLUMN family_children.child_id IS 'The child.';
