/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A JSON text: it is accepted if jansson with the same strictness accepts it, and a value
 * that is kept as it was written is the value of its key.
 */

#include "fuzz.h"

/* Whether this is one of the few cases in which jansson has no limit. */
static int is_refused(const json_t *value, int depth, int *values)
{
    const char *key;
    json_t *item;
    size_t i;

    if (json_is_object(value) || json_is_array(value)) {
        ++*values;
        if (depth > REG_JSON_MAX_DEPTH) {
            return 1;
        }
    }
    json_array_foreach(value, i, item)
    {
        *values += i > 0;
        if (is_refused(item, depth + 1, values)) {
            return 1;
        }
    }
    i = 0;
    json_object_foreach((json_t *)value, key, item)
    {
        *values += i++ > 0;
        if (is_refused(item, depth + 1, values)) {
            return 1;
        }
    }
    return *values > REG_JSON_MAX_VALUES;
}

static void check_members(apr_pool_t *pool, const char *text, const reg_json_t *parsed,
                          json_t *expected)
{
    const char *key;
    json_t *value;

    json_object_foreach(expected, key, value)
    {
        const char *raw = reg_json_raw(pool, text, key, NULL);
        const char *string = reg_json_string(reg_json_get(parsed, key));
        json_t *again;

        if (!raw) {
            /* not a key of the APIs, and written with an escape */
            HOLDS(fuzz_code_points(pool, key) != (long)strlen(key));
            continue;
        }
        again = json_loads(raw, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
        HOLDS(json_equal(again, value));
        json_decref(again);
        if (!strstr(raw, "\\u")) { /* as PostgreSQL writes it */
            const char *plain = reg_json_plain(pool, raw);

            HOLDS(plain ? !strcmp(plain, string ? string : raw) : json_is_null(value));
        }
        HOLDS(string ? !strcmp(string, json_string_value(value))
                     : !json_is_string(value));
        reg_json_numbers_fit(raw);
    }
}

static void fuzz_one(apr_pool_t *pool, fuzz_input_t *input)
{
    const char *text = apr_pstrmemdup(pool, input->data, input->length);
    const char *error = NULL;
    const reg_json_t *parsed = reg_json_parse(pool, text, input->length, &error);
    json_error_t reason;
    json_t *expected = json_loadb(
        text, input->length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &reason);
    int values = 0;

    HOLDS(!parsed == (error != NULL));
    if (memchr(text, '\0', input->length)) {
        HOLDS(!parsed); /* jansson overlooks one behind a number */
    }
    else if (expected) {
        HOLDS(!parsed == (!json_is_object(expected) || is_refused(expected, 1, &values)));
    }
    else {
        HOLDS(!parsed || json_error_code(&reason) == json_error_numeric_overflow);
    }
    if (parsed && expected) {
        check_members(pool, text, parsed, expected);
    }
    json_decref(expected);
}
