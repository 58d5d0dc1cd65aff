/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_STORE_H
#define REGISTRATION_STORE_H

/**
 * Operations on PostgreSQL: some requests, one call, one transaction, an answer to each.
 *
 * What a failed call means for its requests is decided here and nowhere else: whether it
 * is made again, for which of them, and what they are answered. A connection is held for
 * just as long as a call on it (connection.h) takes. The store knows nothing of httpd:
 * connections come from whoever runs it.
 */

#include "connection.h"

/**
 * Calls an operation for some requests and fills in every item's answer. A request whose
 * data the database refuses fails alone, and one whose row is locked by somebody else is
 * REG_LOCKED alone. A call whose connection breaks is made again, with the same values,
 * until shortly before the deadline: an operation that writes has to recognize what it
 * wrote for the same id. Returns by the deadline, but for the time
 * that libpq takes to give up connecting (connect_timeout).
 * @param pool for what the call itself needs.
 */
void reg_store_call(const reg_connections_t *connections, apr_pool_t *pool,
                    const reg_operation_t *operation, reg_item_t *const *items, int count,
                    apr_time_t deadline);

/**
 * The same for requests that have come back REG_LOCKED: each key by itself, so that none
 * holds its own row while it waits for that of another. Up to ten share the time for
 * which one alone would wait; more have a tenth of it each.
 */
void reg_store_call_locked(const reg_connections_t *connections, apr_pool_t *pool,
                           const reg_operation_t *operation, reg_item_t *const *items,
                           int count, apr_time_t deadline);

#endif
