-- SPDX-License-Identifier: Apache-2.0
--
-- The functions that members of registration_admin may execute. check_rights.sql has the same
-- list, and fails the installation if the role may execute more or fewer.

GRANT EXECUTE ON ROUTINE
    cancel_live_registration, remove_group_member, remove_family, recount,
    export_person, person_rows, person_mentions,
    erase_person, erase_person_row, erase_person_answers, erase_person_as_caller,
    make_audit_partitions, drop_audit_partition,
    forget_idempotency_keys, purge_deleted, purge_past_occurrence, purge_past_session, maintain
    TO registration_admin;
