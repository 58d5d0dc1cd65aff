/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_METRICS_H
#define REGISTRATION_METRICS_H

/**
 * The counters, and their renderings.
 *
 * All child processes count in one block of shared memory of fixed size. Counting is a
 * relaxed atomic addition, without a lock and without an allocation. Gauges (connections,
 * queued requests) are in one slot for each process. The slot of a process that has
 * ended, in any way, is not counted and is used again.
 *
 * All functions that count accept NULL for the block, and then do nothing.
 */

#include <apr_pools.h>
#include <apr_time.h>

/** The most operations, with the one that stands for no operation. */
#define REG_METRICS_OPERATIONS 32

/** A process's access to the block. */
typedef struct reg_metrics_t reg_metrics_t;

/** The gauges. */
typedef enum {
    REG_CONNECTIONS_OPEN,
    REG_CONNECTIONS_IN_USE,
    REG_REQUESTS_QUEUED, /* requests that wait in a queue */
    REG_PROCESSES,
    REG_BREAKERS_OPEN,
    REG_GAUGES
} reg_gauge_t;

/** The number of gauges that each process changes, the first ones. */
#define REG_PROCESS_GAUGES REG_PROCESSES

/** Why there was no connection for a call. */
typedef enum {
    REG_REFUSED_BUSY,        /* all were in use until the deadline */
    REG_REFUSED_UNREACHABLE, /* the attempt to connect failed, which opens the breaker */
    REG_REFUSED_BREAKER,     /* the circuit breaker was open */
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

/** The size of the block in bytes. The block is aligned to 64 bytes. */
apr_size_t reg_metrics_size(void);

/** Records the start of counting, in a block of zeros. */
void reg_metrics_begin(void *block);

/**
 * Joins a block and takes a slot in it. If there are more processes than slots, the
 * gauges of the processes without a slot are not counted.
 * @param pool its cleanup frees the slot.
 */
reg_metrics_t *reg_metrics_join(apr_pool_t *pool, void *block);

/** Counts a request and its duration. @param operation 0 for none. */
void reg_metrics_request(reg_metrics_t *metrics, int operation, int status,
                         apr_interval_time_t took);

/** Counts a batch and its requests. */
void reg_metrics_batch(reg_metrics_t *metrics, int size);

/** Counts a call of an operation and its duration. */
void reg_metrics_call(reg_metrics_t *metrics, apr_interval_time_t took);

/** Counts an error of the database. @param state SQLSTATE; NULL: it did not answer. */
void reg_metrics_error(reg_metrics_t *metrics, const char *state);

void reg_metrics_refused(reg_metrics_t *metrics, reg_refusal_t reason);

void reg_metrics_code_refused(reg_metrics_t *metrics, reg_code_refusal_t reason);

/** Records until when this process's circuit breaker is open. */
void reg_metrics_breaker(reg_metrics_t *metrics, apr_time_t until);

/** Adds to one of the gauges of a process. */
void reg_metrics_change(reg_metrics_t *metrics, reg_gauge_t gauge, int change);

/**
 * All counters in Prometheus' text format, version 0.0.4. Counters by operation, status
 * or SQLSTATE are left out while they are 0.
 * @param names of the operations, ends with NULL.
 */
const char *reg_metrics_text(apr_pool_t *pool, const reg_metrics_t *metrics,
                             const char *const *names);

/** The counters as JSON, for the status page. */
const char *reg_metrics_json(apr_pool_t *pool, const reg_metrics_t *metrics,
                             const char *const *names);

/** The requests of one operation, for mod_status. */
typedef struct {
    apr_uint64_t requests, refused, failed; /* all, 4xx, 5xx */
    apr_interval_time_t mean;
} reg_metrics_line_t;

reg_metrics_line_t reg_metrics_line(const reg_metrics_t *metrics, int operation);

/** The gauges of all processes together, and the batches. */
typedef struct {
    apr_int64_t gauges[REG_GAUGES];
    apr_uint64_t batches, batched; /* requests in them */
} reg_metrics_now_t;

reg_metrics_now_t reg_metrics_now(const reg_metrics_t *metrics);

#endif
