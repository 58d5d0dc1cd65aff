/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_BATCHING_H
#define REGISTRATION_DATABASE_BATCHING_H

#include "gate.h"
#include "retry.h"

/**
 * From one request to the call that carries it, with others.
 *
 * Each operation has a queue (batch_queue.h), whose batches the store calls. A request
 * whose row somebody else has locked comes back from there as REG_LOCKED; it goes on
 * trying in a second queue until its deadline, and as long as it does, others for the
 * same key go there at once, also those who are in the first queue already. So a row that
 * an administrator's open transaction holds delays only the requests for that row, but
 * for the one call that finds it locked, and they take up one connection between them.
 *
 * Operations that take long are not combined; each request is called by itself, when a
 * gate lets it in, which keeps connections for the others. A request of another operation
 * that takes long holds up its batch, and its queue, for a quarter of the time that is
 * left: then the call is cancelled and made again one request at a time, and the request
 * that takes long again goes through that gate too.
 */
typedef struct reg_dispatch_t reg_dispatch_t;

/** The most bytes of a call's values, but for a single request. */
#define REG_BATCH_BYTES ((apr_size_t)4 * 1024 * 1024)

/**
 * Makes the queues of one database.
 * @param batch most requests of a call; 1 switches combining off, but requests whose row
 * is locked go on sharing a connection.
 * @param lanes most calls of one operation at the same time, where requests are combined.
 * @param lone bounds the calls for one request that may take long; NULL: nothing does.
 */
reg_dispatch_t *reg_dispatch_make(apr_pool_t *pool, int batch, int lanes,
                                  reg_gate_t *lone);

/**
 * Runs an operation for one request and fills in the item's answer, by the deadline.
 * @param connections and
 * @param pool for the calls that this thread makes, for itself and for others.
 */
void reg_dispatch_run(reg_dispatch_t *dispatch, const reg_connections_t *connections,
                      apr_pool_t *pool, const reg_operation_t *operation,
                      reg_item_t *item, apr_time_t deadline);

#endif
