/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Event registrations: GET of the collection, a page of what matches; as a table for a
 * spreadsheet (text/csv) or an object a line (application/x-ndjson) all of it, unless a
 * page is asked for.
 */

#include "audit.h"
#include "call.h"
#include "csv.h"
#include "events.h"
#include "events_cursor.h"
#include "events_forms.h"
#include "events_links.h"
#include "query.h"
#include "reply.h"

#include <apr_strings.h>
#include <limits.h>
#include <string.h>
#include <sys/param.h>

#define PARAMETERS 15
/* Of those, the page's number, the order, and the place that the page begins behind. */
#define PAGE 1
#define SORT 2
#define DESCENDING 3
#define AFTER_TIME 11
#define AFTER_ID 12
#define AFTER_TEXT 13

static const reg_operation_t events_search = {.name = "events_search",
                                              .parameters =
                                                  PARAMETERS + REG_AUDIT_PARAMETERS,
                                              .alone = 1,
                                              .audited = 1};

static const reg_rule_t rules[] = {
    {REG_FOUND, {.status = 200}}, {REG_MORE, {.status = 200}}, {0, {0}}};

#define DEFAULT_LIMIT 10
/* Registrations of a whole list that are read at a time: more is hardly faster, and takes
 * more memory. */
#define PART 250
#define DEFAULT_SORT "createdAt DESC"

#define INVALID_AFTER                                                                    \
    "must be from a link to the next page, of a list in the same order; begin again "    \
    "without it"

/* Of a whole list. What it is sorted by must not change while it is read. */
static const char *check_whole_sort(const char *value)
{
    return strcmp(value, "createdAt") == 0 || strncmp(value, "createdAt ", 10) == 0
               ? reg_events_check_sort(value)
               : "must be createdAt, perhaps with ASC or DESC, unless there is a limit";
}

/* A list as the operation takes it: separated by blanks, NULL when it is empty. */
static const char *joined(const apr_array_header_t *list)
{
    return list->nelts ? apr_array_pstrcat(list->pool, list, ' ') : NULL;
}

/* A list that is asked for. */
typedef struct {
    reg_request_t *request;
    reg_query_t query;
    reg_form_t form;
    int with_mark; /* a table begins with a byte order mark */
    int whole;     /* not only a page */
    int limit, page;
    const char *values[PARAMETERS];
    /* Where a whole list goes on; it is sorted by createdAt. */
    char after_time[32], after_id[40];
} list_t;

/* Has the list begin behind a place. */
static void begin_behind(list_t *list, const reg_position_t *position)
{
    list->values[AFTER_TIME] = position->time;
    list->values[AFTER_ID] = position->id;
    list->values[AFTER_TEXT] = position->text;
}

/* The cursor `after`, which says instead of the page's number where the page begins. */
static void read_after(list_t *list)
{
    const char *cursor = reg_query_value(&list->query, "after");
    reg_position_t position;

    if (!reg_query_has(&list->query, "after")) {
        return;
    }
    if (!cursor
        || !reg_events_cursor_read(list->request->pool, cursor, list->values[SORT],
                                   list->values[DESCENDING], &position)) {
        reg_problems_add(list->query.problems, "after", INVALID_AFTER);
        return;
    }
    begin_behind(list, &position);
    list->values[PAGE] = "1";
}

static void read_parameters(list_t *list)
{
    reg_query_t *query = &list->query;
    apr_pool_t *pool = list->request->pool;
    int most = list->request->settings->max_page_size;
    const char *sort, *direction, *search;

    list->whole = list->form != REG_FORM_JSON && !reg_query_has(query, "limit")
                  && !reg_query_has(query, "page") && !reg_query_has(query, "after");
    list->limit = reg_query_number(query, "limit", most,
                                   MIN(list->whole ? PART : DEFAULT_LIMIT, most));
    list->page = reg_query_number(query, "page", INT_MAX, 1);
    sort = reg_query_get(query, "sort",
                         list->whole ? check_whole_sort : reg_events_check_sort);
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
        list->request->organization,
        NULL, /* the place is read_after()'s */
        NULL,
        NULL,
        list->whole ? "true" : "false"};

    memcpy(list->values, values, sizeof(values));
    list->with_mark = strcmp(reg_query_flag(query, "bom"), "true") == 0;
    read_after(list);
    reg_query_refuse_misspelt(query, reg_events_parameters);
}

/* Has the next part of a whole list begin behind an item, which is gone by then. */
static void go_behind(list_t *list, apr_pool_t *pool, const char *item)
{
    reg_position_t position = reg_events_position(pool, list->values[SORT], item);

    apr_cpystrn(list->after_time, position.time ? position.time : "",
                sizeof(list->after_time));
    apr_cpystrn(list->after_id, position.id, sizeof(list->after_id));
    position = (reg_position_t){.id = list->after_id, .time = list->after_time};
    begin_behind(list, &position);
}

static reg_more_t read_on;

/* Puts what was found into the reply; of a whole list, what follows is read when that has
 * been sent. @return the last item, if others follow; else NULL. */
static const char *take(list_t *list, reg_reply_t *reply, apr_pool_t *pool,
                        const reg_answer_t *answer)
{
    int begins = !list->values[AFTER_ID] || !list->whole;
    const char *last;

    reply->body = reg_form_items(pool, list->form, answer->body, begins, &last);
    if (begins && list->with_mark && list->form == REG_FORM_CSV) {
        reply->body = apr_pstrcat(pool, REG_CSV_BYTE_ORDER_MARK, reply->body, NULL);
    }
    reply->more = NULL;
    if (answer->outcome != REG_MORE) {
        return NULL;
    }
    if (list->whole && last) {
        go_behind(list, pool, last);
        reply->more = read_on;
        reply->more_data = list;
    }
    return last;
}

static int read_on(reg_reply_t *reply, apr_pool_t *pool)
{
    list_t *list = reply->more_data;
    reg_request_t part = *list->request; /* whose memory goes with the part */
    reg_answer_t answer;

    part.pool = pool;
    reg_call(&part, &events_search, list->values, &answer);
    list->request->outcome = part.outcome;
    list->request->stats = part.stats; /* of all parts */
    if ((answer.outcome != REG_FOUND && answer.outcome != REG_MORE) || !answer.body) {
        return 0;
    }
    take(list, reply, pool, &answer);
    return 1;
}

/* Tells a client where the other pages are. */
static void set_links(list_t *list, reg_reply_t *reply, const reg_answer_t *answer,
                      const char *last)
{
    apr_pool_t *pool = list->request->pool;
    reg_page_t page = {.limit = list->limit,
                       .page = list->page,
                       .is_empty = strcmp(answer->body, "[]") == 0,
                       .total = answer->detail};

    if (last) {
        reg_position_t position = reg_events_position(pool, list->values[SORT], last);

        page.after = reg_events_cursor(pool, list->values[SORT], list->values[DESCENDING],
                                       &position);
    }
    apr_table_setn(reply->headers, "Link",
                   reg_events_links(list->request, &list->query, &page));
}

reg_reply_t *reg_events_search(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    list_t *list = apr_pcalloc(request->pool, sizeof(*list));
    reg_answer_t answer;
    reg_reply_t *reply;
    const char *last;

    list->request = request;
    list->form = reg_form_wanted(request);
    reg_query_parse(&list->query, request, &problems);
    read_parameters(list);
    if (problems.list) {
        return reg_reply_problems(request, &reg_events_invalid, &problems);
    }
    if (list->whole && !request->host->enter_list(request)) {
        return reg_reply_status(request, 503);
    }
    reg_call(request, &events_search, list->values, &answer);
    if (answer.outcome == REG_INVALID) {
        reg_problems_add(&problems, "after", INVALID_AFTER);
        return reg_reply_problems(request, &reg_events_invalid, &problems);
    }
    reply = reg_reply_answer(request, &answer, rules);
    if (reply->status != 200) {
        return reply;
    }
    last = take(list, reply, request->pool, &answer);
    reg_form_set_headers(reply, list->form);
    if (!list->whole) {
        set_links(list, reply, &answer, last);
    }
    if (answer.detail) {
        apr_table_setn(reply->headers, "X-Total-Count", answer.detail);
    }
    return reply;
}
