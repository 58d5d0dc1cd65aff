/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Event registrations: GET of the collection, a page of what matches; as a table for a
 * spreadsheet (text/csv) or an object a line (application/x-ndjson) all of it, unless a
 * page is asked for.
 */

#include "events.h"
#include "events_forms.h"
#include "json.h"
#include "query.h"
#include "reply.h"

#include <apr_strings.h>
#include <limits.h>
#include <string.h>
#include <sys/param.h>

#define PARAMETERS 13
/* Of those, where a list goes on: behind what was made at this time, with this id. */
#define AFTER_TIME 11
#define AFTER_ID 12

static const reg_operation_t events_search = {
    .name = "events_search", .parameters = PARAMETERS, .alone = 1};

static const reg_rule_t rules[] = {
    {REG_FOUND, {.status = 200}}, {REG_MORE, {.status = 200}}, {0, {0}}};

#define DEFAULT_LIMIT 10
/* Registrations of a whole list that are read at a time: more is hardly faster, and takes
 * more memory. */
#define PART 250
#define DEFAULT_SORT "createdAt DESC"

/* `<field> ASC|DESC`, the direction optional. */
static const char *check_sort(const char *value)
{
    static const char *const fields[] = {"createdAt", "updatedAt", "status",
                                         "startDate", "eventName", "firstName",
                                         "lastName",  "email"};

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        apr_size_t length = strlen(fields[i]);
        const char *direction = value + length;

        if (strncmp(value, fields[i], length) == 0
            && (!*direction || strcmp(direction, " ASC") == 0
                || strcmp(direction, " DESC") == 0)) {
            return NULL;
        }
    }
    return "must be a field and perhaps ASC or DESC: createdAt, updatedAt, status, "
           "startDate, eventName, firstName, lastName, email";
}

/* Of a whole list. What it is sorted by must not change while it is read. */
static const char *check_whole_sort(const char *value)
{
    return strcmp(value, "createdAt") == 0 || strncmp(value, "createdAt ", 10) == 0
               ? check_sort(value)
               : "must be createdAt, perhaps with ASC or DESC, unless there is a limit";
}

/* The parameters of the request but for the page, ready to have one put behind them. What
 * could end the link they go into, or what clients that split the header too simply take
 * for its end, is escaped. */
static const char *other_parameters(const reg_request_t *request)
{
    const char *query = request->query ? request->query : "";
    char *text = apr_palloc(request->pool, strlen(query) * 3 + 2);
    char *end = text;

    while (*query) {
        apr_size_t length = strcspn(query, "&");
        int is_page = strncmp(query, "page", 4) == 0 && (length == 4 || query[4] == '=');

        for (apr_size_t i = 0; i < length && !is_page; i++) {
            unsigned char c = (unsigned char)query[i];
            int unsafe = c <= ' ' || c >= 0x7F || strchr("<>\"\\,;", c);

            end += apr_snprintf(end, 4, unsafe ? "%%%02X" : "%c", c);
        }
        if (length && !is_page) {
            *end++ = '&';
        }
        query += length + (query[length] == '&');
    }
    *end = '\0';
    return text;
}

/* The Link header (RFC 8288): first, prev, next and, where the total is known, last. */
static const char *links(const reg_request_t *request, int limit, int page, int more,
                         const char *total)
{
    const char *parameters = other_parameters(request);
    apr_int64_t pages = total ? (apr_atoi64(total) + limit - 1) / limit : 0;
    const struct {
        const char *relation;
        apr_int64_t page; /* 0 where there is none */
    } relations[] = {{"first", 1},
                     {"prev", page - 1},
                     {"next", more && page < INT_MAX ? page + 1 : 0},
                     {"last", total && pages == 0 ? 1 : pages}};
    const char *header = "";

    for (size_t i = 0; i < sizeof(relations) / sizeof(relations[0]); i++) {
        if (relations[i].page) {
            header = apr_psprintf(request->pool,
                                  "%s%s<%s?%spage=%" APR_INT64_T_FMT ">; rel=\"%s\"",
                                  header, *header ? ", " : "", request->mount, parameters,
                                  relations[i].page, relations[i].relation);
        }
    }
    return header;
}

/* A list as the operation takes it: separated by blanks, NULL when it is empty. */
static const char *joined(const apr_array_header_t *list)
{
    return list->nelts ? apr_array_pstrcat(list->pool, list, ' ') : NULL;
}

/* A list that is asked for. */
typedef struct {
    reg_request_t *request;
    reg_form_t form;
    int whole; /* not only a page */
    int limit, page;
    const char *values[PARAMETERS];
    char after_time[32], after_id[40];
} list_t;

static void read_parameters(list_t *list, reg_query_t *query)
{
    apr_pool_t *pool = list->request->pool;
    int most = list->request->settings->max_page_size;
    const char *sort, *direction, *search;

    list->whole = list->form != REG_FORM_JSON && !reg_query_has(query, "limit")
                  && !reg_query_has(query, "page");
    list->limit = reg_query_number(query, "limit", most,
                                   MIN(list->whole ? PART : DEFAULT_LIMIT, most));
    list->page = reg_query_number(query, "page", INT_MAX, 1);
    sort = reg_query_get(query, "sort", list->whole ? check_whole_sort : check_sort);
    sort = sort ? sort : DEFAULT_SORT;
    direction = strchr(sort, ' ');
    search = reg_query_get(query, "search", reg_check_text);

    const char *const values[PARAMETERS] = {
        apr_itoa(pool, list->limit),
        apr_itoa(pool, list->page),
        direction ? apr_pstrmemdup(pool, sort, (apr_size_t)(direction - sort)) : sort,
        direction && strcmp(direction, " DESC") == 0 ? "true" : "false",
        reg_query_get(query, "eventId", reg_check_uuid),
        reg_query_get(query, "occurrenceId", reg_check_uuid),
        reg_query_get(query, "status", reg_events_check_status),
        search && *search ? search : NULL,
        joined(reg_query_list(query, "categories", reg_check_uuid)),
        reg_query_flag(query, "withTrashed"),
        list->request->organization};

    memcpy(list->values, values, sizeof(values));
}

/* Has the next search begin behind an item. */
static void go_behind(list_t *list, apr_pool_t *pool, const char *item)
{
    const char *made = reg_json_plain(pool, reg_json_raw(pool, item, "createdAt", NULL));
    const char *id = reg_json_plain(pool, reg_json_raw(pool, item, "id", NULL));

    apr_cpystrn(list->after_time, made ? made : "", sizeof(list->after_time));
    apr_cpystrn(list->after_id, id ? id : "", sizeof(list->after_id));
    list->values[AFTER_TIME] = list->after_time;
    list->values[AFTER_ID] = list->after_id;
}

static reg_more_t read_on;

/* Puts what was found into the reply; of a whole list, what follows is read when that has
 * been sent. */
static void take(list_t *list, reg_reply_t *reply, apr_pool_t *pool,
                 const reg_answer_t *answer)
{
    int begins = !list->values[AFTER_ID];
    const char *last;

    reply->body = reg_form_items(pool, list->form, answer->body, begins, &last);
    reply->more = NULL;
    if (list->whole && answer->outcome == REG_MORE && last) {
        go_behind(list, pool, last);
        reply->more = read_on;
        reply->more_data = list;
    }
}

static int read_on(reg_reply_t *reply, apr_pool_t *pool)
{
    list_t *list = reply->more_data;
    reg_request_t part = *list->request; /* whose memory goes with the part */
    reg_answer_t answer;

    part.pool = pool;
    part.host->call(&part, &events_search, list->values, &answer);
    list->request->outcome = part.outcome;
    list->request->took += part.took;
    if ((answer.outcome != REG_FOUND && answer.outcome != REG_MORE) || !answer.body) {
        return 0;
    }
    take(list, reply, pool, &answer);
    return 1;
}

reg_reply_t *reg_events_search(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    const reg_error_t invalid = {
        .status = 400, .message = "The request is not valid", .problems = &problems};
    list_t *list = apr_pcalloc(request->pool, sizeof(*list));
    reg_query_t query;
    reg_answer_t answer;
    reg_reply_t *reply;

    list->request = request;
    list->form = reg_form_wanted(request);
    reg_query_parse(&query, request, &problems);
    read_parameters(list, &query);
    if (problems.list) {
        return reg_reply_error(request, &invalid);
    }
    if (list->whole && !request->host->enter_list(request)) {
        return reg_reply_status(request, 503);
    }
    request->host->call(request, &events_search, list->values, &answer);
    reply = reg_reply_answer(request, &answer, rules);
    if (reply->status != 200) {
        return reply;
    }
    take(list, reply, request->pool, &answer);
    reg_form_set_headers(reply, list->form);
    if (!list->whole) {
        apr_table_setn(reply->headers, "Link",
                       links(request, list->limit, list->page, answer.outcome == REG_MORE,
                             answer.detail));
    }
    if (answer.detail) {
        apr_table_setn(reply->headers, "X-Total-Count", answer.detail);
    }
    return reply;
}
