/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_IDS_H
#define REGISTRATION_IDS_H

#include <apr_pools.h>

/**
 * Ids. The id of a new row is generated before the first call, so that a call whose
 * connection broke can be retried and recognizes the row that it has already written.
 */

/** A UUID of version 7 (RFC 9562, section 5.7): milliseconds, then 74 random bits. */
const char *reg_id_uuid(apr_pool_t *pool);

/** A MongoDB ObjectId: 24 lower-case hex digits, Unix seconds first, then random. */
const char *reg_id_object_id(apr_pool_t *pool);

/** An id from a client with A to Z in lower case: ids are compared without regard to the
 *  case of their hex digits. @return NULL for NULL. */
const char *reg_id_lower(apr_pool_t *pool, const char *id);

#endif
