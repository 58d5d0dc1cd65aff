/* SPDX-License-Identifier: Apache-2.0 */
#include "api_fixture.h"

#define ID "11111111-1111-4111-8111-111111111111"
#define OBJECT_ID "5a62be07de34500146d9c544"

/* Every request that writes, the number of its own values, and of values of later
 * versions. */
static const struct {
    reg_api_t api;
    reg_method_t method;
    const char *path, *body;
    int given, later;
} changes[] = {
    {REG_API_LIVE, REG_METHOD_POST, "/" ID "/register", "{\"patient_id\":\"p\"}", 5, 0},
    {REG_API_GROUPS, REG_METHOD_POST, "/" ID "/members",
     "{\"inviteCode\":\"c\",\"groupMember\":{\"user\":{\"email\":\"a@b\"}}}", 16, 1},
    {REG_API_USERS, REG_METHOD_POST, "",
     "{\"inviteCode\":\"c\",\"groupMember\":{\"user\":{\"email\":\"a@b\"}}}", 16, 1},
    {REG_API_FAMILIES, REG_METHOD_POST, "",
     "{\"username\":\"u\",\"password\":\"SECRET\",\"institution_id\":\"" OBJECT_ID
     "\",\"children\":[\"" OBJECT_ID "\"]}",
     5, 0},
    {REG_API_EVENTS, REG_METHOD_POST, "",
     "{\"occurrenceId\":\"" ID "\",\"externalUserId\":\"u\"}", 10, 1},
    {REG_API_EVENTS, REG_METHOD_PUT, "/" ID, "{}", 6, 2},
    {REG_API_EVENTS, REG_METHOD_DELETE, "/" ID, NULL, 5, 1},
};

/* Serves each request and checks its audit parameters. */
static void serve_all(apr_pool_t *pool, const char *user, const char *id, const char *key,
                      const char *noted_user, const char *noted_id)
{
    for (size_t i = 0; i < LENGTH(changes); i++) {
        fake_host_t host = {.pool = pool, .answer = {REG_UPDATED, "1", "{}"}};
        reg_request_t *request = request_for(&host, changes[i].api, changes[i].method,
                                             changes[i].path, changes[i].body);
        int before = changes[i].given;

        request->user = user;
        request->request_id = id;
        request->idempotency_key = key;
        if (key && changes[i].method == REG_METHOD_POST) {
            before += 3;
        }
        reg_serve(request);
        assert_number(changes[i].path, host.calls, 1);
        assert_number(changes[i].path, host.parameters, before + 2 + changes[i].later);
        assert_text(changes[i].path, host.values[before], noted_user);
        assert_text(changes[i].path, host.values[before + 1], noted_id);
    }
}

static void audited_operation_gets_caller_and_request_id(void **state)
{
    serve_all(*state, "me", "Zq1", NULL, "me", "Zq1");
    serve_all(*state, "me", "Zq1", "key", "me", "Zq1");
    serve_all(*state, "\xC3\xA9", "\xC3\xA9", NULL, "\xC3\xA9", "\xC3\xA9");
}

static void unknown_caller_and_request_id_are_null(void **state)
{
    serve_all(*state, NULL, NULL, NULL, NULL, NULL);
    serve_all(*state, NULL, NULL, "key", NULL, NULL);
}

static void invalid_utf8_is_percent_encoded(void **state)
{
    serve_all(*state, "m\xE9", "\xFF", NULL, "m%e9", "%ff");
}

/* Otherwise a repeated request would be refused as another request. */
static void fingerprint_other_caller_is_equal(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};
    const char *first;

    for (int i = 0; i < 2; i++) {
        reg_request_t *request = request_for(&host, REG_API_LIVE, REG_METHOD_POST,
                                             changes[0].path, changes[0].body);

        request->request_id = i ? "one" : "other";
        request->user = i ? "one" : "other";
        request->idempotency_key = "key";
        reg_serve(request);
        if (i) {
            assert_string_equal(host.values[1], first);
        }
        first = host.values[1];
    }
}

static void read_operation_has_no_audit_parameters(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "1", "{}"}};
    reg_request_t *request =
        request_for(&host, REG_API_EVENTS, REG_METHOD_GET, "/" ID, NULL);

    request->user = "me";
    assert_int_equal(reg_serve(request)->status, 200);
    assert_int_equal(host.parameters, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(audited_operation_gets_caller_and_request_id),
        POOL_TEST(unknown_caller_and_request_id_are_null),
        POOL_TEST(invalid_utf8_is_percent_encoded),
        POOL_TEST(fingerprint_other_caller_is_equal),
        POOL_TEST(read_operation_has_no_audit_parameters),
    };

    return RUN_TESTS(tests);
}
