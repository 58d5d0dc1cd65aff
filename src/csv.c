/* SPDX-License-Identifier: Apache-2.0 */
#include "csv.h"

#include <apr_strings.h>
#include <string.h>

static int looks_like_formula(const char *text)
{
    static const char *const signs[] = {
        "=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n"};

    text += strspn(text, " ");
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
        if (strncmp(text, signs[i], strlen(signs[i])) == 0) {
            return 1;
        }
    }
    return 0;
}

const char *reg_csv_field(apr_pool_t *pool, const char *text)
{
    char *field, *end;

    if (!text) {
        return "";
    }
    field = end = apr_palloc(pool, 2 * strlen(text) + sizeof("\"'\""));
    *end++ = '"';
    if (looks_like_formula(text)) {
        *end++ = '\'';
    }
    for (; *text; text++) {
        if (*text == '"') {
            *end++ = '"';
        }
        *end++ = *text;
    }
    *end++ = '"';
    *end = '\0';
    return field;
}
