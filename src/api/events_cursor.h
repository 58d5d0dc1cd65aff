/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_API_EVENTS_CURSOR_H
#define REGISTRATION_API_EVENTS_CURSOR_H

/**
 * Where a list of event registrations goes on: behind the last registration of a page, in
 * the list's order. A client gets it as an opaque text, the keyset cursor `after`.
 *
 * A cursor has the registration's id and what the list is sorted by, as the page showed
 * it: a registration that changes meanwhile moves no other. Only names and addresses of
 * people are left out, as a URL ends up in logs; the operation reads them from the
 * registration.
 */

#include "registration.h"

/** A place behind a registration; all are NULL at the beginning of a list. */
typedef struct {
    const char *id;
    const char
        *time; /* what the list is sorted by, if that is a time; NULL also for null */
    const char *text; /* if it is a text that is nothing personal */
} reg_position_t;

/** Checks the value of `sort`: a field, perhaps with a direction. */
const char *reg_events_check_sort(const char *value);

/** The place behind an item, as the operation wrote it, of a list sorted by a field. */
reg_position_t reg_events_position(apr_pool_t *pool, const char *sort, const char *item);

/** The cursor for a place. @param descending "true" or "false". */
const char *reg_events_cursor(apr_pool_t *pool, const char *sort, const char *descending,
                              const reg_position_t *position);

/**
 * The place that a cursor stands for.
 * @return 0 when it is none, or one of a list in another order.
 */
int reg_events_cursor_read(apr_pool_t *pool, const char *cursor, const char *sort,
                           const char *descending, reg_position_t *position);

#endif
