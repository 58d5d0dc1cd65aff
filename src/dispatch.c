/* SPDX-License-Identifier: Apache-2.0 */
#include "dispatch.h"

#include "combine.h"
#include "metrics.h"

#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <string.h>

/* A request whose row was found locked; on the stack of its thread. */
typedef struct stuck_t {
    const char *key;
    struct stuck_t *next;
} stuck_t;

/* The queues of one operation. */
typedef struct {
    const reg_operation_t *operation;
    reg_queue_t *queue;
    reg_queue_t *slow_queue; /* of requests whose row is locked */
    stuck_t *stuck;
} lane_t;

struct reg_dispatch_t {
    apr_pool_t *pool;
    apr_thread_mutex_t *mutex; /* of all that follows, the queues' insides excepted */
    int batch, lanes;
    lane_t list[REG_MAX_OPERATIONS];
    int count;
};

/* What the thread that leads a batch calls with. The deadline of a batch is when it has
 * to have begun: by then a connection may have to be made. */
typedef struct {
    const reg_connections_t *connections;
    apr_pool_t *pool;
    const reg_operation_t *operation;
} leader_t;

static void run(const leader_t *leader, typeof(reg_store_call) *call, void *const *items,
                int count, apr_time_t deadline)
{
    apr_time_t start = apr_time_now();

    reg_metrics_batch(leader->connections->metrics, count);
    call(leader->connections, leader->pool, leader->operation, (reg_item_t *const *)items,
         count, deadline + leader->connections->connect_time);
    for (int i = 0; i < count; i++) {
        reg_item_t *item = items[i];

        item->batch = count;
        item->took += apr_time_now() - start;
    }
}

/* Those of a batch wait no longer. */
static void count_taken(const leader_t *leader, int count)
{
    reg_metrics_change(leader->connections->metrics, REG_REQUESTS_QUEUED, -count);
}

static void run_batch(void *data, void *const *items, int count, apr_time_t deadline)
{
    count_taken(data, count);
    run(data, reg_store_call, items, count, deadline);
}

static void run_locked_batch(void *data, void *const *items, int count,
                             apr_time_t deadline)
{
    count_taken(data, count);
    run(data, reg_store_call_locked, items, count, deadline);
}

/* Has it run by the queue. @return whether it was. */
static int run_queued(reg_queue_t *queue, leader_t *leader, reg_item_t *item,
                      apr_time_t latest)
{
    int was_run;

    reg_metrics_change(leader->connections->metrics, REG_REQUESTS_QUEUED, 1);
    was_run = reg_queue_run(queue, leader->pool, item, leader, latest);
    if (!was_run) {
        count_taken(leader, 1);
    }
    return was_run;
}

reg_dispatch_t *reg_dispatch_make(apr_pool_t *pool, int batch, int lanes)
{
    reg_dispatch_t *dispatch = apr_pcalloc(pool, sizeof(*dispatch));

    if (apr_thread_mutex_create(&dispatch->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    dispatch->pool = pool;
    dispatch->batch = batch;
    dispatch->lanes = lanes;
    return dispatch;
}

/* The queues of an operation, made when they are first asked for. The mutex is held. */
static lane_t *find_lane(reg_dispatch_t *d, const reg_operation_t *operation)
{
    lane_t *lane;

    for (int i = 0; i < d->count; i++) {
        if (d->list[i].operation == operation) {
            return &d->list[i];
        }
    }
    lane = &d->list[d->count++];
    lane->operation = operation;
    lane->queue = reg_queue_make(d->pool, run_batch, d->batch, 2, d->lanes);
    lane->slow_queue = reg_queue_make(d->pool, run_locked_batch, d->batch, 1, 1);
    return lane;
}

static int is_stuck(const lane_t *lane, const char *key)
{
    const stuck_t *stuck = lane->stuck;

    while (stuck && strcmp(stuck->key, key) != 0) {
        stuck = stuck->next;
    }
    return stuck != NULL;
}

static void set_stuck(reg_dispatch_t *d, lane_t *lane, stuck_t *own, int is)
{
    stuck_t **link = &lane->stuck;

    apr_thread_mutex_lock(d->mutex);
    if (is) {
        own->next = lane->stuck;
        lane->stuck = own;
    }
    else {
        while (*link != own) {
            link = &(*link)->next;
        }
        *link = own->next;
    }
    apr_thread_mutex_unlock(d->mutex);
}

/* Runs the request in a queue, or by itself where nothing is combined. Who leaves the
 * queue later would get no connection any more. */
static void run_once(const reg_dispatch_t *d, reg_queue_t *queue, leader_t *leader,
                     reg_item_t *item, apr_time_t deadline)
{
    apr_time_t latest = deadline - leader->connections->connect_time;
    void *items[] = {item};

    if (d->batch == 1 || leader->operation->alone) {
        run(leader, reg_store_call, items, 1, latest);
    }
    else if (!run_queued(queue, leader, item, latest)) {
        item->answer = (reg_answer_t){.outcome = REG_UNAVAILABLE};
    }
}

void reg_dispatch_run(reg_dispatch_t *d, const reg_connections_t *connections,
                      apr_pool_t *pool, const reg_operation_t *operation,
                      reg_item_t *item, apr_time_t deadline)
{
    leader_t leader = {connections, pool, operation};
    stuck_t own = {.key =
                       item->values[operation->key] ? item->values[operation->key] : ""};
    /* Whoever would have to leave while the others wait for the lock does so before: the
     * earliest deadline is that of the batch. */
    apr_time_t latest = deadline - apr_time_from_msec(2 * REG_LOCK_TIMEOUT);
    lane_t *lane;
    int slow;

    apr_thread_mutex_lock(d->mutex);
    lane = find_lane(d, operation);
    slow = is_stuck(lane, own.key);
    apr_thread_mutex_unlock(d->mutex);

    run_once(d, slow ? lane->slow_queue : lane->queue, &leader, item, deadline);
    if (item->answer.outcome == REG_LOCKED) {
        set_stuck(d, lane, &own, 1);
        while (item->answer.outcome == REG_LOCKED && apr_time_now() < latest) {
            run_once(d, lane->slow_queue, &leader, item, deadline);
        }
        set_stuck(d, lane, &own, 0);
    }
    if (item->answer.outcome == REG_LOCKED) {
        connections->report(
            connections->baton,
            apr_psprintf(pool,
                         "REG0310: operation %s waited in vain for a row that a "
                         "transaction of somebody else holds",
                         operation->name));
        item->answer.outcome = REG_UNAVAILABLE;
    }
}
