/* SPDX-License-Identifier: Apache-2.0 */
#include "prefer.h"

#include <apr_cstr.h>
#include <string.h>

#define BLANKS " \t"

/* The comma behind a preference, or the end of the header. Within quotes a comma is only
 * a character. */
static const char *end_of(const char *preference)
{
    int quoted = 0;

    for (; *preference && (quoted || *preference != ','); preference++) {
        if (*preference == '"') {
            quoted = !quoted;
        }
        else if (quoted && *preference == '\\' && preference[1]) {
            preference++;
        }
    }
    return preference;
}

/* Whether what follows a preference's name is `=minimal`, perhaps in quotes, perhaps with
 * parameters behind it. */
static int is_minimal(const char *value)
{
    int quoted;

    value += strspn(value, BLANKS);
    if (*value++ != '=') {
        return 0;
    }
    value += strspn(value, BLANKS);
    quoted = *value == '"';
    value += quoted;
    if (apr_cstr_casecmpn(value, "minimal", 7) != 0) {
        return 0;
    }
    value += 7;
    if (quoted && *value++ != '"') {
        return 0;
    }
    value += strspn(value, BLANKS);
    return !*value || *value == ',' || *value == ';';
}

int reg_prefer_minimal(const char *prefer)
{
    while (prefer && *prefer) {
        prefer += strspn(prefer, "," BLANKS);
        if (apr_cstr_casecmpn(prefer, "return", 6) == 0
            && strcspn(prefer + 6, "=,;" BLANKS) == 0) {
            return is_minimal(prefer + 6);
        }
        prefer = end_of(prefer);
    }
    return 0;
}
