/* SPDX-License-Identifier: Apache-2.0 */
#include "events_links.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <limits.h>
#include <string.h>
#include <sys/param.h>

/* Bytes of parameters that are repeated in each link, and not only in the next page's. */
#define MOST_REPEATED 2000

const char *const reg_events_parameters[] = {
    "limit", "sort",         "eventId",     "occurrenceId", "status", "search",
    "bom",   "categories[]", "withTrashed", "page",         "after",  NULL};

static int is_of_page(const char *name)
{
    return strcmp(name, "page") == 0 || strcmp(name, "after") == 0;
}

/* The value of a parameter, that of a list separated by commas; NULL when it has none. */
static const char *value_of(reg_query_t *query, const char *name)
{
    const char *value;

    if (strcmp(name, "categories[]") == 0) {
        value = apr_array_pstrcat(
            query->pairs->pool, reg_query_list(query, "categories", reg_check_uuid), ',');
    }
    else {
        value = reg_query_value(query, name);
    }
    return value && *value ? value : NULL;
}

/* All parameters but the page, ready to have that put behind them. Escaped, so that none
 * can end the link, or look like its end to a client that splits the header too simply.
 */
static const char *other_parameters(reg_query_t *query)
{
    apr_pool_t *pool = query->pairs->pool;
    apr_array_header_t *pieces = apr_array_make(pool, 32, sizeof(const char *));

    for (const char *const *name = reg_events_parameters; *name; name++) {
        const char *value = is_of_page(*name) ? NULL : value_of(query, *name);

        if (value) {
            APR_ARRAY_PUSH(pieces, const char *) =
                apr_pstrmemdup(pool, *name, strcspn(*name, "["));
            APR_ARRAY_PUSH(pieces, const char *) = "=";
            APR_ARRAY_PUSH(pieces, const char *) = apr_pescape_urlencoded(pool, value);
            APR_ARRAY_PUSH(pieces, const char *) = "&";
        }
    }
    return apr_array_pstrcat(pool, pieces, '\0');
}

/* The page before. Before one beyond the last that is the last; where that is not known,
 * there is no telling. */
static apr_int64_t page_before(const reg_page_t *page, apr_int64_t last)
{
    if (last) {
        return MIN(page->page - 1, last);
    }
    return page->is_empty ? 0 : page->page - 1;
}

const char *reg_events_links(const reg_request_t *request, reg_query_t *query,
                             const reg_page_t *page)
{
    const char *parameters = other_parameters(query);
    int is_short = strlen(parameters) <= MOST_REPEATED;
    apr_int64_t last =
        page->total ? MAX((apr_atoi64(page->total) + page->limit - 1) / page->limit, 1)
                    : 0;
    const struct {
        const char *relation;
        apr_int64_t page; /* 0 where there is none */
        const char *after;
    } relations[] = {{"first", is_short, NULL},
                     {"prev", is_short ? page_before(page, last) : 0, NULL},
                     {"next", page->after ? MIN((apr_int64_t)page->page + 1, INT_MAX) : 0,
                      page->after},
                     {"last", is_short ? last : 0, NULL}};
    const char *header = "";

    for (size_t i = 0; i < sizeof(relations) / sizeof(relations[0]); i++) {
        const char *after = relations[i].after;

        if (relations[i].page) {
            header = apr_psprintf(request->pool,
                                  "%s%s<%s?%spage=%" APR_INT64_T_FMT "%s%s>; rel=\"%s\"",
                                  header, *header ? ", " : "", request->mount, parameters,
                                  relations[i].page, after ? "&after=" : "",
                                  after ? after : "", relations[i].relation);
        }
    }
    return header;
}
