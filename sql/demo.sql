-- SPDX-License-Identifier: Apache-2.0
--
-- Reference data for the examples of the four APIs. Can be repeated; run install.sql first.

\set ON_ERROR_STOP on
\set QUIET on

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = registration;

INSERT INTO live_sessions (id, title, status, max_participants, scheduled_at)
VALUES ('11111111-1111-4111-8111-111111111111', 'Breathing exercises',
        'scheduled', 100, '2030-01-15 10:00+00'),
       ('22222222-2222-4222-8222-222222222222', 'Questions and answers',
        'live', 2, '2025-01-15 10:00+00'),
       ('33333333-3333-4333-8333-333333333333', 'Sleeping well',
        'ended', 100, '2024-01-15 10:00+00'),
       ('44444444-4444-4444-8444-444444444444', 'Eating well',
        'cancelled', 100, '2030-02-15 10:00+00'),
       ('55555555-5555-4555-8555-555555555555', 'Open lecture',
        'scheduled', NULL, '2030-03-15 10:00+00')
    ON CONFLICT DO NOTHING;

INSERT INTO groups (id, name)
VALUES ('5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10', 'Group 1'),
       ('6a1b2c3d-4e5f-4a6b-8c7d-8e9f0a1b2c3d', 'Group 2')
    ON CONFLICT DO NOTHING;

INSERT INTO plans (id, group_id, name, duration_days)
VALUES ('7c1d2e3f-4a5b-4c6d-8e7f-901234567890',
        '5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10', 'Plan 1', 365),
       ('8d2e3f40-5b6c-4d7e-9f80-a12345678901',
        '6a1b2c3d-4e5f-4a6b-8c7d-8e9f0a1b2c3d', 'Plan 2', NULL)
    ON CONFLICT DO NOTHING;

INSERT INTO invite_codes (code, plan_id, expires_at, max_uses)
VALUES ('EXAMPLE123', '7c1d2e3f-4a5b-4c6d-8e7f-901234567890', NULL, NULL),
       ('EXAMPLE456', '8d2e3f40-5b6c-4d7e-9f80-a12345678901', NULL, NULL),
       ('EXPIRED789', '8d2e3f40-5b6c-4d7e-9f80-a12345678901', '2020-01-01', NULL),
       ('ONCE000', '8d2e3f40-5b6c-4d7e-9f80-a12345678901', NULL, 1)
    ON CONFLICT DO NOTHING;

INSERT INTO institutions (id, name)
VALUES ('5a62be07de34500146d9c624', 'Example School')
    ON CONFLICT DO NOTHING;

INSERT INTO children (id, username, institution_id, gender, age)
VALUES ('5a62be07de34500146d9c544', 'BR0001', '5a62be07de34500146d9c624', 'female', 7),
       ('5a70be07de34500146d9c380', 'BR0002', '5a62be07de34500146d9c624', 'male', 11)
    ON CONFLICT DO NOTHING;

INSERT INTO organizations (id, name)
VALUES ('987e6543-e21a-34b5-c678-426614174000', 'Tech Corp'),
       ('11e6543a-e21a-34b5-c678-426614174999', 'Other Org')
    ON CONFLICT DO NOTHING;

INSERT INTO events (id, organization_id, name, slug, description)
VALUES ('4c4f93e6-38bb-4a1e-8286-e89f9853cf52', '987e6543-e21a-34b5-c678-426614174000',
        'Annual Tech Conference 2025', 'annual-tech-conference-2025',
        'Join us for the biggest tech conference of the year featuring keynote speakers, '
        'workshops, and networking opportunities.'),
       ('5d5fa4f7-49cc-4b2f-9397-f9a0a964d063', '11e6543a-e21a-34b5-c678-426614174999',
        'Other Event', 'other-event', 'An event of another organization.')
    ON CONFLICT DO NOTHING;

INSERT INTO categories (id, organization_id, name)
VALUES ('0d9f8e7c-6b5a-4948-8372-615049382716', '987e6543-e21a-34b5-c678-426614174000',
        'Conferences')
    ON CONFLICT DO NOTHING;

INSERT INTO event_categories (event_id, category_id)
VALUES ('4c4f93e6-38bb-4a1e-8286-e89f9853cf52', '0d9f8e7c-6b5a-4948-8372-615049382716')
    ON CONFLICT DO NOTHING;

INSERT INTO occurrences (id, event_id, start_date, end_date, capacity)
VALUES ('123e4567-e89b-12d3-a456-426614174001', '4c4f93e6-38bb-4a1e-8286-e89f9853cf52',
        '2025-12-25 10:00+00', '2025-12-25 18:00+00', 100),
       ('123e4567-e89b-12d3-a456-426614174002', '4c4f93e6-38bb-4a1e-8286-e89f9853cf52',
        '2025-12-26 10:00+00', '2025-12-26 18:00+00', 1),
       ('123e4567-e89b-12d3-a456-426614174009', '5d5fa4f7-49cc-4b2f-9397-f9a0a964d063',
        '2025-12-27 10:00+00', '2025-12-27 18:00+00', 10)
    ON CONFLICT DO NOTHING;

INSERT INTO event_users (id, organization_id, external_id, email, first_name, last_name,
                         avatar)
VALUES ('123e4567-e89b-12d3-a456-426614174000', '987e6543-e21a-34b5-c678-426614174000',
        'ext_user_12345', 'john.doe@example.com', 'John', 'Doe',
        'https://example.com/avatars/user.jpg')
    ON CONFLICT DO NOTHING;

COMMIT;
