/* SPDX-License-Identifier: Apache-2.0 */
#include "negotiate.h"

#include <apr_cstr.h>
#include <string.h>

#define BLANKS " \t"

/* The end of a part of a header: the first separator outside of quotes. */
static const char *find_part_end(const char *part, const char *separators)
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

/* How precisely a media range matches a type: 3 for the type, 2 for its main type, 1 for
 * any type, 0 for no match. */
static int match_range(const char *range, const char *type)
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

/* The quality value of a media range, in thousandths; 1000 if it has none. Other
 * parameters are ignored. */
static int read_weight(const char *range)
{
    for (const char *p = find_part_end(range, ",;"); *p == ';';
         p = find_part_end(p, ",;")) {
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

/* The client's quality value of a type: that of the range that matches most precisely. */
static int find_quality(const char *accept, const char *type)
{
    int best = 0, quality = 0;

    while (*accept) {
        int precision;

        accept += strspn(accept, "," BLANKS);
        precision = match_range(accept, type);
        if (precision > best) {
            best = precision;
            quality = read_weight(accept);
        }
        accept = find_part_end(accept, ",");
    }
    return quality;
}

int reg_accept_best(const char *accept, const char *const *types)
{
    int best = 0, most = 0;

    for (int i = 0; accept && types[i]; i++) {
        int quality = find_quality(accept, types[i]);

        if (quality > most) {
            most = quality;
            best = i;
        }
    }
    return best;
}

/* Whether a preference's name is followed by `=minimal`, in quotes or not, with or
 * without parameters. */
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
        prefer = find_part_end(prefer, ",");
    }
    return 0;
}
