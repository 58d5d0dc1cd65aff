/* SPDX-License-Identifier: Apache-2.0 */
#include "httpd_checks.h"

#include "httpd_config.h"
#include "httpd_dbd.h"

#include <apr_dbd.h>
#include <apr_fnmatch.h>
#include <apr_strings.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(registration);

/* The first of the directives of this name; with `inside`, those in sections too. */
static const ap_directive_t *find(const ap_directive_t *node, const char *name,
                                  int inside)
{
    const ap_directive_t *found = NULL;

    for (; node && !found; node = node->next) {
        if (ap_cstr_casecmp(node->directive, name) == 0) {
            found = node;
        }
        else if (inside) {
            found = find(node->first_child, name, inside);
        }
    }
    return found;
}

/* The path of a <Location>, without what closes it; NULL when it is a pattern. */
static const char *location_path(apr_pool_t *pool, const ap_directive_t *node)
{
    const char *args = apr_pstrmemdup(pool, node->args, strcspn(node->args, ">"));
    const char *path = ap_getword_conf(pool, &args);

    return strcmp(path, "~") == 0 || apr_fnmatch_test(path) ? NULL : path;
}

static int is_location(const ap_directive_t *node)
{
    return ap_cstr_casecmp(node->directive, "<Location") == 0;
}

/* Whether a section may hold for what is at the path. A pattern may. */
static int may_hold_for(apr_pool_t *pool, const ap_directive_t *node, const char *path)
{
    const char *own;
    apr_size_t length;

    if (ap_cstr_casecmp(node->directive, "<LocationMatch") == 0) {
        return 1;
    }
    own = is_location(node) ? location_path(pool, node) : "";
    if (!own) {
        return 1;
    }
    length = strlen(own);
    while (length > 0 && own[length - 1] == '/') {
        length--;
    }
    return *own && strncmp(own, path, length) == 0
           && (path[length] == '/' || path[length] == '\0');
}

/* Whether any of these sections says who may use what is at the path. */
static int is_required(apr_pool_t *pool, const ap_directive_t *node, const char *path)
{
    for (; node; node = node->next) {
        if (may_hold_for(pool, node, path) && find(node->first_child, "Require", 1)) {
            return 1;
        }
    }
    return 0;
}

/* Warns of each API among these sections that everybody may use. Its description is meant
 * for everybody. */
static void check_required(apr_pool_t *pool, const server_rec *server,
                           const ap_directive_t *sections)
{
    for (const ap_directive_t *node = sections; node; node = node->next) {
        const ap_directive_t *api =
            is_location(node) ? find(node->first_child, "RegistrationAPI", 1) : NULL;
        const char *path = api ? location_path(pool, node) : NULL;

        if (path && ap_cstr_casecmp(api->args, "openapi") != 0
            && !is_required(pool, sections, path)
            && !is_required(pool, ap_conftree, path)) {
            ap_log_error(
                APLOG_MARK, APLOG_WARNING, 0, server,
                "REG0103: everybody may use RegistrationAPI %s at %s (%s:%d); write "
                "Require there, for example: Require valid-user, or, if that is "
                "meant: Require all granted",
                api->args, path, api->filename, api->line_num);
        }
    }
}

/* Whether the server itself has TLS, or is said to be behind a proxy that has. */
static int has_tls(const server_rec *server, const ap_directive_t *sections)
{
    const char *protocol = ap_get_server_protocol((server_rec *)server);
    const ap_directive_t *engine = find(sections, "SSLEngine", 0);

    if (!engine) {
        engine = find(ap_conftree, "SSLEngine", 0);
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

static void check(apr_pool_t *pool, const server_rec *main_server)
{
    for (const server_rec *s = main_server; s; s = s->next) {
        const ap_directive_t *sections = reg_dbd_directives(s);

        if (reg_server_conf(s)->needs_database) {
            check_required(pool, s, sections);
            check_tls(s, sections);
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
    if (find(ap_conftree, "RegistrationAPI", 1) && wants_driver(ptemp, ap_conftree)
        && apr_dbd_init(pconf) == APR_SUCCESS
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
        check(ptemp, main_server);
    }
    return OK;
}

/* When httpd is started, its configuration is read twice. */
static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *main_server)
{
    (void)pconf;
    (void)plog;
    if (ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG) {
        check(ptemp, main_server);
    }
    return OK;
}

void reg_checks_register(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(check_config, NULL, NULL, APR_HOOK_LAST);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
}
