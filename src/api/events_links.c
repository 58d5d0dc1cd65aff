/* SPDX-License-Identifier: Apache-2.0 */
#include "events_links.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <limits.h>
#include <string.h>
#include <sys/param.h>

/* Longer parameters are repeated only in the link to the next page. */
#define MAX_REPEATED 2000

const char *const reg_events_parameters[] = {
    "limit", "sort",         "eventId",     "occurrenceId", "status", "search",
    "bom",   "categories[]", "withTrashed", "page",         "after",  NULL};

static int is_page_parameter(const char *name)
{
    return strcmp(name, "page") == 0 || strcmp(name, "after") == 0;
}

/* The value of a parameter, a list with commas; NULL if it has none. */
static const char *format_parameter(reg_query_t *query, const char *name)
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

/* All parameters except the page's, each with & after it. They are escaped, so that no
 * value can end the link, also for a client that only splits the header at commas. */
static const char *join_parameters(reg_query_t *query)
{
    apr_pool_t *pool = query->pairs->pool;
    apr_array_header_t *pieces = apr_array_make(pool, 32, sizeof(const char *));

    for (const char *const *name = reg_events_parameters; *name; name++) {
        const char *value =
            is_page_parameter(*name) ? NULL : format_parameter(query, *name);

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

/* The previous page; the last page for a page after it, or 0 if the last page is unknown.
 */
static apr_int64_t find_previous(const reg_page_t *page, apr_int64_t last)
{
    if (last) {
        return MIN(page->page - 1, last);
    }
    return page->is_empty ? 0 : page->page - 1;
}

const char *reg_events_links(const reg_request_t *request, reg_query_t *query,
                             const reg_page_t *page)
{
    const char *parameters = join_parameters(query);
    int is_short = strlen(parameters) <= MAX_REPEATED;
    apr_int64_t last =
        page->total ? MAX((apr_atoi64(page->total) + page->limit - 1) / page->limit, 1)
                    : 0;
    const struct {
        const char *relation;
        apr_int64_t page; /* 0: none */
        const char *after;
    } relations[] = {{"first", is_short, NULL},
                     {"prev", is_short ? find_previous(page, last) : 0, NULL},
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
