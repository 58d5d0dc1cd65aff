/* SPDX-License-Identifier: Apache-2.0 */
#include "csv.h"

#include <apr_strings.h>
#include <string.h>

/* After these a spreadsheet may begin another field: the end of a line, and separators
 * other than the comma. */
#define SEPARATORS ";|\t\r\n"

/* Whether a spreadsheet may read a formula here. For a spreadsheet with another separator
 * than the comma, a quote after that separator begins a quoted field. */
static int is_formula(const char *text)
{
    static const char *const signs[] = {"=",      "+",      "-",      "@",
                                        "\uff1d", "\uff0b", "\uff0d", "\uff20"};

    text += strspn(text, " \"");
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
        if (strncmp(text, signs[i], strlen(signs[i])) == 0) {
            return 1;
        }
    }
    return 0;
}

const char *reg_csv_field(apr_pool_t *pool, const char *text)
{
    int begins = 1;
    char *field, *end;

    if (!text) {
        return "";
    }
    field = end = apr_palloc(pool, 2 * strlen(text) + sizeof("\"\""));
    *end++ = '"';
    for (; *text; text++) {
        if (begins && is_formula(text)) {
            *end++ = '\'';
        }
        if (*text == '"') {
            *end++ = '"';
        }
        *end++ = *text;
        begins = strchr(SEPARATORS, *text) != NULL;
    }
    *end++ = '"';
    *end = '\0';
    return field;
}
