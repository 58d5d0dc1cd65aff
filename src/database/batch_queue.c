/* SPDX-License-Identifier: Apache-2.0 */
#include "batch_queue.h"

#include "waiters.h"

#include <sys/param.h>

/* What a waiter is woken with. */
enum { WAS_RUN, LEADS };

/* A request in the queue; on the stack of the thread that waits for it. */
typedef struct {
    reg_waiter_t waiter; /* first */
    void *request;
    apr_size_t size;
    apr_time_t deadline;
} queued_t;

struct reg_queue_t {
    apr_thread_mutex_t *mutex; /* of all that follows, and of who is queued */
    reg_waiters_t waiters;     /* not taken yet */
    int last;                  /* how many the last batch was */
    int free_lanes;
    reg_queue_settings_t settings;
};

reg_queue_t *reg_queue_make(apr_pool_t *pool, const reg_queue_settings_t *settings)
{
    reg_queue_t *queue = apr_pcalloc(pool, sizeof(*queue));

    if (apr_thread_mutex_create(&queue->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    reg_waiters_init(&queue->waiters);
    queue->settings = *settings;
    queue->free_lanes = settings->lanes;
    return queue;
}

/* Lets the first waiter lead the next batch, or leaves the lane free. A lane is free only
 * while none waits. */
static void pass_lane(reg_queue_t *queue)
{
    reg_waiter_t *next = NULL;

    apr_thread_mutex_lock(queue->mutex);
    if (queue->waiters.first) {
        next = reg_waiters_pop(&queue->waiters);
    }
    else {
        queue->free_lanes++;
    }
    apr_thread_mutex_unlock(queue->mutex);
    if (next) {
        reg_waiter_wake(next, LEADS);
    }
}

/* How many requests the next batch has: a part of those who are about, which are the
 * leader's, those that are queued, and the last batch's, whose clients may be back soon.
 * With two parts one half is read and answered while the other is run; else all would
 * wait together and then all be busy together. */
static int next_size(const reg_queue_t *queue)
{
    int parts = queue->settings.parts, all = 1 + queue->waiters.length;
    int size = MIN((all + queue->last + parts - 1) / parts, all);

    return MIN(size, queue->settings.batch);
}

/* What the requests of a batch have in common. */
typedef struct {
    apr_time_t earliest, latest; /* when they have to be answered */
    apr_size_t size;
} common_t;

/* Adds a request to a batch, unless that would make it too large, or leave a request in
 * it less than half of its time: one that has waited long must not take with it those
 * that have just come. */
static int admit(const reg_queue_t *queue, common_t *batch, const queued_t *next,
                 apr_time_t now)
{
    common_t all = {MIN(batch->earliest, next->deadline),
                    MAX(batch->latest, next->deadline), batch->size + next->size};

    if (all.latest - now > 2 * (all.earliest - now) || all.size > queue->settings.bytes) {
        return 0;
    }
    *batch = all;
    return 1;
}

/* Takes a batch off the queue: the leader's own request and others. @return how many. */
static int take_batch(reg_queue_t *queue, queued_t *own, queued_t **batch,
                      apr_time_t *deadline)
{
    common_t common = {own->deadline, own->deadline, own->size};
    apr_time_t now = apr_time_now();
    int count = 1, size;

    batch[0] = own;
    apr_thread_mutex_lock(queue->mutex);
    size = next_size(queue);
    while (count < size
           && admit(queue, &common, (const queued_t *)queue->waiters.first, now)) {
        batch[count++] = (queued_t *)reg_waiters_pop(&queue->waiters);
    }
    queue->last = count;
    apr_thread_mutex_unlock(queue->mutex);
    *deadline = common.earliest;
    return count;
}

/* Runs the leader's own request and others that are queued. @return 0 when it could not
 * get ready; then nothing was run. */
static int lead(reg_queue_t *queue, apr_pool_t *pool, queued_t *own, void *leader)
{
    apr_size_t room = sizeof(void *) * (apr_size_t)queue->settings.batch;
    queued_t **batch;
    void **requests;
    apr_time_t deadline;
    int count;

    if (!queue->settings.prepare(leader, own->deadline)) {
        pass_lane(queue);
        return 0;
    }
    batch = apr_palloc(pool, room);
    requests = apr_palloc(pool, room);
    count = take_batch(queue, own, batch, &deadline);
    for (int i = 0; i < count; i++) {
        requests[i] = batch[i]->request;
    }
    queue->settings.run(leader, requests, count, deadline);
    pass_lane(queue);
    for (int i = 1; i < count; i++) {
        reg_waiter_wake(&batch[i]->waiter, WAS_RUN);
    }
    return 1;
}

int reg_queue_run(reg_queue_t *queue, apr_pool_t *pool, void *request, apr_size_t size,
                  void *leader, apr_time_t deadline)
{
    queued_t own = {.request = request, .size = size, .deadline = deadline};
    int must_wait;

    own.waiter.verdict = LEADS;
    apr_thread_mutex_lock(queue->mutex);
    must_wait = queue->free_lanes == 0;
    if (must_wait) {
        reg_waiters_append(&queue->waiters, &own.waiter);
    }
    else {
        queue->free_lanes--;
    }
    apr_thread_mutex_unlock(queue->mutex);
    if (must_wait
        && !reg_waiters_wait(&queue->waiters, queue->mutex, &own.waiter, deadline)) {
        return 0;
    }
    return own.waiter.verdict == WAS_RUN || lead(queue, pool, &own, leader);
}

int reg_queue_length(reg_queue_t *queue)
{
    int length;

    apr_thread_mutex_lock(queue->mutex);
    length = queue->waiters.length;
    apr_thread_mutex_unlock(queue->mutex);
    return length;
}
