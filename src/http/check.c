/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "json.h"
#include "utf8.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <string.h>

/* ASCII only, independent of the process's locale. */
static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int is_alphanumeric(char c)
{
    return is_letter(c) || is_digit(c);
}

static int is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/*
 * Text
 */

apr_size_t reg_check_code_points(const char *text)
{
    apr_size_t count = 0;

    for (; *text; text++) {
        count += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return count;
}

int reg_check_has_control(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7F) {
            return 1;
        }
    }
    return 0;
}

/* WhiteSpace and LineTerminator of ECMA-262, sections 12.2 and 12.3. */
static int is_space(apr_int32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == ' ' || c == 0xA0 || c == 0x1680
           || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F
           || c == 0x205F || c == 0x3000 || c == 0xFEFF;
}

const char *reg_check_trimmed(apr_pool_t *pool, const char *text)
{
    const char *start = NULL, *end = text;

    while (*text) {
        const char *c = text;

        if (!is_space(reg_utf8_next(&text))) {
            start = start ? start : c;
            end = text;
        }
    }
    if (!start) {
        return "";
    }
    return *end ? apr_pstrmemdup(pool, start, (apr_size_t)(end - start)) : start;
}

const char *reg_check_text(const char *value)
{
    if (reg_check_has_control(value)) {
        return "must not contain control characters";
    }
    if (reg_check_code_points(value) > REG_MAX_TEXT) {
        return "must have at most 255 characters";
    }
    return NULL;
}

const char *reg_check_name(const char *value)
{
    return *value ? reg_check_text(value) : "must not be empty";
}

/*
 * Formats
 */

/* A label of a domain name: 1 to 63 letters, digits and hyphens, no hyphen at an end. */
static int is_label(const char *label, apr_size_t length)
{
    if (length < 1 || length > 63 || label[0] == '-' || label[length - 1] == '-') {
        return 0;
    }
    for (apr_size_t i = 0; i < length; i++) {
        if (!is_alphanumeric(label[i]) && label[i] != '-') {
            return 0;
        }
    }
    return 1;
}

static int is_email(const char *value)
{
    const char *p = value;

    while (is_alphanumeric(*p) || (*p && strchr(".!#$%&'*+/=?^_`{|}~-", *p))) {
        p++;
    }
    if (p == value || *p != '@') {
        return 0;
    }
    do {
        apr_size_t length = strcspn(++p, ".");

        if (!is_label(p, length)) {
            return 0;
        }
        p += length;
    } while (*p);
    return 1;
}

const char *reg_check_email(const char *value)
{
    return strlen(value) <= REG_MAX_EMAIL && is_email(value)
               ? NULL
               : "must be an e-mail address of at most 254 characters";
}

const char *reg_check_phone(const char *value)
{
    apr_size_t digits = *value == '+' ? strspn(value + 1, "0123456789") : 0;

    return digits >= 2 && digits <= 15 && value[1] != '0' && !value[digits + 1]
               ? NULL
               : "must be a telephone number with its country code, like +19195551212";
}

/* Whether the value has a digit for each 0 of the pattern, a hex digit for each x, and
 * the same character elsewhere. */
static int is_like(const char *value, const char *pattern)
{
    for (; *pattern; value++, pattern++) {
        if (*pattern == '0'   ? !is_digit(*value)
            : *pattern == 'x' ? !is_hex(*value)
                              : *value != *pattern) {
            return 0;
        }
    }
    return !*value;
}

const char *reg_check_date(const char *value)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    if (is_like(value, "0000-00-00")) {
        int year = (int)apr_atoi64(value);
        int month = (int)apr_atoi64(value + 5);
        int day = (int)apr_atoi64(value + 8);
        int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

        if (year >= 1 && month >= 1 && month <= 12 && day >= 1
            && day <= days[month - 1] + (month == 2 && leap)) {
            return NULL;
        }
    }
    return "must be a date of the form yyyy-MM-dd";
}

const char *reg_check_uuid(const char *value)
{
    return is_like(value, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") ? NULL
                                                                  : "must be a UUID";
}

const char *reg_check_object_id(const char *value)
{
    return is_like(value, "xxxxxxxxxxxxxxxxxxxxxxxx") ? NULL : "must be 24 hex digits";
}

/*
 * Language tags
 */

/* The grandfathered tags of RFC 5646, section 2.1. Some also fit its grammar. */
static const char *const grandfathered_tags[] = {
    "en-GB-oed",   "i-ami",   "i-bnn",     "i-default", "i-enochian", "i-hak",
    "i-klingon",   "i-lux",   "i-mingo",   "i-navajo",  "i-pwn",      "i-tao",
    "i-tay",       "i-tsu",   "sgn-BE-FR", "sgn-BE-NL", "sgn-CH-DE",  "art-lojban",
    "cel-gaulish", "no-bok",  "no-nyn",    "zh-guoyu",  "zh-hakka",   "zh-min",
    "zh-min-nan",  "zh-xiang"};

/* A subtag and its kind of characters. */
typedef struct {
    const char *start;
    apr_size_t length;
    int letters, digits; /* whether it has only these */
} subtag_t;

/* Reads the subtag at p; its length is 0 if there is none. */
static subtag_t read_subtag(const char *p)
{
    subtag_t tag = {p, 0, 1, 1};

    for (; is_alphanumeric(p[tag.length]); tag.length++) {
        tag.letters &= is_letter(p[tag.length]);
        tag.digits &= is_digit(p[tag.length]);
    }
    return tag;
}

/* Goes to the next subtag; at the end its length is 0. */
static void advance_subtag(subtag_t *tag)
{
    const char *end = tag->start + tag->length;

    *tag = read_subtag(*end == '-' ? end + 1 : end);
}

static int is_letters(const subtag_t *tag, apr_size_t least, apr_size_t most)
{
    return tag->letters && tag->length >= least && tag->length <= most;
}

static int is_variant(const subtag_t *tag)
{
    return (tag->length >= 5 && tag->length <= 8)
           || (tag->length == 4 && is_digit(*tag->start));
}

static int is_private(const subtag_t *tag)
{
    return tag->length == 1 && (*tag->start == 'x' || *tag->start == 'X');
}

/* Skips the subtags of an extension or a private use. @return whether there is one. */
static int skip_subtags(subtag_t *tag, apr_size_t least)
{
    int found = 0;

    for (advance_subtag(tag); tag->length >= least && tag->length <= 8;
         advance_subtag(tag)) {
        found = 1;
    }
    return found;
}

/* The rules langtag and privateuse of the grammar, in its order. */
static int is_language_tag(const char *value)
{
    subtag_t tag = read_subtag(value);

    if (!is_private(&tag)) {
        int extensible = is_letters(&tag, 2, 3);

        if (!is_letters(&tag, 2, 8)) {
            return 0;
        }
        advance_subtag(&tag);
        for (int i = 0; i < 3 && extensible && is_letters(&tag, 3, 3); i++) {
            advance_subtag(&tag); /* extlang */
        }
        if (is_letters(&tag, 4, 4)) {
            advance_subtag(&tag); /* script */
        }
        if (is_letters(&tag, 2, 2) || (tag.digits && tag.length == 3)) {
            advance_subtag(&tag); /* region */
        }
        while (is_variant(&tag)) {
            advance_subtag(&tag);
        }
        while (tag.length == 1 && !is_private(&tag)) {
            if (!skip_subtags(&tag, 2)) { /* extension */
                return 0;
            }
        }
    }
    if (is_private(&tag) && !skip_subtags(&tag, 1)) {
        return 0;
    }
    return !*tag.start && tag.start[-1] != '-';
}

const char *reg_check_locale(const char *value)
{
    for (apr_size_t i = 0; i < sizeof(grandfathered_tags) / sizeof(grandfathered_tags[0]);
         i++) {
        if (apr_cstr_casecmp(value, grandfathered_tags[i]) == 0) {
            return NULL;
        }
    }
    return *value && strlen(value) <= REG_MAX_TEXT && is_language_tag(value)
               ? NULL
               : "must be a language tag, like en-US";
}

/*
 * Fields
 */

void reg_problems_add(reg_problems_t *problems, const char *field, const char *message)
{
    reg_problem_t *problem;

    if (!problems->list) {
        problems->list = apr_array_make(problems->pool, 4, sizeof(reg_problem_t));
    }
    problem = apr_array_push(problems->list);
    problem->field = field;
    problem->message = message;
}

/* The value of a field; NULL if it is missing. */
static const reg_json_t *find_field(const reg_problems_t *problems,
                                    const reg_json_t *object, const char *key)
{
    const reg_json_t *value = reg_json_get(object, key);

    return problems->null_is_absent && reg_json_is_null(value) ? NULL : value;
}

static void add_problem(reg_problems_t *problems, const char *prefix, const char *key,
                        const char *message)
{
    reg_problems_add(problems, apr_pstrcat(problems->pool, prefix, key, NULL), message);
}

const char *reg_field(reg_problems_t *problems, const reg_json_t *object,
                      const char *prefix, const char *key, reg_check_t *check)
{
    const reg_json_t *value = find_field(problems, object, key);
    const char *text = reg_json_string(value);
    const char *wrong;

    if (!value) {
        return NULL;
    }
    wrong = text ? check(text) : "must be a string";
    if (wrong) {
        add_problem(problems, prefix, key, wrong);
        return NULL;
    }
    return text;
}

const char *reg_field_required(reg_problems_t *problems, const reg_json_t *object,
                               const char *prefix, const char *key, reg_check_t *check)
{
    if (!find_field(problems, object, key)) {
        add_problem(problems, prefix, key, "is required");
        return NULL;
    }
    return reg_field(problems, object, prefix, key, check);
}

const reg_json_t *reg_field_object(reg_problems_t *problems, const reg_json_t *object,
                                   const char *prefix, const char *key)
{
    const reg_json_t *value = find_field(problems, object, key);

    if (value && !reg_json_is_object(value)) {
        add_problem(problems, prefix, key, "must be an object");
        return NULL;
    }
    return value;
}

const char *reg_field_free(reg_problems_t *problems, const reg_json_t *object,
                           const char *prefix, const char *key, const char *raw)
{
    if (!reg_field_object(problems, object, prefix, key)) {
        return NULL;
    }
    if (!reg_json_numbers_fit(raw)) {
        add_problem(problems, prefix, key,
                    "must not hold numbers of more than 1000 digits, written out");
        return NULL;
    }
    return raw;
}

const char *reg_check_size_message(const reg_request_t *request)
{
    return apr_psprintf(request->pool,
                        "must not have more than %d bytes, as it is stored",
                        request->settings->max_fields);
}
