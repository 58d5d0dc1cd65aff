/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_BATCHING_H
#define REGISTRATION_DATABASE_BATCHING_H

#include "fifo_semaphore.h"
#include "retry.h"

/**
 * Batching: which requests share a call to PostgreSQL.
 *
 * Each operation has a queue (batch_queue.h). A request whose row another transaction has
 * locked is answered REG_LOCKED there, and retried in a second queue, the slow queue,
 * until its deadline. Meanwhile all requests for the same key go to the slow queue, also
 * requests that are in the first queue already. So a row that an administrator's open
 * transaction has locked delays the requests for that row, and other requests only by the
 * one call that finds it locked. The delayed requests use one connection.
 *
 * Operations that take long are not batched. Each of their requests is a call of its own,
 * within a semaphore that keeps connections free for the other operations. If a request
 * of another operation takes long, its batch is cancelled after a quarter of the
 * remaining time and retried one request at a time; the request that takes long is then
 * called within the semaphore.
 */
typedef struct reg_batching_t reg_batching_t;

/** The most bytes of a batch's values, unless one request alone has more. */
#define REG_BATCH_BYTES ((apr_size_t)4 * 1024 * 1024)

/**
 * Makes the queues of one database.
 * @param most requests of a call; 1 switches batching off, except that requests whose row
 *        is locked share a connection.
 * @param singles bounds the calls for one request that may take long; NULL: no bound.
 * @param turns of the batches; NULL: none. Reads take no turn, as they lock no row, nor
 * do requests that are not batched.
 * @return NULL when the system has no mutex left.
 */
reg_batching_t *reg_batching_make(apr_pool_t *pool, int most, reg_semaphore_t *singles,
                                  const reg_turns_t *turns);

/**
 * Runs an operation for one request and sets the item's answer, by the deadline.
 * @param connections for the calls that this thread makes for its own and other requests.
 * @param pool of the same calls.
 */
void reg_batching_run(reg_batching_t *batching, const reg_connections_t *connections,
                      apr_pool_t *pool, const reg_operation_t *operation,
                      reg_item_t *item, apr_time_t deadline);

#endif
