/* SPDX-License-Identifier: Apache-2.0 */
#include "httpd_pool.h"

#include "dispatch.h"
#include "gate.h"
#include "httpd_dbd.h"
#include "httpd_metrics.h"
#include "kept.h"

#include <apr_dbd.h>
#include <apr_hash.h>
#include <apr_optional.h>
#include <apr_strings.h>
#include <http_log.h>
#include <mod_dbd.h>

APLOG_USE_MODULE(registration);

#define DEFAULT_DEADLINE apr_time_from_sec(5)
#define DEFAULT_BATCH_SIZE 64

/* Calls of one operation at the same time. With more, batches are smaller, and those for
 * one session would only wait for each other. */
#define LANES 1

/* Key of what is kept with a connection of mod_dbd's, as long as it lives. */
#define CONNECTION_KEY "mod_registration"

static APR_OPTIONAL_FN_TYPE(ap_dbd_open) * dbd_open;
static APR_OPTIONAL_FN_TYPE(ap_dbd_close) * dbd_close;

/* A connection of mod_dbd's as the store sees it. */
typedef struct {
    reg_connection_t connection; /* first: the store hands it back as this */
    ap_dbd_t *dbd;
} pooled_t;

int reg_pool_configure(apr_pool_t *pool, server_rec *main_server)
{
    dbd_open = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_open);
    dbd_close = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_close);
    for (server_rec *s = main_server; s; s = s->next) {
        reg_server_conf_t *conf = reg_server_conf(s);
        const char *fault;
        reg_dbd_t dbd;

        if (!conf->needs_database) {
            continue;
        }
        dbd = reg_dbd_settings(pool, s);
        if (conf->timeout < 0) {
            conf->timeout = DEFAULT_DEADLINE;
        }
        fault = dbd_open && dbd_close
                    ? reg_dbd_fault(pool, &dbd, conf->connections, conf->timeout)
                    : "RegistrationAPI needs mod_dbd; write: LoadModule dbd_module "
                      "modules/mod_dbd.so, or on Debian: a2enmod dbd";
        if (fault) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, "REG0101: %s", fault);
            return HTTP_INTERNAL_SERVER_ERROR;
        }
        if (conf->connections < 0) {
            conf->connections = dbd.max;
        }
        if (conf->batch_size < 0) {
            conf->batch_size = DEFAULT_BATCH_SIZE;
        }
        conf->connect_time = reg_dbd_connect_time(&dbd);
        conf->pool_key = reg_dbd_key(pool, &dbd);
    }
    return OK;
}

void reg_pool_init(apr_pool_t *pool, server_rec *main_server)
{
    apr_hash_t *gates =
        apr_hash_make(pool); /* by the key of the pool they stand before */

    for (server_rec *s = main_server; s; s = s->next) {
        reg_server_conf_t *conf = reg_server_conf(s);

        if (!conf->needs_database) {
            continue;
        }
        conf->gate = apr_hash_get(gates, conf->pool_key, APR_HASH_KEY_STRING);
        if (!conf->gate) {
            conf->gate = reg_gate_make(pool, conf->connections);
            apr_hash_set(gates, conf->pool_key, APR_HASH_KEY_STRING, conf->gate);
        }
        conf->kept = reg_kept_make(pool);
        conf->dispatch = reg_dispatch_make(pool, conf->batch_size, LANES);
        if (conf->gate && conf->dispatch) {
            reg_gate_limit(conf->gate, conf->connections);
        }
        else {
            ap_log_error(APLOG_MARK, APLOG_CRIT, 0, s,
                         "REG0102: no mutex could be made; the APIs answer 503");
        }
    }
}

static apr_status_t count_closed(void *metrics)
{
    reg_metrics_change(metrics, REG_CONNECTIONS_OPEN, -1);
    return APR_SUCCESS;
}

static void count_open(apr_pool_t *pool, reg_metrics_t *metrics)
{
    reg_metrics_change(metrics, REG_CONNECTIONS_OPEN, 1);
    apr_pool_cleanup_register(pool, metrics, count_closed, apr_pool_cleanup_null);
}

/* What is kept with a connection, made when it is seen for the first time; NULL when the
 * driver is another than PostgreSQL's. */
static pooled_t *pooled(ap_dbd_t *dbd, reg_metrics_t *metrics)
{
    void *kept = NULL;
    pooled_t *p;

    if (strcmp(apr_dbd_name(dbd->driver), "pgsql") != 0) {
        return NULL;
    }
    apr_pool_userdata_get(&kept, CONNECTION_KEY, dbd->pool);
    if (kept) {
        return kept;
    }
    p = apr_pcalloc(dbd->pool, sizeof(*p));
    p->dbd = dbd;
    p->connection.pg = apr_dbd_native_handle(dbd->driver, dbd->handle);
    apr_pool_userdata_setn(p, CONNECTION_KEY, NULL, dbd->pool);
    count_open(dbd->pool, metrics);
    return p;
}

/* Opens a connection that works, or none and says why. */
static pooled_t *open_connection(request_rec *r, apr_time_t deadline)
{
    ap_dbd_t *dbd = dbd_open(r->pool, r->server);
    pooled_t *p = dbd ? pooled(dbd, reg_metrics(r->server)) : NULL;
    const char *misfit = NULL;

    if (p && reg_connection_refresh(&p->connection)) {
        misfit = reg_connection_misfit(&p->connection, r->pool, deadline);
        if (!misfit) {
            return p;
        }
    }
    if (dbd) {
        dbd_close(r->server, dbd);
    }
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "%s; trying again in a second",
                  misfit ? apr_pstrcat(r->pool, "REG0311: ", misfit, NULL)
                         : "REG0302: the database cannot be reached");
    return NULL;
}

static reg_connection_t *checkout(void *baton, apr_time_t deadline)
{
    request_rec *r = baton;
    const reg_server_conf_t *conf = reg_server_conf(r->server);
    /* Time is kept back for a connection that has to be made. */
    apr_time_t latest = deadline - conf->connect_time;
    reg_metrics_t *metrics = reg_metrics(r->server);
    reg_gate_t *gate = conf->gate;
    pooled_t *p;

    if (!gate || !reg_gate_enter(gate, latest)) {
        if (apr_time_now() < latest) {
            reg_metrics_refused(metrics, REG_REFUSED_BREAKER);
            ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                          "REG0301: the database could not be reached just now");
        }
        else {
            reg_metrics_refused(metrics, REG_REFUSED_BUSY);
            ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                          "REG0304: no connection was free in time, all "
                          "RegistrationConnections are in use");
        }
        return NULL;
    }
    p = open_connection(r, deadline);
    reg_gate_opened(gate, p != NULL);
    if (!p) {
        reg_metrics_refused(metrics, REG_REFUSED_UNREACHABLE);
        reg_metrics_breaker(metrics, apr_time_now() + REG_GATE_CLOSED_TIME);
        return NULL;
    }
    reg_metrics_change(metrics, REG_CONNECTIONS_IN_USE, 1);
    return &p->connection;
}

static void checkin(void *baton, reg_connection_t *connection)
{
    request_rec *r = baton;
    pooled_t *p = (pooled_t *)connection;

    reg_metrics_change(reg_metrics(r->server), REG_CONNECTIONS_IN_USE, -1);
    dbd_close(r->server, p->dbd);
    reg_gate_leave(reg_server_conf(r->server)->gate);
}

static void report(void *baton, const char *message)
{
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, (request_rec *)baton, "%s", message);
}

void reg_pool_call(reg_request_t *request, const reg_operation_t *operation,
                   const char *const *values, reg_answer_t *answer)
{
    request_rec *r = request->host_data;
    const reg_server_conf_t *conf = reg_server_conf(r->server);
    const reg_connections_t connections = {
        checkout, checkin, report, r, conf->connect_time, reg_metrics(r->server)};
    reg_item_t item = {.values = values, .pool = request->pool};

    if (!conf->dispatch) {
        answer->outcome = REG_UNAVAILABLE;
        return;
    }
    if (reg_kept_get(conf->kept, request->pool, operation, answer)) {
        request->outcome = reg_outcome_name(answer->outcome);
        return;
    }
    reg_dispatch_run(conf->dispatch, &connections, request->pool, operation, &item,
                     apr_time_now() + conf->timeout);
    *answer = item.answer;
    reg_kept_put(conf->kept, operation, answer);
    request->outcome = reg_outcome_name(item.answer.outcome);
    request->batch = item.batch;
    request->took = item.took;
}
