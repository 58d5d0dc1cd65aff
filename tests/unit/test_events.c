/* SPDX-License-Identifier: Apache-2.0 */

/* Create, get, update, delete. Search is in test_events_search.c. */

#include "api_fixture.h"

#define OCCURRENCE "123e4567-e89b-12d3-a456-426614174001"
#define ID "4c4f93e6-38bb-4a1e-8286-e89f9853cf52"
#define ORGANIZATION "987e6543-e21a-34b5-c678-426614174000"
#define REQUIRED "\"occurrenceId\":\"" OCCURRENCE "\",\"externalUserId\":\"u\""
#define FIELDS(fields) "{" REQUIRED ",\"fields\":" fields "}"

/*
 * Create
 */

/* A body, and what the operation is given: id, occurrence, user, fields, id for a new
 * user and its e-mail, first and last name and phone, organization. */
static const struct {
    const char *organization, *body, *called;
} good[] = {
    {NULL,
     "{\"occurrenceId\":\"" OCCURRENCE
     "\",\"externalUserId\":\"ext_user_12345\",\"fields\":{"
     "\"email\":\"john@example.org\",\"firstName\":\"John\",\"lastName\":\"Doe\","
     "\"company\":\"Tech Corp\",\"role\":\"Developer\"}}",
     "events_create(<id>, " OCCURRENCE
     ", ext_user_12345, {\"email\":\"john@example.org\","
     "\"firstName\":\"John\",\"lastName\":\"Doe\",\"company\":\"Tech Corp\","
     "\"role\":\"Developer\"}, <id>, john@example.org, John, Doe, NULL, NULL)"},
    {ORGANIZATION, "{" REQUIRED "}",
     "events_create(<id>, " OCCURRENCE
     ", u, NULL, <id>, NULL, NULL, NULL, NULL, " ORGANIZATION ")"},
    {NULL, "{" REQUIRED ",\"status\":\"ATTENDED\",\"id\":1}",
     "events_create(<id>, " OCCURRENCE ", u, NULL, <id>, NULL, NULL, NULL, NULL, NULL)"},
    {NULL, FIELDS("{}"),
     "events_create(<id>, " OCCURRENCE ", u, {}, <id>, NULL, NULL, NULL, NULL, NULL)"},

    /* Any fields are stored; only well-formed ones are used for a new user. */
    {NULL,
     FIELDS("{\"email\":\"no address\",\"firstName\":1,\"lastName\":null,\"phone\":[]}"),
     "events_create(<id>, " OCCURRENCE ", u, {\"email\":\"no address\",\"firstName\":1,"
     "\"lastName\":null,\"phone\":[]}, <id>, NULL, NULL, NULL, NULL, NULL)"},
    {NULL,
     FIELDS("{\"firstName\":\"a\\tb\",\"lastName\":\"\xC3\x89\",\"phone\":\"+"
            "19195551212\"}"),
     "events_create(<id>, " OCCURRENCE
     ", u, {\"firstName\":\"a\\tb\",\"lastName\":\"\xC3\x89\","
     "\"phone\":\"+19195551212\"}, <id>, NULL, NULL, \xC3\x89, +19195551212, NULL)"},
    {NULL, FIELDS("{ \"n\":[0.10,12345678901234567890] , \"x\":{\"email\":\"a@b\"}}"),
     "events_create(<id>, " OCCURRENCE ", u, { \"n\":[0.10,12345678901234567890] , "
     "\"x\":{\"email\":\"a@b\"}}, <id>, NULL, NULL, NULL, NULL, NULL)"},
};

static void valid_event_registration_is_created(void **state)
{
    for (size_t i = 0; i < LENGTH(good); i++) {
        fake_host_t host = {.pool = *state,
                            .answer = {REG_CREATED, "1", "{\"id\":\"of the body\"}"}};
        const char *row = good[i].body;
        reg_request_t *request =
            request_for(&host, REG_API_EVENTS, REG_METHOD_POST, "", row);
        const reg_reply_t *reply;

        request->organization = good[i].organization;
        reply = reg_serve(request);
        assert_number(row, reply->status, 201);
        assert_text(row, reply->body, "{\"id\":\"of the body\"}");
        assert_text(row, host.called, good[i].called);
        assert_text(row, header(reply, "Location"), "/mount/of the body");
        assert_number(row, strncmp(header(reply, "ETag"), "\"1-", 3), 0);
        assert_string_not_equal(host.values[0], host.values[4]);
    }
}

/* A body with something wrong in it, and the fields named for it. */
static const struct {
    const char *body, *fields;
} bad[] = {
    {"{}", "externalUserId occurrenceId"},
    {"{\"externalUserId\":\"u\"}", "occurrenceId"},
    {"{\"occurrenceId\":\"" OCCURRENCE "\"}", "externalUserId"},
    {"{\"occurrenceId\":\"x\",\"externalUserId\":\"u\"}", "occurrenceId"},
    {"{\"occurrenceId\":null,\"externalUserId\":\"u\"}", "occurrenceId"},
    {"{\"occurrenceId\":1,\"externalUserId\":\"u\"}", "occurrenceId"},
    {"{\"occurrenceId\":\"" OCCURRENCE "\",\"externalUserId\":\"\"}", "externalUserId"},
    {"{\"occurrenceId\":\"" OCCURRENCE "\",\"externalUserId\":null}", "externalUserId"},
    {"{\"occurrenceId\":\"" OCCURRENCE "\",\"externalUserId\":12345}", "externalUserId"},
    {"{\"occurrenceId\":\"" OCCURRENCE "\",\"externalUserId\":\"a\\nb\"}",
     "externalUserId"},
    {FIELDS("null"), "fields"},
    {FIELDS("[]"), "fields"},
    {FIELDS("\"{}\""), "fields"},
    {FIELDS("1"), "fields"},
    {"{\"occurrenceId\":\"\",\"externalUserId\":{},\"fields\":true}",
     "externalUserId fields occurrenceId"},
};

static void invalid_event_fields_are_all_named(void **state)
{
    fake_host_t host = {.pool = *state};

    for (size_t i = 0; i < LENGTH(bad); i++) {
        const char *row = bad[i].body;
        const reg_reply_t *reply =
            reg_serve(request_for(&host, REG_API_EVENTS, REG_METHOD_POST, "", row));

        assert_number(row, reply->status, 400);
        assert_text(row, fields_at_fault(*state, reply), bad[i].fields);
        assert_int_equal(host.calls, 0);
    }
}

static void external_user_id_over_255_characters_is_invalid(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, "1", "{}"}};

    for (int length = 255; length <= 256; length++) {
        const char *body = apr_pstrcat(
            *state, "{\"occurrenceId\":\"" OCCURRENCE "\",\"externalUserId\":\"",
            repeated(*state, "\xE6\x97\xA5", length), "\"}", NULL);

        assert_int_equal(
            reg_serve(request_for(&host, REG_API_EVENTS, REG_METHOD_POST, "", body))
                ->status,
            length == 255 ? 201 : 400);
    }
}

/*
 * Get, update, delete
 */

static const struct {
    reg_method_t method;
    const char *query, *body, *if_match, *called;
} calls[] = {
    {REG_METHOD_GET, NULL, NULL, NULL, "events_get(" ID ", false, " ORGANIZATION ")"},
    {REG_METHOD_GET, "withTrashed=true", NULL, NULL,
     "events_get(" ID ", true, " ORGANIZATION ")"},
    {REG_METHOD_GET, "withTrashed=1&x=%zz", NULL, NULL,
     "events_get(" ID ", true, " ORGANIZATION ")"},
    {REG_METHOD_GET, "withTrashed=0", NULL, "*",
     "events_get(" ID ", false, " ORGANIZATION ")"},

    {REG_METHOD_PUT, NULL, "{}", NULL,
     "events_update(" ID ", NULL, NULL, NULL, " ORGANIZATION ", <id>)"},
    {REG_METHOD_PUT, "withTrashed=maybe", "{\"id\":1,\"user\":null}", NULL,
     "events_update(" ID ", NULL, NULL, NULL, " ORGANIZATION ", <id>)"},
    {REG_METHOD_PUT, NULL,
     "{\"status\":\"ATTENDED\",\"fields\":{\"ticketType\":\"VIP\",\"notes\":null}}", "*",
     "events_update(" ID
     ", ATTENDED, {\"ticketType\":\"VIP\",\"notes\":null}, NULL, " ORGANIZATION
     ", <id>)"},
    {REG_METHOD_PUT, NULL, "{\"status\":\"PENDING\"}", "\"7-abc\", \"8-def\"",
     "events_update(" ID ", PENDING, NULL, 7 8, " ORGANIZATION ", <id>)"},
    {REG_METHOD_PUT, NULL, "{\"status\":\"CONFIRMED\"}", "W/\"7-abc\"",
     "events_update(" ID ", CONFIRMED, NULL, , " ORGANIZATION ", <id>)"},
    {REG_METHOD_PUT, NULL, "{\"status\":\"CANCELLED\"}", NULL,
     "events_update(" ID ", CANCELLED, NULL, NULL, " ORGANIZATION ", <id>)"},
    {REG_METHOD_PUT, NULL, "{\"status\":\"WAITING_LIST\"}", NULL,
     "events_update(" ID ", WAITING_LIST, NULL, NULL, " ORGANIZATION ", <id>)"},

    {REG_METHOD_DELETE, NULL, NULL, NULL,
     "events_delete(" ID ", false, NULL, " ORGANIZATION ", <id>)"},
    {REG_METHOD_DELETE, "withTrashed=true", NULL, "\"3-0\"",
     "events_delete(" ID ", true, 3, " ORGANIZATION ", <id>)"},
};

static void event_request_values_reach_operation(void **state)
{
    static const reg_outcome_t outcomes[] = {[REG_METHOD_GET] = REG_FOUND,
                                             [REG_METHOD_PUT] = REG_UPDATED,
                                             [REG_METHOD_DELETE] = REG_DELETED};

    for (size_t i = 0; i < LENGTH(calls); i++) {
        fake_host_t host = {.pool = *state,
                            .answer = {outcomes[calls[i].method], "12", "{\"a\":1}"}};
        reg_request_t *request =
            request_for(&host, REG_API_EVENTS, calls[i].method, "/" ID, calls[i].body);
        const reg_reply_t *reply;

        request->query = calls[i].query;
        request->if_match = calls[i].if_match;
        request->organization = ORGANIZATION;
        reply = reg_serve(request);
        assert_text(calls[i].called, host.called, calls[i].called);
        assert_number(calls[i].called, reply->status, 200);
        assert_text(calls[i].called, reply->body, "{\"a\":1}");
        if (calls[i].method != REG_METHOD_DELETE) {
            assert_number(calls[i].called, strncmp(header(reply, "ETag"), "\"12-", 4), 0);
        }
        assert_text(calls[i].called, header(reply, "Location"), NULL);
    }
}

static void invalid_event_request_names_fault(void **state)
{
    static const struct {
        reg_method_t method;
        const char *path, *query, *body, *fields;
    } rows[] = {
        {REG_METHOD_GET, "/x", NULL, NULL, "id"},
        {REG_METHOD_GET, "/" ID "0", NULL, NULL, "id"},
        {REG_METHOD_GET, "/" ID, "withTrashed=yes", NULL, "withTrashed"},
        {REG_METHOD_GET, "/x", "withTrashed=", NULL, "id withTrashed"},
        {REG_METHOD_PUT, "/x", NULL, "{}", "id"},
        {REG_METHOD_PUT, "/" ID, NULL, "{\"status\":\"GONE\"}", "status"},
        {REG_METHOD_PUT, "/" ID, NULL, "{\"status\":\"confirmed\"}", "status"},
        {REG_METHOD_PUT, "/" ID, NULL, "{\"status\":\"\"}", "status"},
        {REG_METHOD_PUT, "/" ID, NULL, "{\"status\":null}", "status"},
        {REG_METHOD_PUT, "/" ID, NULL, "{\"status\":1}", "status"},
        {REG_METHOD_PUT, "/" ID, NULL, "{\"fields\":null}", "fields"},
        {REG_METHOD_PUT, "/" ID, NULL, "{\"fields\":[]}", "fields"},
        {REG_METHOD_PUT, "/x", NULL, "{\"fields\":1,\"status\":1}", "fields id status"},
        {REG_METHOD_DELETE, "/x", NULL, NULL, "id"},
        {REG_METHOD_DELETE, "/x", "withTrashed=2", NULL, "id withTrashed"},
    };
    fake_host_t host = {.pool = *state};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row = apr_psprintf(*state, "row %d: %s", (int)i, rows[i].fields);
        reg_request_t *request = request_for(&host, REG_API_EVENTS, rows[i].method,
                                             rows[i].path, rows[i].body);
        const reg_reply_t *reply;

        request->query = rows[i].query;
        reply = reg_serve(request);
        assert_number(row, reply->status, 400);
        assert_text(row, fields_at_fault(*state, reply), rows[i].fields);
        assert_int_equal(host.calls, 0);
    }
}

/*
 * Outcomes
 */

static void event_outcome_has_status_and_message(void **state)
{
    static const struct {
        reg_method_t method;
        reg_outcome_t outcome;
        int status;
        const char *message; /* where it is fixed */
    } rows[] = {
        {REG_METHOD_POST, REG_NOT_FOUND, 404, "Occurrence not found"},
        {REG_METHOD_POST, REG_DUPLICATE, 409, NULL},
        {REG_METHOD_POST, REG_FULL, 409, "Occurrence is full"},
        {REG_METHOD_POST, REG_BAD_DATA, 400, NULL},
        {REG_METHOD_GET, REG_NOT_FOUND, 404, "Registration not found"},
        {REG_METHOD_GET, REG_UNAVAILABLE, 503, NULL},
        {REG_METHOD_PUT, REG_NOT_FOUND, 404, "Registration not found"},
        {REG_METHOD_PUT, REG_CHANGED, 412, NULL},
        {REG_METHOD_PUT, REG_DUPLICATE, 409, NULL},
        {REG_METHOD_PUT, REG_FULL, 409, "Occurrence is full"},
        {REG_METHOD_PUT, REG_NO_WAITING_LIST, 409, NULL},
        {REG_METHOD_PUT, REG_FAULT, 500, NULL},
        {REG_METHOD_DELETE, REG_NOT_FOUND, 404, "Registration not found"},
        {REG_METHOD_DELETE, REG_CHANGED, 412, NULL},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row = apr_psprintf(*state, "row %d", (int)i);
        fake_host_t host = {.pool = *state, .answer = {rows[i].outcome, NULL, NULL}};
        const reg_reply_t *reply =
            reg_serve(request_for(&host, REG_API_EVENTS, rows[i].method,
                                  rows[i].method == REG_METHOD_POST ? "" : "/" ID,
                                  rows[i].method == REG_METHOD_POST  ? "{" REQUIRED "}"
                                  : rows[i].method == REG_METHOD_PUT ? "{}"
                                                                     : NULL));

        assert_number(row, reply->status, rows[i].status);
        if (rows[i].message) {
            assert_text(row, told(*state, reply, "message"), rows[i].message);
        }
        assert_number(row, strncmp(reply->body, "{\"statusCode\":", 14), 0);
        assert_text(row, fields_at_fault(*state, reply), "");
        assert_text(row, header(reply, "ETag"), NULL);
        assert_text(row, header(reply, "Location"), NULL);
    }
}

static void get_with_current_etag_is_304(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "3", "{\"a\":1}"}};
    const char *tag = header(
        reg_serve(request_for(&host, REG_API_EVENTS, REG_METHOD_GET, "/" ID, NULL)),
        "ETag");
    const struct {
        const char *if_none_match;
        const char *body; /* as it is now */
        int status;
    } rows[] = {
        {tag, "{\"a\":1}", 304},
        {"*", "{\"a\":1}", 304},
        {apr_pstrcat(*state, "\"x\", W/", tag, NULL), "{\"a\":1}", 304},
        {tag, "{\"a\":2}",
         200}, /* the same version, but the occurrence's count changed */
        {"\"3-0\"", "{\"a\":1}", 200},
        {NULL, "{\"a\":1}", 200},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        reg_request_t *request =
            request_for(&host, REG_API_EVENTS, REG_METHOD_GET, "/" ID, NULL);
        const char *row = rows[i].if_none_match ? rows[i].if_none_match : "none";
        const reg_reply_t *reply;

        request->if_none_match = rows[i].if_none_match;
        host.answer.body = rows[i].body;
        reply = reg_serve(request);
        assert_number(row, reply->status, rows[i].status);
        assert_text(row, reply->body, rows[i].status == 304 ? NULL : rows[i].body);
        assert_non_null(header(reply, "ETag"));
    }
}

/* The operation compares the tag; its result is returned whatever tag the client has. */
static void write_with_current_etag_is_never_304(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_UPDATED, "3", "{\"a\":1}"}};
    reg_request_t *request =
        request_for(&host, REG_API_EVENTS, REG_METHOD_PUT, "/" ID, "{}");

    request->if_none_match = "*";
    assert_int_equal(reg_serve(request)->status, 200);
    assert_text("excluded", host.values[6 + 2], "*");
    assert_text("most bytes", host.values[6 + 3], "65536");
}

static void outcome_too_large_names_field_and_limit(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_TOO_LARGE, "fields", NULL}};
    const reg_reply_t *reply = reg_serve(
        request_for(&host, REG_API_EVENTS, REG_METHOD_PUT, "/" ID, "{\"fields\":{}}"));

    assert_int_equal(reply->status, 400);
    assert_text("named", fields_at_fault(*state, reply), "fields");
    assert_non_null(strstr(reply->body, "65536"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(valid_event_registration_is_created),
        POOL_TEST(invalid_event_fields_are_all_named),
        POOL_TEST(external_user_id_over_255_characters_is_invalid),
        POOL_TEST(event_request_values_reach_operation),
        POOL_TEST(invalid_event_request_names_fault),
        POOL_TEST(event_outcome_has_status_and_message),
        POOL_TEST(get_with_current_etag_is_304),
        POOL_TEST(write_with_current_etag_is_never_304),
        POOL_TEST(outcome_too_large_names_field_and_limit),
    };

    return RUN_TESTS(tests);
}
