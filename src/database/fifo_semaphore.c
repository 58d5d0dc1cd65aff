/* SPDX-License-Identifier: Apache-2.0 */
#include "fifo_semaphore.h"

#include "wait_queue.h"

struct reg_semaphore_t {
    apr_thread_mutex_t *mutex; /* of all that follows */
    reg_wait_queue_t waiters;  /* none while there is a place */
    int most;
    int inside;
};

reg_semaphore_t *reg_semaphore_make(apr_pool_t *pool, int most)
{
    reg_semaphore_t *gate = apr_pcalloc(pool, sizeof(*gate));

    if (apr_thread_mutex_create(&gate->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    reg_wait_queue_init(&gate->waiters);
    gate->most = most;
    return gate;
}

void reg_semaphore_limit(reg_semaphore_t *gate, int most)
{
    if (most < gate->most) {
        gate->most = most;
    }
}

int reg_semaphore_enter(reg_semaphore_t *gate, apr_time_t deadline)
{
    reg_waiter_t own;
    int must_wait;

    apr_thread_mutex_lock(gate->mutex);
    must_wait = gate->inside >= gate->most;
    if (must_wait) {
        reg_wait_queue_append(&gate->waiters, &own);
    }
    else {
        gate->inside++;
    }
    apr_thread_mutex_unlock(gate->mutex);
    return !must_wait || reg_wait_queue_wait(&gate->waiters, gate->mutex, &own, deadline);
}

void reg_semaphore_leave(reg_semaphore_t *gate)
{
    apr_thread_mutex_lock(gate->mutex);
    if (gate->waiters.first) {
        /* Its place is handed over. */
        reg_waiter_wake(reg_wait_queue_pop(&gate->waiters), 1);
    }
    else {
        gate->inside--;
    }
    apr_thread_mutex_unlock(gate->mutex);
}
