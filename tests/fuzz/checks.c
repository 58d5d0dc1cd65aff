/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The checks of check.h, each compared with a second implementation: '0' to '7' chooses
 * the check, the rest is the value.
 */

#include "fuzz.h"

#include "utf8.h"

/* The ABNF of RFC 5646, section 2.1, and its grandfathered tags. */
static int is_locale(apr_pool_t *pool, const char *value)
{
    static fuzz_pattern_t pattern = {
        .pattern =
            "^(([a-z]{2,3}(-[a-z]{3}){0,3}|[a-z]{4}|[a-z]{5,8})(-[a-z]{4})?"
            "(-([a-z]{2}|[0-9]{3}))?(-([a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"
            "(-[0-9a-wy-z](-[a-z0-9]{2,8})+)*(-x(-[a-z0-9]{1,8})+)?"
            "|x(-[a-z0-9]{1,8})+"
            "|en-GB-oed|i-(ami|bnn|default|enochian|hak|klingon|lux|mingo|navajo|pwn|tao|"
            "tay|tsu)|sgn-(BE-FR|BE-NL|CH-DE)|art-lojban|cel-gaulish|no-(bok|nyn)"
            "|zh-(guoyu|hakka|min|min-nan|xiang))$",
        .flags = REG_ICASE};

    (void)pool;
    return strlen(value) <= 255 && fuzz_fits(&pattern, value);
}

static int is_email(apr_pool_t *pool, const char *value)
{
    (void)pool;
    return fuzz_is_email(value);
}

static int is_phone(apr_pool_t *pool, const char *value)
{
    (void)pool;
    return fuzz_fits(&fuzz_phone, value);
}

static int is_date(apr_pool_t *pool, const char *value)
{
    (void)pool;
    return fuzz_is_date(value);
}

static int is_uuid(apr_pool_t *pool, const char *value)
{
    (void)pool;
    return fuzz_fits(&fuzz_uuid, value);
}

static int is_object_id(apr_pool_t *pool, const char *value)
{
    (void)pool;
    return fuzz_fits(&fuzz_object_id, value);
}

static int is_name(apr_pool_t *pool, const char *value)
{
    return *value && fuzz_is_text(pool, value);
}

static const struct {
    reg_check_t *check;
    int (*other)(apr_pool_t *pool, const char *value);
} checks[] = {{reg_check_text, fuzz_is_text}, {reg_check_name, is_name},
              {reg_check_email, is_email},    {reg_check_phone, is_phone},
              {reg_check_locale, is_locale},  {reg_check_date, is_date},
              {reg_check_uuid, is_uuid},      {reg_check_object_id, is_object_id}};

#define CHECKS (sizeof(checks) / sizeof(checks[0]))

/* Bytes of UTF-8 that JavaScript's trim() removes at the beginning of a text. */
static size_t blank_length(const char *value)
{
    static const char *const spaces[] = {
        "\t",     "\n",     "\v",     "\f",     "\r",     " ",      "\u00a0",
        "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005",
        "\u2006", "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029",
        "\u202f", "\u205f", "\u3000", "\ufeff"};

    for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
        if (strncmp(value, spaces[i], strlen(spaces[i])) == 0) {
            return strlen(spaces[i]);
        }
    }
    return 0;
}

/* Like trim(): from the beginning, then from the end. */
static const char *trimmed(apr_pool_t *pool, const char *value)
{
    size_t length;

    while (*value && blank_length(value)) {
        value += blank_length(value);
    }
    length = strlen(value);
    for (size_t i = length; i-- > 0;) {
        size_t blank = blank_length(value + i);

        if (blank && i + blank == length) {
            length = i;
        }
    }
    return apr_pstrmemdup(pool, value, length);
}

static void fuzz_one(apr_pool_t *pool, fuzz_input_t *input)
{
    unsigned choice = fuzz_choice(input, CHECKS);
    const char *value = fuzz_rest(pool, input);
    long length = fuzz_code_points(pool, value);
    const char *wrong;

    HOLDS(reg_utf8_is_valid(value) == (length >= 0));
    HOLDS(reg_check_has_control(value) == fuzz_has_control(value));
    if (length < 0) {
        return; /* jansson and query.c refuse other texts */
    }
    HOLDS(reg_check_code_points(value) == (apr_size_t)length);
    HOLDS(strcmp(reg_check_trimmed(pool, value), trimmed(pool, value)) == 0);
    wrong = checks[choice].check(value);
    HOLDS((wrong == NULL) == checks[choice].other(pool, value));
    HOLDS(!wrong || strncmp(wrong, "must ", 5) == 0);
}
