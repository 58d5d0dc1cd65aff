/* SPDX-License-Identifier: Apache-2.0 */
#include "request_metrics.h"

#include "metrics_memory.h"
#include "request.h"
#include "routes.h"
#include "trace.h"

#include <apr_strings.h>
#include <http_log.h>
#include <http_protocol.h>

APLOG_USE_MODULE(registration);

/* Sets the notes for a LogFormat, %{registration-…}n. */
static void set_notes(request_rec *r, const reg_request_t *request)
{
    if (request->route) {
        apr_table_setn(r->notes, "registration-operation", request->route->operation);
    }
    if (request->outcome) {
        apr_table_setn(r->notes, "registration-outcome", request->outcome);
        apr_table_setn(r->notes, "registration-batch",
                       apr_itoa(r->pool, request->stats.batch));
        apr_table_setn(r->notes, "registration-dbtime",
                       apr_psprintf(r->pool, "%" APR_TIME_T_FMT, request->stats.took));
    }
}

/* Logs how a request was answered: counts and times, no data of the request. */
static void log_answer(request_rec *r, const reg_request_t *request, int status,
                       apr_interval_time_t total)
{
    const reg_call_stats_t *stats = &request->stats;

    if (!APLOG_R_IS_LEVEL(r, APLOG_DEBUG)) {
        return;
    }
    ap_log_rerror(APLOG_MARK, APLOG_DEBUG, 0, r,
                  "REG0501: request answered: operation=%s status=%d outcome=%s batch=%d "
                  "backend=%d retries=%d reasons=%s queued=%" APR_TIME_T_FMT
                  "us connecting=%" APR_TIME_T_FMT "us executing=%" APR_TIME_T_FMT
                  "us total=%" APR_TIME_T_FMT "us",
                  request->route ? request->route->operation : "none", status,
                  request->outcome ? request->outcome : "none", stats->batch,
                  stats->backend, stats->retries,
                  stats->retries ? reg_trace_reasons(r->pool, stats->retry_reasons)
                                 : "none",
                  stats->queued, stats->connecting, stats->executing, total);
}

/* The request that was served; made anew if httpd refused it before the handler. */
static const reg_request_t *get_request(request_rec *r, const reg_dir_conf_t *conf)
{
    reg_request_t *request = reg_request_attached(r);

    if (!request) {
        request = reg_request_make(r, conf);
        request->route = reg_route_find(request);
    }
    return request;
}

static int count_request(request_rec *r)
{
    const reg_dir_conf_t *conf = reg_dir_conf(r);
    request_rec *answering = r;
    const reg_request_t *request;
    apr_interval_time_t total;

    if (conf->api < 0) {
        return DECLINED;
    }
    while (answering->next) { /* to the request of an ErrorDocument */
        answering = answering->next;
    }
    request = get_request(r, conf);
    set_notes(answering, request); /* mod_log_config reads them there */
    total = apr_time_now() - r->request_time;
    reg_metrics_request(reg_metrics(r->server), reg_route_operation(request->route),
                        answering->status, total);
    log_answer(r, request, answering->status, total);
    return OK;
}

void reg_request_metrics_register(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_log_transaction(count_request, NULL, NULL, APR_HOOK_FIRST);
}
