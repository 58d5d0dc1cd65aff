/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_BATCH_H
#define REGISTRATION_DATABASE_BATCH_H

#include "locked_keys.h"
#include "retry.h"

/**
 * A batch: the requests that one thread, the leader, sends to PostgreSQL in one call.
 * `start_by` is explained in execute.h.
 */

/** A request of a batch; on the stack of its thread. */
typedef struct reg_batch_request_t {
    reg_item_t *item;
    reg_locked_key_t key; /* the row that the request competes for */
    apr_size_t size;      /* bytes of its values */
    apr_time_t queued_at; /* when it joined its queue */
} reg_batch_request_t;

/** The state of a leader. */
typedef struct reg_batch_t {
    const reg_connections_t *connections;
    apr_pool_t *pool;
    const reg_operation_t *operation;
    reg_locked_keys_t *locked_keys; /* of the operation */
    int most;                       /* requests of a transaction */
    const reg_turns_t *turns;       /* of the operation */
    const char *key;                /* of the leader's own request */
    reg_turn_t *turn;               /* taken for the batch, or NULL */
    reg_connection_t *held;         /* checked out for the batch, or NULL */
    apr_interval_time_t connecting; /* the time that the checkout took */
} reg_batch_t;

/**
 * Checks a connection out and takes a turn; a reg_batch_queue_prepare_t. With two parts,
 * one half of the clients reads its answers while the other half's batch runs. After a
 * wait for the turn the batch has all requests: the clients of the other processes read
 * their answers meanwhile.
 */
int reg_batch_prepare(void *batch, apr_time_t start_by);

/** The same for requests whose key is locked: without a turn, and no request waits for a
 *  second batch. */
int reg_batch_prepare_locked(void *batch, apr_time_t start_by);

/**
 * Runs a batch, except requests whose key was marked locked after they were queued: these
 * are answered REG_LOCKED. A call that takes more than a quarter of the remaining time is
 * cancelled and retried one request at a time. A reg_batch_queue_run_t.
 */
void reg_batch_run(void *batch, void *const *requests, int count, apr_time_t start_by);

/** Runs requests whose key is locked, one transaction for each key. A
 *  reg_batch_queue_run_t. */
void reg_batch_run_locked(void *batch, void *const *requests, int count,
                          apr_time_t start_by);

/** Adds a request's wait in its queue, and for the batch's connection, to its stats. */
void reg_batch_end_wait(const reg_batch_t *batch, reg_batch_request_t *request);

/** Runs one request alone; it may take until its deadline. */
void reg_batch_run_single(reg_batch_t *batch, reg_batch_request_t *request,
                          apr_time_t start_by);

#endif
