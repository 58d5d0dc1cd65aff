/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_ROUTES_H
#define REGISTRATION_HTTP_ROUTES_H

#include "registration.h"

/** A row of the table of routes. */
typedef struct reg_route_t {
    reg_api_t api;
    reg_method_t method;
    const char *pattern; /* below the mount; {…} matches one segment, a capture */
    reg_handler_t *handler;
    const char *operation; /* its name in metrics and logs */
} reg_route_t;

/** Whether an API needs a database. */
int reg_api_needs_database(reg_api_t api);

/** Finds the route of a request by its API, path and method, and sets its captures.
 *  @return NULL if there is none. */
const reg_route_t *reg_route_find(reg_request_t *request);

/** The index of a route's operation in reg_route_operations(); 0 for no route. */
int reg_route_operation(const reg_route_t *route);

/** The names of all operations, up to NULL. The first one stands for no route. */
const char *const *reg_route_operations(apr_pool_t *pool);

/** The Allow header for the path of a request, "GET, HEAD, OPTIONS"; NULL if no route has
 *  that path. */
const char *reg_route_allow(reg_request_t *request);

#endif
