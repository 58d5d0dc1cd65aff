/* SPDX-License-Identifier: Apache-2.0 */

/* What every request goes through, in its order, before an API's own checks. */

#include "api_fixture.h"

#define ID "/22222222-2222-4222-8222-222222222222"
#define SESSION "/11111111-1111-4111-8111-111111111111/register"

static void request_is_refused_by_first_failed_check(void **state)
{
    /* Each row mends what the one before was refused for. */
    static const struct {
        reg_method_t method;
        const char *path, *content_type;
        int body_status;
        const char *body;
        int status;
    } rows[] = {
        {REG_METHOD_PUT, "/x/y", "text/plain", 413, "{", 404},
        {REG_METHOD_PUT, SESSION, "text/plain", 413, "{", 405},
        {REG_METHOD_POST, SESSION, "text/plain", 413, "{", 415},
        {REG_METHOD_POST, SESSION, "application/json", 413, "{", 413},
        {REG_METHOD_POST, SESSION, "application/json", 0, "{", 400},
        {REG_METHOD_POST, SESSION, "application/json", 0, "{\"role\":\"king\"}", 400},
        {REG_METHOD_POST, SESSION, "application/json", 0, "{\"patient_id\":\"p\"}", 201},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state,
                            .body_status = rows[i].body_status,
                            .answer = {REG_CREATED, NULL, "{}"}};
        reg_request_t *request =
            request_for(&host, REG_API_LIVE, rows[i].method, rows[i].path, rows[i].body);
        const char *row = apr_psprintf(*state, "row %d", (int)i);

        request->content_type = rows[i].content_type;
        assert_number(row, reg_serve(request)->status, rows[i].status);
        assert_number(row, host.reads, i >= 3); /* no body is read in vain */
        assert_number(row, host.calls, i == LENGTH(rows) - 1);
    }
}

static void body_of_other_type_than_json_is_415(void **state)
{
    static const struct {
        const char *type;
        int good;
    } rows[] = {
        {NULL, 1},
        {"application/json", 1},
        {"application/json; charset=utf-8", 1},
        {"application/json;charset=utf-8", 1},
        {"application/json ; charset=utf-8", 1},
        {" application/json", 1},
        {"Application/JSON", 1},
        {"application/vnd.api+json", 1},
        {"application/ld+JSON; profile=\"x\"", 1},
        {"text/plain", 0},
        {"text/json", 0},
        {"application/jsonx", 0},
        {"application/x-json", 0},
        {"application/jso", 0},
        {"application/json-seq", 0},
        {"application/json,text/plain", 0},
        {"application/x-www-form-urlencoded", 0},
        {"multipart/form-data; boundary=a/b+json", 0},
        {"text/plain; x=application/json", 0},
        {"application/json+xml", 0},
        {"+json", 0},
        {"json", 0},
        {"x+json", 0},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};
        reg_request_t *request = request_for(&host, REG_API_LIVE, REG_METHOD_POST,
                                             SESSION, "{\"patient_id\":\"p\"}");

        request->content_type = rows[i].type;
        assert_number(rows[i].type ? rows[i].type : "none", reg_serve(request)->status,
                      rows[i].good ? 201 : 415);
    }
}

static void request_without_body_has_any_type(void **state)
{
    fake_host_t host = {.pool = *state};
    reg_request_t *request =
        request_for(&host, REG_API_LIVE, REG_METHOD_POST, SESSION, NULL);

    request->content_type = "text/plain";
    assert_int_equal(reg_serve(request)->status, 400); /* of JSON there is none */
}

static void failed_read_of_body_is_answered(void **state)
{
    static const int statuses[] = {400, 408, 413, 415, 500};

    for (size_t i = 0; i < LENGTH(statuses); i++) {
        fake_host_t host = {.pool = *state, .body_status = statuses[i]};
        const reg_reply_t *reply =
            reg_serve(request_for(&host, REG_API_EVENTS, REG_METHOD_POST, "", "{}"));

        assert_int_equal(reply->status, statuses[i]);
        assert_non_null(told(*state, reply, "error"));
    }
}

static void reply_already_sent_is_left_unchanged(void **state)
{
    fake_host_t host = {.pool = *state, .body_status = -3};
    const reg_reply_t *reply =
        reg_serve(request_for(&host, REG_API_EVENTS, REG_METHOD_POST, "", "{}"));

    assert_int_equal(reply->status, -3);
    assert_null(reply->body);
}

static void body_of_other_method_than_post_and_put_is_not_read(void **state)
{
    static const struct {
        reg_method_t method;
        const char *path;
        int reads;
    } rows[] = {
        {REG_METHOD_POST, "", 1},     {REG_METHOD_PUT, "/x", 1},
        {REG_METHOD_GET, "", 0},      {REG_METHOD_GET, "/x", 0},
        {REG_METHOD_DELETE, "/x", 0}, {REG_METHOD_OPTIONS, "", 0},
        {REG_METHOD_OTHER, "/x", 0},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state, .answer = {REG_FAULT, NULL, NULL}};
        reg_request_t *request =
            request_for(&host, REG_API_EVENTS, rows[i].method, rows[i].path, "no JSON");

        request->content_type = rows[i].reads ? "application/json" : "text/plain";
        reg_serve(request);
        assert_number(rows[i].path, host.reads, rows[i].reads);
    }
}

static void options_has_allow_of_path(void **state)
{
    static const struct {
        reg_api_t api;
        const char *path;
        int status;
        const char *allow;
    } rows[] = {
        {REG_API_LIVE, SESSION, 204, "POST, OPTIONS"},
        {REG_API_LIVE, "/x", 404, NULL},
        {REG_API_FAMILIES, "", 204, "POST, OPTIONS"},
        {REG_API_USERS, "", 204, "POST, OPTIONS"},
        {REG_API_GROUPS, "/g", 204, "GET, HEAD, OPTIONS"},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state};
        const reg_reply_t *reply = reg_serve(
            request_for(&host, rows[i].api, REG_METHOD_OPTIONS, rows[i].path, NULL));

        assert_number(rows[i].path, reply->status, rows[i].status);
        assert_text(rows[i].path, header(reply, "Allow"), rows[i].allow);
        assert_number(rows[i].path, reply->body != NULL, rows[i].status == 404);
    }
}

static void unallowed_method_is_405_with_allow(void **state)
{
    static const reg_method_t methods[] = {REG_METHOD_GET, REG_METHOD_PUT,
                                           REG_METHOD_DELETE, REG_METHOD_OTHER};

    for (size_t i = 0; i < LENGTH(methods); i++) {
        fake_host_t host = {.pool = *state};
        const reg_reply_t *reply =
            reg_serve(request_for(&host, REG_API_FAMILIES, methods[i], "", NULL));

        assert_int_equal(reply->status, 405);
        assert_text("Allow", header(reply, "Allow"), "POST, OPTIONS");
    }
}

static void body_other_than_json_object_is_400(void **state)
{
    static const char *const bodies[] = {
        "", "{", "[]", "null", "{\"a\":1,\"a\":1}", "{\"a\":\"\xFF\"}", "{} {}"};
    static const struct {
        reg_api_t api;
        const char *path, *key, *value;
    } rows[] = {
        {REG_API_LIVE, SESSION, "error", "validation_error"},
        {REG_API_GROUPS, "/g/members", "error", NULL},
        {REG_API_USERS, "", "error", NULL},
        {REG_API_FAMILIES, "", "message", "Unable to process request body."},
        {REG_API_FAMILIES, "", "description",
         "Please verify that the JSON provided in the request body has a valid format "
         "and "
         "try again."},
        {REG_API_EVENTS, "", "error", "Bad Request"},
    };

    for (size_t i = 0; i < LENGTH(bodies) * LENGTH(rows); i++) {
        size_t r = i / LENGTH(bodies);
        fake_host_t host = {.pool = *state};
        const char *body = bodies[i % LENGTH(bodies)];
        const reg_reply_t *reply = reg_serve(
            request_for(&host, rows[r].api, REG_METHOD_POST, rows[r].path, body));

        assert_number(body, reply->status, 400);
        assert_text(body, told(*state, reply, rows[r].key), rows[r].value);
        assert_non_null(told(*state, reply, "message"));
        assert_int_equal(host.calls, 0);
    }
}

static void prefer_minimal_omits_body(void **state)
{
    static const struct {
        reg_method_t method;
        const char *path, *prefer;
        reg_answer_t answer;
        int status;
        int minimal;
    } rows[] = {
        {REG_METHOD_POST,
         "",
         "return=minimal",
         {REG_CREATED, "1", "{\"id\":\"x\"}"},
         201,
         1},
        {REG_METHOD_POST, "", "return=representation", {REG_CREATED, "1", "{}"}, 201, 0},
        {REG_METHOD_POST, "", NULL, {REG_CREATED, "1", "{}"}, 201, 0},
        {REG_METHOD_POST, "", "return=minimal", {REG_FULL, NULL, NULL}, 409, 0},
        {REG_METHOD_POST, "", "return=minimal", {REG_UNAVAILABLE, NULL, NULL}, 503, 0},
        {REG_METHOD_PUT, ID, "return=minimal", {REG_UPDATED, "2", "{}"}, 204, 1},
        {REG_METHOD_PUT, ID, "return=minimal", {REG_CHANGED, NULL, NULL}, 412, 0},
        {REG_METHOD_GET, ID, "return=minimal", {REG_FOUND, "1", "{}"}, 200, 0},
        {REG_METHOD_DELETE, ID, "return=minimal", {REG_DELETED, "2", "{}"}, 200, 0},
    };
    static const char body[] = "{\"occurrenceId\":\"11111111-1111-4111-8111-"
                               "111111111111\",\"externalUserId\":\"x\"}";

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state, .answer = rows[i].answer};
        reg_request_t *request =
            request_for(&host, REG_API_EVENTS, rows[i].method, rows[i].path, body);
        const char *row = apr_psprintf(*state, "row %d", (int)i);
        const reg_reply_t *reply;

        request->prefer = rows[i].prefer;
        reply = reg_serve(request);
        assert_number(row, reply->status, rows[i].status);
        assert_number(row, reply->body == NULL, rows[i].minimal);
        assert_text(row, header(reply, "Preference-Applied"),
                    rows[i].minimal ? "return=minimal" : NULL);
        if (rows[i].minimal) {
            assert_non_null(header(reply, "ETag"));
        }
    }
}

static void prefer_minimal_keeps_location(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, "1", "{\"id\":\"x\"}"}};
    reg_request_t *request = request_for(&host, REG_API_EVENTS, REG_METHOD_POST, "",
                                         "{\"occurrenceId\":\"11111111-1111-4111-8111-"
                                         "111111111111\",\"externalUserId\":\"x\"}");

    request->prefer = "return=minimal";
    assert_text("Location", header(reg_serve(request), "Location"), "/mount/x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(request_is_refused_by_first_failed_check),
        POOL_TEST(body_of_other_type_than_json_is_415),
        POOL_TEST(request_without_body_has_any_type),
        POOL_TEST(failed_read_of_body_is_answered),
        POOL_TEST(reply_already_sent_is_left_unchanged),
        POOL_TEST(body_of_other_method_than_post_and_put_is_not_read),
        POOL_TEST(options_has_allow_of_path),
        POOL_TEST(unallowed_method_is_405_with_allow),
        POOL_TEST(body_other_than_json_object_is_400),
        POOL_TEST(prefer_minimal_omits_body),
        POOL_TEST(prefer_minimal_keeps_location),
    };

    return RUN_TESTS(tests);
}
