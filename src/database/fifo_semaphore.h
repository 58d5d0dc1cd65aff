/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_FIFO_SEMAPHORE_H
#define REGISTRATION_DATABASE_FIFO_SEMAPHORE_H

#include <apr_pools.h>
#include <apr_time.h>

/**
 * A bound on how many threads do something at a time.
 *
 * Threads enter in the order in which they came: one that comes later never overtakes one
 * that waits. Each waits until its own deadline at most.
 */
typedef struct reg_semaphore_t reg_semaphore_t;

/**
 * Makes a gate.
 * @param most threads that may be inside at the same time.
 * @return NULL when the system has no mutex left.
 */
reg_semaphore_t *reg_semaphore_make(apr_pool_t *pool, int most);

/** Lowers the number of places to `most`, if it is higher. */
void reg_semaphore_limit(reg_semaphore_t *gate, int most);

/** Enters. @return whether that was possible before the deadline. */
int reg_semaphore_enter(reg_semaphore_t *gate, apr_time_t deadline);

void reg_semaphore_leave(reg_semaphore_t *gate);

#endif
