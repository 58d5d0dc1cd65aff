/* SPDX-License-Identifier: Apache-2.0 */

/* Event registrations: GET of the collection, a page of what matches. */

#include "events.h"
#include "query.h"
#include "reply.h"

#include <apr_strings.h>
#include <limits.h>
#include <string.h>
#include <sys/param.h>

static const reg_operation_t events_search = {
    .name = "events_search", .parameters = 11, .alone = 1};

static const reg_rule_t rules[] = {
    {REG_FOUND, {.status = 200}}, {REG_MORE, {.status = 200}}, {0, {0}}};

#define DEFAULT_LIMIT 10
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

reg_reply_t *reg_events_search(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    const reg_error_t invalid = {
        .status = 400, .message = "The request is not valid", .problems = &problems};
    reg_query_t query;
    reg_answer_t answer;
    reg_reply_t *reply;

    reg_query_parse(&query, request, &problems);

    int most = request->settings->max_page_size;
    int limit = reg_query_number(&query, "limit", most, MIN(DEFAULT_LIMIT, most));
    int page = reg_query_number(&query, "page", INT_MAX, 1);
    const char *sort = reg_query_get(&query, "sort", check_sort);
    const char *direction = strchr(sort ? sort : (sort = DEFAULT_SORT), ' ');
    const char *search = reg_query_get(&query, "search", reg_check_text);
    const char *values[] = {
        apr_itoa(request->pool, limit),
        apr_itoa(request->pool, page),
        direction ? apr_pstrmemdup(request->pool, sort, (apr_size_t)(direction - sort))
                  : sort,
        direction && strcmp(direction, " DESC") == 0 ? "true" : "false",
        reg_query_get(&query, "eventId", reg_check_uuid),
        reg_query_get(&query, "occurrenceId", reg_check_uuid),
        reg_query_get(&query, "status", reg_events_check_status),
        search && *search ? search : NULL,
        joined(reg_query_list(&query, "categories", reg_check_uuid)),
        reg_query_flag(&query, "withTrashed"),
        request->organization};

    if (problems.list) {
        return reg_reply_error(request, &invalid);
    }
    request->host->call(request, &events_search, values, &answer);
    reply = reg_reply_answer(request, &answer, rules);
    if (reply->status == 200) {
        apr_table_setn(
            reply->headers, "Link",
            links(request, limit, page, answer.outcome == REG_MORE, answer.detail));
        if (answer.detail) {
            apr_table_setn(reply->headers, "X-Total-Count", answer.detail);
        }
    }
    return reply;
}
