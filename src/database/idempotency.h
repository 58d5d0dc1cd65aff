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
            .name = its_name "_under_key", .inner = (its_name),                          \
            .parameters =                                                                \
                REG_KEY_PARAMETERS + (count) + REG_AUDIT_PARAMETERS + (of_later),        \
            .key = (competed_for) + REG_KEY_PARAMETERS, .audited = 1,                    \
            .later = (of_later)                                                          \
        }                                                                                \
    }

/**
 * Calls an operation for a request, under its key if it has one. A request is the same as
 * the first one when the values are: the ids among them have to be in one case. The
 * answer of a repeated request is that of the first, with another id in it than among the
 * values.
 * @param answer beside what the operation says: REG_KEY_INVALID, without a call, and
 *        REG_KEY_REUSED.
 */
void reg_idempotency_call(reg_request_t *request, const reg_operation_t *operation,
                          const char *const *values, reg_answer_t *answer);

#endif
