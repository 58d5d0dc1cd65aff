/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_METRICS_H
#define REGISTRATION_METRICS_H

/**
 * What is counted, and how it is told.
 *
 * All child processes count in one block of memory, of fixed size, which whoever runs
 * them has made and filled with zeros. Counting is a relaxed atomic addition: it takes no
 * lock and no memory. What goes up and down (connections, the queue) is kept in a slot of
 * each process, which is left out and used again once that process has ended, however it
 * did.
 *
 * Everything takes NULL for a block that is not there, and then does nothing.
 */

#include <apr_pools.h>
#include <apr_time.h>

/** Most operations, the one that stands for no operation included. */
#define REG_METRICS_OPERATIONS 32

/** A process's way to the block. */
typedef struct reg_metrics_t reg_metrics_t;

/** What goes up and down. */
typedef enum {
    REG_CONNECTIONS_OPEN,
    REG_CONNECTIONS_IN_USE,
    REG_REQUESTS_QUEUED, /* that wait for others to be answered */
    REG_GAUGES
} reg_gauge_t;

/** Why there was no connection for a call. */
typedef enum {
    REG_REFUSED_BUSY,        /* none was free in time */
    REG_REFUSED_UNREACHABLE, /* it could not be made; this opens the breaker */
    REG_REFUSED_BREAKER,     /* the breaker was open */
    REG_REFUSALS
} reg_refusal_t;

/** Why an invite code was refused. */
typedef enum {
    REG_CODE_UNKNOWN,
    REG_CODE_OF_ANOTHER_GROUP,
    REG_CODE_EXPIRED,
    REG_CODE_USED_UP,
    REG_CODE_REFUSALS
} reg_code_refusal_t;

/** Bytes of the block, which is to begin at a multiple of 64. */
apr_size_t reg_metrics_size(void);

/** Notes that counting begins, in a block of zeros. */
void reg_metrics_begin(void *block);

/**
 * Joins a block, and takes a slot in it. With more processes than there are slots, those
 * without go uncounted in what goes up and down.
 * @param pool with this the process leaves the slot.
 */
reg_metrics_t *reg_metrics_join(apr_pool_t *pool, void *block);

/** Counts a request and how long it took. @param operation 0 for none. */
void reg_metrics_request(reg_metrics_t *metrics, int operation, int status,
                         apr_interval_time_t took);

/** Counts a batch of so many requests. */
void reg_metrics_batch(reg_metrics_t *metrics, int size);

/** Counts a call of an operation at the database. */
void reg_metrics_call(reg_metrics_t *metrics, apr_interval_time_t took);

/** Counts an error of the database's. @param state SQLSTATE; NULL: it did not answer. */
void reg_metrics_error(reg_metrics_t *metrics, const char *state);

void reg_metrics_refused(reg_metrics_t *metrics, reg_refusal_t reason);

void reg_metrics_code_refused(reg_metrics_t *metrics, reg_code_refusal_t reason);

/** Notes until when this process's breaker is open. */
void reg_metrics_breaker(reg_metrics_t *metrics, apr_time_t until);

void reg_metrics_change(reg_metrics_t *metrics, reg_gauge_t gauge, int change);

/**
 * All of it in Prometheus' text format, version 0.0.4. What has labels is there once
 * there is something to tell.
 * @param names of the operations, up to a NULL.
 */
const char *reg_metrics_text(apr_pool_t *pool, const reg_metrics_t *metrics,
                             const char *const *names);

/** The same as JSON, for the status page. */
const char *reg_metrics_json(apr_pool_t *pool, const reg_metrics_t *metrics,
                             const char *const *names);

/** An operation in short. */
typedef struct {
    apr_uint64_t requests, refused, failed; /* all, 4xx, 5xx */
    apr_interval_time_t mean;
} reg_metrics_line_t;

reg_metrics_line_t reg_metrics_line(const reg_metrics_t *metrics, int operation);

/** What all processes have at the moment, and the batches there were. */
typedef struct {
    int processes, breakers;
    apr_int64_t open, in_use, queued;
    apr_uint64_t batches, batched; /* requests in them */
} reg_metrics_now_t;

reg_metrics_now_t reg_metrics_now(const reg_metrics_t *metrics);

#endif
