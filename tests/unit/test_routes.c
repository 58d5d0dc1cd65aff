/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "metrics.h"
#include "routes.h"

static const char *const methods[] = {"GET", "POST", "PUT", "DELETE", "OPTIONS", "OTHER"};

/* Every URL: the methods that its path allows, and its captures. The handlers are in the
 * next table. */
static const struct {
    reg_api_t api;
    const char *path;
    const char *allow; /* NULL: there is no such path */
    const char *first, *second;
} paths[] = {
    {REG_API_LIVE, "/s/register", "POST, OPTIONS", "s", NULL},
    {REG_API_LIVE, "/a b\xC3\xA9?/register", "POST, OPTIONS", "a b\xC3\xA9?", NULL},
    {REG_API_LIVE, "", NULL, NULL, NULL},
    {REG_API_LIVE, "/s", NULL, NULL, NULL},
    {REG_API_LIVE, "/s/registe", NULL, NULL, NULL},
    {REG_API_LIVE, "/s/registers", NULL, NULL, NULL},
    {REG_API_LIVE, "/s/REGISTER", NULL, NULL, NULL},
    {REG_API_LIVE, "/s/register/x", NULL, NULL, NULL},
    {REG_API_LIVE, "/s/t/register", NULL, NULL, NULL},
    {REG_API_LIVE, "//register", NULL, NULL, NULL},
    {REG_API_LIVE, "/register", NULL, NULL, NULL},

    {REG_API_GROUPS, "/g/members", "POST, OPTIONS", "g", NULL},
    {REG_API_GROUPS, "/g", "GET, HEAD, OPTIONS", "g", NULL},
    {REG_API_GROUPS, "/g/plans/p", "GET, HEAD, OPTIONS", "g", "p"},
    {REG_API_GROUPS, "/g/users/u", "GET, HEAD, OPTIONS", "g", "u"},
    {REG_API_GROUPS, "/g/members/u", "GET, HEAD, OPTIONS", "g", "u"},
    {REG_API_GROUPS, "/members/members/members", "GET, HEAD, OPTIONS", "members",
     "members"},
    {REG_API_GROUPS, "", NULL, NULL, NULL},
    {REG_API_GROUPS, "/g/plans", NULL, NULL, NULL},
    {REG_API_GROUPS, "/g/users", NULL, NULL, NULL},
    {REG_API_GROUPS, "/g/plans//", NULL, NULL, NULL},
    {REG_API_GROUPS, "/g//members", NULL, NULL, NULL},
    {REG_API_GROUPS, "/g/users/u/x", NULL, NULL, NULL},

    {REG_API_USERS, "", "POST, OPTIONS", NULL, NULL},
    {REG_API_USERS, "/u", NULL, NULL, NULL},

    {REG_API_FAMILIES, "", "POST, OPTIONS", NULL, NULL},
    {REG_API_FAMILIES, "/f", NULL, NULL, NULL},

    {REG_API_EVENTS, "", "GET, HEAD, POST, OPTIONS", NULL, NULL},
    {REG_API_EVENTS, "/e", "GET, HEAD, PUT, DELETE, OPTIONS", "e", NULL},
    {REG_API_EVENTS, "/e/f", NULL, NULL, NULL},

    {REG_API_OPENAPI, "", "GET, HEAD, OPTIONS", NULL, NULL},
    {REG_API_OPENAPI, "/x", NULL, NULL, NULL},
};

static const struct {
    reg_api_t api;
    reg_method_t method;
    const char *path;
    reg_handler_t *handler;
} routes[] = {
    {REG_API_LIVE, REG_METHOD_POST, "/s/register", reg_live_register},
    {REG_API_GROUPS, REG_METHOD_POST, "/g/members", reg_groups_register},
    {REG_API_GROUPS, REG_METHOD_GET, "/g", reg_groups_get_group},
    {REG_API_GROUPS, REG_METHOD_GET, "/g/plans/p", reg_groups_get_plan},
    {REG_API_GROUPS, REG_METHOD_GET, "/g/users/u", reg_groups_get_member},
    {REG_API_GROUPS, REG_METHOD_GET, "/g/members/u", reg_groups_get_member},
    {REG_API_USERS, REG_METHOD_POST, "", reg_groups_register},
    {REG_API_FAMILIES, REG_METHOD_POST, "", reg_families_register},
    {REG_API_EVENTS, REG_METHOD_POST, "", reg_events_create},
    {REG_API_EVENTS, REG_METHOD_GET, "", reg_events_search},
    {REG_API_EVENTS, REG_METHOD_GET, "/e", reg_events_get},
    {REG_API_EVENTS, REG_METHOD_PUT, "/e", reg_events_update},
    {REG_API_EVENTS, REG_METHOD_DELETE, "/e", reg_events_delete},
    {REG_API_OPENAPI, REG_METHOD_GET, "", reg_openapi_get},
    {REG_API_METRICS, REG_METHOD_GET, "", reg_monitoring_metrics},
    {REG_API_HEALTH, REG_METHOD_GET, "/live", reg_monitoring_live},
    {REG_API_HEALTH, REG_METHOD_GET, "/ready", reg_monitoring_ready},
    {REG_API_STATUS, REG_METHOD_GET, "", reg_monitoring_status},
    {REG_API_STATUS, REG_METHOD_GET, "/data", reg_monitoring_status_data},
};

static reg_request_t request_of(apr_pool_t *pool, reg_api_t api, reg_method_t method,
                                const char *path)
{
    return (reg_request_t){.pool = pool, .api = api, .method = method, .path = path};
}

static const char *row_of(apr_pool_t *pool, reg_api_t api, reg_method_t method,
                          const char *path)
{
    return apr_psprintf(pool, "%s %s '%s'", reg_api_names[api], methods[method], path);
}

/* Names separated by ", ", in alphabetical order, as the order of Allow does not
 * matter. */
static const char *sorted(apr_pool_t *pool, const char *names)
{
    static const char *const all[] = {"DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"};
    const char *text = "";

    if (!names) {
        return NULL;
    }
    for (size_t i = 0; i < LENGTH(all); i++) {
        const char *found = strstr(names, all[i]);

        if (found) {
            text = apr_pstrcat(pool, text, *text ? ", " : "", all[i], NULL);
        }
    }
    assert_int_equal(strlen(text), strlen(names)); /* nothing else, nothing twice */
    return text;
}

static void path_allows_its_methods(void **state)
{
    for (size_t i = 0; i < LENGTH(paths); i++) {
        reg_request_t request =
            request_of(*state, paths[i].api, REG_METHOD_OTHER, paths[i].path);

        assert_text(row_of(*state, paths[i].api, REG_METHOD_OTHER, paths[i].path),
                    sorted(*state, reg_route_allow(&request)),
                    sorted(*state, paths[i].allow));
    }
}

/* A method is routed where the path allows it, but OPTIONS, which serve.c answers. */
static void allowed_method_is_routed(void **state)
{
    for (size_t i = 0; i < LENGTH(paths) * LENGTH(methods); i++) {
        size_t p = i / LENGTH(methods);
        reg_method_t method = (reg_method_t)(i % LENGTH(methods));
        const char *row = row_of(*state, paths[p].api, method, paths[p].path);
        reg_request_t request = request_of(*state, paths[p].api, method, paths[p].path);
        const reg_route_t *route = reg_route_find(&request);
        int allowed = paths[p].allow && method != REG_METHOD_OPTIONS
                      && strstr(paths[p].allow, methods[method]) != NULL;

        assert_number(row, route != NULL, allowed);
        if (route) {
            assert_text(row, request.captures[0], paths[p].first);
            assert_text(row, request.captures[1], paths[p].second);
        }
    }
}

static void route_leads_to_its_handler(void **state)
{
    for (size_t i = 0; i < LENGTH(routes); i++) {
        reg_request_t request =
            request_of(*state, routes[i].api, routes[i].method, routes[i].path);
        const reg_route_t *route = reg_route_find(&request);

        assert_non_null(route);
        assert_number(row_of(*state, routes[i].api, routes[i].method, routes[i].path),
                      route->handler == routes[i].handler, 1);
    }
}

static void api_has_name_of_directive(void **state)
{
    (void)state;
    assert_text("live", reg_api_names[REG_API_LIVE], "live");
    assert_text("groups", reg_api_names[REG_API_GROUPS], "groups");
    assert_text("users", reg_api_names[REG_API_USERS], "users");
    assert_text("families", reg_api_names[REG_API_FAMILIES], "families");
    assert_text("events", reg_api_names[REG_API_EVENTS], "events");
    assert_text("openapi", reg_api_names[REG_API_OPENAPI], "openapi");
    assert_text("metrics", reg_api_names[REG_API_METRICS], "metrics");
    assert_text("health", reg_api_names[REG_API_HEALTH], "health");
    assert_text("status", reg_api_names[REG_API_STATUS], "status");
}

static void api_with_operations_needs_database(void **state)
{
    (void)state;
    for (int api = 0; api < REG_API_COUNT; api++) {
        assert_number(reg_api_names[api], reg_api_needs_database((reg_api_t)api),
                      api != REG_API_OPENAPI && api != REG_API_METRICS);
    }
}

/* Metrics and logs use the numbers: two routes of one operation have one number. */
static void operations_have_distinct_numbers(void **state)
{
    const char *const *names = reg_route_operations(*state);

    assert_text("0", names[reg_route_operation(NULL)], "none");
    for (size_t i = 0; i < LENGTH(routes); i++) {
        reg_request_t request =
            request_of(*state, routes[i].api, routes[i].method, routes[i].path);
        const reg_route_t *route = reg_route_find(&request);
        int number = reg_route_operation(route);

        assert_true(number > 0 && number < REG_METRICS_OPERATIONS);
        assert_text(route->pattern, names[number], route->operation);
        for (int other = 0; other < number; other++) {
            assert_true(strcmp(names[other], route->operation) != 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(path_allows_its_methods),
        POOL_TEST(allowed_method_is_routed),
        POOL_TEST(route_leads_to_its_handler),
        POOL_TEST(api_has_name_of_directive),
        POOL_TEST(api_with_operations_needs_database),
        POOL_TEST(operations_have_distinct_numbers),
    };

    return RUN_TESTS(tests);
}
