/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

static apr_status_t release(void *value)
{
    json_decref(value);
    return APR_SUCCESS;
}

/* Ends the process unless something is done, which fails for want of memory only. */
static void must(int done)
{
    if (!done) {
        abort();
    }
}

/* Binds a new value to a pool. */
static json_t *owned(apr_pool_t *pool, json_t *value)
{
    if (value) {
        apr_pool_cleanup_register(pool, value, release, apr_pool_cleanup_null);
    }
    return value;
}

static const char *skip_digits(const char *p)
{
    return p + strspn(p, "0123456789");
}

/* The end of the number that begins at p by the grammar of RFC 8259, section 6; p itself
 * if there is none. */
static const char *number_end(const char *p)
{
    const char *start = p;
    const char *digits = *p == '-' ? ++p : p;

    p = *digits == '0' ? digits + 1 : skip_digits(digits);
    if (p == digits) {
        return start;
    }
    if (*p == '.') {
        digits = p + 1;
        p = skip_digits(digits);
        if (p == digits) {
            return start;
        }
    }
    if (*p == 'e' || *p == 'E') {
        digits = p + 1 + (p[1] == '+' || p[1] == '-');
        p = skip_digits(digits);
        if (p == digits) {
            return start;
        }
    }
    return p;
}

/* The end of the string whose opening quote is at p: behind the closing one, or at the
 * terminating NUL. */
static const char *string_end(const char *p)
{
    for (p++; *p && *p != '"'; p++) {
        if (*p == '\\' && p[1]) {
            p++;
        }
    }
    return *p ? p + 1 : p;
}

/*
 * Makes of a text one that jansson reads without giving a number a value: a number
 * becomes a 0 and blanks. jansson refuses what does not fit its integers and doubles, and
 * would spend time on values nobody asks for. Positions stay, so its errors still name
 * the place. Returns NULL, or what there is too much of.
 * @param longest set to the bytes of the longest string, quotes included.
 */
static const char *blank_numbers(apr_pool_t *pool, char *text, apr_size_t *longest)
{
    int depth = 0, values = 0;
    const char *end;

    for (char *p = text; *p; p = (char *)end) {
        end = p + 1;
        if (*p == '"') {
            end = string_end(p);
            *longest = MAX(*longest, (apr_size_t)(end - p));
        }
        else if (*p == '-' || (*p >= '0' && *p <= '9')) {
            end = number_end(p);
            if (end == p) {
                return NULL; /* no number: jansson will say so */
            }
            memset(p, ' ', (size_t)(end - p));
            *p = '0';
        }
        else {
            depth += (*p == '[' || *p == '{') - (*p == ']' || *p == '}');
            values += *p == '[' || *p == '{' || *p == ',';
        }
        if (depth > REG_JSON_MAX_DEPTH) {
            return apr_psprintf(pool, "more than %d levels", REG_JSON_MAX_DEPTH);
        }
        if (values > REG_JSON_MAX_VALUES) {
            return apr_psprintf(pool, "more than %d values", REG_JSON_MAX_VALUES);
        }
    }
    return NULL;
}

/*
 * An array of the number 1 and the text. jansson collects what it reads of a string in a
 * buffer, and does not notice when the buffer cannot grow: a byte less is read, or more
 * than there is where that byte was the closing quote. The buffer never gets smaller, so
 * what makes it large enough for the longest string is a number written out longer than
 * that, which with any byte less would not be 1. Where it cannot grow up to the end of
 * the number, an assertion of jansson's ends the process before a string is read; only
 * where jansson was built without assertions (Debian's has them) that case stays open.
 */
static const char *behind_number(apr_pool_t *pool, const char *text, apr_size_t longest)
{
    char *zeros = apr_palloc(pool, longest + 1);

    memset(zeros, '0', longest);
    zeros[longest] = '\0';
    return apr_pstrcat(pool, "[1", zeros, "e-",
                       apr_psprintf(pool, "%" APR_SIZE_T_FMT, longest), ",\n", text, "]",
                       NULL);
}

/* Whether it was memory that jansson lacked. It has no code for that, and mostly no word.
 * Where it expected a string and has read one to its end, what is wrong with that is
 * worded otherwise, so that it was memory there as well. */
static int lacked_memory(const char *document, const json_error_t *where)
{
    static const char *const expectations[] = {"invalid token", "string or '}' expected"};
    int lacked = !*where->text;

    for (size_t i = 0; i < sizeof(expectations) / sizeof(expectations[0]); i++) {
        lacked |= document[MAX(where->position, 1) - 1] == '"'
                  && strncmp(where->text, expectations[i], strlen(expectations[i])) == 0;
    }
    return lacked;
}

reg_json_t *reg_json_parse(apr_pool_t *pool, const char *text, apr_size_t length,
                           const char **error)
{
    char *copy = apr_pstrmemdup(pool, text, length);
    apr_size_t longest = 0;
    const char *document;
    json_error_t where;
    json_t *array, *value;

    *error = memchr(text, '\0', length) ? "a NUL character"
                                        : blank_numbers(pool, copy, &longest);
    if (*error) {
        return NULL;
    }
    document = behind_number(pool, copy, longest);
    array = owned(pool, json_loads(document, JSON_REJECT_DUPLICATES, &where));
    if (!array) {
        *error =
            lacked_memory(document, &where)
                ? NULL
                : apr_psprintf(pool, "line %d, column %d", where.line - 1, where.column);
        return NULL;
    }
    if (json_real_value(json_array_get(array, 0)) != 1) {
        return NULL; /* out of memory */
    }
    value = json_array_get(array, 1);
    if (json_array_size(array) != 2 || !json_is_object(value)) {
        *error = "not an object";
        return NULL;
    }
    return value;
}

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

/* The end of the value that begins at p, in a text known to be valid. */
static const char *value_end(const char *p)
{
    int depth = 0;

    do {
        if (*p == '"') {
            p = string_end(p);
        }
        else if (*p == '{' || *p == '[') {
            depth++;
            p++;
        }
        else if (*p == '}' || *p == ']') {
            depth--;
            p++;
        }
        else if (depth) {
            p++;
        }
        else {
            p += strcspn(p, " \t\r\n,]}");
        }
    } while (depth && *p);
    return p;
}

/* The ASCII character that an escape stands for, the backslash left out; 0 if another. */
static int unescaped(const char *p)
{
    static const char written[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char digits[5] = "";
    long code;

    if (*p != 'u') {
        return meant[strchr(written, *p) - written];
    }
    memcpy(digits, p + 1, 4);
    code = strtol(digits, NULL, 16);
    return code < 0x80 ? (int)code : 0;
}

/* Whether the string at p, quotes included, stands for the key. */
static int string_is(const char *p, const char *key)
{
    for (p++; *p != '"'; key++) {
        int c = *p == '\\' ? unescaped(p + 1) : *p;

        if (!*key || c != *key) {
            return 0;
        }
        p += *p != '\\' ? 1 : p[1] == 'u' ? 6 : 2;
    }
    return !*key;
}

/* Where the value of a key begins in the object at p; NULL if the key is missing. */
static const char *find_member(const char *p, const char *key)
{
    if (*p != '{') {
        return NULL;
    }
    p = skip_space(p + 1);
    while (*p == '"') {
        const char *value = skip_space(string_end(p));

        value = skip_space(value + 1); /* the colon */
        if (string_is(p, key)) {
            return value;
        }
        p = skip_space(value_end(value));
        if (*p == ',') {
            p = skip_space(p + 1);
        }
    }
    return NULL;
}

const char *reg_json_raw(apr_pool_t *pool, const char *text, const char *key, ...)
{
    const char *value = skip_space(text);
    va_list keys;

    va_start(keys, key);
    for (; key && value; key = va_arg(keys, const char *)) {
        value = find_member(value, key);
    }
    va_end(keys);
    return value ? apr_pstrmemdup(pool, value, (apr_size_t)(value_end(value) - value))
                 : NULL;
}

const char *reg_json_plain(apr_pool_t *pool, const char *raw)
{
    char *text, *end;

    if (!raw || *raw != '"') {
        return raw && strcmp(raw, "null") != 0 ? raw : NULL;
    }
    text = end = apr_palloc(pool, strlen(raw));
    for (raw++; *raw != '"'; raw += *raw != '\\' ? 1 : raw[1] == 'u' ? 6 : 2) {
        int c = *raw == '\\' ? unescaped(raw + 1) : *raw;

        *end++ = (char)c;
    }
    *end = '\0';
    return text;
}

/* How many digits the number from p to its end has, written out without an exponent. */
static apr_int64_t count_digits(const char *p, const char *end)
{
    apr_int64_t mantissa = 0, exponent = 0;

    while (p + mantissa < end && p[mantissa] != 'e' && p[mantissa] != 'E') {
        mantissa++;
    }
    if (p + mantissa < end) {
        exponent = apr_atoi64(p + mantissa + 1); /* the largest there is when too large */
    }
    if (exponent > REG_JSON_MAX_DIGITS || exponent < -REG_JSON_MAX_DIGITS) {
        return REG_JSON_MAX_DIGITS + 1;
    }
    return mantissa + (exponent < 0 ? -exponent : exponent);
}

int reg_json_numbers_fit(const char *text)
{
    apr_int64_t digits, all = 0;
    const char *end;

    for (const char *p = text; *p; p = end) {
        end = *p == '"' ? string_end(p) : number_end(p);
        if (end == p) {
            end++;
        }
        else if (*p != '"') {
            digits = count_digits(p, end);
            all += digits;
            if (digits > REG_JSON_MAX_DIGITS || all > REG_JSON_MAX_ALL_DIGITS) {
                return 0;
            }
        }
    }
    return 1;
}

reg_json_t *reg_json_get(const reg_json_t *object, const char *key)
{
    return json_object_get(object, key);
}

const char *reg_json_other_key(const reg_json_t *object, const char *const *known)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value)
    {
        const char *const *name = known;

        while (*name && strcmp(*name, key) != 0) {
            name++;
        }
        if (!*name) {
            return key;
        }
    }
    return NULL;
}

int reg_json_has_only(const reg_json_t *object, const char *key)
{
    const char *other;
    json_t *value;

    json_object_foreach((json_t *)object, other, value)
    {
        if (apr_cstr_casecmp(other, key) == 0 && strcmp(other, key) != 0) {
            return 0;
        }
    }
    return json_object_get(object, key) != NULL;
}

const char *reg_json_string(const reg_json_t *value)
{
    return json_string_value(value);
}

int reg_json_is_null(const reg_json_t *value)
{
    return json_is_null(value);
}

int reg_json_is_object(const reg_json_t *value)
{
    return json_is_object(value);
}

int reg_json_is_array(const reg_json_t *value)
{
    return json_is_array(value);
}

apr_size_t reg_json_length(const reg_json_t *array)
{
    return json_array_size(array);
}

reg_json_t *reg_json_item(const reg_json_t *array, apr_size_t index)
{
    return json_array_get(array, index);
}

reg_json_t *reg_json_object(apr_pool_t *pool)
{
    json_t *object = json_object();

    must(object != NULL);
    return owned(pool, object);
}

reg_json_t *reg_json_array(apr_pool_t *pool)
{
    json_t *array = json_array();

    must(array != NULL);
    return owned(pool, array);
}

void reg_json_set_string(reg_json_t *object, const char *key, const char *value)
{
    must(!json_object_set_new(object, key, json_string(value)));
}

void reg_json_set_integer(reg_json_t *object, const char *key, int value)
{
    must(!json_object_set_new(object, key, json_integer(value)));
}

void reg_json_set(reg_json_t *object, const char *key, reg_json_t *value)
{
    must(!json_object_set(object, key, value));
}

void reg_json_append(reg_json_t *array, reg_json_t *value)
{
    must(!json_array_append(array, value));
}

/* Written where there is room: of what json_dumps() has to make room for it does not
 * notice everything that is missing. */
const char *reg_json_text(apr_pool_t *pool, const reg_json_t *value)
{
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    size_t length = json_dumpb(value, NULL, 0, flags);
    char *text = apr_palloc(pool, length + 1);

    must(length && json_dumpb(value, text, length, flags) == length);
    text[length] = '\0';
    return text;
}
