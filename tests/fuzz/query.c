/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The query string of a search: its parameters, and the links of an answer to other
 * pages.
 */

#include "fuzz.h"

/* Position of the operation's values. */
enum {
    LIMIT,
    PAGE,
    SORT,
    DESCENDING,
    EVENT,
    OCCURRENCE,
    STATUS,
    SEARCH,
    CATEGORIES,
    TRASHED,
    ORGANIZATION,
    AFTER_TIME,
    AFTER_ID,
    AFTER_TEXT
};

static int is_one_of(const char *value, const char *words)
{
    const char *found = strstr(words, value);

    return found && (found == words || found[-1] == ' ')
           && strchr(" ", found[strlen(value)]);
}

static int is_number(const char *value, long most)
{
    return !value[strspn(value, "0123456789")] && atol(value) >= 1 && atol(value) <= most;
}

static void check_values(apr_pool_t *pool, const char *const *values)
{
    HOLDS(is_number(values[LIMIT], 1000));
    HOLDS(is_number(values[PAGE], 2147483647));
    HOLDS(is_one_of(values[SORT],
                    "createdAt updatedAt status startDate eventName firstName "
                    "lastName email"));
    HOLDS(is_one_of(values[DESCENDING], "true false"));
    HOLDS(!values[EVENT] || fuzz_fits(&fuzz_uuid, values[EVENT]));
    HOLDS(!values[OCCURRENCE] || fuzz_fits(&fuzz_uuid, values[OCCURRENCE]));
    HOLDS(!values[STATUS]
          || is_one_of(values[STATUS], "PENDING CONFIRMED CANCELLED "
                                       "WAITING_LIST ATTENDED"));
    HOLDS(!values[SEARCH] || (*values[SEARCH] && fuzz_is_text(pool, values[SEARCH])));
    HOLDS(is_one_of(values[TRASHED], "true false"));
}

static reg_reply_t *search(apr_pool_t *pool, fuzz_host_t *host, const char *query)
{
    reg_request_t *request = fuzz_request(pool, host, REG_API_EVENTS, REG_METHOD_GET);
    reg_reply_t *reply;

    *host = (fuzz_host_t){.answer = {REG_MORE, "4294967296", "[]"}};
    request->query = query;
    reply = reg_serve(request);
    fuzz_check_reply(request, reply);
    HOLDS(reply->status == (host->operation ? 200 : 400));
    return reply;
}

/* The query string of the first link, which must be the first page's; NULL if the
 * parameters are too long for more than one link. */
static const char *first_link(apr_pool_t *pool, const reg_reply_t *reply)
{
    static const char begin[] = "</mount?", end[] = "page=1>; rel=\"first\"";
    const char *link = apr_table_get(reply->headers, "Link");
    const char *query = link + sizeof(begin) - 1;

    if (!strstr(link, "rel=\"first\"")) {
        HOLDS(strlen(link) > 2000 || !*link);
        return NULL;
    }
    HOLDS(strncmp(link, begin, sizeof(begin) - 1) == 0);
    link = strchr(query, '>');
    HOLDS(!query[strcspn(query, "<\", \t\\;")]
          || query + strcspn(query, "<\", \t\\;") > link);
    link -= strlen("page=1");
    HOLDS(strncmp(link, end, sizeof(end) - 1) == 0);
    return apr_pstrmemdup(pool, query, (apr_size_t)(link - query) + strlen("page=1"));
}

/* Whether a parameter is a cursor, which the first page has not. */
static int is_of_place(int parameter)
{
    return parameter >= AFTER_TIME && parameter <= AFTER_TEXT;
}

static void fuzz_one(apr_pool_t *pool, fuzz_input_t *input)
{
    fuzz_host_t host, again;
    const reg_reply_t *reply = search(pool, &host, fuzz_rest(pool, input));
    const char *first;

    if (!host.operation) {
        return;
    }
    check_values(pool, host.values);
    first = first_link(pool, reply);
    if (!first) {
        return;
    }
    search(pool, &again, first);
    HOLDS(again.operation);
    for (int i = 0; i < host.operation->parameters; i++) {
        const char *expected = i == PAGE ? "1" : is_of_place(i) ? NULL : host.values[i];

        HOLDS(expected && again.values[i] ? strcmp(expected, again.values[i]) == 0
                                          : expected == again.values[i]);
    }
}
