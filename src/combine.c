/* SPDX-License-Identifier: Apache-2.0 */
#include "combine.h"

#include <apr_thread_mutex.h>
#include <errno.h>
#include <semaphore.h>
#include <sys/param.h>

/* A request in the queue; on the stack of the thread that waits for it. */
typedef struct waiter_t {
    struct waiter_t *next;
    void *request;
    apr_time_t deadline;
    int is_queued; /* nobody has it yet */
    int leads;     /* its own thread is to lead the next batch; else it has been run */
    sem_t woken;   /* posted, once, when that is decided */
} waiter_t;

struct reg_queue_t {
    apr_thread_mutex_t *mutex; /* of all that follows, and of who is queued */
    waiter_t *first, **end;    /* the waiters nobody has taken */
    int length;                /* how many these are */
    int last;                  /* how many the last batch was */
    int free_lanes;
    int batch, parts;
    reg_batch_t *run;
};

reg_queue_t *reg_queue_make(apr_pool_t *pool, reg_batch_t *run, int batch, int parts,
                            int lanes)
{
    reg_queue_t *queue = apr_pcalloc(pool, sizeof(*queue));

    if (apr_thread_mutex_create(&queue->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    queue->end = &queue->first;
    queue->free_lanes = lanes;
    queue->batch = batch;
    queue->parts = parts;
    queue->run = run;
    return queue;
}

static void append(reg_queue_t *queue, waiter_t *waiter)
{
    waiter->is_queued = 1;
    *queue->end = waiter;
    queue->end = &waiter->next;
    queue->length++;
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
    queue->length--;
}

/* Takes the first waiter off the queue. */
static waiter_t *pop(reg_queue_t *queue)
{
    waiter_t *waiter = queue->first;

    queue->first = waiter->next;
    if (!queue->first) {
        queue->end = &queue->first;
    }
    queue->length--;
    waiter->is_queued = 0;
    return waiter;
}

/* Wakes a waiter, whose memory is its own again from here on. */
static void wake(waiter_t *waiter, int leads)
{
    waiter->leads = leads;
    sem_post(&waiter->woken);
}

/* Lets the first waiter lead the next batch, or leaves the lane free. A lane is free only
 * while nobody waits. */
static void pass_lane(reg_queue_t *queue)
{
    waiter_t *next = NULL;

    apr_thread_mutex_lock(queue->mutex);
    if (queue->first) {
        next = pop(queue);
    }
    else {
        queue->free_lanes++;
    }
    apr_thread_mutex_unlock(queue->mutex);
    if (next) {
        wake(next, 1);
    }
}

/* How many requests the next batch has: a part of those who are about, which are the
 * leader's, those that are queued, and the last batch's, whose clients may be back soon.
 * With two parts one half is read and answered while the other is run; else all would
 * wait together and then all be busy together. */
static int next_size(const reg_queue_t *queue)
{
    int size = (1 + queue->length + queue->last + queue->parts - 1) / queue->parts;

    if (size > 1 + queue->length) {
        size = 1 + queue->length;
    }
    return size < queue->batch ? size : queue->batch;
}

/* When the requests of a batch have to be answered. */
typedef struct {
    apr_time_t earliest, latest;
} deadlines_t;

/* Adds a request to a batch, unless that would leave somebody in it less than half of
 * his time: one that has waited long must not take with it those who have just come. */
static int admit(deadlines_t *batch, apr_time_t deadline, apr_time_t now)
{
    deadlines_t all = {MIN(batch->earliest, deadline), MAX(batch->latest, deadline)};

    if (all.latest - now > 2 * (all.earliest - now)) {
        return 0;
    }
    *batch = all;
    return 1;
}

/* Runs the leader's own request and others that are queued. */
static void lead(reg_queue_t *queue, apr_pool_t *pool, const waiter_t *own, void *leader)
{
    waiter_t **waiters = apr_palloc(pool, sizeof(void *) * (apr_size_t)queue->batch);
    void **requests = apr_palloc(pool, sizeof(void *) * (apr_size_t)queue->batch);
    deadlines_t batch = {own->deadline, own->deadline};
    apr_time_t now = apr_time_now();
    int count = 1, size;

    requests[0] = own->request;
    apr_thread_mutex_lock(queue->mutex);
    size = next_size(queue);
    while (count < size && admit(&batch, queue->first->deadline, now)) {
        waiters[count] = pop(queue);
        requests[count] = waiters[count]->request;
        count++;
    }
    queue->last = count;
    apr_thread_mutex_unlock(queue->mutex);
    queue->run(leader, requests, count, batch.earliest);
    pass_lane(queue);
    for (int i = 1; i < count; i++) {
        wake(waiters[i], 0);
    }
}

/* Waits until the waiter is woken. @return 0 when that was not before its deadline. */
static int sleep_until_woken(waiter_t *own)
{
    const struct timespec deadline = {.tv_sec = (time_t)apr_time_sec(own->deadline),
                                      .tv_nsec =
                                          (long)apr_time_usec(own->deadline) * 1000};
    int rv;

    do {
        rv = sem_timedwait(&own->woken, &deadline);
    } while (rv < 0 && errno == EINTR);
    return rv == 0;
}

/* Leaves the queue. @return 0 when a leader has the request already. */
static int leave(reg_queue_t *queue, const waiter_t *own)
{
    int could;

    apr_thread_mutex_lock(queue->mutex);
    could = own->is_queued;
    if (could) {
        withdraw(queue, own);
    }
    apr_thread_mutex_unlock(queue->mutex);
    return could;
}

/* Waits for its turn. @return 0 when the deadline came first. */
static int wait_for_turn(reg_queue_t *queue, waiter_t *own)
{
    if (sleep_until_woken(own)) {
        return 1;
    }
    if (leave(queue, own)) {
        return 0;
    }
    while (sem_wait(&own->woken) < 0) { /* a signal */
    }
    return 1;
}

int reg_queue_run(reg_queue_t *queue, apr_pool_t *pool, void *request, void *leader,
                  apr_time_t deadline)
{
    waiter_t own = {.request = request, .deadline = deadline, .leads = 1};
    int must_wait, has_turn;

    sem_init(&own.woken, 0, 0);
    apr_thread_mutex_lock(queue->mutex);
    must_wait = queue->free_lanes == 0;
    if (must_wait) {
        append(queue, &own);
    }
    else {
        queue->free_lanes--;
    }
    apr_thread_mutex_unlock(queue->mutex);
    has_turn = !must_wait || wait_for_turn(queue, &own);
    if (has_turn && own.leads) {
        lead(queue, pool, &own, leader);
    }
    sem_destroy(&own.woken);
    return has_turn;
}

int reg_queue_length(reg_queue_t *queue)
{
    int length;

    apr_thread_mutex_lock(queue->mutex);
    length = queue->length;
    apr_thread_mutex_unlock(queue->mutex);
    return length;
}
