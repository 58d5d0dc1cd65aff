/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

static apr_status_t release_value(void *value)
{
    json_decref(value);
    return APR_SUCCESS;
}

/* Ends the process when jansson has failed to build a value: it is out of memory. */
static void abort_unless(int is_done)
{
    if (!is_done) {
        abort();
    }
}

/* Binds a new value to a pool. */
static json_t *bind_to_pool(apr_pool_t *pool, json_t *value)
{
    if (value) {
        apr_pool_cleanup_register(pool, value, release_value, apr_pool_cleanup_null);
    }
    return value;
}

static const char *skip_digits(const char *p)
{
    return p + strspn(p, "0123456789");
}

/* The end of the number at p by the grammar of RFC 8259, section 6; p if there is no
 * number. */
static const char *find_number_end(const char *p)
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

/* The end of the string whose opening quote is at p: after the closing quote, or at the
 * terminating NUL. */
static const char *find_string_end(const char *p)
{
    for (p++; *p && *p != '"'; p++) {
        if (*p == '\\' && p[1]) {
            p++;
        }
    }
    return *p ? p + 1 : p;
}

/*
 * Replaces each number of a text by a 0 and blanks. jansson refuses numbers that do not
 * fit its integers and doubles, and no field of the APIs is a number. Positions stay the
 * same, so jansson's errors name the right place.
 * @param longest set to the bytes of the longest string, quotes included.
 * @return NULL, or the limit that the text exceeds.
 */
static const char *blank_numbers(apr_pool_t *pool, char *text, apr_size_t *longest)
{
    int depth = 0, values = 0;
    const char *end;

    for (char *p = text; *p; p = (char *)end) {
        end = p + 1;
        if (*p == '"') {
            end = find_string_end(p);
            *longest = MAX(*longest, (apr_size_t)(end - p));
        }
        else if (*p == '-' || (*p >= '0' && *p <= '9')) {
            end = find_number_end(p);
            if (end == p) {
                return NULL; /* no number: jansson refuses it */
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
 * Wraps the text in an array, after a number 1 that is written longer than the longest
 * string.
 *
 * jansson collects a string in a buffer and does not notice when the buffer cannot grow:
 * it drops a byte, or reads beyond the end if that byte is the closing quote. The buffer
 * never shrinks, so the long number makes it large enough for every string that follows.
 * If the buffer cannot grow for the number, the number is not 1, or an assertion of
 * jansson's ends the process; only a jansson built without assertions (Debian's has them)
 * could still read a wrong text. An allocator that ends the process, for
 * json_set_alloc_funcs(), would be shorter, but it would serve the other modules of the
 * process too, and be called after a restart of httpd has unloaded this module.
 */
static const char *wrap_after_number(apr_pool_t *pool, const char *text,
                                     apr_size_t longest)
{
    char *zeros = apr_palloc(pool, longest + 1);

    memset(zeros, '0', longest);
    zeros[longest] = '\0';
    return apr_pstrcat(pool, "[1", zeros, "e-",
                       apr_psprintf(pool, "%" APR_SIZE_T_FMT, longest), ",\n", text, "]",
                       NULL);
}

/* Whether jansson failed for lack of memory, for which it has no error code and mostly no
 * text. Where it expected a string and one begins, its error names something else than
 * the syntax, so that was lack of memory too. */
static int is_out_of_memory(const char *document, const json_error_t *where)
{
    static const char *const expectations[] = {"invalid token", "string or '}' expected"};
    int is_lacking = !*where->text;

    for (size_t i = 0; i < sizeof(expectations) / sizeof(expectations[0]); i++) {
        is_lacking |=
            document[MAX(where->position, 1) - 1] == '"'
            && strncmp(where->text, expectations[i], strlen(expectations[i])) == 0;
    }
    return is_lacking;
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
    document = wrap_after_number(pool, copy, longest);
    array = bind_to_pool(pool, json_loads(document, JSON_REJECT_DUPLICATES, &where));
    if (!array) {
        *error =
            is_out_of_memory(document, &where)
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

/* The end of the value at p, in a valid text. */
static const char *find_value_end(const char *p)
{
    int depth = 0;

    do {
        if (*p == '"') {
            p = find_string_end(p);
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

/* The ASCII character of the escape sequence whose backslash is before p; 0 for another
 * character. */
static int decode_escape(const char *p)
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

/* Whether the string at p, quotes included, is the key once its escapes are decoded. */
static int is_key_at(const char *p, const char *key)
{
    for (p++; *p != '"'; key++) {
        int c = *p == '\\' ? decode_escape(p + 1) : *p;

        if (!*key || c != *key) {
            return 0;
        }
        p += *p != '\\' ? 1 : p[1] == 'u' ? 6 : 2;
    }
    return !*key;
}

/* The begin of a key's value in the object at p; NULL if the key is missing. */
static const char *find_member(const char *p, const char *key)
{
    if (*p != '{') {
        return NULL;
    }
    p = skip_space(p + 1);
    while (*p == '"') {
        const char *value = skip_space(find_string_end(p));

        value = skip_space(value + 1); /* the colon */
        if (is_key_at(p, key)) {
            return value;
        }
        p = skip_space(find_value_end(value));
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
    return value
               ? apr_pstrmemdup(pool, value, (apr_size_t)(find_value_end(value) - value))
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
        int c = *raw == '\\' ? decode_escape(raw + 1) : *raw;

        *end++ = (char)c;
    }
    *end = '\0';
    return text;
}

/* The number of digits of the number from p to `end`, written out without an exponent. */
static apr_int64_t count_digits(const char *p, const char *end)
{
    apr_int64_t mantissa = 0, exponent = 0;

    while (p + mantissa < end && p[mantissa] != 'e' && p[mantissa] != 'E') {
        mantissa++;
    }
    if (p + mantissa < end) {
        exponent = apr_atoi64(p + mantissa + 1); /* APR_INT64_MAX if it does not fit */
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
        end = *p == '"' ? find_string_end(p) : find_number_end(p);
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

    abort_unless(object != NULL);
    return bind_to_pool(pool, object);
}

reg_json_t *reg_json_array(apr_pool_t *pool)
{
    json_t *array = json_array();

    abort_unless(array != NULL);
    return bind_to_pool(pool, array);
}

void reg_json_set_string(reg_json_t *object, const char *key, const char *value)
{
    abort_unless(!json_object_set_new(object, key, json_string(value)));
}

void reg_json_set_integer(reg_json_t *object, const char *key, int value)
{
    abort_unless(!json_object_set_new(object, key, json_integer(value)));
}

void reg_json_set(reg_json_t *object, const char *key, reg_json_t *value)
{
    abort_unless(!json_object_set(object, key, value));
}

void reg_json_append(reg_json_t *array, reg_json_t *value)
{
    abort_unless(!json_array_append(array, value));
}

/* Not json_dumps(), which does not notice each failed allocation: the text is written
 * into a buffer of the right size. */
const char *reg_json_text(apr_pool_t *pool, const reg_json_t *value)
{
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    size_t length = json_dumpb(value, NULL, 0, flags);
    char *text = apr_palloc(pool, length + 1);

    abort_unless(length && json_dumpb(value, text, length, flags) == length);
    text[length] = '\0';
    return text;
}
