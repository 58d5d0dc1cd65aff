/* SPDX-License-Identifier: Apache-2.0 */
#include "api_fixture.h"

#define ID "11111111-1111-4111-8111-111111111111"
#define PATH "/" ID "/register"

/* A valid body and the values that the operation gets. */
static const struct {
    const char *user; /* the caller, NULL when not known */
    const char *body;
    const char *called;
} good[] = {
    {NULL, "{\"patient_id\":\"p 1\"}",
     "live_register(<id>, " ID ", p 1, NULL, participant)"},
    {NULL, "{\"guest_email\":\"G@example.org\"}",
     "live_register(<id>, " ID ", NULL, G@example.org, guest)"},
    {NULL, "{\"guest_email\":\"g@example.org\",\"patient_id\":\"p\"}",
     "live_register(<id>, " ID ", p, g@example.org, participant)"},
    {NULL, "{\"patient_id\":\"p\",\"role\":\"host\"}",
     "live_register(<id>, " ID ", p, NULL, host)"},
    {NULL, "{\"patient_id\":\"p\",\"role\":\"guest\"}",
     "live_register(<id>, " ID ", p, NULL, guest)"},
    {NULL, "{\"guest_email\":\"g@example.org\",\"role\":\"participant\"}",
     "live_register(<id>, " ID ", NULL, g@example.org, participant)"},
    {NULL, "{\"patient_id\":\" \",\"other\":null,\"Role\":1}",
     "live_register(<id>, " ID ",  , NULL, participant)"},

    /* Without a name in the body the caller is registered. */
    {"me", "{}", "live_register(<id>, " ID ", me, NULL, participant)"},
    {"me", "{\"role\":\"host\"}", "live_register(<id>, " ID ", me, NULL, host)"},
    {"me", "{\"patient_id\":\"p\"}", "live_register(<id>, " ID ", p, NULL, participant)"},
    {"me", "{\"guest_email\":\"g@example.org\"}",
     "live_register(<id>, " ID ", NULL, g@example.org, guest)"},
};

static void valid_live_registration_is_created(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{\"id\":\"x\"}"}};

    for (size_t i = 0; i < LENGTH(good); i++) {
        reg_request_t *request =
            request_for(&host, REG_API_LIVE, REG_METHOD_POST, PATH, good[i].body);
        const reg_reply_t *reply;

        request->user = good[i].user;
        reply = reg_serve(request);
        assert_number(good[i].body, reply->status, 201);
        assert_text(good[i].body, reply->body, "{\"id\":\"x\"}");
        assert_text(good[i].body, host.called, good[i].called);
    }
}

/* An invalid body and the fields that the message names. */
static const struct {
    const char *body;
    const char *fields[3];
} bad[] = {
    {"{}", {"patient_id", "guest_email"}},
    {"{\"role\":\"host\"}", {"patient_id", "guest_email"}},
    {"{\"patient_id\":\"\"}", {"patient_id"}},
    {"{\"patient_id\":null}", {"patient_id"}},
    {"{\"patient_id\":1}", {"patient_id"}},
    {"{\"patient_id\":[\"p\"]}", {"patient_id"}},
    {"{\"patient_id\":\"a\\nb\"}", {"patient_id"}},
    {"{\"patient_id\":\"a\\u007f\"}", {"patient_id"}},
    {"{\"patient_id\":null,\"guest_email\":\"g@example.org\"}", {"patient_id"}},
    {"{\"guest_email\":\"\"}", {"guest_email"}},
    {"{\"guest_email\":\"g\"}", {"guest_email"}},
    {"{\"guest_email\":null}", {"guest_email"}},
    {"{\"guest_email\":true}", {"guest_email"}},
    {"{\"patient_id\":\"p\",\"guest_email\":null}", {"guest_email"}},
    {"{\"patient_id\":\"p\",\"role\":\"\"}", {"role"}},
    {"{\"patient_id\":\"p\",\"role\":\"Host\"}", {"role"}},
    {"{\"patient_id\":\"p\",\"role\":null}", {"role"}},
    {"{\"patient_id\":\"p\",\"role\":{}}", {"role"}},
    {"{\"role\":1}", {"role", "patient_id", "guest_email"}},
    {"{\"role\":1,\"patientId\":\"p\"}", {"role", "patientId"}},
    {"{\"role\":1,\"patient_id\":1,\"guest_email\":1}",
     {"role", "patient_id", "guest_email"}},
};

static void invalid_live_fields_are_all_named(void **state)
{
    fake_host_t host = {.pool = *state};

    for (size_t i = 0; i < LENGTH(bad); i++) {
        const char *row = bad[i].body;
        const reg_reply_t *reply =
            reg_serve(request_for(&host, REG_API_LIVE, REG_METHOD_POST, PATH, row));

        assert_number(row, reply->status, 400);
        assert_text(row, told(*state, reply, "error"), "validation_error");
        for (int f = 0; f < 3 && bad[i].fields[f]; f++) {
            assert_number(
                row, strstr(told(*state, reply, "message"), bad[i].fields[f]) != NULL, 1);
        }
        assert_int_equal(host.calls, 0);
    }
}

static void patient_id_over_255_characters_is_invalid(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};

    for (int length = 255; length <= 256; length++) {
        const char *name = repeated(*state, "\xC3\xA9", length);
        const char *body = apr_pstrcat(*state, "{\"patient_id\":\"", name, "\"}", NULL);
        reg_request_t *request;

        assert_number(
            "body",
            reg_serve(request_for(&host, REG_API_LIVE, REG_METHOD_POST, PATH, body))
                ->status,
            length == 255 ? 201 : 400);
        request = request_for(&host, REG_API_LIVE, REG_METHOD_POST, PATH, "{}");
        request->user = name;
        assert_number("caller", reg_serve(request)->status, length == 255 ? 201 : 400);
    }
}

static void session_of_invalid_id_is_404_without_call(void **state)
{
    static const struct {
        const char *path, *body;
        int status;
    } rows[] = {
        {"/x/register", "{\"patient_id\":\"p\"}", 404},
        {"/" ID "0/register", "{\"patient_id\":\"p\"}", 404},
        /* The body comes first. */
        {"/x/register", "{\"patient_id\":1}", 400},
    };
    fake_host_t host = {.pool = *state};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const reg_reply_t *reply = reg_serve(request_for(
            &host, REG_API_LIVE, REG_METHOD_POST, rows[i].path, rows[i].body));

        assert_number(rows[i].path, reply->status, rows[i].status);
        assert_int_equal(host.calls, 0);
    }
}

static void live_outcome_has_status_and_code(void **state)
{
    static const struct {
        reg_outcome_t outcome;
        int status;
        const char *error;
    } rows[] = {
        {REG_NOT_FOUND, 404, "not_found"},
        {REG_NOT_JOINABLE, 412, "session_not_joinable"},
        {REG_DUPLICATE, 409, "conflict"},
        {REG_FULL, 412, "session_full"},
        {REG_BAD_DATA, 400, "validation_error"},
        {REG_UNAVAILABLE, 503, "unavailable"},
        {REG_FAULT, 500, "internal_error"},
        {REG_INVALID, 500, "internal_error"}, /* which this operation does not say */
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state, .answer = {rows[i].outcome, NULL, NULL}};
        const reg_reply_t *reply = reg_serve(request_for(
            &host, REG_API_LIVE, REG_METHOD_POST, PATH, "{\"patient_id\":\"p\"}"));

        assert_number(rows[i].error, reply->status, rows[i].status);
        assert_text(rows[i].error, told(*state, reply, "error"), rows[i].error);
        assert_number(rows[i].error, strncmp(reply->body, "{\"error\":", 9), 0);
        assert_non_null(told(*state, reply, "message"));
        assert_text(rows[i].error, header(reply, "Retry-After"),
                    rows[i].status == 503 ? "1" : NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(valid_live_registration_is_created),
        POOL_TEST(invalid_live_fields_are_all_named),
        POOL_TEST(patient_id_over_255_characters_is_invalid),
        POOL_TEST(session_of_invalid_id_is_404_without_call),
        POOL_TEST(live_outcome_has_status_and_code),
    };

    return RUN_TESTS(tests);
}
