/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_API_EVENTS_LINKS_H
#define REGISTRATION_API_EVENTS_LINKS_H

#include "query.h"
#include "registration.h"

/** A page of a list of event registrations. */
typedef struct {
    int limit, page;
    int is_empty;
    const char *after; /* the cursor after its last registration; NULL: no page follows */
    const char *total; /* the number of registrations in the list; NULL: unknown */
} reg_page_t;

/** The query parameters of a list, up to NULL; a list among them has [] after its name.
 */
extern const char *const reg_events_parameters[];

/**
 * The Link header of a page (RFC 8288): first, prev, next and, if the total is known,
 * last. Each link repeats the known parameters once. If these are long, only next is
 * there, so that the header is not much longer than the request line.
 * @param query valid in all parameters.
 */
const char *reg_events_links(const reg_request_t *request, reg_query_t *query,
                             const reg_page_t *page);

#endif
