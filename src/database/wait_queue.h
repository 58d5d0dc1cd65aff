/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_WAIT_QUEUE_H
#define REGISTRATION_DATABASE_WAIT_QUEUE_H

#include <apr_thread_mutex.h>
#include <apr_time.h>
#include <semaphore.h>

/**
 * A FIFO queue of waiting threads, each with a semaphore of its own.
 *
 * The queue's owner takes waiters and wakes them. A waiter that has not been taken leaves
 * at its deadline. All functions except reg_waiter_wake() and reg_wait_queue_wait() are
 * called with the owner's mutex held.
 */
typedef struct reg_waiter_t {
    struct reg_waiter_t *next;
    int is_queued; /* not taken yet */
    int verdict;   /* set by reg_waiter_wake() */
    sem_t woken;   /* posted once, after it was taken */
} reg_waiter_t;

typedef struct reg_wait_queue_t {
    reg_waiter_t *first, **end;
    int length;
} reg_wait_queue_t;

/** Initializes an empty queue. */
void reg_wait_queue_init(reg_wait_queue_t *waiters);

/** Appends a waiter, which usually lives on the stack of its own thread. Its thread calls
 *  reg_wait_queue_wait() next. */
void reg_wait_queue_append(reg_wait_queue_t *waiters, reg_waiter_t *waiter);

/** Takes the first waiter of a queue that is not empty. The caller must wake it. */
reg_waiter_t *reg_wait_queue_pop(reg_wait_queue_t *waiters);

/** Wakes a taken waiter. Its memory then belongs to its own thread again. */
void reg_waiter_wake(reg_waiter_t *waiter, int verdict);

/**
 * Waits until the waiter is woken, or leaves the queue at the deadline. A waiter that has
 * been taken waits until it is woken, also after the deadline.
 * @param mutex the owner's; it is not held.
 * @return whether it was woken; then `verdict` is set.
 */
int reg_wait_queue_wait(reg_wait_queue_t *waiters, apr_thread_mutex_t *mutex,
                        reg_waiter_t *waiter, apr_time_t deadline);

#endif
