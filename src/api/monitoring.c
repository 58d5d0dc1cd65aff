/* SPDX-License-Identifier: Apache-2.0 */

/* Metrics, health checks and the status page. */

#include "call.h"
#include "embed.h"
#include "metrics.h"
#include "reply.h"
#include "routes.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <string.h>

/* Makes a 200 with Cache-Control: no-store. */
static reg_reply_t *reply_uncached(reg_request_t *request, const char *body)
{
    reg_reply_t *reply = reg_reply(request, 200, body);

    apr_table_setn(reply->headers, "Cache-Control", "no-store");
    return reply;
}

reg_reply_t *reg_monitoring_metrics(reg_request_t *request)
{
    reg_reply_t *reply =
        reply_uncached(request, reg_metrics_text(request->pool, request->metrics,
                                                 reg_route_operations(request->pool)));

    reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    return reply;
}

reg_reply_t *reg_monitoring_live(reg_request_t *request)
{
    return reply_uncached(request, "{\"status\":\"live\"}");
}

static const reg_error_t not_ready = {
    .status = 503,
    .message = "The database cannot be reached or written to, or it is not installed for "
               "this module."};

static const reg_operation_t health = {.name = "health", .parameters = 1};

reg_reply_t *reg_monitoring_ready(reg_request_t *request)
{
    const char *values[] = {""};
    reg_answer_t answer;

    reg_call(request, &health, values, &answer);
    return answer.outcome == REG_FOUND ? reply_uncached(request, "{\"status\":\"ready\"}")
                                       : reg_reply_error(request, &not_ready);
}

REG_EMBED(reg_status_page, "src/api/status.html");

/* The placeholder in the file for the nonce, which permits the page's own style and
 * script (Content-Security-Policy). */
#define NONCE "00000000000000000000000000000000"
#define NONCE_LENGTH (sizeof(NONCE) - 1)

static const char *make_nonce(apr_pool_t *pool)
{
    unsigned char octets[NONCE_LENGTH / 2] = {0};
    char *nonce = apr_palloc(pool, NONCE_LENGTH + 1);

    apr_generate_random_bytes(octets, sizeof(octets));
    for (size_t i = 0; i < sizeof(octets); i++) {
        apr_snprintf(nonce + 2 * i, 3, "%02x", octets[i]);
    }
    return nonce;
}

static const char *fill_in_nonce(apr_pool_t *pool, const char *nonce)
{
    char *page = apr_pstrdup(pool, reg_status_page);

    for (char *p = page; (p = strstr(p, NONCE)) != NULL; p += NONCE_LENGTH) {
        memcpy(p, nonce, NONCE_LENGTH);
    }
    return page;
}

reg_reply_t *reg_monitoring_status(reg_request_t *request)
{
    const char *nonce = make_nonce(request->pool);
    reg_reply_t *reply = reply_uncached(request, fill_in_nonce(request->pool, nonce));

    reply->content_type = "text/html; charset=utf-8";
    apr_table_setn(reply->headers, "Content-Security-Policy",
                   apr_psprintf(request->pool,
                                "default-src 'none'; style-src 'nonce-%s'; "
                                "script-src 'nonce-%s'; connect-src 'self'; "
                                "base-uri 'none'; form-action 'none'; "
                                "frame-ancestors 'none'",
                                nonce, nonce));
    apr_table_setn(reply->headers, "X-Content-Type-Options", "nosniff");
    apr_table_setn(reply->headers, "Referrer-Policy", "no-referrer");
    return reply;
}

/* It scans two tables. The TTL is the interval at which the page asks. */
static const reg_operation_t status_operation = {
    .name = "status", .parameters = 1, .cache_ttl = apr_time_from_sec(2)};

/* A 200 also while the database does not answer, when operators need the page most. */
reg_reply_t *reg_monitoring_status_data(reg_request_t *request)
{
    const char *values[] = {""};
    reg_answer_t answer;

    reg_call(request, &status_operation, values, &answer);
    return reply_uncached(
        request,
        apr_pstrcat(request->pool, "{\"metrics\":",
                    reg_metrics_json(request->pool, request->metrics,
                                     reg_route_operations(request->pool)),
                    ",\"database\":", answer.outcome == REG_FOUND ? answer.body : "null",
                    "}", NULL));
}
