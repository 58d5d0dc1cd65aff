/* SPDX-License-Identifier: Apache-2.0 */
#include "trace.h"

#include <apr_strings.h>
#include <stdarg.h>

static const char *const verdict_names[] = {[REG_CALL_DONE] = "done",
                                            [REG_CALL_CONFLICT] = "conflict",
                                            [REG_CALL_UNPREPARED] = "unprepared",
                                            [REG_CALL_REFUSED] = "bad_data",
                                            [REG_CALL_LOCKED] = "lock_timeout",
                                            [REG_CALL_SLOW] = "slow",
                                            [REG_CALL_CANCELLED] = "cancelled",
                                            [REG_CALL_BROKEN] = "broken_connection",
                                            [REG_CALL_UNAVAILABLE] = "unavailable",
                                            [REG_CALL_FAULT] = "fault"};

void reg_trace(const reg_connections_t *connections, const reg_operation_t *operation,
               const char *format, ...)
{
    char step[200];
    va_list values;

    if (!connections->trace) {
        return;
    }
    va_start(values, format);
    apr_vsnprintf(step, sizeof(step), format, values);
    va_end(values);
    connections->trace(connections->baton, operation->name, step);
}

reg_connection_t *reg_trace_checkout(const reg_connections_t *connections,
                                     const reg_operation_t *operation,
                                     apr_time_t deadline, apr_interval_time_t *waited)
{
    apr_time_t start = apr_time_now();
    reg_connection_t *connection = connections->checkout(connections->baton, deadline);
    apr_interval_time_t took = apr_time_now() - start;

    *waited += took;
    if (connection) {
        reg_trace(connections, operation,
                  "checked out connection, backend %d, after %" APR_TIME_T_FMT " us",
                  connection->backend, took);
    }
    else {
        reg_trace(connections, operation, "no connection after %" APR_TIME_T_FMT " us",
                  took);
    }
    return connection;
}

reg_verdict_t reg_trace_call(reg_connection_t *connection, const reg_call_t *call)
{
    apr_time_t start = apr_time_now();
    apr_interval_time_t took;
    reg_verdict_t verdict;

    reg_trace(call->connections, call->operation,
              "sends call, %d requests, lock timeout %d ms, backend %d", call->count,
              call->lock_timeout, connection->backend);
    verdict = reg_execute(connection, call);
    took = apr_time_now() - start;
    for (int i = 0; i < call->count; i++) {
        call->items[i]->stats.backend = connection->backend;
        call->items[i]->stats.executing += took;
    }
    reg_trace(call->connections, call->operation,
              "call returned %s after %" APR_TIME_T_FMT " us", verdict_names[verdict],
              took);
    return verdict;
}

void reg_trace_retry(const reg_connections_t *connections,
                     const reg_operation_t *operation, reg_item_t *const *items,
                     int count, reg_verdict_t reason)
{
    for (int i = 0; i < count; i++) {
        items[i]->stats.retries++;
        items[i]->stats.retry_reasons |= 1U << reason;
    }
    reg_trace(connections, operation, "retries %d requests: %s", count,
              verdict_names[reason]);
}

const char *reg_trace_reasons(apr_pool_t *pool, unsigned reasons)
{
    const char *names = "";

    for (size_t i = 0; i < sizeof(verdict_names) / sizeof(verdict_names[0]); i++) {
        if (reasons & 1U << i) {
            names = apr_pstrcat(pool, names, *names ? "," : "", verdict_names[i], NULL);
        }
    }
    return names;
}

void reg_trace_add(reg_call_stats_t *sum, const reg_call_stats_t *stats)
{
    sum->batch = stats->batch;
    sum->backend = stats->backend;
    sum->retries += stats->retries;
    sum->retry_reasons |= stats->retry_reasons;
    sum->queued += stats->queued;
    sum->connecting += stats->connecting;
    sum->executing += stats->executing;
    sum->took += stats->took;
}
