/* SPDX-License-Identifier: Apache-2.0 */
#include "negotiate.h"

#include <apr_cstr.h>
#include <string.h>

#define BLANKS " \t"

/* The end of a part of a header: the first of the separators that is not within quotes,
 * where it is only a character. */
static const char *end_of(const char *part, const char *separators)
{
    int quoted = 0;

    for (; *part && (quoted || !strchr(separators, *part)); part++) {
        if (*part == '"') {
            quoted = !quoted;
        }
        else if (quoted && *part == '\\' && part[1]) {
            part++;
        }
    }
    return part;
}

/* How exactly a media range names a type: 3 for the type itself, 2 for all with the same
 * beginning, 1 for all, 0 not at all. */
static int match(const char *range, const char *type)
{
    apr_size_t length = strcspn(range, ";," BLANKS);
    apr_size_t beginning = strcspn(type, "/") + 1;

    if (length == strlen(type) && apr_cstr_casecmpn(range, type, length) == 0) {
        return 3;
    }
    if (length == beginning + 1 && range[beginning] == '*'
        && apr_cstr_casecmpn(range, type, beginning) == 0) {
        return 2;
    }
    return length == 3 && strncmp(range, "*/*", 3) == 0;
}

/* The weight of a media range, in thousandths; other parameters do not count. One that
 * cannot be read is as good as none. */
static int weight(const char *range)
{
    for (const char *p = end_of(range, ",;"); *p == ';'; p = end_of(p, ",;")) {
        p++;
        p += strspn(p, BLANKS);
        if ((*p == 'q' || *p == 'Q') && p[1] == '=') {
            const char *digits = p + 2;
            int thousandths = *digits == '1' ? 1000 : 0;

            digits += *digits == '0' || *digits == '1';
            if (*digits == '.') {
                int unit = 100;

                for (digits++; *digits >= '0' && *digits <= '9' && unit; digits++) {
                    thousandths += (*digits - '0') * unit;
                    unit /= 10;
                }
            }
            return thousandths < 1000 ? thousandths : 1000;
        }
    }
    return 1000;
}

/* How much a client likes a type: the weight of the range that names it most exactly. */
static int liking(const char *accept, const char *type)
{
    int best = 0, liked = 0;

    while (*accept) {
        int exactness;

        accept += strspn(accept, "," BLANKS);
        exactness = match(accept, type);
        if (exactness > best) {
            best = exactness;
            liked = weight(accept);
        }
        accept = end_of(accept, ",");
    }
    return liked;
}

int reg_accept_best(const char *accept, const char *const *types)
{
    int best = 0, most = 0;

    for (int i = 0; accept && types[i]; i++) {
        int liked = liking(accept, types[i]);

        if (liked > most) {
            most = liked;
            best = i;
        }
    }
    return best;
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
        prefer = end_of(prefer, ",");
    }
    return 0;
}
