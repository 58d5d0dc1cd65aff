/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include "batching.h"
#include "cache.h"
#include "dbd.h"
#include "limiter.h"
#include "metrics_memory.h"
#include "outcomes.h"
#include "trace.h"
#include "turn.h"

#include <apr_dbd.h>
#include <apr_hash.h>
#include <apr_optional.h>
#include <apr_shm.h>
#include <apr_strings.h>
#include <ap_mpm.h>
#include <http_log.h>
#include <mod_dbd.h>
#include <sys/param.h>

APLOG_USE_MODULE(registration);

#define DEFAULT_DEADLINE apr_time_from_sec(5)
#define DEFAULT_BATCH_SIZE 64

/* The default of RegistrationSearches is this part of the connections, as searches also
 * take processor time. */
#define SEARCHES_PART 8

/* The key of the pooled_t in the pool of a connection. */
#define CONNECTION_KEY "mod_registration"

static APR_OPTIONAL_FN_TYPE(ap_dbd_open) * dbd_open;
static APR_OPTIONAL_FN_TYPE(ap_dbd_close) * dbd_close;

/* The turns of all virtual hosts; NULL: there are none. */
static reg_turn_t *turns;

/* A connection of mod_dbd, and the state that src/database keeps for it. */
typedef struct {
    reg_connection_t connection; /* first: checkin() gets this */
    ap_dbd_t *dbd;
    apr_time_t used_at; /* when it was last checked in */
} pooled_t;

/* The number of threads of a child process. Each may hold a connection for another
 * module.
 */
static int count_threads(void)
{
    int threads = 0;

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    return MAX(threads, 1);
}

/* Sets the default of RegistrationConnections. @return the error if this module and
 * another one would wait for each other's connections; NULL if there are enough for both.
 */
static const char *check_sharing(apr_pool_t *pool, server_rec *server,
                                 const server_rec *main_server, const reg_dbd_t *dbd)
{
    reg_server_conf_t *conf = reg_server_conf(server);
    const ap_directive_t *other = reg_dbd_other_user(pool, server, main_server);
    int threads = other ? count_threads() : 0;

    if (conf->connections < 0) {
        conf->connections = MAX(dbd->max - threads, 1);
    }
    if (!other || dbd->max >= threads + conf->connections) {
        return NULL;
    }
    return apr_psprintf(
        pool,
        "%s (%s:%d) uses the connections of RegistrationAPI too, one for each request, "
        "and DBDMax %d is less than ThreadsPerChild %d plus RegistrationConnections %d; "
        "write: DBDMax %d, or give the APIs a virtual host with DBDParams of its own",
        other->directive, other->filename, other->line_num, dbd->max, threads,
        conf->connections, threads + conf->connections);
}

/* Sets the default of RegistrationSearches. @return the error if it is more than
 * RegistrationConnections, or NULL. */
static const char *check_searches(apr_pool_t *pool, reg_server_conf_t *conf)
{
    if (conf->searches < 0) {
        conf->searches = MAX(conf->connections / SEARCHES_PART, 1);
    }
    return conf->searches <= conf->connections
               ? NULL
               : apr_psprintf(pool,
                              "RegistrationSearches is %d, which is more than "
                              "RegistrationConnections, %d",
                              conf->searches, conf->connections);
}

/* As many turns as possible, so that only batches for the same row wait for each other.
 * None with prefork, whose batches do not grow meanwhile. */
static int default_turns(void)
{
    return count_threads() > 1 ? REG_MOST_TURNS : 0;
}

/* Makes the turns anew after each reading of the configuration: child processes of a
 * generation share them. */
static void make_turns(apr_pool_t *pool, server_rec *main_server)
{
    apr_shm_t *memory;
    apr_status_t rv = apr_shm_create(&memory, reg_turns_size(), NULL, pool);

    turns = rv == APR_SUCCESS ? reg_turns_make(apr_shm_baseaddr_get(memory)) : NULL;
    if (!turns) {
        ap_log_error(
            APLOG_MARK, APLOG_WARNING, rv, main_server,
            "REG0112: cannot create shared mutexes; RegistrationTurns is off until "
            "httpd is restarted");
    }
}

/* Sets the defaults of a server. @return the error of its configuration, or NULL. */
static const char *configure_server(apr_pool_t *pool, server_rec *server,
                                    const server_rec *main_server)
{
    reg_server_conf_t *conf = reg_server_conf(server);
    const reg_dbd_t dbd = reg_dbd_settings(pool, server);
    const char *fault;

    if (!dbd_open || !dbd_close) {
        return "RegistrationAPI needs mod_dbd; write: LoadModule dbd_module "
               "modules/mod_dbd.so, or on Debian: a2enmod dbd";
    }
    if (conf->timeout < 0) {
        conf->timeout = DEFAULT_DEADLINE;
    }
    if (conf->batch_size < 0) {
        conf->batch_size = DEFAULT_BATCH_SIZE;
    }
    if (conf->turns < 0) {
        conf->turns = default_turns();
    }
    fault = reg_dbd_fault(pool, &dbd, conf->connections, conf->timeout);
    if (fault) {
        return fault;
    }
    conf->expires = apr_time_from_sec(dbd.exptime);
    conf->pool_key = reg_dbd_key(pool, &dbd);
    fault = check_sharing(pool, server, main_server, &dbd);
    return fault ? fault : check_searches(pool, conf);
}

int reg_pool_configure(apr_pool_t *pool, server_rec *main_server)
{
    int needs_turns = 0;

    dbd_open = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_open);
    dbd_close = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_close);
    for (server_rec *s = main_server; s; s = s->next) {
        const char *fault = reg_server_conf(s)->needs_database
                                ? configure_server(pool, s, main_server)
                                : NULL;

        if (fault) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, "REG0101: %s", fault);
            return HTTP_INTERNAL_SERVER_ERROR;
        }
        needs_turns |=
            reg_server_conf(s)->needs_database && reg_server_conf(s)->turns > 0;
    }
    turns = NULL;
    if (needs_turns) {
        make_turns(pool, main_server);
    }
    return OK;
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

/* The pooled_t of a connection, made for its first use; NULL if the driver is not
 * PostgreSQL's. */
static pooled_t *get_pooled(ap_dbd_t *dbd, reg_metrics_t *metrics)
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

/*
 * Connecting, in the limiter's thread
 */

/* The reason why a connection cannot be used; NULL if it can be used. */
static const char *find_fault(apr_pool_t *pool, server_rec *server, pooled_t *p)
{
    apr_time_t deadline = apr_time_now() + reg_server_conf(server)->timeout;

    if (p && reg_connection_refresh(&p->connection)) {
        const char *mismatch =
            reg_connection_schema_mismatch(&p->connection, pool, deadline);

        if (mismatch) {
            return apr_pstrcat(pool, "REG0311: ", mismatch, NULL);
        }
        if (reg_connection_is_usable(&p->connection)) {
            return NULL;
        }
    }
    return "REG0302: cannot connect to the database";
}

/* Opens a connection, or reconnects a broken one. */
static void *connect_pooled(void *baton, void *broken)
{
    server_rec *server = baton;
    pooled_t *p = broken;
    const char *fault;
    apr_pool_t *pool;

    apr_pool_create(&pool, NULL);
    if (!p) {
        ap_dbd_t *dbd = dbd_open(pool, server);

        p = dbd ? get_pooled(dbd, reg_metrics(server)) : NULL;
    }
    fault = find_fault(pool, server, p);
    if (fault) {
        if (p && !broken) {
            dbd_close(server, p->dbd);
        }
        reg_metrics_breaker(reg_metrics(server), apr_time_now() + REG_BREAKER_OPEN_TIME);
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, server,
                     "%s; circuit breaker open for a second, requests are answered 503",
                     fault);
    }
    else {
        p->used_at = apr_time_now();
    }
    apr_pool_destroy(pool);
    return fault ? NULL : p;
}

static void close_pooled(void *baton, void *connection)
{
    dbd_close(baton, ((pooled_t *)connection)->dbd);
}

static apr_status_t stop_limiter(void *limiter)
{
    reg_limiter_stop(limiter);
    return APR_SUCCESS;
}

/* Makes the limiter of a connection pool. It is stopped before mod_dbd destroys the pool,
 * which must not happen while a connection is open. */
static reg_limiter_t *make_limiter(apr_pool_t *pool, server_rec *server)
{
    const reg_connector_t connector = {connect_pooled, close_pooled, server};
    reg_limiter_t *limiter =
        reg_limiter_make(pool, reg_server_conf(server)->connections, &connector);

    if (limiter) {
        apr_pool_pre_cleanup_register(pool, limiter, stop_limiter);
    }
    return limiter;
}

void reg_pool_init(apr_pool_t *pool, server_rec *main_server)
{
    apr_hash_t *limiters = apr_hash_make(pool);     /* by the key of the pool */
    apr_hash_t *all_searches = apr_hash_make(pool); /* likewise; of searches */

    for (server_rec *s = main_server; s; s = s->next) {
        reg_server_conf_t *conf = reg_server_conf(s);
        reg_semaphore_t *searches;
        reg_turns_t host_turns;

        if (!conf->needs_database) {
            continue;
        }
        conf->limiter = apr_hash_get(limiters, conf->pool_key, APR_HASH_KEY_STRING);
        if (!conf->limiter) {
            conf->limiter = make_limiter(pool, s);
            apr_hash_set(limiters, conf->pool_key, APR_HASH_KEY_STRING, conf->limiter);
        }
        conf->cache = reg_cache_make(pool);
        searches = apr_hash_get(all_searches, conf->pool_key, APR_HASH_KEY_STRING);
        if (!searches) {
            searches = reg_semaphore_make(pool, conf->searches);
            apr_hash_set(all_searches, conf->pool_key, APR_HASH_KEY_STRING, searches);
        }
        host_turns = reg_turns_of_host(turns, conf->turns, conf->pool_key);
        conf->batching = reg_batching_make(pool, conf->batch_size, searches, &host_turns);
        if (conf->limiter && conf->batching && searches) {
            reg_limiter_limit(conf->limiter, conf->connections);
            reg_semaphore_limit(searches, conf->searches);
        }
        else {
            ap_log_error(
                APLOG_MARK, APLOG_CRIT, 0, s,
                "REG0102: cannot create a mutex; the APIs answer 503 until httpd is "
                "restarted");
        }
    }
}

/*
 * Calls
 */

/* Whether a connection can be used. A connection that was idle for longer than DBDExptime
 * is closed, and so reconnected. */
static int is_usable(const reg_server_conf_t *conf, pooled_t *p)
{
    if (conf->expires && apr_time_now() - p->used_at >= conf->expires) {
        reg_connection_close(&p->connection);
    }
    return reg_connection_is_usable(&p->connection);
}

/* Counts and logs a failed checkout. */
static void report_refusal(request_rec *r, reg_limiter_refusal_t refusal)
{
    static const char unreachable[] =
        "REG0301: no connection to the database, circuit breaker open or connecting "
        "failed; returning 503";
    static const struct {
        reg_refusal_t counted;
        int level;
        const char *message;
    } refusals[] = {
        [REG_LIMITER_OPEN_BREAKER] = {REG_REFUSED_BREAKER, APLOG_INFO, unreachable},
        [REG_LIMITER_FAILED] = {REG_REFUSED_UNREACHABLE, APLOG_INFO, unreachable},
        [REG_LIMITER_BUSY] = {REG_REFUSED_BUSY, APLOG_WARNING,
                              "REG0304: all RegistrationConnections are in use until the "
                              "deadline; returning 503"},
        [REG_LIMITER_CONNECTING] =
            {REG_REFUSED_UNREACHABLE, APLOG_WARNING,
             "REG0312: an attempt to connect did not finish before "
             "the deadline; returning 503"},
    };

    reg_metrics_refused(reg_metrics(r->server), refusals[refusal].counted);
    ap_log_rerror(APLOG_MARK, refusals[refusal].level, 0, r, "%s",
                  refusals[refusal].message);
}

static reg_connection_t *checkout(void *baton, apr_time_t deadline)
{
    request_rec *r = baton;
    const reg_server_conf_t *conf = reg_server_conf(r->server);
    reg_limiter_refusal_t refusal;
    pooled_t *p = reg_limiter_enter(conf->limiter, deadline, &refusal);

    while (p && !is_usable(conf, p)) {
        reg_limiter_leave(conf->limiter, p, 0);
        p = reg_limiter_enter(conf->limiter, deadline, &refusal);
    }
    if (!p) {
        report_refusal(r, refusal);
        return NULL;
    }
    reg_metrics_change(reg_metrics(r->server), REG_CONNECTIONS_IN_USE, 1);
    return &p->connection;
}

static void checkin(void *baton, reg_connection_t *connection)
{
    request_rec *r = baton;
    pooled_t *p = (pooled_t *)connection;

    reg_metrics_change(reg_metrics(r->server), REG_CONNECTIONS_IN_USE, -1);
    p->used_at = apr_time_now();
    reg_limiter_leave(reg_server_conf(r->server)->limiter, p,
                      reg_connection_is_usable(connection));
}

static void report(void *baton, const char *message)
{
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, (request_rec *)baton, "%s", message);
}

static void trace_step(void *baton, const char *operation, const char *step)
{
    ap_log_rerror(APLOG_MARK, APLOG_TRACE1, 0, (request_rec *)baton,
                  "REG0502: operation %s: %s", operation, step);
}

apr_time_t reg_pool_deadline(reg_request_t *request)
{
    const request_rec *r = request->host_data;

    if (!request->deadline) {
        request->deadline = apr_time_now() + reg_server_conf(r->server)->timeout;
    }
    return request->deadline;
}

void reg_pool_run_operation(reg_request_t *request, const reg_operation_t *operation,
                            const char *const *values, reg_answer_t *answer)
{
    request_rec *r = request->host_data;
    const reg_server_conf_t *conf = reg_server_conf(r->server);
    const reg_connections_t connections = {checkout,
                                           checkin,
                                           report,
                                           r,
                                           reg_metrics(r->server),
                                           APLOG_R_IS_LEVEL(r, APLOG_TRACE1) ? trace_step
                                                                             : NULL};
    reg_item_t item = {.values = values, .pool = request->pool};

    if (!conf->batching || !conf->limiter) {
        answer->outcome = REG_UNAVAILABLE;
        return;
    }
    if (reg_cache_get(conf->cache, request->pool, operation, answer)) {
        request->outcome = reg_outcome_name(answer->outcome);
        return;
    }
    reg_batching_run(conf->batching, &connections, request->pool, operation, &item,
                     reg_pool_deadline(request));
    *answer = item.answer;
    reg_cache_put(conf->cache, operation, answer);
    request->outcome = reg_outcome_name(item.answer.outcome);
    reg_trace_add(&request->stats, &item.stats);
}
