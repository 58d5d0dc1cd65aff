/* SPDX-License-Identifier: Apache-2.0 */
#include "batching.h"

#include "batch.h"
#include "batch_queue.h"
#include "metrics.h"
#include "outcomes.h"
#include "trace.h"

#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <string.h>

/* The most requests with locked rows in one batch. */
#define SLOW_BATCH 64

/* The queues of one operation. */
typedef struct {
    const reg_operation_t *operation;
    reg_batch_queue_t *queue;
    reg_batch_queue_t *slow_queue; /* of requests whose key is locked */
    reg_locked_keys_t *locked_keys;
    reg_turns_t turns; /* the same with and without an Idempotency-Key; none of a read */
} queues_t;

struct reg_batching_t {
    apr_pool_t *pool;
    apr_thread_mutex_t *mutex; /* held to add to the list */
    int most;
    reg_turns_t turns;
    reg_semaphore_t *singles;
    queues_t list[REG_MAX_OPERATIONS];
    int count; /* atomic, as the entries before it are read without the mutex */
};

reg_batching_t *reg_batching_make(apr_pool_t *pool, int most, reg_semaphore_t *singles,
                                  const reg_turns_t *turns)
{
    reg_batching_t *batching = apr_pcalloc(pool, sizeof(*batching));

    /* A pool of its own, as another virtual host may use `pool` at the same time. */
    apr_pool_create(&batching->pool, pool);
    if (apr_thread_mutex_create(&batching->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    batching->most = most;
    if (turns) {
        batching->turns = *turns;
    }
    batching->singles = singles;
    return batching;
}

/* Makes the queues of an operation. @return 0 if the system has no mutex left. */
static int make_queues(const reg_batching_t *batching, queues_t *queues,
                       const reg_operation_t *operation)
{
    const reg_batch_queue_settings_t batched = {reg_batch_prepare, reg_batch_run,
                                                batching->most, REG_BATCH_BYTES};
    const reg_batch_queue_settings_t slow = {
        reg_batch_prepare_locked, reg_batch_run_locked, SLOW_BATCH, REG_BATCH_BYTES};

    queues->operation = operation;
    if (operation->audited) {
        queues->turns = reg_turns_of_operation(
            batching->turns, operation->wrapped ? operation->wrapped : operation->name);
    }
    queues->queue = reg_batch_queue_make(batching->pool, &batched);
    queues->slow_queue = reg_batch_queue_make(batching->pool, &slow);
    queues->locked_keys = reg_locked_keys_make(batching->pool);
    return queues->queue && queues->slow_queue && queues->locked_keys;
}

/* The queues of an operation; NULL if there are none. */
static const queues_t *find_queues(const reg_batching_t *batching,
                                   const reg_operation_t *operation)
{
    int count = __atomic_load_n(&batching->count, __ATOMIC_ACQUIRE);

    for (int i = 0; i < count; i++) {
        if (batching->list[i].operation == operation) {
            return &batching->list[i];
        }
    }
    return NULL;
}

/* Makes the queues of an operation, unless another thread has made them. @return NULL if
 * the system has no mutex left. The mutex is held. */
static const queues_t *add_queues(reg_batching_t *batching,
                                  const reg_operation_t *operation)
{
    const queues_t *found = find_queues(batching, operation);
    queues_t *next = &batching->list[batching->count];

    if (!found && batching->count < REG_MAX_OPERATIONS
        && make_queues(batching, next, operation)) {
        __atomic_store_n(&batching->count, batching->count + 1, __ATOMIC_RELEASE);
        found = next;
    }
    return found;
}

/* The queues of an operation, which its first request makes; NULL if the system has no
 * mutex left. */
static const queues_t *get_queues(reg_batching_t *batching,
                                  const reg_operation_t *operation)
{
    const queues_t *queues = find_queues(batching, operation);

    if (!queues) {
        apr_thread_mutex_lock(batching->mutex);
        queues = add_queues(batching, operation);
        apr_thread_mutex_unlock(batching->mutex);
    }
    return queues;
}

static void change_queued(const reg_batch_t *batch, int change)
{
    reg_metrics_change(batch->connections->metrics, REG_REQUESTS_QUEUED, change);
}

/* Records that a request joins a queue. */
static void begin_wait(reg_batch_t *batch, reg_batch_request_t *request,
                       const char *queue)
{
    batch->connecting = 0;
    request->queued_at = apr_time_now();
    reg_trace(batch->connections, batch->operation, "joins %s", queue);
}

static void count_request_retry(const reg_batch_t *batch,
                                const reg_batch_request_t *request, reg_verdict_t reason)
{
    reg_trace_retry(batch->connections, batch->operation, &request->item, 1, reason);
}

/* Waits for the semaphore of single requests. @return 0 if it is not entered in time. */
static int enter_single(const reg_batching_t *batching, const reg_batch_t *batch,
                        apr_time_t start_by)
{
    const reg_connections_t *connections = batch->connections;
    int has_entered;

    change_queued(batch, 1);
    has_entered = reg_semaphore_enter(batching->singles, start_by);
    change_queued(batch, -1);
    if (!has_entered) {
        reg_metrics_refused(connections->metrics, REG_REFUSED_BUSY);
        connections->report(
            connections->baton,
            apr_psprintf(batch->pool,
                         "REG0313: operation %s: all RegistrationSearches "
                         "are in use; returning 503",
                         batch->operation->name));
    }
    return has_entered;
}

/* Runs a request that may take long: alone, within the semaphore. */
static void run_single(const reg_batching_t *batching, reg_batch_t *batch,
                       reg_batch_request_t *request, apr_time_t start_by)
{
    begin_wait(batch, request, "the queue of single requests");
    if (batching->singles && !enter_single(batching, batch, start_by)) {
        reg_batch_end_wait(batch, request);
        request->item->answer = (reg_answer_t){.outcome = REG_UNAVAILABLE};
        return;
    }
    reg_batch_run_single(batch, request, start_by);
    if (batching->singles) {
        reg_semaphore_leave(batching->singles);
    }
}

static void run_queued(reg_batch_queue_t *queue, reg_batch_t *batch,
                       reg_batch_request_t *request, const char *name,
                       apr_time_t start_by)
{
    begin_wait(batch, request, name);
    change_queued(batch, 1);
    if (!reg_batch_queue_run(queue, batch->pool, request, request->size, batch,
                             start_by)) {
        change_queued(batch, -1);
        reg_batch_end_wait(batch, request);
        request->item->answer = (reg_answer_t){.outcome = REG_UNAVAILABLE};
    }
}

/* Runs the request once: alone, in the slow queue or in the queue. */
static void run_once(const reg_batching_t *batching, const queues_t *queues,
                     reg_batch_t *batch, reg_batch_request_t *request, int is_locked,
                     apr_time_t start_by)
{
    if (batch->operation->alone) {
        run_single(batching, batch, request, start_by);
    }
    else if (is_locked) {
        run_queued(queues->slow_queue, batch, request, "the slow queue", start_by);
    }
    else if (batching->most == 1) {
        begin_wait(batch, request, "no queue");
        reg_batch_run_single(batch, request, start_by);
    }
    else {
        run_queued(queues->queue, batch, request, "the queue", start_by);
    }
    if (request->item->answer.outcome == REG_SLOW) {
        count_request_retry(batch, request, REG_CALL_SLOW);
        run_single(batching, batch, request, start_by);
    }
}

/* The bytes that a request adds to a call. */
static apr_size_t count_bytes(const reg_operation_t *operation, const reg_item_t *item)
{
    apr_size_t size = 0;

    for (int i = 0; i < operation->parameters; i++) {
        size += item->values[i] ? strlen(item->values[i]) : 0;
    }
    return size;
}

void reg_batching_run(reg_batching_t *batching, const reg_connections_t *connections,
                      apr_pool_t *pool, const reg_operation_t *operation,
                      reg_item_t *item, apr_time_t deadline)
{
    const char *competed_for = item->values[operation->key];
    reg_batch_request_t request = {.item = item,
                                   .key = {.key = competed_for ? competed_for : ""},
                                   .size = count_bytes(operation, item)};
    reg_batch_t batch = {.connections = connections,
                         .pool = pool,
                         .operation = operation,
                         .most = batching->most,
                         .key = request.key.key};
    apr_time_t start_by = deadline - REG_CALL_TIME;
    /* A batch's deadline is the earliest of its requests' deadlines. A request stops its
     * retries early, so that its deadline does not shorten the other requests' lock
     * timeout. */
    apr_time_t retry_until = deadline - apr_time_from_msec(4 * REG_LOCK_TIMEOUT);
    const queues_t *queues = get_queues(batching, operation);

    if (!queues) {
        item->answer.outcome = REG_UNAVAILABLE;
        return;
    }
    batch.locked_keys = queues->locked_keys;
    batch.turns = &queues->turns;
    run_once(batching, queues, &batch, &request,
             reg_locked_keys_has(queues->locked_keys, request.key.key), start_by);
    while (item->answer.outcome == REG_LOCKED && apr_time_now() < retry_until) {
        count_request_retry(&batch, &request, REG_CALL_LOCKED);
        run_once(batching, queues, &batch, &request, 1, start_by);
    }
    reg_locked_keys_remove(queues->locked_keys, &request.key);
    if (item->answer.outcome == REG_LOCKED) {
        connections->report(
            connections->baton,
            apr_psprintf(pool,
                         "REG0310: operation %s: lock timeout, row locked "
                         "by another transaction; returning 503",
                         operation->name));
        item->answer.outcome = REG_UNAVAILABLE;
    }
    reg_trace(connections, operation, "answered %s, in a batch of %d",
              reg_outcome_name(item->answer.outcome), item->stats.batch);
}
