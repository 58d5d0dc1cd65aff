-- SPDX-License-Identifier: Apache-2.0
--
-- Bounds for what is stored. A request is limited by RegistrationMaxFields; these
-- constraints are the largest value that the directive takes, for every other writer.
-- NOT VALID: rows that exist already are not read while the tables are locked.

ALTER TABLE event_registrations
    ADD CONSTRAINT event_registrations_fields_size
        CHECK (octet_length(fields::text) <= 1048576) NOT VALID;

ALTER TABLE group_members
    ADD CONSTRAINT group_members_attributes_size
        CHECK (octet_length(attributes::text) <= 1048576) NOT VALID,
    ADD CONSTRAINT group_members_tags_size
        CHECK (octet_length(tags::text) <= 1048576) NOT VALID;
