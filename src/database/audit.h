/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_AUDIT_H
#define REGISTRATION_DATABASE_AUDIT_H

/**
 * Whose request it is that changes something. Every operation that writes is told, and
 * notes it in the same transaction (see sql/schema/audit.sql).
 */

#include "registration.h"

/** The parameters that come after an audited operation's own: caller, request id. Those
 *  of later versions follow (reg_operation_t.later). */
#define REG_AUDIT_PARAMETERS 2

/**
 * Calls an operation for a request, with what its audit needs behind its values.
 * @param values of an audited operation as many as it has parameters, except those two;
 *        those of later versions follow its own.
 */
void reg_audit_call(reg_request_t *request, const reg_operation_t *operation,
                    const char *const *values, reg_answer_t *answer);

/** How many parameters of its own an operation has: the first of its values. */
int reg_audit_given(const reg_operation_t *operation);

#endif
