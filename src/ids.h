/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_IDS_H
#define REGISTRATION_IDS_H

#include <apr_pools.h>

/**
 * Ids. Those of new rows are made before the row is written, so that a call whose
 * connection broke can be sent again and recognize what it already wrote.
 */

/** A UUID of version 7 (RFC 9562, section 5.7): milliseconds, then 74 random bits. */
const char *reg_id_uuid(apr_pool_t *pool);

/** A MongoDB ObjectId: 24 lower-case hex digits, Unix seconds first, then random. */
const char *reg_id_object_id(apr_pool_t *pool);

/** An id that a client sent, with its letters A to Z in lower case: the case of hex
 * digits makes no other id. @return NULL for NULL. */
const char *reg_id_lower(apr_pool_t *pool, const char *id);

#endif
