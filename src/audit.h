/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_AUDIT_H
#define REGISTRATION_AUDIT_H

/**
 * Whose request it is that changes something. Every operation that writes is told, and
 * notes it in the same transaction (see sql/schema/audit.sql).
 */

#include "registration.h"

/** The parameters that come after an audited operation's own: caller, request id. */
#define REG_AUDIT_PARAMETERS 2

/**
 * Calls an operation for a request, with what its audit needs behind its values.
 * @param values of an audited operation as many as it has parameters, but for those two.
 */
void reg_audit_call(reg_request_t *request, const reg_operation_t *operation,
                    const char *const *values, reg_answer_t *answer);

/** How many values an operation is given by whoever calls it here. */
int reg_audit_given(const reg_operation_t *operation);

#endif
