/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_API_EVENTS_CURSOR_H
#define REGISTRATION_API_EVENTS_CURSOR_H

/**
 * The keyset cursor `after` of a list of event registrations: the position after the last
 * registration of a page, in the list's order. It is opaque to clients.
 *
 * A cursor has the registration's id and the value that the list is sorted by, as the
 * page showed it; so a registration that changes meanwhile does not move other ones. It
 * has no names and addresses of people, as URLs are logged; the operation reads these
 * from the registration.
 */

#include "registration.h"

/** The position after a registration; all NULL at the beginning of a list. */
typedef struct {
    const char *id;
    const char
        *time; /* the value that the list is sorted by, if it is a time; NULL for null */
    const char *text; /* the same, if it is a text that is not personal */
} reg_position_t;

/** Checks the value of `sort`: a field, with or without a direction. */
const char *reg_events_check_sort(const char *value);

/** The position after an item of a list. @param sort the field that it is sorted by. */
reg_position_t reg_events_position(apr_pool_t *pool, const char *sort, const char *item);

/** The cursor of a position. @param descending "true" or "false". */
const char *reg_events_cursor(apr_pool_t *pool, const char *sort, const char *descending,
                              const reg_position_t *position);

/**
 * Reads the position of a cursor.
 * @return 0 if the cursor is invalid, or belongs to a list in another order.
 */
int reg_events_cursor_read(apr_pool_t *pool, const char *cursor, const char *sort,
                           const char *descending, reg_position_t *position);

#endif
