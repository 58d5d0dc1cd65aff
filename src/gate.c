/* SPDX-License-Identifier: Apache-2.0 */
#include "gate.h"

#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>

struct reg_gate_t {
    apr_thread_mutex_t *mutex; /* of all that follows */
    apr_thread_cond_t *changed;
    int most;
    int inside;
    int opening;             /* somebody has the turn */
    apr_time_t closed_until; /* nobody is let in before */
};

reg_gate_t *reg_gate_make(apr_pool_t *pool, int most)
{
    reg_gate_t *gate = apr_pcalloc(pool, sizeof(*gate));

    if (apr_thread_mutex_create(&gate->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
            != APR_SUCCESS
        || apr_thread_cond_create(&gate->changed, pool) != APR_SUCCESS) {
        return NULL;
    }
    gate->most = most;
    return gate;
}

void reg_gate_limit(reg_gate_t *gate, int most)
{
    if (most < gate->most) {
        gate->most = most;
    }
}

/* Whether nobody is let in. A clock that was set back does not keep the gate closed. */
static int is_closed(const reg_gate_t *gate, apr_time_t now)
{
    return now < gate->closed_until && now >= gate->closed_until - REG_GATE_CLOSED_TIME;
}

int reg_gate_enter(reg_gate_t *gate, apr_time_t deadline)
{
    apr_time_t now = apr_time_now();
    int entered = 0;

    apr_thread_mutex_lock(gate->mutex);
    while (!entered && !is_closed(gate, now) && now < deadline) {
        entered = gate->inside < gate->most && !gate->opening;
        if (!entered) {
            apr_thread_cond_timedwait(gate->changed, gate->mutex, deadline - now);
            now = apr_time_now();
        }
    }
    if (entered) {
        gate->inside++;
        gate->opening = 1;
    }
    else {
        /* The signal that woke it may have been meant for somebody who can still enter.
         */
        apr_thread_cond_signal(gate->changed);
    }
    apr_thread_mutex_unlock(gate->mutex);
    return entered;
}

void reg_gate_opened(reg_gate_t *gate, int success)
{
    apr_thread_mutex_lock(gate->mutex);
    gate->opening = 0;
    if (success) {
        apr_thread_cond_signal(gate->changed);
    }
    else {
        gate->inside--;
        gate->closed_until = apr_time_now() + REG_GATE_CLOSED_TIME;
        apr_thread_cond_broadcast(gate->changed);
    }
    apr_thread_mutex_unlock(gate->mutex);
}

void reg_gate_leave(reg_gate_t *gate)
{
    apr_thread_mutex_lock(gate->mutex);
    gate->inside--;
    apr_thread_cond_signal(gate->changed);
    apr_thread_mutex_unlock(gate->mutex);
}
