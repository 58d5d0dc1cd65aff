-- SPDX-License-Identifier: Apache-2.0
--
-- Drops what only functions of version 2 use, after the upgrade was committed. A call that began
-- before the commit still runs such a function, and PL/pgSQL looks up what it uses as it goes. So
-- these calls are awaited, but not for longer than any of them takes.

DO $$
DECLARE
    committed constant timestamptz := clock_timestamp();
BEGIN
    WHILE clock_timestamp() < committed + interval '1 minute'
          AND EXISTS (SELECT FROM pg_stat_activity AS a
                       WHERE a.datname = current_database()
                         AND a.usename = 'registration'
                         AND a.xact_start < committed) LOOP
        PERFORM pg_sleep(0.05);
        PERFORM pg_stat_clear_snapshot();
    END LOOP;
END
$$;

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = registration, pg_catalog, pg_temp;
DROP FUNCTION IF EXISTS events_list_after(text, boolean, boolean);
DROP FUNCTION IF EXISTS events_list_statement(
    text, text, text, text, text, text, boolean, boolean);
DROP FUNCTION IF EXISTS event_user_made(uuid, uuid, text, text, text, text, text);
DROP FUNCTION IF EXISTS event_registration_body(
    event_registrations, event_users, occurrence_answers);
DROP FUNCTION IF EXISTS event_registration_json(
    event_registrations, event_users, occurrence_answers);
DROP VIEW occurrence_answers;
DROP TYPE event_answer, event_answer_user, event_answer_occurrence, event_answer_event,
    event_answer_organization;
COMMIT;
