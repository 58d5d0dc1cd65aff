/* SPDX-License-Identifier: Apache-2.0 */
#include "combine.h"

#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>

typedef enum {
    QUEUED, /* nobody has it yet */
    TAKEN,  /* a leader has it */
    LEADS,  /* its own thread is to lead the next batch */
    DONE
} state_t;

/* A request in the queue; on the stack of the thread that waits for it. */
typedef struct waiter_t {
    struct waiter_t *next;
    void *request;
    apr_time_t deadline;
    apr_thread_cond_t *changed; /* signalled when the state has changed */
    state_t state;
} waiter_t;

struct reg_queue_t {
    apr_thread_mutex_t *mutex; /* of all that follows, and of every waiter's state */
    waiter_t *first, **end;    /* the waiters nobody has taken */
    int free_lanes;
    int batch;
    reg_batch_t *run;
};

reg_queue_t *reg_queue_make(apr_pool_t *pool, reg_batch_t *run, int batch, int lanes)
{
    reg_queue_t *queue = apr_pcalloc(pool, sizeof(*queue));

    if (apr_thread_mutex_create(&queue->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    queue->end = &queue->first;
    queue->free_lanes = lanes;
    queue->batch = batch;
    queue->run = run;
    return queue;
}

static void append(reg_queue_t *queue, waiter_t *waiter)
{
    *queue->end = waiter;
    queue->end = &waiter->next;
}

static void withdraw(reg_queue_t *queue, const waiter_t *waiter)
{
    waiter_t **link = &queue->first;

    while (*link != waiter) {
        link = &(*link)->next;
    }
    *link = waiter->next;
    if (!*link) {
        queue->end = link;
    }
}

/* Takes the first waiter off the queue. */
static waiter_t *pop(reg_queue_t *queue)
{
    waiter_t *waiter = queue->first;

    queue->first = waiter->next;
    if (!queue->first) {
        queue->end = &queue->first;
    }
    return waiter;
}

/* Lets the first waiter lead the next batch, or leaves the lane free. A lane is free only
 * while nobody waits. */
static void pass_lane(reg_queue_t *queue)
{
    if (queue->first) {
        waiter_t *next = pop(queue);

        next->state = LEADS;
        apr_thread_cond_signal(next->changed);
    }
    else {
        queue->free_lanes++;
    }
}

/* Runs the leader's own request and what else is queued. The mutex is held, but while the
 * batch runs. */
static void lead(reg_queue_t *queue, apr_pool_t *pool, waiter_t *own, void *leader)
{
    waiter_t **waiters = apr_palloc(pool, sizeof(void *) * (apr_size_t)queue->batch);
    void **requests = apr_palloc(pool, sizeof(void *) * (apr_size_t)queue->batch);
    apr_time_t deadline = own->deadline;
    int count = 0;

    waiters[count] = own;
    requests[count++] = own->request;
    while (queue->first && count < queue->batch) {
        waiter_t *waiter = pop(queue);

        waiter->state = TAKEN;
        waiters[count] = waiter;
        requests[count++] = waiter->request;
        deadline = deadline < waiter->deadline ? deadline : waiter->deadline;
    }
    apr_thread_mutex_unlock(queue->mutex);
    queue->run(leader, requests, count, deadline);
    apr_thread_mutex_lock(queue->mutex);
    pass_lane(queue);
    for (int i = 1; i < count; i++) {
        waiters[i]->state = DONE;
        apr_thread_cond_signal(waiters[i]->changed);
    }
    own->state = DONE;
}

/* Waits until the waiter has been run or is to lead; gives up at the deadline, unless a
 * leader has the request by then. */
static void wait_for_turn(reg_queue_t *queue, apr_pool_t *pool, waiter_t *own)
{
    apr_time_t left;

    if (apr_thread_cond_create(&own->changed, pool) != APR_SUCCESS) {
        return;
    }
    append(queue, own);
    while (own->state == TAKEN
           || (own->state == QUEUED && (left = own->deadline - apr_time_now()) > 0)) {
        if (own->state == TAKEN) {
            apr_thread_cond_wait(own->changed, queue->mutex);
        }
        else {
            apr_thread_cond_timedwait(own->changed, queue->mutex, left);
        }
    }
    if (own->state == QUEUED) {
        withdraw(queue, own);
    }
}

int reg_queue_run(reg_queue_t *queue, apr_pool_t *pool, void *request, void *leader,
                  apr_time_t deadline)
{
    waiter_t own = {.request = request, .deadline = deadline, .state = QUEUED};

    apr_thread_mutex_lock(queue->mutex);
    if (queue->free_lanes > 0) {
        queue->free_lanes--;
        own.state = LEADS;
    }
    else {
        wait_for_turn(queue, pool, &own);
    }
    if (own.state == LEADS) {
        lead(queue, pool, &own, leader);
    }
    apr_thread_mutex_unlock(queue->mutex);
    return own.state == DONE;
}

int reg_queue_length(reg_queue_t *queue)
{
    int length = 0;

    apr_thread_mutex_lock(queue->mutex);
    for (const waiter_t *waiter = queue->first; waiter; waiter = waiter->next) {
        length++;
    }
    apr_thread_mutex_unlock(queue->mutex);
    return length;
}
