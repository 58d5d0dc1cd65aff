/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_IDEMPOTENCY_H
#define REGISTRATION_DATABASE_IDEMPOTENCY_H

/**
 * The header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a client whose
 * registration is in doubt repeats it with the same key and gets the first answer.
 *
 * PostgreSQL stores the keys, in the transaction of the registration
 * (sql/operations/idempotent.sql). The scope of a key is one caller and one path.
 */

#include "audit.h"

/** The number of parameters before those of the operation: key, fingerprint, seconds. */
#define REG_KEY_PARAMETERS 3

/**
 * An audited operation that may be called under a key.
 * @param count of its parameters, without those of the audit and of later versions.
 * @param left_out bits of the values that are not part of the fingerprint: 1 << n for
 *        the nth. These are generated values, and free JSON, which the database adds to
 *        the fingerprint in a canonical form (sql/operations/idempotent.sql). A
 *        password's hash is left out too, so passwords are not compared: storing a fast
 *        hash of the password would defeat the slow one. Settings of the mount are left
 *        out as well.
 * @param of_later the number of parameters that later versions have added; their bits
 *        follow those of the first `count`.
 */
/* Not formatted: clang-format 14 and 19 disagree. */
// clang-format off
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
// clang-format on

/**
 * Makes the values of operation->keyed from the values of an operation.
 * @param request has an Idempotency-Key.
 * @param values of the operation, without the audit parameters.
 * @param keyed set to the values of operation->keyed, without the audit parameters; has
 *        room for REG_MAX_PARAMETERS.
 * @return 0 if the header is no valid key.
 */
int reg_idempotency_values(const reg_request_t *request, const reg_operation_t *operation,
                           const char *const *values, const char **keyed);

#endif
