/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_CALL_H
#define REGISTRATION_DATABASE_CALL_H

/**
 * The one door from a handler to the database. Behind it are the Idempotency-Key
 * (idempotency.h), the audit (audit.h) and batching (batching.h).
 */

#include "registration.h"

/**
 * Calls an operation for a request, under the request's Idempotency-Key if both have one.
 * @param values as many as the operation has parameters, without those of the audit, in
 *        PostgreSQL's text form; NULL is SQL NULL. To an Idempotency-Key two requests
 *        are the same if their values are, so ids must be in lower case.
 * @param answer always set. A failure is an outcome. Outcomes of the key are
 *        REG_KEY_INVALID, without a call, and REG_KEY_REUSED.
 */
void reg_call(reg_request_t *request, const reg_operation_t *operation,
              const char *const *values, reg_answer_t *answer);

#endif
