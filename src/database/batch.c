/* SPDX-License-Identifier: Apache-2.0 */
#include "batch.h"

#include "metrics.h"
#include "trace.h"

#include <sys/param.h>

/* The shortest time after which a call for several requests is cancelled. */
#define MIN_SHARED_LIMIT apr_time_from_sec(1)

typedef enum { BATCHED, LOCKED, SINGLE } batch_kind_t;

int reg_batch_prepare_locked(void *data, apr_time_t start_by)
{
    reg_batch_t *batch = data;

    batch->connecting = 0;
    batch->held = reg_trace_checkout(batch->connections, batch->operation, start_by,
                                     &batch->connecting);
    return batch->held != NULL;
}

/* Takes the turn of the leader's key, or goes on without. @return whether it had to
 * wait. */
static int take_turn(reg_batch_t *batch, apr_time_t start_by)
{
    reg_turn_t *turn = reg_turns_find(batch->turns, batch->key);
    int has_waited = 0;

    if (turn && reg_turn_take(turn, start_by, &has_waited)) {
        batch->turn = turn;
    }
    if (has_waited) {
        reg_trace(batch->connections, batch->operation,
                  batch->turn ? "waited for its turn" : "goes on without its turn");
    }
    return has_waited;
}

int reg_batch_prepare(void *data, apr_time_t start_by)
{
    if (!reg_batch_prepare_locked(data, start_by)) {
        return 0;
    }
    return take_turn(data, start_by) ? 1 : 2;
}

static void check_in(reg_batch_t *batch)
{
    reg_turn_give(&batch->turn);
    if (batch->held) {
        batch->connections->checkin(batch->connections->baton, batch->held);
        batch->held = NULL;
    }
}

/* The time after which a call for several requests is cancelled: a quarter of the
 * remaining time, so that its requests and the queued ones can still be retried. */
static apr_interval_time_t shared_limit(apr_time_t start_by)
{
    return MAX((start_by - apr_time_now()) / 4, MIN_SHARED_LIMIT);
}

static void call_batch(const reg_batch_t *batch, batch_kind_t kind,
                       const reg_call_t *call)
{
    reg_metrics_batch(batch->connections->metrics, call->count);
    if (kind == LOCKED) {
        reg_retry_call_locked(call, batch->most);
    }
    else {
        reg_retry_call(call);
    }
}

/* Adds to the figures that each request logs, and marks the keys that were found locked,
 * before the queue's next batch. */
static void record_batch(const reg_batch_t *batch, void *const *requests, int count,
                         apr_interval_time_t took)
{
    for (int i = 0; i < count; i++) {
        reg_batch_request_t *request = requests[i];

        request->item->stats.batch = count;
        request->item->stats.took += took;
        if (request->item->answer.outcome == REG_LOCKED) {
            reg_locked_keys_add(batch->locked_keys, &request->key);
        }
    }
}

void reg_batch_end_wait(const reg_batch_t *batch, reg_batch_request_t *request)
{
    apr_interval_time_t waited = apr_time_now() - request->queued_at;
    apr_interval_time_t connecting = MIN(batch->connecting, waited);

    request->item->stats.connecting += connecting;
    request->item->stats.queued += waited - connecting;
}

/* Makes the call for some requests and checks the connection in. The call has a pool of
 * its own, as the thread of a request whose row is locked leads many batches. */
static void run_batch(reg_batch_t *batch, batch_kind_t kind, void *const *requests,
                      int count, apr_time_t start_by)
{
    reg_item_t **items = apr_palloc(batch->pool, sizeof(void *) * (apr_size_t)count);
    apr_time_t start = apr_time_now();
    reg_call_t call = {.connections = batch->connections,
                       .operation = batch->operation,
                       .items = items,
                       .count = count,
                       .start_by = start_by,
                       .held = &batch->held,
                       .turn = &batch->turn,
                       .limit = kind == BATCHED ? shared_limit(start_by) : 0};

    for (int i = 0; i < count; i++) {
        items[i] = ((reg_batch_request_t *)requests[i])->item;
        reg_batch_end_wait(batch, requests[i]);
    }
    reg_trace(batch->connections, batch->operation, "leads a batch of %d requests%s",
              count, kind == LOCKED ? ", key locked" : "");
    apr_pool_create(&call.pool, batch->pool);
    call_batch(batch, kind, &call);
    check_in(batch);
    apr_pool_destroy(call.pool);
    record_batch(batch, requests, count, apr_time_now() - start);
}

/* Subtracts a dequeued batch from the gauge of queued requests. */
static void count_dequeued(const reg_batch_t *batch, int count)
{
    reg_metrics_change(batch->connections->metrics, REG_REQUESTS_QUEUED, -count);
}

void reg_batch_run(void *data, void *const *requests, int count, apr_time_t start_by)
{
    reg_batch_t *batch = data;
    void **free_requests = apr_palloc(batch->pool, sizeof(void *) * (apr_size_t)count);
    int free_count = 0;

    count_dequeued(batch, count);
    for (int i = 0; i < count; i++) {
        reg_batch_request_t *request = requests[i];

        if (reg_locked_keys_has(batch->locked_keys, request->key.key)) {
            reg_batch_end_wait(batch, request);
            request->item->answer.outcome = REG_LOCKED;
        }
        else {
            free_requests[free_count++] = request;
        }
    }
    if (free_count > 0) {
        run_batch(batch, BATCHED, free_requests, free_count, start_by);
    }
    check_in(batch);
}

void reg_batch_run_locked(void *data, void *const *requests, int count,
                          apr_time_t start_by)
{
    count_dequeued(data, count);
    run_batch(data, LOCKED, requests, count, start_by);
}

void reg_batch_run_single(reg_batch_t *batch, reg_batch_request_t *request,
                          apr_time_t start_by)
{
    void *requests[] = {request};

    run_batch(batch, SINGLE, requests, 1, start_by);
}
