/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_CACHE_H
#define REGISTRATION_DATABASE_CACHE_H

#include "registration.h"

/**
 * The last answer of an operation with a cache TTL: the status query, whose answer is the
 * same for all clients. It scans two tables, because an index on their counters would
 * cost each registration more. Without the cache each viewer of the status page would
 * cause a scan every two seconds.
 *
 * Requests that find the answer expired at the same time all call the operation, in one
 * batch. A child process has one cache for each server; it holds the answer of the
 * operation that was put last.
 */
typedef struct reg_cache_t reg_cache_t;

/** @return NULL when the system has no mutex left; then nothing is cached. */
reg_cache_t *reg_cache_make(apr_pool_t *pool);

/**
 * Gets the cached answer of an operation, if there is one and its TTL has not passed.
 * @param cache or NULL.
 * @param pool of the answer's strings.
 * @return whether there was one.
 */
int reg_cache_get(reg_cache_t *cache, apr_pool_t *pool, const reg_operation_t *operation,
                  reg_answer_t *answer);

/**
 * Caches an answer, if the operation has a cache TTL and the outcome is REG_FOUND. Its
 * detail is not cached.
 * @param cache or NULL.
 */
void reg_cache_put(reg_cache_t *cache, const reg_operation_t *operation,
                   const reg_answer_t *answer);

#endif
