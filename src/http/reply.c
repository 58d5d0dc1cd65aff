/* SPDX-License-Identifier: Apache-2.0 */
#include "reply.h"

#include "json.h"
#include "routes.h"

#include <apr_strings.h>
#include <string.h>

/* The default texts for each status. `advice` tells the caller what to do; `code` is the
 * live API's "error". */
static const struct status_texts_t {
    int status;
    const char *reason; /* httpd's, in the status line */
    const char *code;
    const char *advice;
} status_texts[] = {
    {400, "Bad Request", "validation_error", "The request is malformed."},
    {401, "Unauthorized", "unauthenticated", "Authentication is required."},
    {402, "Payment Required", "payment_required", "This has to be paid for."},
    {403, "Forbidden", "forbidden", "You are not allowed to do this."},
    {404, "Not Found", "not_found", "There is nothing at this address."},
    {405, "Method Not Allowed", "method_not_allowed",
     "This address does not allow the method; the Allow header names those it does."},
    {406, "Not Acceptable", "not_acceptable", "There is nothing here but JSON."},
    {407, "Proxy Authentication Required", "proxy_unauthenticated",
     "The proxy requires authentication."},
    {408, "Request Timeout", "request_timeout", "The request did not arrive in time."},
    {409, "Conflict", "conflict", "The request conflicts with what is registered."},
    {410, "Gone", "gone", "What was at this address is gone."},
    {411, "Length Required", "length_required", "The request must state its length."},
    {412, "Precondition Failed", "precondition_failed", "A condition does not hold."},
    {413, "Request Entity Too Large", "payload_too_large",
     "The request body is too large."},
    {414, "Request-URI Too Long", "uri_too_long", "The address is too long."},
    {415, "Unsupported Media Type", "unsupported_media_type",
     "The request body must be application/json."},
    {416, "Requested Range Not Satisfiable", "range_not_satisfiable",
     "The answer has no such part."},
    {417, "Expectation Failed", "expectation_failed", "The expectation cannot be met."},
    {421, "Misdirected Request", "misdirected_request",
     "This server does not answer for the host on this connection."},
    {422, "Unprocessable Entity", "unprocessable_entity", "The request cannot be done."},
    {423, "Locked", "locked", "The resource at this address is locked."},
    {424, "Failed Dependency", "failed_dependency",
     "Another request failed on which this one depends."},
    {426, "Upgrade Required", "upgrade_required", "Another protocol is required."},
    {428, "Precondition Required", "precondition_required",
     "The request must be conditional."},
    {429, "Too Many Requests", "too_many_requests",
     "Too many requests; try again later."},
    {431, "Request Header Fields Too Large", "headers_too_large",
     "The request has too many header fields, or one that is too long."},
    {451, "Unavailable For Legal Reasons", "unavailable_for_legal_reasons",
     "This may not be shown, for legal reasons."},
    {500, "Internal Server Error", "internal_error",
     "The server made an error; it has been logged. Please try again later."},
    {501, "Not Implemented", "not_implemented",
     "The request needs what this server does not implement. It implements no other "
     "Transfer-Encoding than chunked."},
    {502, "Bad Gateway", "bad_gateway", "Please try again later."},
    {503, "Service Unavailable", "unavailable",
     "The request could not be answered. Please try again in a moment."},
    {504, "Gateway Timeout", "gateway_timeout", "Please try again later."},
    {505, "HTTP Version Not Supported", "http_version_not_supported",
     "The request's version of HTTP is not supported."},
    {506, "Variant Also Negotiates", "variant_also_negotiates",
     "Please try again later."},
    {507, "Insufficient Storage", "insufficient_storage", "Please try again later."},
    {508, "Loop Detected", "loop_detected", "Please try again later."},
    {510, "Not Extended", "not_extended", "The request lacks an extension."},
    {511, "Network Authentication Required", "network_authentication_required",
     "The network requires authentication."},
};

/* After a write that got no answer from the database, its outcome is unknown. */
static const char outcome_unknown[] =
    "The registration is not known to be done. Please try again in a moment.";

/* The texts for a status; those of 400 or 500 for a status that is not in the table. */
static const struct status_texts_t *find_texts(int status)
{
    for (size_t i = 0; i < sizeof(status_texts) / sizeof(status_texts[0]); i++) {
        if (status_texts[i].status == status) {
            return &status_texts[i];
        }
    }
    return find_texts(status < 500 ? 400 : 500);
}

static const char *choose_advice(const reg_request_t *request,
                                 const struct status_texts_t *texts)
{
    int writes = request->method == REG_METHOD_POST || request->method == REG_METHOD_PUT
                 || request->method == REG_METHOD_DELETE;

    return texts->status == 503 && writes ? outcome_unknown : texts->advice;
}

/* Adds "errors": [{"field", "message"}] if fields are invalid. */
static void set_problems(reg_json_t *body, const reg_request_t *request,
                         const reg_problems_t *problems)
{
    reg_json_t *list;

    if (!problems || !problems->list) {
        return;
    }
    list = reg_json_array(request->pool);
    for (int i = 0; i < problems->list->nelts; i++) {
        const reg_problem_t *problem = &APR_ARRAY_IDX(problems->list, i, reg_problem_t);
        reg_json_t *item = reg_json_object(request->pool);

        reg_json_set_string(item, "field", problem->field);
        reg_json_set_string(item, "message", problem->message);
        reg_json_append(list, item);
    }
    reg_json_set(body, "errors", list);
}

/* The invalid fields in one text: "role must be …; patient_id must not be empty". */
static const char *join_problems(const reg_request_t *request,
                                 const reg_problems_t *problems)
{
    const char *text = NULL;

    for (int i = 0; i < problems->list->nelts; i++) {
        const reg_problem_t *problem = &APR_ARRAY_IDX(problems->list, i, reg_problem_t);

        text = apr_pstrcat(request->pool, text ? text : "", text ? "; " : "",
                           problem->field, " ", problem->message, NULL);
    }
    return text;
}

typedef void envelope_t(const reg_request_t *request, const reg_error_t *error,
                        const struct status_texts_t *texts, reg_json_t *body);

static void live_envelope(const reg_request_t *request, const reg_error_t *error,
                          const struct status_texts_t *texts, reg_json_t *body)
{
    const char *message = error->message ? error->message : choose_advice(request, texts);

    if (error->problems && error->problems->list) {
        message = join_problems(request, error->problems);
    }
    reg_json_set_string(body, "error", error->code ? error->code : texts->code);
    reg_json_set_string(body, "message", message);
}

static void groups_envelope(const reg_request_t *request, const reg_error_t *error,
                            const struct status_texts_t *texts, reg_json_t *body)
{
    reg_json_set_integer(body, "status", error->status);
    reg_json_set_string(body, "message",
                        error->message ? error->message : choose_advice(request, texts));
    set_problems(body, request, error->problems);
}

/* The texts are those of the API's own service, for the statuses for which it has any. */
static void families_envelope(const reg_request_t *request, const reg_error_t *error,
                              const struct status_texts_t *texts, reg_json_t *body)
{
    const char *message = error->message;
    const char *description = error->description;

    if (!message) {
        message = texts->reason;
        description = choose_advice(request, texts);
        switch (error->status) {
        case 401:
            message = "UNAUTHORIZED";
            description = request->has_bearer_token
                              ? "Authentication failed due to access token issues."
                              : "Authentication failed for lack of authentication "
                                "credentials.";
            break;
        case 403:
            message = "FORBIDDEN";
            description = "Authorization failed due to insufficient permissions.";
            break;
        case 500:
            message = "An internal server error has occurred.";
            break;
        case 503:
            message = "Service unavailable.";
            break;
        default:
            break;
        }
    }
    reg_json_set_integer(body, "code", error->status);
    reg_json_set_string(body, "message", message);
    if (description) {
        reg_json_set_string(body, "description", description);
    }
    if (error->status == 401) {
        reg_json_set_string(body, "redirect_link", "/auth");
    }
}

static void events_envelope(const reg_request_t *request, const reg_error_t *error,
                            const struct status_texts_t *texts, reg_json_t *body)
{
    reg_json_set_integer(body, "statusCode", error->status);
    reg_json_set_string(body, "message",
                        error->message ? error->message : choose_advice(request, texts));
    reg_json_set_string(body, "error", texts->reason);
    set_problems(body, request, error->problems);
}

static envelope_t *const envelopes[REG_API_COUNT] = {
    [REG_API_LIVE] = live_envelope,     [REG_API_GROUPS] = groups_envelope,
    [REG_API_USERS] = groups_envelope,  [REG_API_FAMILIES] = families_envelope,
    [REG_API_EVENTS] = events_envelope, [REG_API_OPENAPI] = live_envelope,
    [REG_API_METRICS] = live_envelope,  [REG_API_HEALTH] = live_envelope,
    [REG_API_STATUS] = live_envelope,
};

const char *reg_reply_error_body(const reg_request_t *request, const reg_error_t *error)
{
    reg_json_t *body = reg_json_object(request->pool);

    envelopes[request->api](request, error, find_texts(error->status), body);
    return reg_json_text(request->pool, body);
}

const char *reg_reply_plain_body(apr_pool_t *pool, int status)
{
    return apr_pstrcat(pool, "{\"error\":\"", find_texts(status)->code,
                       "\",\"message\":\"", find_texts(status)->advice, "\"}", NULL);
}

const char *reg_reply_tls_only_body(void)
{
    return "{\"error\":\"validation_error\","
           "\"message\":\"This port takes TLS only: use https.\"}";
}

reg_reply_t *reg_reply(reg_request_t *request, int status, const char *body)
{
    reg_reply_t *reply = apr_pcalloc(request->pool, sizeof(*reply));

    reply->status = status;
    reply->body = body;
    reply->content_type = REG_CONTENT_TYPE;
    reply->headers = apr_table_make(request->pool, 4);
    return reply;
}

const char *reg_reply_retry_after(int status)
{
    switch (status) {
    case 429: /* A rate limit counts over seconds or minutes: one second is too short.
               */
        return "10";
    case 503:
        return "1";
    default:
        return NULL;
    }
}

reg_reply_t *reg_reply_error(reg_request_t *request, const reg_error_t *error)
{
    reg_reply_t *reply =
        reg_reply(request, error->status, reg_reply_error_body(request, error));
    const char *retry_after = reg_reply_retry_after(error->status);

    if (retry_after) {
        apr_table_setn(reply->headers, "Retry-After", retry_after);
    }
    if (error->status == 405) {
        apr_table_setn(reply->headers, "Allow", reg_route_allow(request));
    }
    return reply;
}

reg_reply_t *reg_reply_status(reg_request_t *request, int status)
{
    const reg_error_t error = {.status = status};

    return reg_reply_error(request, &error);
}

reg_reply_t *reg_reply_not_json(reg_request_t *request, const char *where)
{
    const reg_error_t families = {
        .status = 400,
        .message = "Unable to process request body.",
        .description = "Please verify that the JSON provided in the request body has a "
                       "valid format and try again."};
    const reg_error_t others = {
        .status = 400,
        .message = apr_psprintf(
            request->pool, "The request body is not a valid JSON object (%s).", where)};

    return reg_reply_error(request,
                           request->api == REG_API_FAMILIES ? &families : &others);
}

reg_reply_t *reg_reply_encoded(reg_request_t *request)
{
    const reg_error_t error = {
        .status = 415,
        .message = "The request body must not be encoded: its Content-Encoding must be "
                   "identity, or left out."};
    reg_reply_t *reply = reg_reply_error(request, &error);

    apr_table_setn(reply->headers, "Accept-Encoding", "identity");
    return reply;
}

reg_reply_t *reg_reply_problems(reg_request_t *request, const reg_error_t *invalid,
                                const reg_problems_t *problems)
{
    reg_error_t error = *invalid;

    error.problems = problems;
    return reg_reply_error(request, &error);
}

/* The error of every API for an outcome that has no rule. */
static reg_error_t find_common_error(const reg_request_t *request, reg_outcome_t outcome)
{
    int groups = request->api == REG_API_GROUPS || request->api == REG_API_USERS;

    switch (outcome) {
    case REG_KEY_INVALID:
        return (reg_error_t){.status = 400,
                             .message = "The Idempotency-Key must be 1 to 255 visible "
                                        "ASCII characters, quoted or not."};
    case REG_KEY_REUSED:
        return (reg_error_t){.status = 422,
                             .code = "idempotency_key_reused",
                             .message = "Another request was made under this "
                                        "Idempotency-Key."};
    case REG_BAD_DATA:
        return (reg_error_t){.status = groups ? 422 : 400};
    case REG_UNAVAILABLE:
        return (reg_error_t){.status = 503};
    default:
        return (reg_error_t){.status = 500};
    }
}

reg_reply_t *reg_reply_answer(reg_request_t *request, const reg_answer_t *answer,
                              const reg_rule_t *rules)
{
    const reg_error_t common = find_common_error(request, answer->outcome);

    for (; rules->error.status; rules++) {
        if (rules->outcome != answer->outcome) {
            continue;
        }
        if (rules->error.status >= 300) {
            return reg_reply_error(request, &rules->error);
        }
        /* An operation of another schema version may have no body. */
        return answer->body ? reg_reply(request, rules->error.status, answer->body)
                            : reg_reply_status(request, 500);
    }
    return reg_reply_error(request, &common);
}
