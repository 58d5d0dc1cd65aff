/* SPDX-License-Identifier: Apache-2.0 */
#include "utf8.h"

apr_int32_t reg_utf8_next(const char **text)
{
    static const apr_int32_t least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)*text;
    int more = *p < 0x80 ? 0 : *p < 0xC2 ? -1 : *p < 0xE0 ? 1 : *p < 0xF0 ? 2 : 3;
    apr_int32_t code = *p;

    if (more < 0 || *p > 0xF4) {
        return -1;
    }
    if (more) {
        code = *p & (0x3F >> more);
    }
    for (int i = 1; i <= more; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return -1;
        }
        code = (code << 6) | (p[i] & 0x3F);
    }
    if (code < least[more] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
        return -1;
    }
    *text += more + 1;
    return code;
}

int reg_utf8_is_valid(const char *text)
{
    while (*text) {
        if (reg_utf8_next(&text) < 0) {
            return 0;
        }
    }
    return 1;
}
