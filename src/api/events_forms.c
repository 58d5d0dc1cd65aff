/* SPDX-License-Identifier: Apache-2.0 */

/* Event registrations: the forms of a list. */

#include "events_forms.h"

#include "csv.h"
#include "json.h"
#include "negotiate.h"
#include "reply.h"

#include <apr_strings.h>
#include <string.h>

static const struct {
    const char *content_type, *disposition;
} forms[] = {
    [REG_FORM_JSON] = {REG_CONTENT_TYPE, NULL},
    [REG_FORM_CSV] = {REG_CSV_CONTENT_TYPE,
                      "attachment; filename=\"event-registrations.csv\""},
    [REG_FORM_NDJSON] = {"application/x-ndjson; charset=utf-8", NULL},
};

/* The columns of the table: a key of an item, or a key of an object in it. */
static const struct {
    const char *object, *key;
} columns[] = {
    {NULL, "id"},
    {NULL, "createdAt"},
    {NULL, "updatedAt"},
    {NULL, "deletedAt"},
    {NULL, "status"},
    {"user", "id"},
    {"user", "email"},
    {"user", "firstName"},
    {"user", "lastName"},
    {"user", "role"},
    {"occurrence", "id"},
    {"occurrence", "startDate"},
    {"occurrence", "endDate"},
    {"event", "id"},
    {"event", "name"},
    {"organization", "id"},
    {"organization", "name"},
    {NULL, "fields"},
};

#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

reg_form_t reg_form_wanted(const reg_request_t *request)
{
    static const char *const types[] = {"application/json", "text/csv",
                                        "application/x-ndjson", NULL};

    return (reg_form_t)reg_accept_best(request->accept, types);
}

void reg_form_set_headers(reg_reply_t *reply, reg_form_t form)
{
    reply->content_type = forms[form].content_type;
    apr_table_setn(reply->headers, "Vary", "Accept");
    if (forms[form].disposition) {
        apr_table_setn(reply->headers, "Content-Disposition", forms[form].disposition);
    }
}

/* The value of a column as plain text; NULL if it is null or missing. */
static const char *read_column(apr_pool_t *pool, const char *item, size_t column)
{
    const char *object = columns[column].object, *key = columns[column].key;

    return reg_json_plain(pool, object ? reg_json_raw(pool, item, object, key, NULL)
                                       : reg_json_raw(pool, item, key, NULL));
}

/* The next item of an array; NULL if there is none. */
static const char *read_item(apr_pool_t *pool, const char **rest)
{
    const char *item = *rest + (**rest != '\0'); /* after the bracket or the line feed */
    apr_size_t length = strcspn(item, "\n");

    *rest = item + length;
    return length > 1 ? apr_pstrmemdup(pool, item, length - 1) : NULL;
}

/* The last item of an array; NULL if there is none. */
static const char *read_last_item(apr_pool_t *pool, const char *array)
{
    const char *rest = strrchr(array, '\n');

    return read_item(pool, rest ? &rest : &array);
}

static void append_piece(apr_array_header_t *pieces, const char *piece)
{
    APR_ARRAY_PUSH(pieces, const char *) = piece;
}

static void append_headings(apr_array_header_t *pieces)
{
    for (size_t i = 0; i < COLUMNS; i++) {
        if (columns[i].object) {
            append_piece(pieces, columns[i].object);
            append_piece(pieces, ".");
        }
        append_piece(pieces, columns[i].key);
        append_piece(pieces, i + 1 < COLUMNS ? "," : REG_CSV_LINE_END);
    }
}

static void append_row(apr_array_header_t *pieces, const char *item)
{
    for (size_t i = 0; i < COLUMNS; i++) {
        append_piece(pieces,
                     reg_csv_field(pieces->pool, read_column(pieces->pool, item, i)));
        append_piece(pieces, i + 1 < COLUMNS ? "," : REG_CSV_LINE_END);
    }
}

const char *reg_form_items(apr_pool_t *pool, reg_form_t form, const char *array,
                           int begins, const char **last)
{
    apr_array_header_t *pieces = apr_array_make(pool, 64, sizeof(const char *));
    const char *rest = array, *item;

    *last = read_last_item(pool, array);
    if (form == REG_FORM_JSON) {
        return array;
    }
    if (begins && form == REG_FORM_CSV) {
        append_headings(pieces);
    }
    while ((item = read_item(pool, &rest)) != NULL) {
        if (form == REG_FORM_CSV) {
            append_row(pieces, item);
        }
        else {
            append_piece(pieces, item);
            append_piece(pieces, "\n");
        }
    }
    return apr_array_pstrcat(pool, pieces, '\0');
}
