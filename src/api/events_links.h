/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_API_EVENTS_LINKS_H
#define REGISTRATION_API_EVENTS_LINKS_H

#include "query.h"
#include "registration.h"

/** A page of a list of event registrations. */
typedef struct {
    int limit, page;
    int is_empty;
    const char
        *after; /* the cursor behind its last registration; NULL: nothing follows */
    const char *total; /* how many registrations the list has; NULL: not known */
} reg_page_t;

/** The parameters of a list, up to NULL; a list among them has [] behind its name. */
extern const char *const reg_events_parameters[];

/**
 * The Link header of a page (RFC 8288): first, prev, next and, where the total is known,
 * last. Each link repeats the parameters that are known, each once. Where these are long
 * there is only the next page, so that the header is hardly longer than the request's
 * line.
 * @param query of which every parameter is right.
 */
const char *reg_events_links(const reg_request_t *request, reg_query_t *query,
                             const reg_page_t *page);

#endif
