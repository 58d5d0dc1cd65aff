/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_RETRY_H
#define REGISTRATION_DATABASE_RETRY_H

/**
 * Operations on PostgreSQL: some requests, one call, one transaction, an answer to each.
 *
 * What a failed call means for its requests is decided here and nowhere else: whether it
 * is made again, for which of them, and what they are answered. A call is made on the
 * connection that is held for it; one that broke is checked in, and another is checked
 * out. The store knows nothing of httpd: connections come from its caller.
 */

#include "connection.h"

/**
 * Calls an operation for some requests and fills in every item's answer. A request whose
 * data the database refuses fails alone, and one whose row is locked by somebody else is
 * REG_LOCKED alone. So is one that PostgreSQL cancels, and one that is REG_SLOW as it
 * took longer than the call's limit. A call whose connection breaks is made again, with
 * the same values, until shortly before the deadline: an operation that writes has to
 * recognize what it wrote for the same id. Returns by the deadline.
 */
void reg_retry_call(const reg_call_t *call);

/**
 * The same for requests that have come back REG_LOCKED: each key by itself, so that none
 * holds its own row while it waits for that of another. The lock timeout is divided among
 * the keys, with a minimum of 10 ms each.
 * @param most the most requests of a transaction. Once one finds its key locked, the
 *        others for that key are not called.
 */
void reg_retry_call_locked(const reg_call_t *call, int most);

#endif
