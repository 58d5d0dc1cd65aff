/* SPDX-License-Identifier: Apache-2.0 */
#include "serve.h"

#include "json.h"
#include "negotiate.h"
#include "reply.h"
#include "routes.h"

#include <apr_cstr.h>
#include <string.h>

/* Whether a media type, without its parameters, is JSON: application/json or any +json
 * (RFC 6839, section 3.1). A missing media type counts as JSON. */
static int is_json(const char *content_type)
{
    apr_size_t length;

    if (!content_type) {
        return 1;
    }
    content_type += strspn(content_type, " \t");
    length = strcspn(content_type, "; \t");
    return length == 0
           || (length == 16
               && apr_cstr_casecmpn(content_type, "application/json", 16) == 0)
           || (length > 5 && memchr(content_type, '/', length)
               && apr_cstr_casecmpn(content_type + length - 5, "+json", 5) == 0);
}

/* Reads and parses the body of a POST or PUT. @return the refusal; NULL on success. */
static reg_reply_t *read_json(reg_request_t *request)
{
    const char *where;
    int status;

    if (request->has_body && !is_json(request->content_type)) {
        return reg_reply_status(request, 415);
    }
    status = request->host->read_body(request);
    if (status == 415) {
        return reg_reply_encoded(request);
    }
    if (status) {
        return status < 0 ? reg_reply(request, status, NULL)
                          : reg_reply_status(request, status);
    }
    request->json =
        reg_json_parse(request->pool, request->body, request->body_length, &where);
    if (request->json) {
        return NULL;
    }
    return where ? reg_reply_not_json(request, where) : reg_reply_status(request, 503);
}

/* The reply to a request without a route: 404, 405, or 204 with Allow for OPTIONS. */
static reg_reply_t *refuse_method(reg_request_t *request)
{
    const char *allow = reg_route_allow(request);
    reg_reply_t *reply;

    if (!allow) {
        return reg_reply_status(request, 404);
    }
    if (request->method != REG_METHOD_OPTIONS) {
        return reg_reply_status(request, 405);
    }
    reply = reg_reply(request, 204, NULL);
    apr_table_setn(reply->headers, "Allow", allow);
    return reply;
}

/* Removes the body of a success if the client prefers that (RFC 7240, section 4.2). The
 * entity tag remains that of the body. There is no Vary, as no cache stores an answer to
 * a POST or a PUT. */
static reg_reply_t *apply_prefer(const reg_request_t *request, reg_reply_t *reply)
{
    if (reply->status < 200 || reply->status >= 300
        || !reg_prefer_minimal(request->prefer)) {
        return reply;
    }
    if (reply->status == 200) {
        reply->status = 204;
    }
    reply->body = NULL;
    apr_table_setn(reply->headers, "Preference-Applied", "return=minimal");
    return reply;
}

reg_reply_t *reg_serve(reg_request_t *request)
{
    const reg_route_t *route = reg_route_find(request);
    reg_reply_t *refusal;

    request->route = route;
    if (!route) {
        return refuse_method(request);
    }
    if (request->method != REG_METHOD_POST && request->method != REG_METHOD_PUT) {
        return route->handler(request);
    }
    refusal = read_json(request);
    return refusal ? refusal : apply_prefer(request, route->handler(request));
}
