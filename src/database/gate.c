/* SPDX-License-Identifier: Apache-2.0 */
#include "gate.h"

#include "waiters.h"

struct reg_gate_t {
    apr_thread_mutex_t *mutex; /* of all that follows */
    reg_waiters_t waiters;     /* none while there is a place */
    int most;
    int inside;
};

reg_gate_t *reg_gate_make(apr_pool_t *pool, int most)
{
    reg_gate_t *gate = apr_pcalloc(pool, sizeof(*gate));

    if (apr_thread_mutex_create(&gate->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    reg_waiters_init(&gate->waiters);
    gate->most = most;
    return gate;
}

void reg_gate_limit(reg_gate_t *gate, int most)
{
    if (most < gate->most) {
        gate->most = most;
    }
}

int reg_gate_enter(reg_gate_t *gate, apr_time_t deadline)
{
    reg_waiter_t own;
    int must_wait;

    apr_thread_mutex_lock(gate->mutex);
    must_wait = gate->inside >= gate->most;
    if (must_wait) {
        reg_waiters_append(&gate->waiters, &own);
    }
    else {
        gate->inside++;
    }
    apr_thread_mutex_unlock(gate->mutex);
    return !must_wait || reg_waiters_wait(&gate->waiters, gate->mutex, &own, deadline);
}

void reg_gate_leave(reg_gate_t *gate)
{
    apr_thread_mutex_lock(gate->mutex);
    if (gate->waiters.first) {
        /* Its place is handed over. */
        reg_waiter_wake(reg_waiters_pop(&gate->waiters), 1);
    }
    else {
        gate->inside--;
    }
    apr_thread_mutex_unlock(gate->mutex);
}
