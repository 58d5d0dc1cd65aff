/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Event registrations: GET of the collection. The answer is a page of the registrations
 * that match; as text/csv or application/x-ndjson it is the whole list, unless the
 * request has a page.
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
/* Indexes of the page's number, the order, and the position after which the page begins.
 */
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

static const reg_rule_t search_rules[] = {
    {REG_FOUND, {.status = 200}}, {REG_MORE, {.status = 200}}, {0, {0}}};

#define DEFAULT_LIMIT 10
/* Registrations of a whole list in a chunk. A larger chunk is not much faster and takes
 * more memory. */
#define CHUNK 250
#define DEFAULT_SORT "createdAt DESC"

#define INVALID_AFTER                                                                    \
    "must be from a link to the next page, of a list in the same order; begin again "    \
    "without it"

/* The order of a whole list: by a value that does not change while the list is read. */
static const char *check_whole_sort(const char *value)
{
    return strcmp(value, "createdAt") == 0 || strncmp(value, "createdAt ", 10) == 0
               ? reg_events_check_sort(value)
               : "must be createdAt, perhaps with ASC or DESC, unless there is a limit";
}

/* A list as a parameter: separated by blanks; NULL if it is empty. */
static const char *join_list(const apr_array_header_t *list)
{
    return list->nelts ? apr_array_pstrcat(list->pool, list, ' ') : NULL;
}

/* A list, as requested. */
typedef struct {
    reg_request_t *request;
    reg_query_t query;
    reg_form_t form;
    int with_mark; /* the table begins with a byte order mark */
    int whole;     /* the whole list, not a page */
    int limit, page;
    const char *values[PARAMETERS];
    /* The position of the next chunk of a whole list, which is sorted by createdAt. */
    char after_time[32], after_id[40];
} list_t;

/* Has the list begin after a position. */
static void set_position(list_t *list, const reg_position_t *position)
{
    list->values[AFTER_TIME] = position->time;
    list->values[AFTER_ID] = position->id;
    list->values[AFTER_TEXT] = position->text;
}

/* Reads the cursor `after`, which replaces the page's number. */
static void read_cursor(list_t *list)
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
    set_position(list, &position);
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
                                   MIN(list->whole ? CHUNK : DEFAULT_LIMIT, most));
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
        join_list(reg_query_list(query, "categories", reg_check_uuid)),
        reg_query_flag(query, "withTrashed"),
        list->request->organization,
        NULL, /* the position is set by read_cursor() */
        NULL,
        NULL,
        list->whole ? "true" : "false"};

    memcpy(list->values, values, sizeof(values));
    list->with_mark = strcmp(reg_query_flag(query, "bom"), "true") == 0;
    read_cursor(list);
    reg_query_refuse_misspelt(query, reg_events_parameters);
}

/* Has the next chunk of a whole list begin after an item. The position is copied, as the
 * item's memory is freed before. */
static void set_next_chunk(list_t *list, apr_pool_t *pool, const char *item)
{
    reg_position_t position = reg_events_position(pool, list->values[SORT], item);

    apr_cpystrn(list->after_time, position.time ? position.time : "",
                sizeof(list->after_time));
    apr_cpystrn(list->after_id, position.id, sizeof(list->after_id));
    position = (reg_position_t){.id = list->after_id, .time = list->after_time};
    set_position(list, &position);
}

static reg_more_t read_chunk;

/* Sets the reply's body to the items of an answer. The next chunk of a whole list is read
 * after this one has been sent. @return the last item if more items follow, else NULL. */
static const char *set_items(list_t *list, reg_reply_t *reply, apr_pool_t *pool,
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
        set_next_chunk(list, pool, last);
        reply->more = read_chunk;
        reply->more_data = list;
    }
    return last;
}

static int read_chunk(reg_reply_t *reply, apr_pool_t *pool)
{
    list_t *list = reply->more_data;
    reg_request_t chunk = *list->request; /* its pool is the chunk's */
    reg_answer_t answer;

    chunk.pool = pool;
    reg_call(&chunk, &events_search, list->values, &answer);
    list->request->outcome = chunk.outcome;
    list->request->stats = chunk.stats; /* of all chunks */
    if ((answer.outcome != REG_FOUND && answer.outcome != REG_MORE) || !answer.body) {
        return 0;
    }
    set_items(list, reply, pool, &answer);
    return 1;
}

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
    reply = reg_reply_answer(request, &answer, search_rules);
    if (reply->status != 200) {
        return reply;
    }
    last = set_items(list, reply, request->pool, &answer);
    reg_form_set_headers(reply, list->form);
    if (!list->whole) {
        set_links(list, reply, &answer, last);
    }
    if (answer.detail) {
        apr_table_setn(reply->headers, "X-Total-Count", answer.detail);
    }
    return reply;
}
