/* SPDX-License-Identifier: Apache-2.0 */

/* Health checks and the data of the status page. The counters are tested in
 * test_metrics.c and over HTTP. */

#include "api_fixture.h"

#include "metrics.h"

#include <sys/mman.h>

static reg_reply_t *ask(fake_host_t *host, reg_api_t api, const char *path)
{
    reg_request_t *request = request_for(host, api, REG_METHOD_GET, path, NULL);

    return reg_serve(request);
}

static void live_without_database_is_200(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {.outcome = REG_UNAVAILABLE}};
    const reg_reply_t *reply = ask(&host, REG_API_HEALTH, "/live");

    assert_int_equal(reply->status, 200);
    assert_text("status", told(*state, reply, "status"), "live");
    assert_int_equal(host.calls, 0);
}

static void ready_follows_database(void **state)
{
    static const reg_outcome_t outcomes[] = {REG_FOUND, REG_NOT_FOUND, REG_UNAVAILABLE,
                                             REG_FAULT};

    for (size_t i = 0; i < LENGTH(outcomes); i++) {
        fake_host_t host = {.pool = *state, .answer = {.outcome = outcomes[i]}};
        const reg_reply_t *reply = ask(&host, REG_API_HEALTH, "/ready");

        assert_int_equal(reply->status, i == 0 ? 200 : 503);
        assert_int_equal(host.calls, 1);
        assert_text("Retry-After", header(reply, "Retry-After"), i == 0 ? NULL : "1");
    }
}

static void status_data_without_database_is_200(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {.outcome = REG_UNAVAILABLE}};
    const reg_reply_t *reply = ask(&host, REG_API_STATUS, "/data");

    assert_int_equal(reply->status, 200);
    assert_text("body", reply->body, "{\"metrics\":null,\"database\":null}");
    host.answer = (reg_answer_t){.outcome = REG_FOUND, .body = "{\"sessions\":[]}"};
    assert_text("body", ask(&host, REG_API_STATUS, "/data")->body,
                "{\"metrics\":null,\"database\":{\"sessions\":[]}}");
}

static void status_data_is_json(void **state)
{
    static const char *const names[] = {"none", "live_register", NULL};
    void *block = mmap(NULL, reg_metrics_size(), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    reg_metrics_t *metrics = reg_metrics_join(*state, block);
    const char *error, *text;

    assert_non_null(
        strstr(reg_metrics_json(*state, metrics, names), "\"operations\":[],"));
    reg_metrics_request(metrics, 0, 404, 1);
    reg_metrics_request(metrics, 1, 201, 1);
    reg_metrics_request(metrics, 1, 409, 20000000);
    reg_metrics_batch(metrics, 3);
    reg_metrics_call(metrics, 1001);
    reg_metrics_error(metrics, "23505");
    reg_metrics_error(metrics, NULL);
    text = reg_metrics_json(*state, metrics, names);
    assert_non_null(reg_json_parse(*state, text, strlen(text), &error));
    assert_non_null(strstr(text, "{\"name\":\"live_register\",\"codes\":{\"201\":1,"
                                 "\"409\":1},\"took\":[1,0,0,0,0,0,0,0,0,0,0,0,0,1]}"));
    assert_non_null(strstr(text, "\"batches\":{\"count\":1,\"sum\":3},"
                                 "\"calls\":[0,1,0,0,0,0,0,0,0,0,0,0,0,0],"
                                 "\"errors\":{\"23\":1,\"none\":1},\"processes\":1,"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(live_without_database_is_200),
        POOL_TEST(ready_follows_database),
        POOL_TEST(status_data_without_database_is_200),
        POOL_TEST(status_data_is_json),
    };

    return RUN_TESTS(tests);
}
