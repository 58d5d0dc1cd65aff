/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_AUDIT_H
#define REGISTRATION_DATABASE_AUDIT_H

/**
 * The audit trail: each operation that writes has the caller's name and the request id as
 * parameters and records both in its own transaction (sql/schema/audit.sql).
 */

#include "registration.h"

/** The number of audit parameters: caller, request id. They follow the operation's own
 *  parameters and precede the parameters of later versions (reg_operation_t.later). */
#define REG_AUDIT_PARAMETERS 2

/**
 * Inserts the audit parameters.
 * @param operation an audited operation.
 * @param values of the operation, without the audit parameters.
 * @param audited set to the values of all parameters; has room for REG_MAX_PARAMETERS.
 */
void reg_audit_values(const reg_request_t *request, const reg_operation_t *operation,
                      const char *const *values, const char **audited);

/** The number of parameters that an operation has before the audit parameters. */
int reg_audit_own_parameters(const reg_operation_t *operation);

#endif
