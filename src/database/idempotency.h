/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_IDEMPOTENCY_H
#define REGISTRATION_DATABASE_IDEMPOTENCY_H

/**
 * The header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a client that
 * does not know whether its registration was done sends it again under the same key, and
 * gets the first answer again.
 *
 * The keys are kept by PostgreSQL, in the transaction of the registration itself (see
 * sql/operations/idempotent.sql). Each is the caller's own, and belongs to one path.
 */

#include "audit.h"

/** The parameters that come before those of the operation: key, fingerprint, seconds. */
#define REG_KEY_PARAMETERS 3

/**
 * An audited operation that may be called under a key.
 * @param count of its parameters, those of audit.h and of later versions left out.
 * @param left_out bits of the values that are not part of the fingerprint: 1 << n for
 *        the nth. These are values that are made here, and free JSON, whose text the
 *        database brings into one form and adds (see sql/operations/idempotent.sql). A
 *        password's hash is one of them, so a password is not compared: a fast hash of
 *        it, kept, would undo the slow one.
 * @param of_later how many parameters later versions have added: settings of the mount,
 *        not part of the fingerprint.
 */
#define REG_KEYED_OPERATION(its_name, count, competed_for, left_out, of_later)           \
    {                                                                                    \
        .name = (its_name), .parameters = (count) + REG_AUDIT_PARAMETERS + (of_later),   \
        .key = (competed_for), .audited = 1, .skipped = (left_out), .later = (of_later), \
        .keyed = &(const reg_operation_t)                                                \
        {                                                                                \
            .name = its_name "_under_key", .wrapped = (its_name),                        \
            .parameters =                                                                \
                REG_KEY_PARAMETERS + (count) + REG_AUDIT_PARAMETERS + (of_later),        \
            .key = (competed_for) + REG_KEY_PARAMETERS, .audited = 1,                    \
            .later = (of_later)                                                          \
        }                                                                                \
    }

/**
 * Makes the values of operation->keyed from those of an operation.
 * @param request one with an Idempotency-Key.
 * @param values of the operation, without those of the audit.
 * @param keyed set to the values of operation->keyed, without those of the audit; has
 *        room for REG_MAX_PARAMETERS.
 * @return 0 when the header holds no valid key.
 */
int reg_idempotency_values(const reg_request_t *request, const reg_operation_t *operation,
                           const char *const *values, const char **keyed);

#endif
