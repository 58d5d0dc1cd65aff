/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_GATE_H
#define REGISTRATION_DATABASE_GATE_H

#include <apr_pools.h>
#include <apr_time.h>

/**
 * A bound on how many threads do something at a time.
 *
 * Threads enter in the order in which they came: one that comes later never overtakes one
 * that waits. Each waits until its own deadline at most.
 */
typedef struct reg_gate_t reg_gate_t;

/**
 * Makes a gate.
 * @param most threads that may be inside at the same time.
 * @return NULL when the system has no mutex left.
 */
reg_gate_t *reg_gate_make(apr_pool_t *pool, int most);

/** Lowers the number of places to `most`, if it is higher. */
void reg_gate_limit(reg_gate_t *gate, int most);

/** Enters. @return whether that was possible before the deadline. */
int reg_gate_enter(reg_gate_t *gate, apr_time_t deadline);

void reg_gate_leave(reg_gate_t *gate);

#endif
