/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_GATE_H
#define REGISTRATION_GATE_H

#include <apr_pools.h>
#include <apr_time.h>

/**
 * A gate in front of a pool of connections, with a breaker.
 *
 * Whoever wants a connection enters, opens one while it is its turn, says how that went,
 * uses it and leaves. No more are inside than the pool has connections; one at a time is
 * opening, so that a database that does not answer makes one thread wait and not all of
 * them, one after the other. Threads enter in the order in which they came: one that
 * comes later never overtakes one that waits. When opening fails, those who wait and
 * those who come within the next second are turned away at once.
 */
typedef struct reg_gate_t reg_gate_t;

/** How long after a failed opening nobody is let in. */
#define REG_GATE_CLOSED_TIME apr_time_from_sec(1)

/**
 * Makes a gate.
 * @param most who may be inside at the same time.
 */
reg_gate_t *reg_gate_make(apr_pool_t *pool, int most);

/** Lets no more than `most` in, if it was more until now. */
void reg_gate_limit(reg_gate_t *gate, int most);

/** Enters and takes the turn of opening. @return whether that was possible in time. */
int reg_gate_enter(reg_gate_t *gate, apr_time_t deadline);

/** Ends the turn of opening. Who failed has left the gate. */
void reg_gate_opened(reg_gate_t *gate, int success);

void reg_gate_leave(reg_gate_t *gate);

#endif
