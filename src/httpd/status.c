/* SPDX-License-Identifier: Apache-2.0 */
#include "status.h"

#include "metrics_memory.h"
#include "routes.h"

#include <apr_optional_hooks.h>
#include <http_protocol.h>
#include <mod_status.h>

/* The sums of all operations, as lines for programs (?auto). */
static void print_lines(request_rec *r, const reg_metrics_t *metrics,
                        const char *const *names, const reg_metrics_now_t *now)
{
    reg_metrics_line_t all = {0, 0, 0, 0};

    for (int i = 0; names[i]; i++) {
        reg_metrics_line_t line = reg_metrics_line(metrics, i);

        all.requests += line.requests;
        all.refused += line.refused;
        all.failed += line.failed;
    }
    ap_rprintf(r,
               "RegistrationRequests: %" APR_UINT64_T_FMT "\n"
               "RegistrationRefused: %" APR_UINT64_T_FMT "\n"
               "RegistrationFailed: %" APR_UINT64_T_FMT "\n"
               "RegistrationBatches: %" APR_UINT64_T_FMT "\n"
               "RegistrationBatched: %" APR_UINT64_T_FMT "\n"
               "RegistrationQueued: %" APR_INT64_T_FMT "\n"
               "RegistrationConnections: %" APR_INT64_T_FMT "\n"
               "RegistrationConnectionsInUse: %" APR_INT64_T_FMT "\n"
               "RegistrationBreakersOpen: %" APR_INT64_T_FMT "\n",
               all.requests, all.refused, all.failed, now->batches, now->batched,
               now->gauges[REG_REQUESTS_QUEUED], now->gauges[REG_CONNECTIONS_OPEN],
               now->gauges[REG_CONNECTIONS_IN_USE], now->gauges[REG_BREAKERS_OPEN]);
}

/* A table for the page. It contains no text of a request, so nothing is escaped. */
static void print_table(request_rec *r, const reg_metrics_t *metrics,
                        const char *const *names, const reg_metrics_now_t *now)
{
    ap_rprintf(r,
               "<hr>\n<h2>mod_registration</h2>\n<p>%" APR_INT64_T_FMT
               " of %" APR_INT64_T_FMT " database connections in use, %" APR_INT64_T_FMT
               " requests waiting, %" APR_UINT64_T_FMT
               " requests carried in %" APR_UINT64_T_FMT
               " calls, the breaker open in %" APR_INT64_T_FMT " of %" APR_INT64_T_FMT
               " child processes.</p>\n"
               "<table border=\"0\"><tr><th>Operation</th><th>Requests</th><th>4xx</th>"
               "<th>5xx</th><th>Mean ms</th></tr>\n",
               now->gauges[REG_CONNECTIONS_IN_USE], now->gauges[REG_CONNECTIONS_OPEN],
               now->gauges[REG_REQUESTS_QUEUED], now->batched, now->batches,
               now->gauges[REG_BREAKERS_OPEN], now->gauges[REG_PROCESSES]);
    for (int i = 0; names[i]; i++) {
        reg_metrics_line_t line = reg_metrics_line(metrics, i);

        if (line.requests) {
            ap_rprintf(r,
                       "<tr><td>%s</td><td>%" APR_UINT64_T_FMT
                       "</td><td>%" APR_UINT64_T_FMT "</td><td>%" APR_UINT64_T_FMT
                       "</td><td>%.1f</td></tr>\n",
                       names[i], line.requests, line.refused, line.failed,
                       (double)line.mean / 1000);
        }
    }
    ap_rputs("</table>\n", r);
}

static int add_to_status(request_rec *r, int flags)
{
    const reg_metrics_t *metrics = reg_metrics(r->server);
    const char *const *names = reg_route_operations(r->pool);
    reg_metrics_now_t now;

    if (!metrics) {
        return OK;
    }
    now = reg_metrics_now(metrics);
    if (flags & AP_STATUS_SHORT) {
        print_lines(r, metrics, names, &now);
    }
    else {
        print_table(r, metrics, names, &now);
    }
    return OK;
}

void reg_status_register(apr_pool_t *pool)
{
    (void)pool;
    APR_OPTIONAL_HOOK(ap, status_hook, add_to_status, NULL, NULL, APR_HOOK_MIDDLE);
}
