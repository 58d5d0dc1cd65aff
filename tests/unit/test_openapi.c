/* SPDX-License-Identifier: Apache-2.0 */

/* The description of the APIs as it is served; what it says is held to the code over
 * HTTP. */

#include "api_fixture.h"

static void openapi_document_is_one_json_object(void **state)
{
    fake_host_t host = {.pool = *state};
    const reg_reply_t *reply =
        reg_serve(request_for(&host, REG_API_OPENAPI, REG_METHOD_GET, "", NULL));

    assert_int_equal(reply->status, 200);
    assert_text("openapi", told(*state, reply, "openapi"), "3.1.1");
    assert_text("Cache-Control", header(reply, "Cache-Control"), "no-cache");
    assert_int_equal(host.calls, 0);
}

static void openapi_document_with_current_etag_is_304(void **state)
{
    fake_host_t host = {.pool = *state};
    reg_request_t *request =
        request_for(&host, REG_API_OPENAPI, REG_METHOD_GET, "", NULL);
    const char *etag = header(reg_serve(request), "ETag");
    const reg_reply_t *reply;

    request->if_none_match = etag;
    reply = reg_serve(request);
    assert_int_equal(reply->status, 304);
    assert_null(reply->body);
    assert_text("ETag", header(reply, "ETag"), etag);
    assert_text("Cache-Control", header(reply, "Cache-Control"), "no-cache");

    request->if_none_match = "\"openapi-0\"";
    assert_int_equal(reg_serve(request)->status, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(openapi_document_is_one_json_object),
        POOL_TEST(openapi_document_with_current_etag_is_304),
    };

    return RUN_TESTS(tests);
}
