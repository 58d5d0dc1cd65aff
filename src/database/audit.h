/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_AUDIT_H
#define REGISTRATION_DATABASE_AUDIT_H

/**
 * The audit trail: each operation that writes gets the caller's name and the request id,
 * and records both in its own transaction (sql/schema/audit.sql).
 */

#include "registration.h"

/** The parameters that follow an audited operation's own: caller, request id. Those of
 *  later versions follow them (reg_operation_t.later). */
#define REG_AUDIT_PARAMETERS 2

/**
 * Inserts the parameters of the audit.
 * @param operation an audited one.
 * @param values as many as the operation has parameters, without those of the audit.
 * @param audited set to all of the operation's parameters; has room for
 *        REG_MAX_PARAMETERS.
 */
void reg_audit_values(const reg_request_t *request, const reg_operation_t *operation,
                      const char *const *values, const char **audited);

/** The number of parameters that an operation has before those of the audit. */
int reg_audit_own_parameters(const reg_operation_t *operation);

#endif
