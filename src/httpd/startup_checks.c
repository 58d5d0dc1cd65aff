/* SPDX-License-Identifier: Apache-2.0 */
#include "startup_checks.h"

#include "config.h"
#include "dbd.h"

#include <ap_mpm.h>
#include <apr_dbd.h>
#include <apr_fnmatch.h>
#include <apr_strings.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(registration);

/* The sections in which a directive is searched for, besides the list itself. */
typedef enum {
    IN_NO_SECTIONS,
    IN_UNCONDITIONAL_SECTIONS, /* which apply to every request that the list applies to */
    IN_ALL_SECTIONS
} depth_t;

/* Whether a section applies to all requests of the section around it: it is no <If>,
 * <Limit>, <Files> or the like. */
static int is_unconditional(const ap_directive_t *node)
{
    static const char *const conditional[] = {
        "<If", "<ElseIf", "<Else", "<Limit", "<LimitExcept", "<Files", "<FilesMatch"};

    for (size_t i = 0; i < sizeof(conditional) / sizeof(conditional[0]); i++) {
        if (ap_cstr_casecmp(node->directive, conditional[i]) == 0) {
            return 0;
        }
    }
    return 1;
}

/* The first directive of this name and value; any value if it is NULL. */
static const ap_directive_t *find_directive(const ap_directive_t *node, const char *name,
                                            const char *value, depth_t depth)
{
    const ap_directive_t *found = NULL;

    for (; node && !found; node = node->next) {
        if (ap_cstr_casecmp(node->directive, name) == 0
            && (!value || ap_cstr_casecmp(node->args, value) == 0)) {
            found = node;
        }
        else if (depth == IN_ALL_SECTIONS
                 || (depth == IN_UNCONDITIONAL_SECTIONS && is_unconditional(node))) {
            found = find_directive(node->first_child, name, value, depth);
        }
    }
    return found;
}

/* The path of a <Location>; NULL if it is a pattern, or another section. */
static const char *read_location_path(apr_pool_t *pool, const ap_directive_t *node)
{
    const char *args, *path;

    if (ap_cstr_casecmp(node->directive, "<Location") != 0) {
        return NULL;
    }
    args = apr_pstrmemdup(pool, node->args, strcspn(node->args, ">"));
    path = ap_getword_conf(pool, &args);
    return strcmp(path, "~") == 0 || apr_fnmatch_test(path) ? NULL : path;
}

/* Whether a <Location> of one path applies to another path. */
static int applies_to(const char *own, const char *path)
{
    apr_size_t length = strlen(own);

    while (length > 0 && own[length - 1] == '/') {
        length--;
    }
    return *own && strncmp(own, path, length) == 0
           && (path[length] == '/' || path[length] == '\0');
}

/* The first directive of this name and value in the <Location>s that apply to the path.
 */
static const ap_directive_t *find_for_path(apr_pool_t *pool,
                                           const ap_directive_t *sections,
                                           const char *path, const char *name,
                                           const char *value, depth_t depth)
{
    const ap_directive_t *found = NULL;

    for (; sections && !found; sections = sections->next) {
        const char *own = read_location_path(pool, sections);

        if (own && applies_to(own, path)) {
            found = find_directive(sections->first_child, name, value, depth);
        }
    }
    return found;
}

/* The RegistrationAPI of a section; NULL: none. */
static const ap_directive_t *find_api(apr_pool_t *pool, const ap_directive_t *node,
                                      const char **path)
{
    *path = read_location_path(pool, node);
    return *path ? find_directive(node->first_child, "RegistrationAPI", NULL,
                                  IN_ALL_SECTIONS)
                 : NULL;
}

/* An API and the <Location> that mounts it. */
typedef struct {
    const server_rec *server;
    const ap_directive_t *sections; /* the server's */
    const ap_directive_t *location; /* one of them */
    const ap_directive_t *api;
    const char *path;
} mount_t;

/* The first such directive that applies to an API: of its server, or of the main server.
 */
static const ap_directive_t *find_for_api(apr_pool_t *pool, const mount_t *mount,
                                          const char *name, const char *value,
                                          depth_t depth)
{
    const ap_directive_t *found =
        find_for_path(pool, mount->sections, mount->path, name, value, depth);

    return found ? found
                 : find_for_path(pool, ap_conftree, mount->path, name, value, depth);
}

/* Refuses an API without a Require. The description of the APIs is exempt, as it has
 * nothing secret. */
static int check_required(apr_pool_t *pool, const mount_t *mount)
{
    const ap_directive_t *api = mount->api;

    if (ap_cstr_casecmp(api->args, "openapi") == 0
        || find_for_api(pool, mount, "Require", NULL, IN_UNCONDITIONAL_SECTIONS)) {
        return OK;
    }
    ap_log_error(APLOG_MARK, APLOG_EMERG, 0, mount->server,
                 "REG0103: no Require protects RegistrationAPI %s at %s (%s:%d); "
                 "write one in a <Location> of that path, outside of <If>, <Limit> and "
                 "<LocationMatch>, for example: Require valid-user, or, for every "
                 "caller: Require all granted",
                 api->args, mount->path, api->filename, api->line_num);
    return HTTP_INTERNAL_SERVER_ERROR;
}

/* Refuses an API with Satisfy Any: without Allow and Deny mod_access_compat allows every
 * address, and then no Require is checked. */
static int check_satisfied(apr_pool_t *pool, const mount_t *mount)
{
    const ap_directive_t *api = mount->api;
    const ap_directive_t *any =
        find_for_api(pool, mount, "Satisfy", "any", IN_ALL_SECTIONS);

    if (!any) {
        return OK;
    }
    ap_log_error(
        APLOG_MARK, APLOG_EMERG, 0, mount->server,
        "REG0111: Satisfy Any (%s:%d) bypasses the Require of RegistrationAPI %s at "
        "%s (%s:%d); remove it, and write addresses as Require ip",
        any->filename, any->line_num, api->args, mount->path, api->filename,
        api->line_num);
    return HTTP_INTERNAL_SERVER_ERROR;
}

/* Refuses an API that a later one hides: of the <Location>s that apply to a path, the
 * last one with a RegistrationAPI takes effect. */
static int check_hidden(apr_pool_t *pool, const mount_t *mount)
{
    const ap_directive_t *api = mount->api;
    int rv = OK;

    for (const ap_directive_t *later = mount->location->next; later;
         later = later->next) {
        const char *path;
        const ap_directive_t *other = find_api(pool, later, &path);

        if (other && applies_to(path, mount->path)) {
            ap_log_error(
                APLOG_MARK, APLOG_EMERG, 0, mount->server,
                "REG0110: RegistrationAPI %s at %s (%s:%d) is hidden by RegistrationAPI "
                "%s at %s (%s:%d), which comes later; mount them at different paths, the "
                "shorter one first, or leave one out",
                api->args, mount->path, api->filename, api->line_num, other->args, path,
                other->filename, other->line_num);
            rv = HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return rv;
}

/* Checks each API of a server. */
static int check_mounts(apr_pool_t *pool, const server_rec *server)
{
    mount_t mount = {.server = server, .sections = reg_dbd_directives(server)};
    int rv = OK;

    for (mount.location = mount.sections; mount.location;
         mount.location = mount.location->next) {
        mount.api = find_api(pool, mount.location, &mount.path);
        if (mount.api
            && (check_required(pool, &mount) != OK || check_satisfied(pool, &mount) != OK
                || check_hidden(pool, &mount) != OK)) {
            rv = HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return rv;
}

/* Whether the events API is mounted at or below the path, in any host. @param below NULL:
 * at any path. */
static int has_events(apr_pool_t *pool, const ap_directive_t *node, const char *below)
{
    for (; node; node = node->next) {
        const char *path;
        const ap_directive_t *api = find_api(pool, node, &path);

        if ((api && ap_cstr_casecmp(api->args, "events") == 0
             && (!below || applies_to(below, path)))
            || has_events(pool, node->first_child, below)) {
            return 1;
        }
    }
    return 0;
}

/* Refuses a RegistrationOrganization that applies to no events API. */
static int check_organizations(apr_pool_t *pool, const ap_directive_t *node,
                               const char *below)
{
    int rv = OK;

    for (; node; node = node->next) {
        const char *own = read_location_path(pool, node);

        if (ap_cstr_casecmp(node->directive, "RegistrationOrganization") == 0
            && !has_events(pool, ap_conftree, below)) {
            ap_log_error(
                APLOG_MARK, APLOG_EMERG, 0, NULL,
                "REG0106: RegistrationOrganization (%s:%d) applies to no RegistrationAPI "
                "events; move it to the <Location> of one, or remove it",
                node->filename, node->line_num);
            rv = HTTP_INTERNAL_SERVER_ERROR;
        }
        if (check_organizations(pool, node->first_child, own ? own : below) != OK) {
            rv = HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return rv;
}

/* Whether the server has TLS, or by its ServerName is behind a proxy with TLS. */
static int has_tls(const server_rec *server, const ap_directive_t *sections)
{
    const char *protocol = ap_get_server_protocol((server_rec *)server);
    const ap_directive_t *engine =
        find_directive(sections, "SSLEngine", NULL, IN_NO_SECTIONS);

    if (!engine) {
        engine = find_directive(ap_conftree, "SSLEngine", NULL, IN_NO_SECTIONS);
    }
    return (engine && ap_cstr_casecmp(engine->args, "off") != 0)
           || (protocol && strcmp(protocol, "https") == 0)
           || (server->server_scheme && strcmp(server->server_scheme, "https") == 0);
}

static void check_tls(const server_rec *server, const ap_directive_t *sections)
{
    if (!has_tls(server, sections)) {
        ap_log_error(
            APLOG_MARK, APLOG_WARNING, 0, server,
            "REG0104: RegistrationAPI is served without TLS by %s; write: SSLEngine "
            "on, or, if a proxy before it has TLS: ServerName https://%s",
            server->server_hostname, server->server_hostname);
    }
}

/* Warns of a connection that a third machine could read or answer. */
static void check_encrypted(apr_pool_t *pool, const server_rec *server)
{
    const reg_dbd_t dbd = reg_dbd_settings(pool, server);
    const char *host = dbd.params ? reg_dbd_unverified_host(pool, &dbd) : NULL;

    if (host) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     "REG0107: the connection to PostgreSQL at %s is not protected: "
                     "nothing verifies the server's certificate; write in DBDParams: "
                     "sslmode=verify-full, with sslrootcert=",
                     host);
    }
}

/* Warns where a child process has too few threads for the batches of a server. Called for
 * one server only. */
static void check_threads(const server_rec *server)
{
    int threads = 1, batch = reg_server_conf(server)->batch_size;

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    if (threads < batch) {
        ap_log_error(
            APLOG_MARK, APLOG_WARNING, 0, server,
            "REG0113: a child process has fewer threads (ThreadsPerChild %d) than a "
            "batch "
            "can have requests (RegistrationBatchSize %d): batches stay small, and under "
            "load the event MPM closes connections of clients that wait; use the event "
            "MPM "
            "with registration-mpm.conf, or write: ThreadLimit %d, ThreadsPerChild %d, "
            "MaxRequestWorkers %d",
            threads, batch, 2 * batch, 2 * batch, 2 * batch);
    }
}

/* The server with the largest batches; NULL: no server needs a database. */
static const server_rec *find_largest_batch(const server_rec *main_server)
{
    const server_rec *found = NULL;

    for (const server_rec *s = main_server; s; s = s->next) {
        if (reg_server_conf(s)->needs_database
            && (!found
                || reg_server_conf(s)->batch_size > reg_server_conf(found)->batch_size)) {
            found = s;
        }
    }
    return found;
}

static int check_all(apr_pool_t *pool, const server_rec *main_server)
{
    int rv = check_organizations(pool, ap_conftree, NULL);

    for (const server_rec *s = main_server; s; s = s->next) {
        if (reg_server_conf(s)->mounted && check_mounts(pool, s) != OK) {
            rv = HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return rv;
}

static void warn_all(apr_pool_t *pool, const server_rec *main_server)
{
    const server_rec *largest = find_largest_batch(main_server);

    if (largest) {
        check_threads(largest);
    }
    for (const server_rec *s = main_server; s; s = s->next) {
        if (reg_server_conf(s)->restricted) {
            check_tls(s, reg_dbd_directives(s));
        }
        if (reg_server_conf(s)->needs_database) {
            check_encrypted(pool, s);
        }
    }
}

/* Whether DBDriver pgsql is among these directives or in their sections. */
static int has_driver(apr_pool_t *pool, const ap_directive_t *node)
{
    for (; node; node = node->next) {
        const char *args = node->args;

        if (ap_cstr_casecmp(node->directive, "DBDriver") == 0
                ? strcmp(ap_getword_conf(pool, &args), "pgsql") == 0
                : has_driver(pool, node->first_child)) {
            return 1;
        }
    }
    return 0;
}

/* Logs which package has the driver, if it is missing. mod_dbd loads the driver when
 * httpd evaluates DBDriver, and its error does not name the package; so this hook runs
 * before directives are evaluated. */
static int check_driver(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    const apr_dbd_driver_t *driver;

    (void)plog;
    if (find_directive(ap_conftree, "RegistrationAPI", NULL, IN_ALL_SECTIONS)
        && has_driver(ptemp, ap_conftree) && apr_dbd_init(pconf) == APR_SUCCESS
        && apr_dbd_get_driver(pconf, "pgsql", &driver) != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, NULL,
                     "REG0105: cannot load apr_dbd_pgsql, the driver of DBDriver pgsql; "
                     "install it, on Debian: apt install libaprutil1-dbd-pgsql");
    }
    return OK;
}

/* `httpd -t` does not run post_config, so it warns here. */
static int check_startup(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                         server_rec *main_server)
{
    (void)pconf;
    (void)plog;
    if (ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_TEST) {
        warn_all(ptemp, main_server);
    }
    return check_all(ptemp, main_server);
}

/* Warns once, although httpd reads its configuration twice at start. */
static int warn_at_startup(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                           server_rec *main_server)
{
    (void)pconf;
    (void)plog;
    if (ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG) {
        warn_all(ptemp, main_server);
    }
    return OK;
}

void reg_startup_checks_register(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_pre_config(check_driver, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(check_startup, NULL, NULL, APR_HOOK_LAST);
    ap_hook_post_config(warn_at_startup, NULL, NULL, APR_HOOK_MIDDLE);
}
