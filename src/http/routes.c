/* SPDX-License-Identifier: Apache-2.0 */
#include "routes.h"

#include "metrics.h"

#include <apr_strings.h>
#include <string.h>

const char *const reg_api_names[REG_API_COUNT] = {"live",     "groups", "users",
                                                  "families", "events", "openapi",
                                                  "metrics",  "health", "status"};

/* Every URL of the registration APIs, and of openapi, metrics, health and status. */
static const reg_route_t routes[] = {
    {REG_API_LIVE, REG_METHOD_POST, "/{session}/register", reg_live_register,
     "live_register"},

    {REG_API_GROUPS, REG_METHOD_POST, "/{group}/members", reg_groups_register,
     "groups_register"},
    {REG_API_GROUPS, REG_METHOD_GET, "/{group}", reg_groups_get_group,
     "groups_get_group"},
    {REG_API_GROUPS, REG_METHOD_GET, "/{group}/plans/{plan}", reg_groups_get_plan,
     "groups_get_plan"},
    {REG_API_GROUPS, REG_METHOD_GET, "/{group}/users/{user}", reg_groups_get_member,
     "groups_get_member"},
    {REG_API_GROUPS, REG_METHOD_GET, "/{group}/members/{user}", reg_groups_get_member,
     "groups_get_member"},
    {REG_API_USERS, REG_METHOD_POST, "", reg_groups_register, "users_register"},

    {REG_API_FAMILIES, REG_METHOD_POST, "", reg_families_register, "families_register"},

    {REG_API_EVENTS, REG_METHOD_POST, "", reg_events_create, "events_create"},
    {REG_API_EVENTS, REG_METHOD_GET, "", reg_events_search, "events_search"},
    {REG_API_EVENTS, REG_METHOD_GET, "/{id}", reg_events_get, "events_get"},
    {REG_API_EVENTS, REG_METHOD_PUT, "/{id}", reg_events_update, "events_update"},
    {REG_API_EVENTS, REG_METHOD_DELETE, "/{id}", reg_events_delete, "events_delete"},

    {REG_API_OPENAPI, REG_METHOD_GET, "", reg_openapi_get, "openapi_get"},
    {REG_API_METRICS, REG_METHOD_GET, "", reg_monitoring_metrics, "metrics_get"},
    {REG_API_HEALTH, REG_METHOD_GET, "/live", reg_monitoring_live, "health_live"},
    {REG_API_HEALTH, REG_METHOD_GET, "/ready", reg_monitoring_ready, "health_ready"},
    {REG_API_STATUS, REG_METHOD_GET, "", reg_monitoring_status, "status_page"},
    {REG_API_STATUS, REG_METHOD_GET, "/data", reg_monitoring_status_data, "status_data"},
};

_Static_assert(sizeof(routes) / sizeof(routes[0]) < REG_METRICS_OPERATIONS,
               "the metrics have a counter for each route, and one for no route");

/* The part of Allow for each method. */
static const char *const allow_parts[] = {
    [REG_METHOD_GET] = "GET, HEAD, ",
    [REG_METHOD_POST] = "POST, ",
    [REG_METHOD_PUT] = "PUT, ",
    [REG_METHOD_DELETE] = "DELETE, ",
};

/* Whether the path of a request matches a pattern, and sets the captures if so. */
static int is_path_match(reg_request_t *request, const char *pattern)
{
    const char *path = request->path;
    const char *captures[REG_MAX_CAPTURES] = {NULL};
    int captured = 0;

    while (*pattern && *path) {
        size_t length = strcspn(path + 1, "/");
        size_t expected = strcspn(pattern + 1, "/");

        if (pattern[1] == '{' && length > 0) {
            captures[captured++] = apr_pstrmemdup(request->pool, path + 1, length);
        }
        else if (length != expected || strncmp(path, pattern, length + 1) != 0) {
            return 0;
        }
        path += length + 1;
        pattern += expected + 1;
    }
    if (*pattern || *path) {
        return 0;
    }
    memcpy(request->captures, captures, sizeof(captures));
    return 1;
}

int reg_api_needs_database(reg_api_t api)
{
    return api != REG_API_OPENAPI && api != REG_API_METRICS;
}

const reg_route_t *reg_route_find(reg_request_t *request)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const reg_route_t *route = &routes[i];

        if (route->api == request->api && route->method == request->method
            && is_path_match(request, route->pattern)) {
            return route;
        }
    }
    return NULL;
}

int reg_route_operation(const reg_route_t *route)
{
    int first = 0;

    if (!route) {
        return 0;
    }
    while (strcmp(routes[first].operation, route->operation) != 0) {
        first++;
    }
    return first + 1;
}

const char *const *reg_route_operations(apr_pool_t *pool)
{
    size_t count = sizeof(routes) / sizeof(routes[0]);
    const char **names = apr_pcalloc(pool, (count + 2) * sizeof(*names));

    names[0] = "none";
    for (size_t i = 0; i < count; i++) {
        names[i + 1] = routes[i].operation;
    }
    return names;
}

const char *reg_route_allow(reg_request_t *request)
{
    const char *allow = "";

    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const reg_route_t *route = &routes[i];

        if (route->api == request->api && is_path_match(request, route->pattern)) {
            allow = apr_pstrcat(request->pool, allow, allow_parts[route->method], NULL);
        }
    }
    return *allow ? apr_pstrcat(request->pool, allow, "OPTIONS", NULL) : NULL;
}
