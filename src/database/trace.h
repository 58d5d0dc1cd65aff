/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_TRACE_H
#define REGISTRATION_DATABASE_TRACE_H

/**
 * Traces of a request's way to PostgreSQL: the steps, at log level trace1, and counts and
 * times (reg_call_stats_t), at all levels. They contain names of operations and verdicts,
 * and numbers, but no data of a request.
 */

#include "execute.h"

/** Logs a step of an operation; formats nothing unless the host traces. */
__attribute__((format(printf, 3, 4))) void reg_trace(const reg_connections_t *connections,
                                                     const reg_operation_t *operation,
                                                     const char *format, ...);

/**
 * Checks a connection out, and logs that.
 * @param waited increased by the time that it took.
 * @return NULL if there is none by the deadline.
 */
reg_connection_t *reg_trace_checkout(const reg_connections_t *connections,
                                     const reg_operation_t *operation,
                                     apr_time_t deadline, apr_interval_time_t *waited);

/** Makes a call on a connection, logs it, and adds it to the stats of its requests. */
reg_verdict_t reg_trace_call(reg_connection_t *connection, const reg_call_t *call);

/** Counts a retry for each request, and logs its reason. */
void reg_trace_retry(const reg_connections_t *connections,
                     const reg_operation_t *operation, reg_item_t *const *items,
                     int count, reg_verdict_t reason);

/** The names of the reasons in `retry_reasons`, separated by commas. */
const char *reg_trace_reasons(apr_pool_t *pool, unsigned reasons);

/** Adds the stats of a call to those of a request; batch and backend are the call's. */
void reg_trace_add(reg_call_stats_t *sum, const reg_call_stats_t *stats);

#endif
