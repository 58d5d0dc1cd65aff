/* SPDX-License-Identifier: Apache-2.0 */
#include "api_fixture.h"

#include "events_cursor.h"

#define A "4c4f93e6-38bb-4a1e-8286-e89f9853cf52"
#define B "0d9f8e7c-6b5a-4948-8372-615049382716"

static const reg_reply_t *search(fake_host_t *host, const char *query)
{
    reg_request_t *request = request_for(host, REG_API_EVENTS, REG_METHOD_GET, "", NULL);

    request->query = query;
    return reg_serve(request);
}

/* A query string, and what the operation is given: limit, page, sort, descending, event,
 * occurrence, status, search, categories, with trashed, organization. */
static const struct {
    const char *query, *given;
} good[] = {
    {NULL, "10, 1, createdAt, true, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"", "10, 1, createdAt, true, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"eventId=" A "&status=CONFIRMED&search=john",
     "10, 1, createdAt, true, " A ", NULL, CONFIRMED, john, NULL, false, NULL"},
    {"limit=1&page=2147483647",
     "1, 2147483647, createdAt, true, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"limit=50", "50, 1, createdAt, true, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"occurrenceId=" B "&withTrashed=1",
     "10, 1, createdAt, true, NULL, " B ", NULL, NULL, NULL, true, NULL"},
    {"search=%25_%5C",
     "10, 1, createdAt, true, NULL, NULL, NULL, %_\\, NULL, false, NULL"},
    {"search=a+b%20c",
     "10, 1, createdAt, true, NULL, NULL, NULL, a b c, NULL, false, NULL"},
    {"search=%C3%89",
     "10, 1, createdAt, true, NULL, NULL, NULL, \xC3\x89, NULL, false, NULL"},
    {"search=", "10, 1, createdAt, true, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"categories=" A,
     "10, 1, createdAt, true, NULL, NULL, NULL, NULL, " A ", false, NULL"},
    {"categories=" A "," B,
     "10, 1, createdAt, true, NULL, NULL, NULL, NULL, " A " " B ", false, NULL"},
    {"categories=" A "&categories=" B,
     "10, 1, createdAt, true, NULL, NULL, NULL, NULL, " A " " B ", false, NULL"},
    {"categories[]=" A "&categories%5B%5D=" B,
     "10, 1, createdAt, true, NULL, NULL, NULL, NULL, " A " " B ", false, NULL"},
    {"categories[7]=" A "&categories[]=" B,
     "10, 1, createdAt, true, NULL, NULL, NULL, NULL, " A " " B ", false, NULL"},
    {"unknown=1&status[]=0&order=x&bom=1",
     "10, 1, createdAt, true, NULL, NULL, NULL, NULL, NULL, false, NULL"},

    {"sort=createdAt",
     "10, 1, createdAt, false, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"sort=createdAt+ASC",
     "10, 1, createdAt, false, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"sort=updatedAt%20DESC",
     "10, 1, updatedAt, true, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"sort=status+DESC",
     "10, 1, status, true, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"sort=startDate",
     "10, 1, startDate, false, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"sort=eventName+ASC",
     "10, 1, eventName, false, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"sort=firstName",
     "10, 1, firstName, false, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"sort=lastName+DESC",
     "10, 1, lastName, true, NULL, NULL, NULL, NULL, NULL, false, NULL"},
    {"sort=email", "10, 1, email, false, NULL, NULL, NULL, NULL, NULL, false, NULL"},
};

static void search_parameters_reach_operation(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "0", "[]"}};

    for (size_t i = 0; i < LENGTH(good); i++) {
        const char *row = good[i].query ? good[i].query : "none";
        const reg_reply_t *reply = search(&host, good[i].query);

        assert_number(row, reply->status, 200);
        assert_text(row, reply->body, "[]");
        assert_text(row, host.called,
                    apr_pstrcat(*state, "events_search(", good[i].given,
                                ", NULL, NULL, NULL, false)", NULL));
    }
}

static void search_with_organization_is_limited_to_it(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "0", "[]"}};
    reg_request_t *request = request_for(&host, REG_API_EVENTS, REG_METHOD_GET, "", NULL);

    request->organization = A;
    reg_serve(request);
    assert_text("organization", host.values[10], A);
}

static void search_with_invalid_parameters_names_all(void **state)
{
    static const struct {
        const char *query, *fields;
    } rows[] = {
        {"limit=0", "limit"},
        {"limit=51", "limit"},
        {"limit=", "limit"},
        {"limit=ten", "limit"},
        {"limit=-1", "limit"},
        {"limit=1.0", "limit"},
        {"limit=99999999999999999999", "limit"},
        {"page=0", "page"},
        {"page=2147483648", "page"},
        {"page=x", "page"},
        {"sort=", "sort"},
        {"sort=id", "sort"},
        {"sort=createdat", "sort"},
        {"sort=createdAt+UP", "sort"},
        {"sort=createdAt+desc", "sort"},
        {"sort=createdAt++DESC", "sort"},
        {"sort=createdAt+DESC+", "sort"},
        {"sort=createdAtDESC", "sort"},
        {"sort=createdAt,email", "sort"},
        {"sort=createdAt%3BDROP+TABLE", "sort"},
        {"eventId=x", "eventId"},
        {"eventId=", "eventId"},
        {"occurrenceId=x", "occurrenceId"},
        {"status=confirmed", "status"},
        {"status=", "status"},
        {"search=%00", "search"},
        {"search=%0A", "search"},
        {"search=%FF", "search"},
        {"categories=x", "categories"},
        {"categories=" A ",x", "categories"},
        {"withTrashed=x", "withTrashed"},
        {"bom=x", "bom"},
        {"categories=", "categories"},
        {"categories[]=,", "categories"},
        {"Limit=1", "limit"},
        {"occurrenceID=" A, "occurrenceId"},
        {"category=" A, "categories"},
        {"with_trashed=1", "withTrashed"},
        {"after=", "after"},
        {"after=x", "after"},
        {"after=%FF", "after"},
        {"limit=0&page=0&sort=x&eventId=x&occurrenceId=x&status=x&search=%FF&categories[]"
         "=x"
         "&withTrashed=x",
         "categories eventId limit occurrenceId page search sort status withTrashed"},
    };
    fake_host_t host = {.pool = *state};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const reg_reply_t *reply = search(&host, rows[i].query);

        assert_number(rows[i].query, reply->status, 400);
        assert_text(rows[i].query, fields_at_fault(*state, reply), rows[i].fields);
        assert_int_equal(host.calls, 0);
    }
}

static void search_text_over_255_characters_is_invalid(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "0", "[]"}};

    for (int length = 255; length <= 256; length++) {
        assert_int_equal(
            search(&host, apr_pstrcat(*state, "search=",
                                      repeated(*state, "%C3%A9", length), NULL))
                ->status,
            length == 255 ? 200 : 400);
    }
}

/* The cursor behind an item of which only the id and the creation are known. */
#define CURSOR_ITEM "{\"id\":\"" A "\",\"createdAt\":\"2025-01-01T00:00:00.000Z\"}"

/* A page and its links to other pages. AFTER stands for the cursor after its last
 * item. */
static void page_links_to_other_pages(void **state)
{
    static const struct {
        const char *query;
        reg_outcome_t outcome;
        const char *total;
        const char *links; /* without the mount, in the order first, prev, next, last */
    } rows[] = {
        {NULL, REG_FOUND, "0", "page=1 first, page=1 last"},
        {NULL, REG_FOUND, "10", "page=1 first, page=1 last"},
        {NULL, REG_MORE, "11", "page=1 first, page=2&AFTER next, page=2 last"},
        {"page=2", REG_FOUND, "11", "page=1 first, page=1 prev, page=2 last"},
        {"limit=3&page=2", REG_MORE, "10",
         "limit=3&page=1 first, limit=3&page=1 prev, limit=3&page=3&AFTER next, "
         "limit=3&page=4 last"},
        {"page=2&limit=3", REG_MORE, "10",
         "limit=3&page=1 first, limit=3&page=1 prev, limit=3&page=3&AFTER next, "
         "limit=3&page=4 last"},

        /* Beyond the last: before it is the last. */
        {"page=7", REG_FOUND, "11", "page=1 first, page=2 prev, page=2 last"},
        {"page=7", REG_FOUND, "0", "page=1 first, page=1 prev, page=1 last"},

        /* The total is not counted. */
        {"limit=50", REG_MORE, NULL, "limit=50&page=1 first, limit=50&page=2&AFTER next"},
        {"page=2147483647", REG_MORE, NULL,
         "page=1 first, page=2147483646 prev, page=2147483647&AFTER next"},

        /* The other parameters are kept, once; the page is replaced. */
        {"search=a+b%26&status=PENDING&status=CONFIRMED&bom=1", REG_MORE, NULL,
         "status=CONFIRMED&search=a+b%26&bom=1&page=1 first, "
         "status=CONFIRMED&search=a+b%26&bom=1&page=2&AFTER next"},
        {"page=3&pagination=1&page=2", REG_FOUND, NULL, "page=1 first, page=1 prev"},
        {"categories[]=" A "," B "&categories=" B, REG_FOUND, "0",
         "categories=" A "%2c" B "%2c" B "&page=1 first, "
         "categories=" A "%2c" B "%2c" B "&page=1 last"},

        /* Nothing gets out of the link, nor looks like its end to a simple reader. */
        {"search=a,b;c", REG_FOUND, NULL, "search=a%2cb%3bc&page=1 first"},
        {"search=>rel=\"next\"<y\\", REG_FOUND, NULL,
         "search=%3erel%3d%22next%22%3cy%5c&page=1 first"},
        {"search=%C3%A9", REG_FOUND, NULL, "search=%c3%a9&page=1 first"},
        {"x=y&search=", REG_FOUND, NULL, "page=1 first"},
    };
    const reg_position_t last = {.id = A, .time = "2025-01-01T00:00:00.000Z"};
    const char *after = apr_pstrcat(
        *state, "&after=", reg_events_cursor(*state, "createdAt", "true", &last), NULL);

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row = rows[i].query ? rows[i].query : "none";
        fake_host_t host = {
            .pool = *state,
            .answer = {rows[i].outcome, rows[i].total, "[{},\n" CURSOR_ITEM "]"}};
        const reg_reply_t *reply = search(&host, rows[i].query);
        const char *links = "";
        char *wanted = apr_pstrdup(*state, rows[i].links);
        char *rest;

        for (char *link = apr_strtok(wanted, " ", &rest); link;
             link = apr_strtok(NULL, " ", &rest)) {
            char *relation = apr_strtok(NULL, ", ", &rest);
            char *cursor = strstr(link, "&AFTER");

            if (cursor) {
                *cursor = '\0';
            }
            links = apr_psprintf(*state, "%s%s</mount?%s%s>; rel=\"%s\"", links,
                                 *links ? ", " : "", link, cursor ? after : "", relation);
        }
        assert_text(row, header(reply, "Link"), links);
        assert_text(row, header(reply, "X-Total-Count"), rows[i].total);
        assert_text(row, header(reply, "ETag"), NULL);
    }
}

static void empty_page_of_unknown_total_links_to_first_only(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, NULL, "[]"}};

    assert_text("Link", header(search(&host, "page=7"), "Link"),
                "</mount?page=1>; rel=\"first\"");
}

static void page_with_long_parameters_has_one_link(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_MORE, "100", "[" CURSOR_ITEM "]"}};

    for (int count = 50; count <= 100; count += 50) {
        const char *query = apr_pstrcat(
            *state, "page=3&categories=", repeated(*state, A ",", count), NULL);
        const char *links = header(search(&host, query), "Link");
        int relations = 0;

        for (const char *link = links; (link = strstr(link, "rel=")) != NULL; link++) {
            relations++;
        }
        assert_number("relations", relations, count == 50 ? 4 : 1);
        assert_non_null(strstr(links, "rel=\"next\""));
        assert_true(strlen(links) < strlen(query) * 11 / 10 + 9000);
    }
}

/* The cursor takes the place of the page's number. */
static void page_with_cursor_begins_after_it(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "0", "[]"}};
    const reg_position_t place = {.id = A, .text = "Caf\xC3\xA9"};
    const char *cursor = reg_events_cursor(*state, "eventName", "true", &place);
    const char *query =
        apr_pstrcat(*state, "page=7&sort=eventName+DESC&after=", cursor, NULL);

    assert_int_equal(search(&host, query)->status, 200);
    assert_text("after", host.called,
                "events_search(10, 1, eventName, true, NULL, NULL, NULL, NULL, NULL, "
                "false, NULL, NULL, " A ", Caf\xC3\xA9, false)");
    host.answer = (reg_answer_t){REG_INVALID, NULL, NULL};
    assert_int_equal(search(&host, query)->status, 400);
    assert_text("gone", fields_at_fault(*state, search(&host, query)), "after");
}

static void failed_search_has_no_links(void **state)
{
    static const struct {
        reg_outcome_t outcome;
        int status;
    } rows[] = {{REG_UNAVAILABLE, 503}, {REG_FAULT, 500}, {REG_BAD_DATA, 400}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state, .answer = {rows[i].outcome, NULL, NULL}};
        const reg_reply_t *reply = search(&host, NULL);

        assert_int_equal(reply->status, rows[i].status);
        assert_text("Link", header(reply, "Link"), NULL);
        assert_text("X-Total-Count", header(reply, "X-Total-Count"), NULL);
    }
}

static void maximum_page_size_below_default_is_used(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "0", "[]"}};
    reg_request_t *request = request_for(&host, REG_API_EVENTS, REG_METHOD_GET, "", NULL);
    const reg_settings_t settings = {.max_page_size = 5};

    request->settings = &settings;
    assert_int_equal(reg_serve(request)->status, 200);
    assert_text("limit", host.values[0], "5");
}

/*
 * Other forms
 */

#define FIRST                                                                            \
    "{\"id\":\"" A "\",\"createdAt\":\"2025-01-01T00:00:00.000Z\","                      \
    "\"updatedAt\":\"2025-01-02T00:00:00.000Z\",\"status\":\"CONFIRMED\","               \
    "\"fields\":{\"id\": \"a, \\\"b\\\"\", \"n\": 1e400},"                               \
    "\"user\":{\"id\":\"" B "\",\"email\":null,\"firstName\":\"=1\\t\\u001f\\/\","       \
    "\"lastName\":\"\",\"role\":\"\xC3\x89\"},\"occurrence\":{\"id\":\"o\"},\"event\":{" \
    "\"name\":\"n\"},\"organization\":null}"
#define SECOND                                                                           \
    "{\"id\":\"" B "\",\"createdAt\":\"2025-01-03T00:00:00.000Z\",\"deletedAt\":\"d\"}"

#define HEADINGS                                                                         \
    "id,createdAt,updatedAt,deletedAt,status,user.id,user.email,user.firstName,"         \
    "user.lastName,user.role,occurrence.id,occurrence.startDate,occurrence.endDate,"     \
    "event.id,event.name,organization.id,organization.name,fields\r\n"
#define FIRST_ROW                                                                        \
    "\"" A                                                                               \
    "\",\"2025-01-01T00:00:00.000Z\",\"2025-01-02T00:00:00.000Z\",,\"CONFIRMED\","       \
    "\"" B "\",,\"'=1\t\x1f/\",\"\",\"\xC3\x89\",\"o\",,,,\"n\",,,"                      \
    "\"{\"\"id\"\": \"\"a, \\\"\"b\\\"\"\"\", \"\"n\"\": 1e400}\"\r\n"
#define SECOND_ROW "\"" B "\",\"2025-01-03T00:00:00.000Z\",,\"d\",,,,,,,,,,,,,,\r\n"

static const char both[] = "[" FIRST ",\n" SECOND "]";

static reg_reply_t *search_as(fake_host_t *host, const char *accept, const char *query)
{
    reg_request_t *request = request_for(host, REG_API_EVENTS, REG_METHOD_GET, "", NULL);

    request->accept = accept;
    request->query = query;
    return reg_serve(request);
}

static void list_has_accepted_format(void **state)
{
    static const struct {
        const char *accept, *array, *content_type, *body;
    } rows[] = {
        {NULL, both, "application/json; charset=utf-8", both},
        {"text/csv", both, "text/csv; charset=utf-8; header=present",
         HEADINGS FIRST_ROW SECOND_ROW},
        {"application/x-ndjson", both, "application/x-ndjson; charset=utf-8",
         FIRST "\n" SECOND "\n"},
        {"application/json", "[]", "application/json; charset=utf-8", "[]"},
        {"text/csv", "[]", "text/csv; charset=utf-8; header=present", HEADINGS},
        {"application/x-ndjson", "[]", "application/x-ndjson; charset=utf-8", ""},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        for (int whole = 0; whole < 2; whole++) {
            fake_host_t host = {.pool = *state,
                                .answer = {REG_FOUND, "2", rows[i].array}};
            const reg_reply_t *reply =
                search_as(&host, rows[i].accept, whole ? NULL : "limit=2");
            const char *row = rows[i].accept ? rows[i].accept : "none";
            int is_page = !whole || reply->content_type[12] == 'j';

            assert_number(row, reply->status, 200);
            assert_text(row, reply->body, rows[i].body);
            assert_text(row, reply->content_type, rows[i].content_type);
            assert_text(row, header(reply, "Vary"), "Accept");
            assert_text(row, header(reply, "X-Total-Count"), "2");
            assert_number(row, header(reply, "Link") != NULL, is_page);
            assert_number(row, header(reply, "Content-Disposition") != NULL,
                          *reply->content_type == 't');
            assert_null(reply->more);
        }
    }
}

static void csv_list_with_bom_parameter_starts_with_bom(void **state)
{
    static const struct {
        const char *accept, *query, *body;
    } rows[] = {
        {"text/csv", "bom=true", "\xEF\xBB\xBF" HEADINGS FIRST_ROW SECOND_ROW},
        {"text/csv", "bom=1&limit=2", "\xEF\xBB\xBF" HEADINGS FIRST_ROW SECOND_ROW},
        {"text/csv", "bom=false", HEADINGS FIRST_ROW SECOND_ROW},
        {"application/x-ndjson", "bom=true", FIRST "\n" SECOND "\n"},
        {NULL, "bom=true", both},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state, .answer = {REG_MORE, NULL, both}};
        reg_reply_t *reply = search_as(&host, rows[i].accept, rows[i].query);

        assert_text(rows[i].query, reply->body, rows[i].body);
        if (reply->more) { /* once */
            assert_true(reply->more(reply, *state));
            assert_true(strncmp(reply->body, "\xEF", 1) != 0);
        }
    }
}

static void error_of_csv_list_is_json(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_UNAVAILABLE, NULL, NULL}};

    assert_text("503", search_as(&host, "text/csv", NULL)->content_type,
                "application/json; charset=utf-8");
    assert_text("400", search_as(&host, "text/csv", "limit=0")->content_type,
                "application/json; charset=utf-8");
}

/* A page, and whatever is JSON, does not need one. */
static void whole_list_without_thread_is_503(void **state)
{
    static const struct {
        const char *accept, *query;
        int status;
    } rows[] = {
        {"text/csv", NULL, 503},
        {"application/x-ndjson", "search=abc", 503},
        {"text/csv", "limit=2", 200},
        {"application/x-ndjson", "page=2", 200},
        {NULL, NULL, 200},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {
            .pool = *state, .answer = {REG_FOUND, "2", both}, .has_no_thread = 1};
        const reg_reply_t *reply = search_as(&host, rows[i].accept, rows[i].query);

        assert_number(rows[i].accept, reply->status, rows[i].status);
        assert_number(rows[i].accept, host.calls, rows[i].status == 200);
        assert_number(rows[i].accept, header(reply, "Retry-After") != NULL,
                      rows[i].status == 503);
    }
}

/* What the operation is given after "events_search(limit, 1, createdAt, " */
#define NOWHERE "NULL, NULL, NULL, NULL, NULL, false, NULL, "

static void whole_list_is_read_in_parts(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_MORE, NULL, both}};
    reg_reply_t *reply = search_as(&host, "text/csv", "sort=createdAt+ASC");

    assert_text("first", host.called,
                "events_search(50, 1, createdAt, false, " NOWHERE
                "NULL, NULL, NULL, true)");
    assert_text("first", reply->body, HEADINGS FIRST_ROW SECOND_ROW);
    assert_non_null(reply->more);

    host.answer.body = "[" FIRST "]";
    assert_true(reply->more(reply, *state));
    assert_text("second", host.called,
                "events_search(50, 1, createdAt, false, " NOWHERE
                "2025-01-03T00:00:00.000Z, " B ", NULL, true)");
    assert_text("second", reply->body, FIRST_ROW);

    host.answer = (reg_answer_t){REG_FOUND, NULL, "[]"};
    assert_true(reply->more(reply, *state));
    assert_text("last", host.called,
                "events_search(50, 1, createdAt, false, " NOWHERE
                "2025-01-01T00:00:00.000Z, " A ", NULL, true)");
    assert_text("last", reply->body, "");
    assert_null(reply->more);
}

static void part_of_list_is_limited_in_size(void **state)
{
    static const reg_settings_t settings = {.max_page_size = 1000};
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "0", "[]"}};
    reg_request_t *request = request_for(&host, REG_API_EVENTS, REG_METHOD_GET, "", NULL);

    request->settings = &settings;
    request->accept = "text/csv";
    reg_serve(request);
    assert_text("whole", host.values[0], "250");
    request->query = "limit=1000";
    reg_serve(request);
    assert_text("page", host.values[0], "1000");
}

static void whole_list_failing_between_parts_is_cut_off(void **state)
{
    static const reg_answer_t answers[] = {
        {REG_UNAVAILABLE, NULL, NULL}, {REG_FAULT, NULL, NULL}, {REG_MORE, NULL, NULL}};

    for (size_t i = 0; i < LENGTH(answers); i++) {
        fake_host_t host = {.pool = *state, .answer = {REG_MORE, NULL, both}};
        reg_reply_t *reply = search_as(&host, "application/x-ndjson", NULL);

        host.answer = answers[i];
        assert_false(reply->more(reply, *state));
    }
}

static void page_in_parts_ends_at_page_size(void **state)
{
    static const struct {
        const char *accept, *query;
    } rows[] = {{NULL, NULL},
                {"text/csv", "limit=2"},
                {"text/csv", "page=1"},
                {"application/x-ndjson", "x&page=1"}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state, .answer = {REG_MORE, NULL, both}};

        assert_null(search_as(&host, rows[i].accept, rows[i].query)->more);
    }
}

static void whole_list_is_sorted_by_constant_columns(void **state)
{
    static const struct {
        const char *query;
        int status;
    } rows[] = {{"sort=createdAt", 200},         {"sort=createdAt+DESC", 200},
                {"sort=createdAt+ASC", 200},     {"sort=createdAt+UP", 400},
                {"sort=createdAtt", 400},        {"sort=updatedAt+DESC", 400},
                {"sort=updatedAt&limit=1", 200}, {"sort=email&page=1", 200}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "0", "[]"}};
        const reg_reply_t *reply = search_as(&host, "text/csv", rows[i].query);

        assert_number(rows[i].query, reply->status, rows[i].status);
        if (rows[i].status == 400) {
            assert_text(rows[i].query, fields_at_fault(*state, reply), "sort");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(search_parameters_reach_operation),
        POOL_TEST(search_with_organization_is_limited_to_it),
        POOL_TEST(search_with_invalid_parameters_names_all),
        POOL_TEST(search_text_over_255_characters_is_invalid),
        POOL_TEST(page_links_to_other_pages),
        POOL_TEST(empty_page_of_unknown_total_links_to_first_only),
        POOL_TEST(page_with_long_parameters_has_one_link),
        POOL_TEST(page_with_cursor_begins_after_it),
        POOL_TEST(csv_list_with_bom_parameter_starts_with_bom),
        POOL_TEST(failed_search_has_no_links),
        POOL_TEST(maximum_page_size_below_default_is_used),
        POOL_TEST(list_has_accepted_format),
        POOL_TEST(error_of_csv_list_is_json),
        POOL_TEST(whole_list_without_thread_is_503),
        POOL_TEST(whole_list_is_read_in_parts),
        POOL_TEST(part_of_list_is_limited_in_size),
        POOL_TEST(whole_list_failing_between_parts_is_cut_off),
        POOL_TEST(page_in_parts_ends_at_page_size),
        POOL_TEST(whole_list_is_sorted_by_constant_columns),
    };

    return RUN_TESTS(tests);
}
