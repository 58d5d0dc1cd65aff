/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_IDS_H
#define REGISTRATION_IDS_H

#include <apr_pools.h>

/**
 * The ids of new rows. They are made before the row is written, so that a call whose
 * connection broke can be sent again and recognize what it already wrote.
 */

/** A UUID of version 7 (RFC 9562, section 5.7): milliseconds, then 74 random bits. */
const char *reg_id_uuid(apr_pool_t *pool);

/** A MongoDB ObjectId: 24 lower-case hex digits, Unix seconds first, then random. */
const char *reg_id_object_id(apr_pool_t *pool);

#endif
