/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_ROUTES_H
#define REGISTRATION_HTTP_ROUTES_H

#include "registration.h"

/** One line of the table of routes. */
typedef struct reg_route_t {
    reg_api_t api;
    reg_method_t method;
    const char
        *pattern; /* below the mount; {…} stands for one segment, kept as a capture */
    reg_handler_t *handler;
    const char *operation; /* what it is called in metrics and logs */
} reg_route_t;

/** Whether an API's operations are called, and so a database is needed. */
int reg_api_needs_database(reg_api_t api);

/**
 * Finds the route of a request by its API, path and method, and sets its captures.
 * @return the route, or NULL when there is none.
 */
const reg_route_t *reg_route_find(reg_request_t *request);

/** The number of a route's operation among all of them; 0 for no route. */
int reg_route_operation(const reg_route_t *route);

/** What the operations are called, by their numbers, up to a NULL. */
const char *const *reg_route_operations(apr_pool_t *pool);

/**
 * What the path of a request allows, whatever the method asked for.
 * @return the value of the Allow header, "GET, HEAD, OPTIONS"; NULL when the path is not
 *         known.
 */
const char *reg_route_allow(reg_request_t *request);

#endif
