-- SPDX-License-Identifier: Apache-2.0
--
-- Live sessions and who is registered for them.
--
-- Texts that identify something are COLLATE "C": they are compared byte for byte, and
-- an upgrade of the system's locales cannot corrupt their indexes.

-- A registration changes nothing in a session but registered_count. Half-empty pages
-- leave room for the new row version next to the old one, without touching an index.
CREATE TABLE IF NOT EXISTS live_sessions (
    id uuid DEFAULT gen_random_uuid(),
    title text NOT NULL,
    status text NOT NULL DEFAULT 'scheduled',
    max_participants integer,
    registered_count integer NOT NULL DEFAULT 0,
    scheduled_at timestamptz(3),
    CONSTRAINT live_sessions_pkey PRIMARY KEY (id),
    CONSTRAINT live_sessions_status_known
        CHECK (status IN ('scheduled', 'live', 'ended', 'cancelled')),
    CONSTRAINT live_sessions_max_participants_not_negative CHECK (max_participants >= 0),
    CONSTRAINT live_sessions_registered_count_not_negative CHECK (registered_count >= 0)
) WITH (fillfactor = 50);

COMMENT ON TABLE live_sessions IS 'The live sessions one can register for.';
COMMENT ON COLUMN live_sessions.id IS 'The id in the URL.';
COMMENT ON COLUMN live_sessions.title IS 'What the session is called.';
COMMENT ON COLUMN live_sessions.status IS
    'scheduled or live: can be joined; ended or cancelled: cannot.';
COMMENT ON COLUMN live_sessions.max_participants IS
    'How many may register, whatever their role; null: any number.';
COMMENT ON COLUMN live_sessions.registered_count IS
    'How many are registered; kept by the operations, never given by hand.';
COMMENT ON COLUMN live_sessions.scheduled_at IS 'When the session is to begin.';

CREATE TABLE IF NOT EXISTS live_registrations (
    id uuid,
    session_id uuid NOT NULL,
    patient_id text COLLATE "C",
    guest_email text COLLATE "C",
    role text NOT NULL,
    registered_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT live_registrations_pkey PRIMARY KEY (id, session_id),
    CONSTRAINT live_registrations_session_fkey
        FOREIGN KEY (session_id) REFERENCES live_sessions (id),
    -- Guests have no patient_id, and two nulls are not equal. This index also finds and
    -- counts a session's registrations, guests included.
    CONSTRAINT live_registrations_patient_once UNIQUE (session_id, patient_id),
    CONSTRAINT live_registrations_somebody
        CHECK (patient_id IS NOT NULL OR guest_email IS NOT NULL),
    CONSTRAINT live_registrations_patient_not_empty CHECK (patient_id <> ''),
    CONSTRAINT live_registrations_role_known
        CHECK (role IN ('host', 'participant', 'guest'))
);

CREATE UNIQUE INDEX IF NOT EXISTS live_registrations_guest_once
    ON live_registrations (session_id, lower(guest_email))
    WHERE guest_email IS NOT NULL;

COMMENT ON TABLE live_registrations IS
    'Who is registered for which live session. To delete one, call '
    'cancel_live_registration(id), which also gives its place back.';
COMMENT ON COLUMN live_registrations.id IS
    'Made by the module before the row is written.';
COMMENT ON COLUMN live_registrations.session_id IS 'The session.';
COMMENT ON COLUMN live_registrations.patient_id IS
    'The registered patient; once in a session. Null for a guest.';
COMMENT ON COLUMN live_registrations.guest_email IS
    'The registered guest, as given; once in a session, without regard to case.';
COMMENT ON COLUMN live_registrations.role IS 'host, participant or guest.';
COMMENT ON COLUMN live_registrations.registered_at IS 'When the registration was made.';

-- A named type instead of a sub-select, because the function that fills it is called for
-- every registration and is then expanded in place: it doubles what a batch can do.
-- CREATE TYPE knows no IF NOT EXISTS.
DO $$
BEGIN
    IF to_regtype('live_answer') IS NULL THEN
        CREATE TYPE live_answer AS (
            id uuid,
            session_id uuid,
            patient_id text,
            guest_email text,
            role text,
            registered_at text
        );
    END IF;
END
$$;

COMMENT ON TYPE live_answer IS 'A registration as the client sees it, key by key.';
