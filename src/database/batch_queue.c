/* SPDX-License-Identifier: Apache-2.0 */
#include "batch_queue.h"

#include "wait_queue.h"

#include <sys/param.h>

/* Verdicts: the waiter's request has been run, or it leads the next batch. */
enum { WAS_RUN, LEADS };

/* A request in the queue; on the stack of the thread that waits for it. */
typedef struct {
    reg_waiter_t waiter; /* first */
    void *request;
    apr_size_t size;
    apr_time_t start_by;
} queued_t;

struct reg_batch_queue_t {
    apr_thread_mutex_t *mutex; /* of all members below, and of the queued waiters */
    reg_wait_queue_t waiters;  /* not taken yet */
    int last;                  /* size of the last batch */
    int is_led;                /* a thread runs a batch */
    reg_batch_queue_settings_t settings;
};

reg_batch_queue_t *reg_batch_queue_make(apr_pool_t *pool,
                                        const reg_batch_queue_settings_t *settings)
{
    reg_batch_queue_t *queue = apr_pcalloc(pool, sizeof(*queue));

    if (apr_thread_mutex_create(&queue->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    reg_wait_queue_init(&queue->waiters);
    queue->settings = *settings;
    return queue;
}

/* Makes the first waiter the next leader; without waiters the queue has no leader. */
static void pass_lead(reg_batch_queue_t *queue)
{
    reg_waiter_t *next = NULL;

    apr_thread_mutex_lock(queue->mutex);
    if (queue->waiters.first) {
        next = reg_wait_queue_pop(&queue->waiters);
    }
    else {
        queue->is_led = 0;
    }
    apr_thread_mutex_unlock(queue->mutex);
    if (next) {
        reg_waiter_wake(next, LEADS);
    }
}

/* Batch size: (own + queued + size of the last batch, whose clients are likely to return)
 * / parts. With two parts, one half of the clients reads answers and sends requests while
 * the call of the other half runs; with one part, all clients would wait at the same
 * time. */
static int next_size(const reg_batch_queue_t *queue, int parts)
{
    int present = 1 + queue->waiters.length;
    int size = MIN((present + queue->last + parts - 1) / parts, present);

    return MIN(size, queue->settings.most);
}

/* The bounds of a batch's requests. */
typedef struct {
    apr_time_t earliest, latest; /* of their start_by */
    apr_size_t size;             /* bytes, of all */
} bounds_t;

/* Adds a request to the bounds of a batch. @return 0, without a change, if the batch
 * would become too large, or if the earliest start_by would take more than half of the
 * time from a request. */
static int extend_bounds(const reg_batch_queue_t *queue, bounds_t *batch,
                         const queued_t *next, apr_time_t now)
{
    bounds_t all = {MIN(batch->earliest, next->start_by),
                    MAX(batch->latest, next->start_by), batch->size + next->size};

    if (all.latest - now > 2 * (all.earliest - now) || all.size > queue->settings.bytes) {
        return 0;
    }
    *batch = all;
    return 1;
}

/* Takes a batch from the queue: the leader's own request and queued ones. @return its
 * size. */
static int take_batch(reg_batch_queue_t *queue, int parts, queued_t *own,
                      queued_t **batch, apr_time_t *start_by)
{
    bounds_t bounds = {own->start_by, own->start_by, own->size};
    apr_time_t now = apr_time_now();
    int count = 1, size;

    batch[0] = own;
    apr_thread_mutex_lock(queue->mutex);
    size = next_size(queue, parts);
    while (
        count < size
        && extend_bounds(queue, &bounds, (const queued_t *)queue->waiters.first, now)) {
        batch[count++] = (queued_t *)reg_wait_queue_pop(&queue->waiters);
    }
    queue->last = count;
    apr_thread_mutex_unlock(queue->mutex);
    *start_by = bounds.earliest;
    return count;
}

/* Prepares, and runs a batch. @return 0 when prepare() failed; then nothing was run. */
static int lead_batch(reg_batch_queue_t *queue, apr_pool_t *pool, queued_t *own,
                      void *leader)
{
    apr_size_t room = sizeof(void *) * (apr_size_t)queue->settings.most;
    queued_t **batch;
    void **requests;
    apr_time_t start_by;
    int parts = queue->settings.prepare(leader, own->start_by);
    int count;

    if (parts == 0) {
        pass_lead(queue);
        return 0;
    }
    batch = apr_palloc(pool, room);
    requests = apr_palloc(pool, room);
    count = take_batch(queue, parts, own, batch, &start_by);
    for (int i = 0; i < count; i++) {
        requests[i] = batch[i]->request;
    }
    queue->settings.run(leader, requests, count, start_by);
    pass_lead(queue);
    for (int i = 1; i < count; i++) {
        reg_waiter_wake(&batch[i]->waiter, WAS_RUN);
    }
    return 1;
}

int reg_batch_queue_run(reg_batch_queue_t *queue, apr_pool_t *pool, void *request,
                        apr_size_t size, void *leader, apr_time_t start_by)
{
    queued_t own = {.request = request, .size = size, .start_by = start_by};
    int must_wait;

    own.waiter.verdict = LEADS;
    apr_thread_mutex_lock(queue->mutex);
    must_wait = queue->is_led;
    if (must_wait) {
        reg_wait_queue_append(&queue->waiters, &own.waiter);
    }
    queue->is_led = 1;
    apr_thread_mutex_unlock(queue->mutex);
    if (must_wait
        && !reg_wait_queue_wait(&queue->waiters, queue->mutex, &own.waiter, start_by)) {
        return 0;
    }
    return own.waiter.verdict == WAS_RUN || lead_batch(queue, pool, &own, leader);
}

int reg_batch_queue_length(reg_batch_queue_t *queue)
{
    int length;

    apr_thread_mutex_lock(queue->mutex);
    length = queue->waiters.length;
    apr_thread_mutex_unlock(queue->mutex);
    return length;
}
