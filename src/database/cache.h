/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_CACHE_H
#define REGISTRATION_DATABASE_CACHE_H

#include "registration.h"

/**
 * The last answer of an operation that costs the database much, and that says the same to
 * everybody: who asks for it while it lasts gets it from here. Those who come while it is
 * asked for anew ask as well, which combining makes one more call.
 *
 * A child process has one for each server. It belongs to the operation that was put last.
 */
typedef struct reg_kept_t reg_kept_t;

/** @return NULL when the system has no mutex left; then nothing is kept. */
reg_kept_t *reg_kept_make(apr_pool_t *pool);

/**
 * Fills in what is kept of an operation's answer, unless that has lasted long enough.
 * @param pool of the answer's strings.
 * @return whether there was any.
 */
int reg_kept_get(reg_kept_t *kept, apr_pool_t *pool, const reg_operation_t *operation,
                 reg_answer_t *answer);

/** Keeps an answer of an operation that `lasts`, if it is REG_FOUND; but for its detail.
 */
void reg_kept_put(reg_kept_t *kept, const reg_operation_t *operation,
                  const reg_answer_t *answer);

#endif
