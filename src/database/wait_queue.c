/* SPDX-License-Identifier: Apache-2.0 */
#include "wait_queue.h"

#include <errno.h>

void reg_wait_queue_init(reg_wait_queue_t *waiters)
{
    *waiters = (reg_wait_queue_t){NULL, &waiters->first, 0};
}

void reg_wait_queue_append(reg_wait_queue_t *waiters, reg_waiter_t *waiter)
{
    sem_init(&waiter->woken, 0, 0);
    waiter->next = NULL;
    waiter->is_queued = 1;
    *waiters->end = waiter;
    waiters->end = &waiter->next;
    waiters->length++;
}

reg_waiter_t *reg_wait_queue_pop(reg_wait_queue_t *waiters)
{
    reg_waiter_t *waiter = waiters->first;

    waiters->first = waiter->next;
    if (!waiters->first) {
        waiters->end = &waiters->first;
    }
    waiters->length--;
    waiter->is_queued = 0;
    return waiter;
}

void reg_waiter_wake(reg_waiter_t *waiter, int verdict)
{
    waiter->verdict = verdict;
    sem_post(&waiter->woken);
}

static void unlink_waiter(reg_wait_queue_t *waiters, const reg_waiter_t *waiter)
{
    reg_waiter_t **link = &waiters->first;

    while (*link != waiter) {
        link = &(*link)->next;
    }
    *link = waiter->next;
    if (!*link) {
        waiters->end = link;
    }
    waiters->length--;
}

/* Waits until the waiter is woken. @return 0 at the deadline. */
static int sleep_until_woken(reg_waiter_t *own, apr_time_t deadline)
{
    const struct timespec end = {.tv_sec = (time_t)apr_time_sec(deadline),
                                 .tv_nsec = (long)apr_time_usec(deadline) * 1000};
    int rv;

    do {
        rv = sem_timedwait(&own->woken, &end);
    } while (rv < 0 && errno == EINTR);
    return rv == 0;
}

/* Leaves the queue. @return 0 if the waiter has been taken. */
static int leave_queue(reg_wait_queue_t *waiters, apr_thread_mutex_t *mutex,
                       const reg_waiter_t *own)
{
    int could;

    apr_thread_mutex_lock(mutex);
    could = own->is_queued;
    if (could) {
        unlink_waiter(waiters, own);
    }
    apr_thread_mutex_unlock(mutex);
    return could;
}

int reg_wait_queue_wait(reg_wait_queue_t *waiters, apr_thread_mutex_t *mutex,
                        reg_waiter_t *own, apr_time_t deadline)
{
    int was_woken = sleep_until_woken(own, deadline);

    if (!was_woken && !leave_queue(waiters, mutex, own)) {
        while (sem_wait(&own->woken) < 0) { /* a signal */
        }
        was_woken = 1;
    }
    sem_destroy(&own->woken);
    return was_woken;
}
