/* SPDX-License-Identifier: Apache-2.0 */

/* What those who operate the service ask for: metrics, and whether it is well. */

#include "metrics.h"
#include "reply.h"
#include "routes.h"

/* What is true now. */
static reg_reply_t *tell(reg_request_t *request, const char *body)
{
    reg_reply_t *reply = reg_reply(request, 200, body);

    apr_table_setn(reply->headers, "Cache-Control", "no-store");
    return reply;
}

reg_reply_t *reg_operate_metrics(reg_request_t *request)
{
    reg_reply_t *reply =
        tell(request, reg_metrics_text(request->pool, request->metrics,
                                       reg_route_operations(request->pool)));

    reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    return reply;
}

reg_reply_t *reg_operate_live(reg_request_t *request)
{
    return tell(request, "{\"status\":\"live\"}");
}

static const reg_operation_t health = {.name = "health", .parameters = 1};

reg_reply_t *reg_operate_ready(reg_request_t *request)
{
    static const reg_error_t not_ready = {
        .status = 503,
        .message = "The database cannot be reached or written to, or it is not "
                   "installed for this module."};
    const char *values[] = {""};
    reg_answer_t answer;

    request->host->call(request, &health, values, &answer);
    return answer.outcome == REG_FOUND ? tell(request, "{\"status\":\"ready\"}")
                                       : reg_reply_error(request, &not_ready);
}
