/* SPDX-License-Identifier: Apache-2.0 */
#include "batching.h"

#include "batch_queue.h"
#include "metrics.h"

#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <string.h>
#include <sys/param.h>

/* The shortest time after which a shared call is cancelled. */
#define SHORTEST_LIMIT apr_time_from_sec(1)

/* The most requests whose rows are locked that take turns on one connection. */
#define SLOW_BATCH 64

/* A request; on the stack of its thread. */
typedef struct request_t {
    reg_item_t *item;
    const char *key;        /* what it competes for */
    apr_size_t size;        /* bytes of its values */
    int is_stuck;           /* its row was found locked */
    struct request_t *next; /* of those */
} request_t;

/* The queues of one operation. */
typedef struct {
    const reg_operation_t *operation;
    reg_queue_t *queue;
    reg_queue_t *slow_queue; /* of requests whose row is locked */
    request_t *stuck;
} lane_t;

struct reg_dispatch_t {
    apr_pool_t *pool;
    apr_thread_mutex_t *mutex; /* of all that follows, the queues' insides excepted */
    int batch, lanes;
    reg_gate_t *lone; /* in front of calls for one request; or NULL */
    lane_t list[REG_MAX_OPERATIONS];
    int count;
};

/* How requests are run: in a queue that others wait in, in that for locked rows, or each
 * by itself. */
typedef enum { SHARED, LOCKED, LONE } run_t;

/* What the thread that leads a batch calls with. The deadline of a batch is when it has
 * to have begun, so that there is time for its call. */
typedef struct {
    const reg_connections_t *connections;
    apr_pool_t *pool;
    reg_dispatch_t *dispatch;
    lane_t *lane;
    reg_connection_t *held; /* checked out for the batch, or NULL */
} leader_t;

/* Whether a request for the key is stuck. The mutex is held. */
static int is_locked(const lane_t *lane, const char *key)
{
    const request_t *stuck = lane->stuck;

    while (stuck && strcmp(stuck->key, key) != 0) {
        stuck = stuck->next;
    }
    return stuck != NULL;
}

/* Notes whose row was found locked, before the queue goes on with others for it. */
static void note_stuck(const leader_t *leader, void *const *requests, int count)
{
    lane_t *lane = leader->lane;

    apr_thread_mutex_lock(leader->dispatch->mutex);
    for (int i = 0; i < count; i++) {
        request_t *request = requests[i];

        if (request->item->answer.outcome == REG_LOCKED && !request->is_stuck) {
            request->is_stuck = 1;
            request->next = lane->stuck;
            lane->stuck = request;
        }
    }
    apr_thread_mutex_unlock(leader->dispatch->mutex);
}

static void forget_stuck(const leader_t *leader, const request_t *request)
{
    request_t **link = &leader->lane->stuck;

    apr_thread_mutex_lock(leader->dispatch->mutex);
    while (*link != request) {
        link = &(*link)->next;
    }
    *link = request->next;
    apr_thread_mutex_unlock(leader->dispatch->mutex);
}

/* Checks a connection out, before a batch is taken off the queue. */
static int get_ready(void *data, apr_time_t deadline)
{
    leader_t *leader = data;
    const reg_connections_t *from = leader->connections;

    leader->held = from->checkout(from->baton, deadline);
    return leader->held != NULL;
}

static void check_in(leader_t *leader)
{
    if (leader->held) {
        leader->connections->checkin(leader->connections->baton, leader->held);
        leader->held = NULL;
    }
}

/* How long a call may take that others wait for: with several retries, and behind another
 * such call, they then still have most of their time. */
static apr_interval_time_t shared_limit(apr_time_t deadline)
{
    return MAX((deadline - apr_time_now()) / 4, SHORTEST_LIMIT);
}

/* Makes the call. */
static void call_store(leader_t *leader, run_t way, const reg_call_t *call)
{
    reg_metrics_batch(leader->connections->metrics, call->count);
    if (way == LOCKED) {
        reg_store_call_locked(call, leader->dispatch->batch);
    }
    else {
        reg_store_call(call);
    }
    check_in(leader);
}

/* Runs requests in one of the ways of run_t. What the call takes is freed at its end: the
 * leader's own request may be one that leads again and again, as its row is locked. */
static void run(leader_t *leader, run_t way, void *const *requests, int count,
                apr_time_t deadline)
{
    reg_item_t **items = apr_palloc(leader->pool, sizeof(void *) * (apr_size_t)count);
    apr_time_t start = apr_time_now();
    reg_call_t call = {.connections = leader->connections,
                       .operation = leader->lane->operation,
                       .items = items,
                       .count = count,
                       .deadline = deadline + REG_CALL_TIME,
                       .held = &leader->held,
                       .limit = way == SHARED ? shared_limit(deadline) : 0};

    for (int i = 0; i < count; i++) {
        items[i] = ((request_t *)requests[i])->item;
    }
    apr_pool_create(&call.pool, leader->pool);
    call_store(leader, way, &call);
    apr_pool_destroy(call.pool);
    for (int i = 0; i < count; i++) {
        items[i]->batch = count;
        items[i]->took += apr_time_now() - start;
    }
    note_stuck(leader, requests, count);
}

/* Those of a batch wait no longer. */
static void count_taken(const leader_t *leader, int count)
{
    reg_metrics_change(leader->connections->metrics, REG_REQUESTS_QUEUED, -count);
}

/* Runs a batch but for those who came before their row was found locked: they would hold
 * up the others as those before them did. */
static void run_batch(void *data, void *const *requests, int count, apr_time_t deadline)
{
    leader_t *leader = data;
    void **others = apr_palloc(leader->pool, sizeof(void *) * (apr_size_t)count);
    int other_count = 0;

    count_taken(leader, count);
    apr_thread_mutex_lock(leader->dispatch->mutex);
    for (int i = 0; i < count; i++) {
        request_t *request = requests[i];

        if (is_locked(leader->lane, request->key)) {
            request->item->answer.outcome = REG_LOCKED;
        }
        else {
            others[other_count++] = request;
        }
    }
    apr_thread_mutex_unlock(leader->dispatch->mutex);
    if (other_count > 0) {
        run(leader, SHARED, others, other_count, deadline);
    }
    check_in(leader);
}

static void run_locked_batch(void *data, void *const *requests, int count,
                             apr_time_t deadline)
{
    count_taken(data, count);
    run(data, LOCKED, requests, count, deadline);
}

/* Has it run by the queue. @return whether it was. */
static int run_queued(reg_queue_t *queue, leader_t *leader, request_t *request,
                      apr_time_t latest)
{
    int was_run;

    reg_metrics_change(leader->connections->metrics, REG_REQUESTS_QUEUED, 1);
    was_run = reg_queue_run(queue, leader->pool, request, request->size, leader, latest);
    if (!was_run) {
        count_taken(leader, 1);
    }
    return was_run;
}

reg_dispatch_t *reg_dispatch_make(apr_pool_t *pool, int batch, int lanes,
                                  reg_gate_t *lone)
{
    reg_dispatch_t *dispatch = apr_pcalloc(pool, sizeof(*dispatch));

    /* Others who make their queues at the same time may have been given the same pool. */
    apr_pool_create(&dispatch->pool, pool);
    if (apr_thread_mutex_create(&dispatch->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    dispatch->batch = batch;
    dispatch->lanes = lanes;
    dispatch->lone = lone;
    return dispatch;
}

/* The queues of an operation, made when they are first asked for; NULL when they cannot
 * be made. The mutex is held. */
static lane_t *find_lane(reg_dispatch_t *d, const reg_operation_t *operation)
{
    const reg_queue_settings_t quick = {get_ready,       run_batch, d->batch,
                                        REG_BATCH_BYTES, 2,         d->lanes};
    const reg_queue_settings_t slow = {
        get_ready, run_locked_batch, SLOW_BATCH, REG_BATCH_BYTES, 1, 1};
    lane_t *lane;

    for (int i = 0; i < d->count; i++) {
        if (d->list[i].operation == operation) {
            return &d->list[i];
        }
    }
    if (d->count == REG_MAX_OPERATIONS) {
        return NULL;
    }
    lane = &d->list[d->count];
    lane->operation = operation;
    lane->queue = reg_queue_make(d->pool, &quick);
    lane->slow_queue = reg_queue_make(d->pool, &slow);
    if (!lane->queue || !lane->slow_queue) {
        return NULL;
    }
    d->count++;
    return lane;
}

/* Has a request wait until it may be called by itself. @return 0 when it may not. */
static int enter_alone(const leader_t *leader, apr_time_t latest)
{
    reg_gate_t *gate = leader->dispatch->lone;
    const reg_connections_t *connections = leader->connections;
    int has_entered;

    reg_metrics_change(connections->metrics, REG_REQUESTS_QUEUED, 1);
    has_entered = reg_gate_enter(gate, latest);
    count_taken(leader, 1);
    if (!has_entered) {
        reg_metrics_refused(connections->metrics, REG_REFUSED_BUSY);
        connections->report(
            connections->baton,
            apr_psprintf(leader->pool,
                         "REG0313: operation %s: all RegistrationSearches "
                         "are in use; returning 503",
                         leader->lane->operation->name));
    }
    return has_entered;
}

/* Runs a request by itself, in turn where that is bounded: one that may take long. */
static void run_alone(leader_t *leader, request_t *request, apr_time_t latest)
{
    void *requests[] = {request};
    reg_gate_t *gate = leader->dispatch->lone;

    if (gate && !enter_alone(leader, latest)) {
        request->item->answer = (reg_answer_t){.outcome = REG_UNAVAILABLE};
        return;
    }
    run(leader, LONE, requests, 1, latest);
    if (gate) {
        reg_gate_leave(gate);
    }
}

/* Runs the request in a queue, or by itself where nothing is combined. */
static void run_once(reg_queue_t *queue, leader_t *leader, request_t *request,
                     apr_time_t deadline)
{
    apr_time_t latest = deadline - REG_CALL_TIME;
    void *requests[] = {request};

    if (leader->lane->operation->alone) {
        run_alone(leader, request, latest);
    }
    else if (queue == leader->lane->queue && leader->dispatch->batch == 1) {
        run(leader, LONE, requests, 1, latest);
    }
    else if (!run_queued(queue, leader, request, latest)) {
        request->item->answer = (reg_answer_t){.outcome = REG_UNAVAILABLE};
    }
    if (request->item->answer.outcome == REG_SLOW) {
        run_alone(leader, request, latest);
    }
}

/* Bytes that a request adds to a call. */
static apr_size_t size_of(const reg_operation_t *operation, const reg_item_t *item)
{
    apr_size_t size = 0;

    for (int i = 0; i < operation->parameters; i++) {
        size += item->values[i] ? strlen(item->values[i]) : 0;
    }
    return size;
}

void reg_dispatch_run(reg_dispatch_t *d, const reg_connections_t *connections,
                      apr_pool_t *pool, const reg_operation_t *operation,
                      reg_item_t *item, apr_time_t deadline)
{
    leader_t leader = {connections, pool, d, NULL, NULL};
    request_t own = {.item = item,
                     .key =
                         item->values[operation->key] ? item->values[operation->key] : "",
                     .size = size_of(operation, item)};
    /* Whoever would have to leave while the others wait for the lock does so before: the
     * earliest deadline is that of the batch. */
    apr_time_t latest = deadline - apr_time_from_msec(4 * REG_LOCK_TIMEOUT);
    lane_t *lane;
    int slow;

    apr_thread_mutex_lock(d->mutex);
    lane = leader.lane = find_lane(d, operation);
    slow = lane && is_locked(lane, own.key);
    apr_thread_mutex_unlock(d->mutex);
    if (!lane) {
        item->answer.outcome = REG_UNAVAILABLE;
        return;
    }
    run_once(slow ? lane->slow_queue : lane->queue, &leader, &own, deadline);
    while (item->answer.outcome == REG_LOCKED && apr_time_now() < latest) {
        run_once(lane->slow_queue, &leader, &own, deadline);
    }
    if (own.is_stuck) {
        forget_stuck(&leader, &own);
    }
    if (item->answer.outcome == REG_LOCKED) {
        connections->report(
            connections->baton,
            apr_psprintf(pool,
                         "REG0310: operation %s waited in vain for a row that "
                         "another transaction has locked",
                         operation->name));
        item->answer.outcome = REG_UNAVAILABLE;
    }
}
