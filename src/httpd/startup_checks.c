/* SPDX-License-Identifier: Apache-2.0 */
#include "startup_checks.h"

#include "config.h"
#include "dbd.h"

#include <apr_dbd.h>
#include <apr_fnmatch.h>
#include <apr_strings.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(registration);

/* Where a directive is looked for, besides the list itself. */
typedef enum {
    NOWHERE_ELSE,
    IN_SECTIONS_THAT_HOLD, /* for every request that the list holds for */
    IN_ALL_SECTIONS
} depth_t;

/* Whether what a section contains holds wherever the section stands: no <If>, <Limit>,
 * <Files> or the like. */
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

/* The first of the directives of this name, with this value unless that is NULL. */
static const ap_directive_t *find(const ap_directive_t *node, const char *name,
                                  const char *value, depth_t depth)
{
    const ap_directive_t *found = NULL;

    for (; node && !found; node = node->next) {
        if (ap_cstr_casecmp(node->directive, name) == 0
            && (!value || ap_cstr_casecmp(node->args, value) == 0)) {
            found = node;
        }
        else if (depth == IN_ALL_SECTIONS
                 || (depth == IN_SECTIONS_THAT_HOLD && is_unconditional(node))) {
            found = find(node->first_child, name, value, depth);
        }
    }
    return found;
}

/* The path of a <Location>, without what closes it; NULL when it is a pattern, or the
 * section is another. */
static const char *location_path(apr_pool_t *pool, const ap_directive_t *node)
{
    const char *args, *path;

    if (ap_cstr_casecmp(node->directive, "<Location") != 0) {
        return NULL;
    }
    args = apr_pstrmemdup(pool, node->args, strcspn(node->args, ">"));
    path = ap_getword_conf(pool, &args);
    return strcmp(path, "~") == 0 || apr_fnmatch_test(path) ? NULL : path;
}

/* Whether a <Location> of one path holds for another path. */
static int holds_for(const char *own, const char *path)
{
    apr_size_t length = strlen(own);

    while (length > 0 && own[length - 1] == '/') {
        length--;
    }
    return *own && strncmp(own, path, length) == 0
           && (path[length] == '/' || path[length] == '\0');
}

/* The first directive of this name and value in a <Location> that holds for the path,
 * among these sections. */
static const ap_directive_t *find_at(apr_pool_t *pool, const ap_directive_t *sections,
                                     const char *path, const char *name,
                                     const char *value, depth_t depth)
{
    const ap_directive_t *found = NULL;

    for (; sections && !found; sections = sections->next) {
        const char *own = location_path(pool, sections);

        if (own && holds_for(own, path)) {
            found = find(sections->first_child, name, value, depth);
        }
    }
    return found;
}

/* The RegistrationAPI of a section; NULL: there is none. */
static const ap_directive_t *mounted(apr_pool_t *pool, const ap_directive_t *node,
                                     const char **path)
{
    *path = location_path(pool, node);
    return *path ? find(node->first_child, "RegistrationAPI", NULL, IN_ALL_SECTIONS)
                 : NULL;
}

/* An API, and the <Location> that mounts it. */
typedef struct {
    const server_rec *server;
    const ap_directive_t *sections; /* the server's */
    const ap_directive_t *location; /* one of them */
    const ap_directive_t *api;
    const char *path;
} mount_t;

/* The first such directive that holds for an API: its server's, or the main server's. */
static const ap_directive_t *find_for(apr_pool_t *pool, const mount_t *mount,
                                      const char *name, const char *value, depth_t depth)
{
    const ap_directive_t *found =
        find_at(pool, mount->sections, mount->path, name, value, depth);

    return found ? found : find_at(pool, ap_conftree, mount->path, name, value, depth);
}

/* Refuses an API without a Require. The description of the APIs holds nothing secret and
 * is exempt. */
static int check_required(apr_pool_t *pool, const mount_t *mount)
{
    const ap_directive_t *api = mount->api;

    if (ap_cstr_casecmp(api->args, "openapi") == 0
        || find_for(pool, mount, "Require", NULL, IN_SECTIONS_THAT_HOLD)) {
        return OK;
    }
    ap_log_error(APLOG_MARK, APLOG_EMERG, 0, mount->server,
                 "REG0103: no Require says who may use RegistrationAPI %s at %s (%s:%d); "
                 "write one in a <Location> of that path, outside of <If>, <Limit> and "
                 "<LocationMatch>, for example: Require valid-user, or, for every "
                 "caller: Require all granted",
                 api->args, mount->path, api->filename, api->line_num);
    return HTTP_INTERNAL_SERVER_ERROR;
}

/* Refuses an API that Satisfy Any opens: every address is allowed where mod_access_compat
 * has no Allow and no Deny, and then no Require is asked. */
static int check_satisfied(apr_pool_t *pool, const mount_t *mount)
{
    const ap_directive_t *api = mount->api;
    const ap_directive_t *any = find_for(pool, mount, "Satisfy", "any", IN_ALL_SECTIONS);

    if (!any) {
        return OK;
    }
    ap_log_error(
        APLOG_MARK, APLOG_EMERG, 0, mount->server,
        "REG0111: Satisfy Any (%s:%d) lets requests pass to RegistrationAPI %s at "
        "%s (%s:%d) without its Require; leave it out, and write addresses as "
        "Require ip",
        any->filename, any->line_num, api->args, mount->path, api->filename,
        api->line_num);
    return HTTP_INTERNAL_SERVER_ERROR;
}

/* Refuses an API that a later one hides: of the <Location>s that hold for a path, the
 * last one that mounts an API counts. */
static int check_hidden(apr_pool_t *pool, const mount_t *mount)
{
    const ap_directive_t *api = mount->api;
    int rv = OK;

    for (const ap_directive_t *later = mount->location->next; later;
         later = later->next) {
        const char *path;
        const ap_directive_t *other = mounted(pool, later, &path);

        if (other && holds_for(path, mount->path)) {
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

/* Makes the checks of each API of a server. */
static int check_mounts(apr_pool_t *pool, const server_rec *server)
{
    mount_t mount = {.server = server, .sections = reg_dbd_directives(server)};
    int rv = OK;

    for (mount.location = mount.sections; mount.location;
         mount.location = mount.location->next) {
        mount.api = mounted(pool, mount.location, &mount.path);
        if (mount.api
            && (check_required(pool, &mount) != OK || check_satisfied(pool, &mount) != OK
                || check_hidden(pool, &mount) != OK)) {
            rv = HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return rv;
}

/* Whether the events API is mounted below the path, in any host; NULL: anywhere. */
static int has_events(apr_pool_t *pool, const ap_directive_t *node, const char *below)
{
    for (; node; node = node->next) {
        const char *path;
        const ap_directive_t *api = mounted(pool, node, &path);

        if ((api && ap_cstr_casecmp(api->args, "events") == 0
             && (!below || holds_for(below, path)))
            || has_events(pool, node->first_child, below)) {
            return 1;
        }
    }
    return 0;
}

/* Refuses a RegistrationOrganization that limits nothing, wherever it stands. */
static int check_organizations(apr_pool_t *pool, const ap_directive_t *node,
                               const char *below)
{
    int rv = OK;

    for (; node; node = node->next) {
        const char *own = location_path(pool, node);

        if (ap_cstr_casecmp(node->directive, "RegistrationOrganization") == 0
            && !has_events(pool, ap_conftree, below)) {
            ap_log_error(
                APLOG_MARK, APLOG_EMERG, 0, NULL,
                "REG0106: RegistrationOrganization (%s:%d) limits RegistrationAPI "
                "events, which is not mounted there; write it where that is, or "
                "leave it out",
                node->filename, node->line_num);
            rv = HTTP_INTERNAL_SERVER_ERROR;
        }
        if (check_organizations(pool, node->first_child, own ? own : below) != OK) {
            rv = HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return rv;
}

/* Whether the server itself has TLS, or is said to be behind a proxy that has. */
static int has_tls(const server_rec *server, const ap_directive_t *sections)
{
    const char *protocol = ap_get_server_protocol((server_rec *)server);
    const ap_directive_t *engine = find(sections, "SSLEngine", NULL, NOWHERE_ELSE);

    if (!engine) {
        engine = find(ap_conftree, "SSLEngine", NULL, NOWHERE_ELSE);
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

/* Warns of a connection that a server in between could read, or answer itself. */
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

static int refuse(apr_pool_t *pool, const server_rec *main_server)
{
    int rv = check_organizations(pool, ap_conftree, NULL);

    for (const server_rec *s = main_server; s; s = s->next) {
        if (reg_server_conf(s)->mounted && check_mounts(pool, s) != OK) {
            rv = HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return rv;
}

static void warn(apr_pool_t *pool, const server_rec *main_server)
{
    for (const server_rec *s = main_server; s; s = s->next) {
        if (reg_server_conf(s)->restricted) {
            check_tls(s, reg_dbd_directives(s));
        }
        if (reg_server_conf(s)->needs_database) {
            check_encrypted(pool, s);
        }
    }
}

/* Whether DBDriver pgsql is among these directives, or in sections there. */
static int wants_driver(apr_pool_t *pool, const ap_directive_t *node)
{
    for (; node; node = node->next) {
        const char *args = node->args;

        if (ap_cstr_casecmp(node->directive, "DBDriver") == 0
                ? strcmp(ap_getword_conf(pool, &args), "pgsql") == 0
                : wants_driver(pool, node->first_child)) {
            return 1;
        }
    }
    return 0;
}

/* mod_dbd loads the driver when it gets to DBDriver, and refuses that line without saying
 * where the driver is to be had. So this is said before: the configuration has been read,
 * and nothing of it carried out yet. */
static int pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    const apr_dbd_driver_t *driver;

    (void)plog;
    if (find(ap_conftree, "RegistrationAPI", NULL, IN_ALL_SECTIONS)
        && wants_driver(ptemp, ap_conftree) && apr_dbd_init(pconf) == APR_SUCCESS
        && apr_dbd_get_driver(pconf, "pgsql", &driver) != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, NULL,
                     "REG0105: the driver of DBDriver pgsql, apr_dbd_pgsql, cannot be "
                     "loaded; install it, on Debian: apt install libaprutil1-dbd-pgsql");
    }
    return OK;
}

/* `httpd -t` does not come to post_config. */
static int check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                        server_rec *main_server)
{
    (void)pconf;
    (void)plog;
    if (ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_TEST) {
        warn(ptemp, main_server);
    }
    return refuse(ptemp, main_server);
}

/* When httpd is started, its configuration is read twice. */
static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *main_server)
{
    (void)pconf;
    (void)plog;
    if (ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG) {
        warn(ptemp, main_server);
    }
    return OK;
}

void reg_startup_checks_register(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(check_config, NULL, NULL, APR_HOOK_LAST);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
}
