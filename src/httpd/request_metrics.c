/* SPDX-License-Identifier: Apache-2.0 */
#include "request_metrics.h"

#include "metrics_memory.h"
#include "request.h"
#include "routes.h"

#include <apr_strings.h>
#include <http_protocol.h>

/* What a log may want to tell of a request, as %{registration-…}n. */
static void note(request_rec *r, const reg_request_t *request)
{
    if (request->route) {
        apr_table_setn(r->notes, "registration-operation", request->route->operation);
    }
    if (request->outcome) {
        apr_table_setn(r->notes, "registration-outcome", request->outcome);
        apr_table_setn(r->notes, "registration-batch", apr_itoa(r->pool, request->batch));
        apr_table_setn(r->notes, "registration-dbtime", apr_ltoa(r->pool, request->took));
    }
}

/* The request as it was served; one that was refused before is looked at now. */
static const reg_request_t *request_of(request_rec *r, const reg_dir_conf_t *conf)
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

    if (conf->api < 0) {
        return DECLINED;
    }
    while (answering->next) { /* an ErrorDocument is another request */
        answering = answering->next;
    }
    request = request_of(r, conf);
    note(answering, request); /* mod_log_config looks there */
    reg_metrics_request(reg_metrics(r->server), reg_route_operation(request->route),
                        answering->status, apr_time_now() - r->request_time);
    return OK;
}

void reg_request_metrics_register(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_log_transaction(count_request, NULL, NULL, APR_HOOK_FIRST);
}
