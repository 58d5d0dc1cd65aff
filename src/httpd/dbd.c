/* SPDX-License-Identifier: Apache-2.0 */
#include "dbd.h"

#include "addresses.h"

#include <apr_strings.h>
#include <http_config.h>
#include <libpq-fe.h>
#include <sys/param.h>

/* mod_dbd's defaults: mod_dbd.c, DEFAULT_NMIN and so on. */
#define DEFAULT_MIN 1
#define DEFAULT_KEEP 2
#define DEFAULT_MAX 10
#define DEFAULT_EXPTIME 300

/* How long the start of httpd waits for the resolver, for each name. */
#define RESOLVER_TIMEOUT apr_time_from_sec(3)

/* Reads the directives of a section, without those of sections inside it. */
static void read_section(apr_pool_t *pool, const ap_directive_t *node, reg_dbd_t *dbd)
{
    for (; node; node = node->next) {
        const char *args = node->args;
        const struct {
            const char *name;
            const char **text;
            int *number;
        } directives[] = {
            {"DBDriver", &dbd->driver, NULL}, {"DBDParams", &dbd->params, NULL},
            {"DBDMin", NULL, &dbd->min},      {"DBDKeep", NULL, &dbd->keep},
            {"DBDMax", NULL, &dbd->max},      {"DBDExptime", NULL, &dbd->exptime},
        };

        for (size_t i = 0; i < sizeof(directives) / sizeof(directives[0]); i++) {
            if (ap_cstr_casecmp(node->directive, directives[i].name) == 0) {
                const char *value = ap_getword_conf(pool, &args);

                if (directives[i].text) {
                    *directives[i].text = value;
                }
                else {
                    *directives[i].number = (int)apr_atoi64(value);
                }
            }
        }
    }
}

/* Whether a section is the <VirtualHost> of a server. */
static int is_host(const ap_directive_t *node, const server_rec *server)
{
    return server->is_virtual && ap_cstr_casecmp(node->directive, "<VirtualHost") == 0
           && server->defn_name && node->filename
           && strcmp(node->filename, server->defn_name) == 0
           && (unsigned)node->line_num == server->defn_line_number;
}

const ap_directive_t *reg_dbd_directives(const server_rec *server)
{
    const ap_directive_t *node = ap_conftree;

    if (!server->is_virtual) {
        return node;
    }
    while (node && !is_host(node, server)) {
        node = node->next;
    }
    return node ? node->first_child : NULL;
}

reg_dbd_t reg_dbd_settings(apr_pool_t *pool, const server_rec *server)
{
    reg_dbd_t dbd = {.min = DEFAULT_MIN,
                     .keep = DEFAULT_KEEP,
                     .max = DEFAULT_MAX,
                     .exptime = DEFAULT_EXPTIME};

    read_section(pool, ap_conftree, &dbd);
    if (server->is_virtual) {
        read_section(pool, reg_dbd_directives(server), &dbd);
    }
    return dbd;
}

const char *reg_dbd_key(apr_pool_t *pool, const reg_dbd_t *dbd)
{
    return apr_psprintf(pool, "%s|%s|%d|%d|%d|%d", dbd->driver, dbd->params, dbd->min,
                        dbd->keep, dbd->max, dbd->exptime);
}

/* libpq's error for an invalid connection string; NULL if it is valid. */
static const char *check_params(apr_pool_t *pool, const char *params)
{
    char *message = NULL;
    const char *fault = NULL;

    PQconninfoFree(PQconninfoParse(params, &message));
    if (message) {
        fault = apr_psprintf(
            pool, "DBDParams is not a connection string of PostgreSQL: %s", message);
        PQfreemem(message);
    }
    return fault;
}

/* The value of a keyword in DBDParams; NULL if it has none. */
static const char *read_parameter(apr_pool_t *pool, const reg_dbd_t *dbd,
                                  const char *keyword)
{
    PQconninfoOption *options = PQconninfoParse(dbd->params, NULL);
    const char *value = NULL;

    for (PQconninfoOption *o = options; o && o->keyword; o++) {
        if (o->val && *o->val && strcmp(o->keyword, keyword) == 0) {
            value = apr_pstrdup(pool, o->val);
        }
    }
    PQconninfoFree(options);
    return value;
}

/* The items of a list separated by commas; items may be empty. */
static apr_array_header_t *split_list(apr_pool_t *pool, const char *list)
{
    apr_array_header_t *items = apr_array_make(pool, 4, sizeof(const char *));

    while (list) {
        const char *comma = strchr(list, ',');

        APR_ARRAY_PUSH(items, const char *) =
            comma ? apr_pstrmemdup(pool, list, (apr_size_t)(comma - list)) : list;
        list = comma ? comma + 1 : NULL;
    }
    return items;
}

/* The hosts that libpq connects to: addresses if there are any, else names. An empty host
 * is the default socket. */
static apr_array_header_t *list_hosts(apr_pool_t *pool, const reg_dbd_t *dbd,
                                      int *are_names)
{
    const char *addresses = read_parameter(pool, dbd, "hostaddr");
    const char *names = read_parameter(pool, dbd, "host");

    *are_names = !addresses;
    return split_list(pool, addresses ? addresses : names ? names : "");
}

/* Whether a host is a socket: in a directory, abstract, or the default one. */
static int is_socket(const char *host)
{
    return *host == '\0' || *host == '/' || *host == '@';
}

static int is_local(const char *host)
{
    return is_socket(host) || strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0
           || strncmp(host, "127.", 4) == 0;
}

const char *reg_dbd_unverified_host(apr_pool_t *pool, const reg_dbd_t *dbd)
{
    int are_names;
    const apr_array_header_t *hosts = list_hosts(pool, dbd, &are_names);
    const char *mode = read_parameter(pool, dbd, "sslmode");

    for (int i = 0; i < hosts->nelts && !(mode && strcmp(mode, "verify-full") == 0);
         i++) {
        const char *host = APR_ARRAY_IDX(hosts, i, const char *);

        if (!is_local(host)) {
            return host;
        }
    }
    return NULL;
}

/* The number of addresses that libpq may try, one after the other. A name that cannot be
 * resolved counts as one. */
static int count_addresses(apr_pool_t *pool, const reg_dbd_t *dbd)
{
    int are_names, count = 0;
    const apr_array_header_t *hosts = list_hosts(pool, dbd, &are_names);

    for (int i = 0; i < hosts->nelts; i++) {
        const char *host = APR_ARRAY_IDX(hosts, i, const char *);

        count += are_names && !is_socket(host)
                     ? MAX(1, reg_addresses_count(host, RESOLVER_TIMEOUT))
                     : 1;
    }
    return count;
}

/* The connect_timeout of DBDParams as libpq applies it, in seconds; 0: none. */
static int read_connect_timeout(apr_pool_t *pool, const reg_dbd_t *dbd)
{
    const char *value = read_parameter(pool, dbd, "connect_timeout");
    int seconds = value ? (int)apr_atoi64(value) : 0;

    return seconds > 0 ? MAX(seconds, 2) : 0;
}

/* Whether a directive of another module uses mod_dbd. */
static int is_dbd_user(const ap_directive_t *node)
{
    static const char *const users[] = {"AuthDBD", "AuthzDBD", "SessionDBD",
                                        "DBDPrepareSQL"};

    for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
        if (ap_cstr_casecmpn(node->directive, users[i], strlen(users[i])) == 0) {
            return 1;
        }
    }
    return ap_cstr_casecmp(node->directive, "RewriteMap") == 0
           && ap_strcasestr(node->args, "dbd:"); /* or fastdbd: */
}

/* The first directive of another module that uses mod_dbd, also in sections, except
 * virtual hosts. */
static const ap_directive_t *find_dbd_user(const ap_directive_t *node)
{
    const ap_directive_t *found = NULL;

    for (; node && !found; node = node->next) {
        if (is_dbd_user(node)) {
            return node;
        }
        if (ap_cstr_casecmp(node->directive, "<VirtualHost") != 0) {
            found = find_dbd_user(node->first_child);
        }
    }
    return found;
}

const ap_directive_t *reg_dbd_other_user(apr_pool_t *pool, const server_rec *server,
                                         const server_rec *main_server)
{
    const reg_dbd_t own = reg_dbd_settings(pool, server);
    const char *key = reg_dbd_key(pool, &own);
    const ap_directive_t *user = find_dbd_user(ap_conftree); /* applies to every server */

    for (const server_rec *s = main_server; s && !user; s = s->next) {
        const reg_dbd_t dbd = reg_dbd_settings(pool, s);

        if (s->is_virtual && strcmp(reg_dbd_key(pool, &dbd), key) == 0) {
            user = find_dbd_user(reg_dbd_directives(s));
        }
    }
    return user;
}

/* The error if connecting may take longer than RegistrationTimeout, else NULL. */
static const char *check_connect_timeout(apr_pool_t *pool, const reg_dbd_t *dbd,
                                         apr_interval_time_t timeout)
{
    int seconds = read_connect_timeout(pool, dbd), addresses;

    if (!seconds) {
        return "DBDParams must have a connect_timeout, so that an attempt to connect "
               "ends; "
               "write for example: connect_timeout=2";
    }
    addresses = count_addresses(pool, dbd);
    return apr_time_from_sec((apr_time_t)seconds * addresses) < timeout
               ? NULL
               : apr_psprintf(pool,
                              "RegistrationTimeout must be longer than connect_timeout "
                              "times the addresses of DBDParams, which is %d times %d, "
                              "%d s",
                              seconds, addresses, seconds * addresses);
}

const char *reg_dbd_fault(apr_pool_t *pool, const reg_dbd_t *dbd, int connections,
                          apr_interval_time_t timeout)
{
    const char *fault;

    if (!dbd->driver || strcmp(dbd->driver, "pgsql") != 0) {
        return apr_psprintf(pool, "DBDriver is %s; write: DBDriver pgsql",
                            dbd->driver ? dbd->driver : "not set");
    }
    if (!dbd->params) {
        return "DBDParams is not set; write for example: DBDParams "
               "\"host=/run/postgresql "
               "dbname=registration user=registration connect_timeout=2\"";
    }
    if (dbd->max < 1 || dbd->min > dbd->keep || dbd->keep > dbd->max) {
        return apr_psprintf(
            pool,
            "DBDMin %d, DBDKeep %d, DBDMax %d must be in ascending order; set "
            "all three, for example: DBDMin 0, DBDKeep 10, "
            "DBDMax 10",
            dbd->min, dbd->keep, dbd->max);
    }
    if (connections > dbd->max) {
        return apr_psprintf(pool,
                            "RegistrationConnections %d is more than DBDMax %d; lower "
                            "RegistrationConnections or raise DBDMax",
                            connections, dbd->max);
    }
    fault = check_params(pool, dbd->params);
    return fault ? fault : check_connect_timeout(pool, dbd, timeout);
}
