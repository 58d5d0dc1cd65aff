/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_FIFO_SEMAPHORE_H
#define REGISTRATION_DATABASE_FIFO_SEMAPHORE_H

#include <apr_pools.h>
#include <apr_time.h>

/**
 * A counting semaphore in FIFO order: a thread never overtakes one that waits. Each
 * thread waits until its own deadline at most.
 */
typedef struct reg_semaphore_t reg_semaphore_t;

/**
 * Makes a semaphore.
 * @param most threads that may be inside at the same time.
 * @return NULL when the system has no mutex left.
 */
reg_semaphore_t *reg_semaphore_make(apr_pool_t *pool, int most);

/** Lowers the number of places to `most`, if it is higher. */
void reg_semaphore_limit(reg_semaphore_t *semaphore, int most);

/** Enters. @return 0 if no place was free by the deadline. */
int reg_semaphore_enter(reg_semaphore_t *semaphore, apr_time_t deadline);

/** Leaves; the first waiting thread enters. */
void reg_semaphore_leave(reg_semaphore_t *semaphore);

#endif
