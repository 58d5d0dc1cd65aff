/* SPDX-License-Identifier: Apache-2.0 */
#include "httpd_dbd.h"

#include <apr_strings.h>
#include <http_config.h>
#include <libpq-fe.h>
#include <sys/param.h>

/* mod_dbd's defaults: mod_dbd.c, DEFAULT_NMIN and so on. */
#define DEFAULT_MIN 1
#define DEFAULT_KEEP 2
#define DEFAULT_MAX 10
#define DEFAULT_EXPTIME 300

/* Takes over what the directives of one section set; those of sections inside are not its
 * own. */
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

/* Whether a section is the <VirtualHost> that made a server. */
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

/* How many items a list with commas between has. */
static apr_int64_t count_items(const char *list)
{
    apr_int64_t items = 1;

    for (; *list; list++) {
        items += *list == ',';
    }
    return items;
}

/* What libpq has to say of a connection string that it cannot read; NULL when it can. */
static const char *string_fault(apr_pool_t *pool, const char *params)
{
    char *message = NULL;
    const char *fault = NULL;

    PQconninfoFree(PQconninfoParse(params, &message));
    if (message) {
        fault = apr_psprintf(
            pool, "DBDParams is no connection string of PostgreSQL's: %s", message);
        PQfreemem(message);
    }
    return fault;
}

apr_interval_time_t reg_dbd_connect_time(const reg_dbd_t *dbd)
{
    PQconninfoOption *options = PQconninfoParse(dbd->params, NULL);
    apr_int64_t timeout = 0, hosts = 1;

    for (PQconninfoOption *o = options; o && o->keyword; o++) {
        if (o->val && strcmp(o->keyword, "connect_timeout") == 0) {
            timeout = apr_atoi64(o->val);
            timeout = timeout == 1 ? 2 : timeout; /* as libpq takes it */
        }
        if (o->val && strncmp(o->keyword, "host", 4) == 0) { /* host, hostaddr */
            hosts = MAX(hosts, count_items(o->val));
        }
    }
    PQconninfoFree(options);
    return timeout > 0 ? apr_time_from_sec(timeout * hosts) : 0;
}

const char *reg_dbd_fault(apr_pool_t *pool, const reg_dbd_t *dbd, int connections,
                          apr_interval_time_t timeout)
{
    apr_interval_time_t connect_time;
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
        return apr_psprintf(pool,
                            "DBDMin %d, DBDKeep %d, DBDMax %d cannot work, they must not "
                            "decrease; set all three, for example: DBDMin 0, DBDKeep 10, "
                            "DBDMax 10",
                            dbd->min, dbd->keep, dbd->max);
    }
    if (connections > dbd->max) {
        return apr_psprintf(
            pool,
            "RegistrationConnections %d is more than DBDMax %d; lower the "
            "one or raise the other",
            connections, dbd->max);
    }
    fault = string_fault(pool, dbd->params);
    if (fault) {
        return fault;
    }
    connect_time = reg_dbd_connect_time(dbd);
    if (!connect_time) {
        return "DBDParams must have a connect_timeout, or a database that does not "
               "answer "
               "would hold httpd's threads for ever; write for example: "
               "connect_timeout=2";
    }
    if (connect_time >= timeout) {
        return apr_psprintf(
            pool,
            "RegistrationTimeout must be longer than connect_timeout times "
            "the hosts of DBDParams, which is %" APR_TIME_T_FMT " s",
            apr_time_sec(connect_time));
    }
    return NULL;
}
