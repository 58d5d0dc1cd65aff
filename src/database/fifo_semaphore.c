/* SPDX-License-Identifier: Apache-2.0 */
#include "fifo_semaphore.h"

#include "wait_queue.h"

struct reg_semaphore_t {
    apr_thread_mutex_t *mutex; /* of all members below */
    reg_wait_queue_t waiters;  /* none while a place is free */
    int most;
    int inside; /* threads */
};

reg_semaphore_t *reg_semaphore_make(apr_pool_t *pool, int most)
{
    reg_semaphore_t *semaphore = apr_pcalloc(pool, sizeof(*semaphore));

    if (apr_thread_mutex_create(&semaphore->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    reg_wait_queue_init(&semaphore->waiters);
    semaphore->most = most;
    return semaphore;
}

void reg_semaphore_limit(reg_semaphore_t *semaphore, int most)
{
    if (most < semaphore->most) {
        semaphore->most = most;
    }
}

int reg_semaphore_enter(reg_semaphore_t *semaphore, apr_time_t deadline)
{
    reg_waiter_t own;
    int must_wait;

    apr_thread_mutex_lock(semaphore->mutex);
    must_wait = semaphore->inside >= semaphore->most;
    if (must_wait) {
        reg_wait_queue_append(&semaphore->waiters, &own);
    }
    else {
        semaphore->inside++;
    }
    apr_thread_mutex_unlock(semaphore->mutex);
    return !must_wait
           || reg_wait_queue_wait(&semaphore->waiters, semaphore->mutex, &own, deadline);
}

void reg_semaphore_leave(reg_semaphore_t *semaphore)
{
    apr_thread_mutex_lock(semaphore->mutex);
    if (semaphore->waiters.first) {
        /* The waiter takes over the place. */
        reg_waiter_wake(reg_wait_queue_pop(&semaphore->waiters), 1);
    }
    else {
        semaphore->inside--;
    }
    apr_thread_mutex_unlock(semaphore->mutex);
}
