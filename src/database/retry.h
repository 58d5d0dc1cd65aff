/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_RETRY_H
#define REGISTRATION_DATABASE_RETRY_H

/**
 * Retries: what a failed call means for its requests. Only this file decides whether a
 * call is retried, for which of its requests, and what they are answered.
 *
 * A call is one transaction for one or more requests. It uses the connection that is held
 * for it; a broken connection is checked in and another one is checked out. A turn that
 * was taken for the call is given back after the first attempt.
 */

#include "execute.h"

/**
 * Calls an operation for some requests and sets every item's answer.
 *
 * A request with invalid data, with a locked row (REG_LOCKED), that PostgreSQL cancels,
 * or that exceeds the call's limit (REG_SLOW) fails alone: the others are retried. A call
 * whose connection breaks is retried with the same values until start_by: an operation
 * that writes recognizes by the id what it has already written. Returns at the deadline
 * at the latest.
 */
void reg_retry_call(const reg_call_t *call);

/**
 * The same for requests that were answered REG_LOCKED: one transaction for each key, so
 * that no request holds its own row's lock while it waits for another row's. The lock
 * timeout is divided among the keys, with a minimum of 10 ms each.
 * @param most the most requests of a transaction. After a lock timeout the remaining
 *        requests for the key are answered REG_LOCKED without a call.
 */
void reg_retry_call_locked(const reg_call_t *call, int most);

#endif
