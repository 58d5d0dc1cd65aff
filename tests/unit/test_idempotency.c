/* SPDX-License-Identifier: Apache-2.0 */
#include "api_fixture.h"
#include "idempotency.h"
#include "utf8.h"

#define ID "11111111-1111-4111-8111-111111111111"
#define OTHER_ID "22222222-2222-4222-8222-222222222222"
#define OBJECT_ID "5a62be07de34500146d9c544"

/* Serves a request under a key; what the operation was called with is in the host. */
static const reg_reply_t *serve(fake_host_t *host, reg_api_t api, const char *path,
                                const char *key, const char *body)
{
    reg_request_t *request = request_for(host, api, REG_METHOD_POST, path, body);

    request->idempotency_key = key;
    return reg_serve(request);
}

/* A key as it is sent, and the key it is; NULL when it is none. */
static const struct {
    const char *sent, *key;
} keys[] = {
    {"a", "a"},
    {"!~", "%21%7e"},
    {"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"},
    {"\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "8e03978e-40d5-43dd-bc93-6894a57f9324"},
    {"a\"b", "a%22b"},
    {"a\\b", "a%5cb"},
    {"'a'", "%27a%27"},
    {"\"a\\\"b\"", "a%22b"},
    {"\"a\\\\b\"", "a%5cb"},
    {"\"\\\\\"", "%5c"},
    {"\"a\"; b=1", "a"},
    {"\"a\";b", "a"},
    {"\"a\";b;*c-1.d_=-1.5", "a"},
    {"\"a\";  b=\"x; \\\"y\\\"\";c=?1;d=:YWE=:;e=*t/o:k-en", "a"},
    {"a;b=1", "a%3bb%3d1"},

    {"", NULL},
    {"\"\"", NULL},
    {"\"", NULL},
    {"\"a", NULL},
    {"\"a\\\"", NULL},
    {"\"a\\", NULL},
    {"\"a\\b\"", NULL},
    {"\"a\"b", NULL},
    {"\"a\" ", NULL},
    {"\"a\", \"b\"", NULL},
    {"\"a\";b, \"b\"", NULL},
    {"\"a\";b=1, \"b\"", NULL},
    {"\"a\";b=x \"b\"", NULL},
    {"\"a\" ;b", NULL},
    {"\"a\";", NULL},
    {"\"a\";b;", NULL},
    {"\"a\";B", NULL},
    {"\"a\";1", NULL},
    {"\"a\";-", NULL},
    {"\"a\";b=", NULL},
    {"\"a\";b =1", NULL},
    {"\"a\";b=\"x", NULL},
    {"\"a\";b=\"\\x\"", NULL},
    {"\"a\";b=?2", NULL},
    {"\"a\";b=:YWE=", NULL},
    {"\"a\";b=-", NULL},
    {"\"\";b", NULL},
    {"a b", NULL},
    {"\"a b\"", NULL},
    {"a\tb", NULL},
    {"a\x7F", NULL},
    {"\xC3\xA9", NULL},
    {"\"\xC3\xA9\"", NULL},
    {"\xFF", NULL},
};

static void key_quoted_or_bare_is_read(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};

    for (size_t i = 0; i < LENGTH(keys); i++) {
        const reg_reply_t *reply = serve(&host, REG_API_LIVE, "/" ID "/register",
                                         keys[i].sent, "{\"patient_id\":\"p\"}");

        assert_number(keys[i].sent, reply->status, keys[i].key ? 201 : 400);
        assert_number(keys[i].sent, host.calls, keys[i].key ? 1 : 0);
        if (keys[i].key) {
            assert_text(keys[i].sent, strrchr(host.values[0], '&') + 1, keys[i].key);
        }
    }
}

static void key_over_255_characters_is_invalid(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};
    const char *longest = repeated(*state, "k", 255);
    const char *const sent[] = {
        longest, apr_psprintf(*state, "\"%s\"", longest),
        apr_psprintf(*state, "\"%s\"", repeated(*state, "\\\\", 255)),
        repeated(*state, "k", 256), apr_psprintf(*state, "\"%sk\"", longest)};

    for (size_t i = 0; i < LENGTH(sent); i++) {
        assert_number(sent[i],
                      serve(&host, REG_API_LIVE, "/" ID "/register", sent[i],
                            "{\"patient_id\":\"p\"}")
                          ->status,
                      i < 3 ? 201 : 400);
    }
}

/* A request under the key "k", the operation that is called for it, and the
 * fingerprint. */
static const struct {
    reg_api_t api;
    const char *path, *body, *operation, *fingerprint;
    int parameters;
} requests[] = {
    {REG_API_LIVE, "/" ID "/register", "{\"patient_id\":\"p\",\"role\":\"host\"}",
     "live_register_under_key", "live_register,,36:" ID ",1:p,,4:host", 10},
    {REG_API_GROUPS, "/" ID "/members",
     "{\"inviteCode\":\"c\",\"groupMember\":{\"user\":{\"email\":\"a@b\"}}}",
     "groups_register_under_key", "groups_register,,36:" ID ",,1:c,3:a@b,,,,,,,,,,,", 22},
    {REG_API_USERS, "",
     "{\"inviteCode\":\"c\",\"groupMember\":{\"user\":{\"email\":\"a@b\"}}}",
     "groups_register_under_key", "groups_register,,,,1:c,3:a@b,,,,,,,,,,,", 22},
    {REG_API_FAMILIES, "",
     "{\"username\":\"u\",\"password\":\"SECRET\",\"institution_id\":\"" OBJECT_ID
     "\",\"children\":[\"" OBJECT_ID "\"]}",
     "families_register_under_key",
     "families_register,,1:u,,24:" OBJECT_ID ",24:" OBJECT_ID, 10},
    {REG_API_EVENTS, "",
     "{\"occurrenceId\":\"" ID "\",\"externalUserId\":\"u\",\"fields\":{\"email\":\"\"}}",
     "events_create_under_key", "events_create,,36:" ID ",1:u,,,,,,,", 16},
};

static void fingerprint_of_other_values_differs(void **state)
{
    for (size_t i = 0; i < LENGTH(requests); i++) {
        const char *row = requests[i].operation;
        fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};

        assert_number(
            row,
            serve(&host, requests[i].api, requests[i].path, "k", requests[i].body)
                ->status,
            201);
        assert_text(row, apr_pstrmemdup(*state, host.called, strcspn(host.called, "(")),
                    row);
        assert_text(row, host.values[1], requests[i].fingerprint);
        assert_text(row, host.values[2], "3600");
        assert_number(row, host.parameters, requests[i].parameters);
    }
}

/* An operation with one parameter, and two of later versions: a field and a setting. */
static const reg_operation_t extended = REG_KEYED_OPERATION("extended", 1, 0, 1U << 2, 2);

static void fingerprint_has_value_of_later_parameter(void **state)
{
    static const struct {
        const char *values[3], *fingerprint;
    } rows[] = {
        {{"a", NULL, "9"}, "extended,1:a"}, /* as before the parameter was there */
        {{"a", "", "9"}, "extended,1:a;1,0:"},
        {{"a", "de", "9"}, "extended,1:a;1,2:de"},
    };
    fake_host_t host = {.pool = *state};
    reg_request_t *request =
        request_for(&host, REG_API_LIVE, REG_METHOD_POST, "/" ID "/register", "{}");
    const char *keyed[REG_MAX_PARAMETERS];

    request->idempotency_key = "k";
    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_int_equal(
            reg_idempotency_values(request, &extended, rows[i].values, keyed), 1);
        assert_text("extended", keyed[1], rows[i].fingerprint);
        assert_text("extended", keyed[5], "9");
    }
}

/* Ids are compared without regard to the case of their digits. */
static void fingerprint_of_id_in_other_case_is_equal(void **state)
{
    static const struct {
        reg_api_t api;
        const char *path, *body;
    } pairs[][2] = {
        {{REG_API_LIVE, "/ABCDEF11-1111-4111-8111-111111111111/register",
          "{\"patient_id\":\"p\"}"},
         {REG_API_LIVE, "/abcdef11-1111-4111-8111-111111111111/register",
          "{\"patient_id\":\"p\"}"}},
        {{REG_API_GROUPS, "/ABCDEF11-1111-4111-8111-111111111111/members",
          "{\"inviteCode\":\"c\",\"groupMember\":{\"user\":{\"email\":\"a@b\"}}}"},
         {REG_API_GROUPS, "/abcdef11-1111-4111-8111-111111111111/members",
          "{\"inviteCode\":\"c\",\"groupMember\":{\"user\":{\"email\":\"a@b\"}}}"}},
        {{REG_API_EVENTS, "",
          "{\"occurrenceId\":\"ABCDEF11-1111-4111-8111-111111111111\","
          "\"externalUserId\":\"u\"}"},
         {REG_API_EVENTS, "",
          "{\"occurrenceId\":\"abcdef11-1111-4111-8111-111111111111\","
          "\"externalUserId\":\"u\"}"}},
        {{REG_API_FAMILIES, "",
          "{\"username\":\"u\",\"password\":\"p\",\"institution_id\":"
          "\"5A62BE07DE34500146D9C544\",\"children\":[\"5A62BE07DE34500146D9C544\"]}"},
         {REG_API_FAMILIES, "",
          "{\"username\":\"u\",\"password\":\"p\",\"institution_id\":"
          "\"5a62be07de34500146d9c544\",\"children\":[\"5a62be07de34500146d9c544\"]}"}},
    };

    for (size_t i = 0; i < LENGTH(pairs); i++) {
        const char *scope = NULL, *print = NULL;

        for (size_t j = 0; j < 2; j++) {
            fake_host_t host = {.pool = *state, .answer = {REG_CREATED, "1", "{}"}};

            serve(&host, pairs[i][j].api, pairs[i][j].path, "k", pairs[i][j].body);
            assert_non_null(host.values);
            if (j) {
                assert_text(pairs[i][j].path, host.values[0], scope);
                assert_text(pairs[i][j].path, host.values[1], print);
            }
            scope = host.values[0];
            print = host.values[1];
        }
    }
}

static void keyed_operation_gets_values_of_operation(void **state)
{
    for (size_t i = 0; i < LENGTH(requests); i++) {
        fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};
        const char *with, *without;

        serve(&host, requests[i].api, requests[i].path, "k", requests[i].body);
        with = strstr(host.called, ", 3600, ") + strlen(", 3600, ");
        serve(&host, requests[i].api, requests[i].path, NULL, requests[i].body);
        without = strchr(host.called, '(') + 1;
        assert_text(requests[i].operation, with, without);
        assert_null(strstr(host.called, "_under_key"));
    }
}

/* Whose key it is. No two of these are the same. */
static const struct {
    const char *user, *organization, *mount, *key;
} scopes[] = {
    {NULL, NULL, "/mount", "k"},        {NULL, NULL, "/mount", "K"},
    {"me", NULL, "/mount", "k"},        {"ME", NULL, "/mount", "k"},
    {"me", ID, "/mount", "k"},          {"me", OTHER_ID, "/mount", "k"},
    {NULL, ID, "/mount", "k"},          {ID, NULL, "/mount", "k"},
    {"me", NULL, "/tenant", "k"},       {"me&", NULL, "/mount", "k"},
    {"&me", NULL, "/mount", "k"},       {"me", NULL, "/mount", "&k"},
    {"me", NULL, "/mount", "%26k"},     {"me%26", NULL, "/mount", "k"},
    {"me", NULL, "/mount&", "k"},       {"me&&%2fmount", NULL, "", "k"},
    {"m\xE9", NULL, "/mount", "k"},     {"m\xE8", NULL, "/mount", "k"},
    {"m\xC3\xA9", NULL, "/mount", "k"},
};

static void key_scope_is_caller_organization_and_path(void **state)
{
    const char *all[LENGTH(scopes)];

    for (size_t i = 0; i < LENGTH(scopes); i++) {
        fake_host_t host = {.pool = *state, .answer = {REG_CREATED, "1", "{}"}};
        reg_request_t *request =
            request_for(&host, REG_API_EVENTS, REG_METHOD_POST, "",
                        "{\"occurrenceId\":\"" ID "\",\"externalUserId\":\"u\"}");

        request->user = scopes[i].user;
        request->organization = scopes[i].organization;
        request->mount = scopes[i].mount;
        request->idempotency_key = scopes[i].key;
        assert_int_equal(reg_serve(request)->status, 201);
        all[i] = host.values[0];
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(all[i], all[j]);
        }
        /* It has to be UTF-8 to get into the database. */
        assert_true(reg_utf8_is_valid(all[i]));
    }
}

static void key_scope_of_other_session_differs(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};
    const char *first;

    serve(&host, REG_API_LIVE, "/" ID "/register", "k", "{\"patient_id\":\"p\"}");
    first = host.values[0];
    serve(&host, REG_API_LIVE, "/" OTHER_ID "/register", "k", "{\"patient_id\":\"p\"}");
    assert_string_not_equal(first, host.values[0]);
}

static void key_of_other_method_than_post_is_ignored(void **state)
{
    static const reg_method_t methods[] = {REG_METHOD_GET, REG_METHOD_PUT,
                                           REG_METHOD_DELETE};
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "1", "{}"}};

    for (size_t i = 0; i < LENGTH(methods); i++) {
        reg_request_t *request =
            request_for(&host, REG_API_EVENTS, methods[i], "/" ID, "{}");

        request->idempotency_key = "not a key";
        assert_int_equal(reg_serve(request)->status, 200);
        assert_null(strstr(host.called, "_under_key"));
    }
}

static void invalid_body_precedes_invalid_key(void **state)
{
    fake_host_t host = {.pool = *state};
    const reg_reply_t *reply =
        serve(&host, REG_API_EVENTS, "", "not a key", "{\"occurrenceId\":1}");

    assert_int_equal(reply->status, 400);
    assert_string_equal(fields_at_fault(*state, reply), "externalUserId occurrenceId");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(key_quoted_or_bare_is_read),
        POOL_TEST(key_over_255_characters_is_invalid),
        POOL_TEST(fingerprint_of_other_values_differs),
        POOL_TEST(fingerprint_has_value_of_later_parameter),
        POOL_TEST(fingerprint_of_id_in_other_case_is_equal),
        POOL_TEST(keyed_operation_gets_values_of_operation),
        POOL_TEST(key_scope_is_caller_organization_and_path),
        POOL_TEST(key_scope_of_other_session_differs),
        POOL_TEST(key_of_other_method_than_post_is_ignored),
        POOL_TEST(invalid_body_precedes_invalid_key),
    };

    return RUN_TESTS(tests);
}
