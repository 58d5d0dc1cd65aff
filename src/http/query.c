/* SPDX-License-Identifier: Apache-2.0 */
#include "query.h"
#include "utf8.h"

#include <apr_escape.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <string.h>

#define DIGITS "0123456789"

/* Decodes a part of the query string; NULL if it is not UTF-8, has an invalid escape or a
 * NUL. */
static const char *decode_part(apr_pool_t *pool, const char *part, apr_size_t length)
{
    char *text = apr_pstrmemdup(pool, part, length);
    apr_status_t rv =
        apr_unescape_url(text, text, APR_ESCAPE_STRING, NULL, NULL, 1, NULL);

    return (rv == APR_SUCCESS || rv == APR_NOTFOUND) && reg_utf8_is_valid(text) ? text
                                                                                : NULL;
}

void reg_query_parse(reg_query_t *query, const reg_request_t *request,
                     reg_problems_t *problems)
{
    const char *p = request->query ? request->query : "";

    query->problems = problems;
    query->pairs = apr_array_make(request->pool, 8, sizeof(const char *));
    while (*p) {
        apr_size_t length = strcspn(p, "&");
        const char *equals = memchr(p, '=', length);
        apr_size_t name = equals ? (apr_size_t)(equals - p) : length;
        apr_size_t value = equals ? name + 1 : length;

        APR_ARRAY_PUSH(query->pairs, const char *) = decode_part(request->pool, p, name);
        APR_ARRAY_PUSH(query->pairs, const char *) =
            decode_part(request->pool, p + value, length - value);
        p += length + (p[length] == '&');
    }
}

/* Whether the pair at an index has this name. @param value set to its value. */
static int has_name(const reg_query_t *query, int index, const char *name,
                    const char **value)
{
    const char *found = APR_ARRAY_IDX(query->pairs, index, const char *);

    *value = APR_ARRAY_IDX(query->pairs, index + 1, const char *);
    return found && strcmp(found, name) == 0;
}

int reg_query_has(const reg_query_t *query, const char *name)
{
    const char *value;
    int i = 0;

    while (i < query->pairs->nelts && !has_name(query, i, name, &value)) {
        i += 2;
    }
    return i < query->pairs->nelts;
}

/* Whether a name is the name of a list, with or without [] or [N] after it. */
static int is_list_name(const char *found, const char *name)
{
    apr_size_t length = strlen(name);

    if (strncmp(found, name, length) != 0) {
        return 0;
    }
    found += length;
    return !*found
           || (*found == '[' && strcmp(found + 1 + strspn(found + 1, DIGITS), "]") == 0);
}

const char *reg_query_value(const reg_query_t *query, const char *name)
{
    const char *value, *last = NULL;

    for (int i = 0; i < query->pairs->nelts; i += 2) {
        if (has_name(query, i, name, &value)) {
            last = value;
        }
    }
    return last;
}

/* The error of a value; NULL if it is valid. */
static const char *find_error(const char *value, reg_check_t *check)
{
    return value ? check(value) : "must be UTF-8 in percent-encoding";
}

const char *reg_query_get(reg_query_t *query, const char *name, reg_check_t *check)
{
    const char *value, *error, *result = NULL;

    for (int i = query->pairs->nelts - 2; i >= 0; i -= 2) {
        if (has_name(query, i, name, &value)) {
            error = find_error(value, check);
            if (error) {
                reg_problems_add(query->problems, name, error);
            }
            else {
                result = value;
            }
            break;
        }
    }
    return result;
}

apr_array_header_t *reg_query_list(reg_query_t *query, const char *name,
                                   reg_check_t *check)
{
    apr_pool_t *pool = query->pairs->pool;
    apr_array_header_t *list = apr_array_make(pool, 4, sizeof(const char *));
    const char *error = NULL;
    int is_given = 0;

    for (int i = 0; i < query->pairs->nelts && !error; i += 2) {
        const char *found = APR_ARRAY_IDX(query->pairs, i, const char *);
        const char *value = APR_ARRAY_IDX(query->pairs, i + 1, const char *);

        if (found && is_list_name(found, name)) {
            char *rest = NULL;
            char *item = value ? apr_strtok(apr_pstrdup(pool, value), ",", &rest) : NULL;

            is_given = 1;
            error = value ? NULL : find_error(value, check);
            for (; item && !error; item = apr_strtok(NULL, ",", &rest)) {
                error = check(item);
                APR_ARRAY_PUSH(list, const char *) = item;
            }
        }
    }
    if (is_given && !list->nelts && !error) {
        error = "must not be empty; leave it out to have all";
    }
    if (error) {
        reg_problems_add(query->problems, name, error);
    }
    return list;
}

/* A name without case, _, - and the ending of a plural, to find misspelt names by. */
static const char *simplify_name(apr_pool_t *pool, const char *name)
{
    char *text = apr_pstrdup(pool, name), *end = text;

    for (; *name && *name != '['; name++) {
        if (*name != '_' && *name != '-') {
            *end++ = (char)apr_tolower(*name);
        }
    }
    *end = '\0';
    if (end - text > 3 && strcmp(end - 3, "ies") == 0) {
        memcpy(end - 3, "y", sizeof("y"));
    }
    else {
        while (end > text && strchr("es", end[-1])) {
            *--end = '\0';
        }
    }
    return text;
}

/* The parameter that a misspelt name is similar to; NULL if the name is a parameter, or
 * similar to none. */
static const char *find_similar(apr_pool_t *pool, const char *found,
                                const char *const *names)
{
    const char *simple = simplify_name(pool, found), *similar = NULL;

    for (; *names; names++) {
        const char *name = apr_pstrmemdup(pool, *names, strcspn(*names, "["));
        int is_list = strchr(*names, '[') != NULL;

        if (is_list ? is_list_name(found, name) : strcmp(found, name) == 0) {
            return NULL;
        }
        if ((is_list || !strchr(found, '['))
            && strcmp(simple, simplify_name(pool, name)) == 0) {
            similar = name;
        }
    }
    return similar;
}

void reg_query_refuse_misspelt(reg_query_t *query, const char *const *names)
{
    for (int i = 0; i < query->pairs->nelts; i += 2) {
        const char *found = APR_ARRAY_IDX(query->pairs, i, const char *);
        const char *name = found ? find_similar(query->pairs->pool, found, names) : NULL;

        if (name) {
            reg_problems_add(query->problems, name, "must be spelled exactly like this");
        }
    }
}

static const char *check_flag(const char *value)
{
    return strcmp(value, "true") == 0 || strcmp(value, "false") == 0
                   || strcmp(value, "1") == 0 || strcmp(value, "0") == 0
               ? NULL
               : "must be true, false, 1 or 0";
}

const char *reg_query_flag(reg_query_t *query, const char *name)
{
    const char *value = reg_query_get(query, name, check_flag);

    return value && (*value == 't' || *value == '1') ? "true" : "false";
}

static const char *check_digits(const char *value)
{
    return *value && strspn(value, DIGITS) == strlen(value) ? NULL
                                                            : "must be a whole number";
}

int reg_query_number(reg_query_t *query, const char *name, int most, int otherwise)
{
    const char *value = reg_query_get(query, name, check_digits);
    apr_int64_t number = value ? apr_atoi64(value) : otherwise;

    if (number >= 1 && number <= most) { /* apr_atoi64() is INT64_MAX for more digits */
        return (int)number;
    }
    reg_problems_add(query->problems, name,
                     apr_psprintf(query->pairs->pool, "must be from 1 to %d", most));
    return otherwise;
}
