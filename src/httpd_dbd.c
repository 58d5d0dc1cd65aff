/* SPDX-License-Identifier: Apache-2.0 */
#include "httpd_dbd.h"

#include <apr_strings.h>
#include <http_config.h>
#include <libpq-fe.h>
#include <stdlib.h>

/* mod_dbd's defaults: mod_dbd.c, DEFAULT_NMIN and so on. */
#define DEFAULT_MIN 1
#define DEFAULT_KEEP 2
#define DEFAULT_MAX 10

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
            {"DBDriver", &dbd->driver, NULL},    {"DBDParams", &dbd->params, NULL},
            {"DBDExptime", &dbd->exptime, NULL}, {"DBDPersist", &dbd->persist, NULL},
            {"DBDMin", NULL, &dbd->min},         {"DBDKeep", NULL, &dbd->keep},
            {"DBDMax", NULL, &dbd->max},
        };

        for (size_t i = 0; i < sizeof(directives) / sizeof(directives[0]); i++) {
            if (ap_cstr_casecmp(node->directive, directives[i].name) == 0) {
                const char *value = ap_getword_conf(pool, &args);

                if (directives[i].text) {
                    *directives[i].text = value;
                }
                else {
                    *directives[i].number = atoi(value);
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

reg_dbd_t reg_dbd_settings(apr_pool_t *pool, const server_rec *server)
{
    reg_dbd_t dbd = {.min = DEFAULT_MIN, .keep = DEFAULT_KEEP, .max = DEFAULT_MAX};

    read_section(pool, ap_conftree, &dbd);
    for (const ap_directive_t *node = ap_conftree; node; node = node->next) {
        if (is_host(node, server)) {
            read_section(pool, node->first_child, &dbd);
        }
    }
    return dbd;
}

const char *reg_dbd_key(apr_pool_t *pool, const reg_dbd_t *dbd)
{
    return apr_psprintf(pool, "%s|%s|%d|%d|%d|%s", dbd->driver, dbd->params, dbd->min,
                        dbd->keep, dbd->max, dbd->exptime ? dbd->exptime : "");
}

/* Seconds that libpq may take to give up connecting to all the hosts of a connection
 * string; 0 when it may take for ever; -1 when it is no connection string. */
static int connect_time(const char *params)
{
    PQconninfoOption *options = PQconninfoParse(params, NULL);
    int timeout = 0, hosts = 1;

    if (!options) {
        return -1;
    }
    for (PQconninfoOption *o = options; o->keyword; o++) {
        if (o->val && strcmp(o->keyword, "connect_timeout") == 0) {
            timeout = atoi(o->val);
            timeout = timeout == 1 ? 2 : timeout; /* as libpq takes it */
        }
        if (o->val && strcmp(o->keyword, "host") == 0) {
            for (const char *p = o->val; *p; p++) {
                hosts += *p == ',';
            }
        }
    }
    PQconninfoFree(options);
    return timeout > 0 ? timeout * hosts : 0;
}

const char *reg_dbd_fault(apr_pool_t *pool, const reg_dbd_t *dbd, int connections,
                          apr_interval_time_t timeout)
{
    int seconds;

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
    seconds = connect_time(dbd->params);
    if (seconds < 0) {
        return "DBDParams is not a PostgreSQL connection string";
    }
    if (apr_time_from_sec(seconds) >= timeout) {
        return apr_psprintf(
            pool,
            "RegistrationTimeout must be longer than connect_timeout times "
            "the hosts of DBDParams, which is %d s",
            seconds);
    }
    return NULL;
}
