/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "json.h"
#include "reply.h"

static reg_request_t request_of(apr_pool_t *pool, reg_api_t api)
{
    return (reg_request_t){.pool = pool, .api = api, .path = ""};
}

static const char *row_of(apr_pool_t *pool, reg_api_t api, int status)
{
    return apr_psprintf(pool, "%s %d", reg_api_names[api], status);
}

/* A body with the value of `message` and `description`, which have no fixed words but
 * where they are fixed, made "…". */
static const char *outline(apr_pool_t *pool, const char *body)
{
    static const char *const keys[] = {"\"message\":\"", "\"description\":\""};

    for (size_t i = 0; i < LENGTH(keys); i++) {
        const char *value = strstr(body, keys[i]);

        if (value) {
            value += strlen(keys[i]);
            assert_true(*value != '"'); /* never empty */
            body = apr_pstrcat(pool, apr_pstrmemdup(pool, body, (size_t)(value - body)),
                               "\xE2\x80\xA6", strchr(value, '"'), NULL);
        }
    }
    return body;
}

/* What a status without words of its own looks like. */
static const struct {
    reg_api_t api;
    int status;
    const char *outline;
} outlines[] = {
    {REG_API_LIVE, 400, "{\"error\":\"validation_error\",\"message\":\"…\"}"},
    {REG_API_LIVE, 401, "{\"error\":\"unauthenticated\",\"message\":\"…\"}"},
    {REG_API_LIVE, 403, "{\"error\":\"forbidden\",\"message\":\"…\"}"},
    {REG_API_LIVE, 404, "{\"error\":\"not_found\",\"message\":\"…\"}"},
    {REG_API_LIVE, 409, "{\"error\":\"conflict\",\"message\":\"…\"}"},
    {REG_API_LIVE, 429, "{\"error\":\"too_many_requests\",\"message\":\"…\"}"},
    {REG_API_LIVE, 500, "{\"error\":\"internal_error\",\"message\":\"…\"}"},
    {REG_API_LIVE, 503, "{\"error\":\"unavailable\",\"message\":\"…\"}"},

    {REG_API_GROUPS, 400, "{\"status\":400,\"message\":\"…\"}"},
    {REG_API_GROUPS, 401, "{\"status\":401,\"message\":\"…\"}"},
    {REG_API_GROUPS, 404, "{\"status\":404,\"message\":\"…\"}"},
    {REG_API_GROUPS, 429, "{\"status\":429,\"message\":\"…\"}"},
    {REG_API_USERS, 413, "{\"status\":413,\"message\":\"…\"}"},
    {REG_API_USERS, 503, "{\"status\":503,\"message\":\"…\"}"},

    {REG_API_FAMILIES, 404, "{\"code\":404,\"message\":\"…\",\"description\":\"…\"}"},
    {REG_API_FAMILIES, 415, "{\"code\":415,\"message\":\"…\",\"description\":\"…\"}"},
    {REG_API_FAMILIES, 429, "{\"code\":429,\"message\":\"…\",\"description\":\"…\"}"},
    {REG_API_FAMILIES, 503, "{\"code\":503,\"message\":\"…\",\"description\":\"…\"}"},

    {REG_API_EVENTS, 400,
     "{\"statusCode\":400,\"message\":\"…\",\"error\":\"Bad Request\"}"},
    {REG_API_EVENTS, 401,
     "{\"statusCode\":401,\"message\":\"…\",\"error\":\"Unauthorized\"}"},
    {REG_API_EVENTS, 403,
     "{\"statusCode\":403,\"message\":\"…\",\"error\":\"Forbidden\"}"},
    {REG_API_EVENTS, 404,
     "{\"statusCode\":404,\"message\":\"…\",\"error\":\"Not Found\"}"},
    {REG_API_EVENTS, 405,
     "{\"statusCode\":405,\"message\":\"…\",\"error\":\"Method Not Allowed\"}"},
    {REG_API_EVENTS, 408,
     "{\"statusCode\":408,\"message\":\"…\",\"error\":\"Request Timeout\"}"},
    {REG_API_EVENTS, 409,
     "{\"statusCode\":409,\"message\":\"…\",\"error\":\"Conflict\"}"},
    {REG_API_EVENTS, 411,
     "{\"statusCode\":411,\"message\":\"…\",\"error\":\"Length Required\"}"},
    {REG_API_EVENTS, 412,
     "{\"statusCode\":412,\"message\":\"…\",\"error\":\"Precondition Failed\"}"},
    {REG_API_EVENTS, 415,
     "{\"statusCode\":415,\"message\":\"…\",\"error\":\"Unsupported Media Type\"}"},
    {REG_API_EVENTS, 429,
     "{\"statusCode\":429,\"message\":\"…\",\"error\":\"Too Many Requests\"}"},
    {REG_API_EVENTS, 431,
     "{\"statusCode\":431,\"message\":\"…\",\"error\":\"Request Header Fields Too "
     "Large\"}"},
    {REG_API_EVENTS, 500,
     "{\"statusCode\":500,\"message\":\"…\",\"error\":\"Internal Server Error\"}"},
    {REG_API_EVENTS, 503,
     "{\"statusCode\":503,\"message\":\"…\",\"error\":\"Service Unavailable\"}"},
};

static void status_has_envelope_of_api(void **state)
{
    for (size_t i = 0; i < LENGTH(outlines); i++) {
        reg_request_t request = request_of(*state, outlines[i].api);
        const reg_reply_t *reply = reg_reply_status(&request, outlines[i].status);
        const char *row = row_of(*state, outlines[i].api, outlines[i].status);

        assert_number(row, reply->status, outlines[i].status);
        assert_text(row, outline(*state, reply->body), outlines[i].outline);
    }
}

/* The statuses that httpd and its modules can give, unexpected ones too (416 for a Range,
 * 421 for another host's TLS, 410 of a Redirect): none may have another status's number
 * or message. */
static void status_of_httpd_keeps_its_number(void **state)
{
    static const int statuses[] = {400, 401, 403, 404, 405, 406, 407, 408, 409, 410,
                                   411, 412, 413, 414, 415, 416, 417, 421, 422, 426,
                                   429, 431, 451, 500, 501, 502, 503, 504, 505, 507};

    for (size_t i = 0; i < LENGTH(statuses) * REG_API_COUNT; i++) {
        reg_api_t api = (reg_api_t)(i % REG_API_COUNT);
        int status = statuses[i / REG_API_COUNT];
        const char *row = row_of(*state, api, status), *error;
        reg_request_t request = request_of(*state, api);
        const char *body = reg_reply_status(&request, status)->body;

        assert_non_null(reg_json_parse(*state, body, strlen(body), &error));
        if (api != REG_API_LIVE && api < REG_API_OPENAPI) {
            assert_number(row, strstr(body, apr_itoa(*state, status)) != NULL, 1);
        }
        if (status != 500) {
            assert_number(row, strstr(body, "nternal") == NULL, 1);
        }
    }
}

/* The strings of the real service. */
static void families_error_has_message_and_description(void **state)
{
    static const struct {
        int status, has_token;
        const char *body;
    } rows[] = {
        {401, 0,
         "{\"code\":401,\"message\":\"UNAUTHORIZED\",\"description\":\"Authentication "
         "failed "
         "for lack of authentication credentials.\",\"redirect_link\":\"/auth\"}"},
        {401, 1,
         "{\"code\":401,\"message\":\"UNAUTHORIZED\",\"description\":\"Authentication "
         "failed "
         "due to access token issues.\",\"redirect_link\":\"/auth\"}"},
        {403, 1,
         "{\"code\":403,\"message\":\"FORBIDDEN\",\"description\":\"Authorization failed "
         "due "
         "to insufficient permissions.\"}"},
    };
    static const struct {
        int status;
        const char *message;
    } messages[] = {{500, "An internal server error has occurred."},
                    {503, "Service unavailable."}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        reg_request_t request = request_of(*state, REG_API_FAMILIES);

        request.has_bearer_token = rows[i].has_token;
        assert_text(rows[i].body, reg_reply_status(&request, rows[i].status)->body,
                    rows[i].body);
    }
    for (size_t i = 0; i < LENGTH(messages); i++) {
        reg_request_t request = request_of(*state, REG_API_FAMILIES);
        const char *body = reg_reply_status(&request, messages[i].status)->body, *error;
        const reg_json_t *json = reg_json_parse(*state, body, strlen(body), &error);

        assert_text(body, reg_json_string(reg_json_get(json, "message")),
                    messages[i].message);
    }
}

static void message_given_replaces_default(void **state)
{
    static const reg_error_t error = {
        .status = 409, .message = "m \"x\"", .code = "c", .description = "d"};
    static const struct {
        reg_api_t api;
        const char *body;
    } rows[] = {
        {REG_API_LIVE, "{\"error\":\"c\",\"message\":\"m \\\"x\\\"\"}"},
        {REG_API_GROUPS, "{\"status\":409,\"message\":\"m \\\"x\\\"\"}"},
        {REG_API_USERS, "{\"status\":409,\"message\":\"m \\\"x\\\"\"}"},
        {REG_API_FAMILIES,
         "{\"code\":409,\"message\":\"m \\\"x\\\"\",\"description\":\"d\"}"},
        {REG_API_EVENTS,
         "{\"statusCode\":409,\"message\":\"m \\\"x\\\"\",\"error\":\"Conflict\"}"},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        reg_request_t request = request_of(*state, rows[i].api);

        assert_text(reg_api_names[rows[i].api], reg_reply_error(&request, &error)->body,
                    rows[i].body);
        assert_text(reg_api_names[rows[i].api], reg_reply_error_body(&request, &error),
                    rows[i].body);
    }
}

static void families_error_without_description_omits_key(void **state)
{
    static const reg_error_t error = {.status = 409, .message = "m"};
    reg_request_t request = request_of(*state, REG_API_FAMILIES);

    assert_text("body", reg_reply_error(&request, &error)->body,
                "{\"code\":409,\"message\":\"m\"}");
}

static void invalid_fields_have_envelope_of_api(void **state)
{
    static const char errors[] =
        "\"errors\":[{\"field\":\"a.b\",\"message\":\"must be \\\"x\\\"\"},"
        "{\"field\":\"c\",\"message\":\"is required\"}]}";
    reg_problems_t problems = {.pool = *state};
    const reg_error_t error = {.status = 400, .message = "m", .problems = &problems};
    const struct {
        reg_api_t api;
        const char *none, *two;
    } rows[] = {
        {REG_API_GROUPS, "{\"status\":400,\"message\":\"m\"}",
         apr_pstrcat(*state, "{\"status\":400,\"message\":\"m\",", errors, NULL)},
        {REG_API_EVENTS,
         "{\"statusCode\":400,\"message\":\"m\",\"error\":\"Bad Request\"}",
         apr_pstrcat(*state,
                     "{\"statusCode\":400,\"message\":\"m\",\"error\":\"Bad Request\",",
                     errors, NULL)},
        {REG_API_LIVE, "{\"error\":\"validation_error\",\"message\":\"m\"}",
         "{\"error\":\"validation_error\",\"message\":\"a.b must be \\\"x\\\"; c is "
         "required\"}"},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        reg_request_t request = request_of(*state, rows[i].api);

        problems.list = NULL;
        assert_text("none", reg_reply_error(&request, &error)->body, rows[i].none);
        reg_problems_add(&problems, "a.b", "must be \"x\"");
        reg_problems_add(&problems, "c", "is required");
        assert_text("two", reg_reply_error(&request, &error)->body, rows[i].two);
    }
}

static void status_has_its_headers(void **state)
{
    static const int statuses[] = {400, 401, 404, 405, 409, 412, 429, 500, 503};

    for (size_t i = 0; i < LENGTH(statuses); i++) {
        reg_request_t request = request_of(*state, REG_API_FAMILIES);
        const reg_reply_t *reply = reg_reply_status(&request, statuses[i]);
        const char *row = row_of(*state, REG_API_FAMILIES, statuses[i]);

        assert_text(row, apr_table_get(reply->headers, "Retry-After"),
                    statuses[i] == 503   ? "1"
                    : statuses[i] == 429 ? "10"
                                         : NULL);
        assert_text(row, apr_table_get(reply->headers, "Allow"),
                    statuses[i] == 405 ? "POST, OPTIONS" : NULL);
    }
}

/*
 * What becomes of an operation's answer
 */

static const reg_rule_t rules[] = {
    {REG_CREATED, {.status = 201}},
    {REG_FOUND, {.status = 200}},
    {REG_FULL, {.status = 409, .message = "Occurrence is full"}},
    {0, {0}}};

static void answer_with_rule_gets_status_of_rule(void **state)
{
    static const struct {
        reg_outcome_t outcome;
        int status;
        const char *body;
    } rows[] = {
        {REG_CREATED, 201, "{\"x\" :1}"},
        {REG_FOUND, 200, "{\"x\" :1}"},
        {REG_FULL, 409,
         "{\"statusCode\":409,\"message\":\"Occurrence is "
         "full\",\"error\":\"Conflict\"}"},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const reg_answer_t answer = {rows[i].outcome, "7", "{\"x\" :1}"};
        reg_request_t request = request_of(*state, REG_API_EVENTS);
        const reg_reply_t *reply = reg_reply_answer(&request, &answer, rules);

        assert_number(rows[i].body, reply->status, rows[i].status);
        assert_text(rows[i].body, reply->body, rows[i].body);
        assert_non_null(reply->headers);
    }
}

static void answer_without_rule_gets_common_message(void **state)
{
    static const struct {
        reg_outcome_t outcome;
        int status, groups;
    } rows[] = {
        {REG_KEY_INVALID, 400, 400},
        {REG_KEY_REUSED, 422, 422},
        {REG_BAD_DATA, 400, 422},
        {REG_UNAVAILABLE, 503, 503},
        {REG_FAULT, 500, 500},
        {REG_CHILDREN_UNKNOWN, 500,
         500}, /* an outcome that the operation does not have */
    };

    for (size_t i = 0; i < LENGTH(rows) * REG_API_COUNT; i++) {
        reg_api_t api = (reg_api_t)(i % REG_API_COUNT);
        size_t r = i / REG_API_COUNT;
        const reg_answer_t answer = {rows[r].outcome, "SECRET", "SECRET"};
        reg_request_t request = request_of(*state, api);
        const reg_reply_t *reply = reg_reply_answer(&request, &answer, rules);
        int groups = api == REG_API_GROUPS || api == REG_API_USERS;

        assert_number(reg_api_names[api], reply->status,
                      groups ? rows[r].groups : rows[r].status);
        assert_null(strstr(reply->body, "SECRET"));
        assert_text(reg_api_names[api], apr_table_get(reply->headers, "Retry-After"),
                    reply->status == 503 ? "1" : NULL);
    }
}

static void reply_body_is_unchanged(void **state)
{
    reg_request_t request = request_of(*state, REG_API_LIVE);
    const reg_reply_t *reply = reg_reply(&request, 201, "{ }");

    assert_int_equal(reply->status, 201);
    assert_text("body", reply->body, "{ }");
    assert_true(apr_is_empty_table(reply->headers));
    assert_null(reg_reply(&request, 304, NULL)->body);
}

static void error_without_api_is_json(void **state)
{
    static const int statuses[] = {400, 408, 414, 431, 500, 501, 505};

    for (size_t i = 0; i < LENGTH(statuses); i++) {
        const char *body = reg_reply_plain_body(*state, statuses[i]), *error;
        const reg_json_t *json = reg_json_parse(*state, body, strlen(body), &error);

        assert_non_null(json);
        assert_number(body, strncmp(body, "{\"error\":\"", 10), 0);
        assert_non_null(reg_json_string(reg_json_get(json, "message")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(status_has_envelope_of_api),
        POOL_TEST(status_of_httpd_keeps_its_number),
        POOL_TEST(families_error_has_message_and_description),
        POOL_TEST(message_given_replaces_default),
        POOL_TEST(families_error_without_description_omits_key),
        POOL_TEST(invalid_fields_have_envelope_of_api),
        POOL_TEST(status_has_its_headers),
        POOL_TEST(answer_with_rule_gets_status_of_rule),
        POOL_TEST(answer_without_rule_gets_common_message),
        POOL_TEST(reply_body_is_unchanged),
        POOL_TEST(error_without_api_is_json),
    };

    return RUN_TESTS(tests);
}
