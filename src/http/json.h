/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_JSON_H
#define REGISTRATION_HTTP_JSON_H

/**
 * JSON, parsed strictly and written compactly: jansson, with every value bound to a pool.
 *
 * The parser accepts RFC 8259 without what two parsers could read differently: the text
 * is one object in UTF-8, no key stands twice, nothing follows the object, there are at
 * most REG_JSON_MAX_DEPTH levels and REG_JSON_MAX_VALUES values, and no \u0000. Only the
 * grammar of numbers is checked, as no field of the APIs is a number. Free JSON with
 * numbers goes to the database as the client's own text (reg_json_raw), not as a double.
 *
 * Out of memory, parsing fails and never returns another text; writing ends the process,
 * as httpd's pools do.
 */

#include "registration.h"

#define REG_JSON_MAX_DEPTH 100

/** Most values of a text. An empty object has 3 bytes in a request and 230 in memory, and
 *  a thread does not return memory that it has allocated. */
#define REG_JSON_MAX_VALUES 50000

/** Most digits of a number in free JSON, written out: 1e400 has 401. */
#define REG_JSON_MAX_DIGITS 1000
/** Most digits that all the numbers of a piece of free JSON have together. */
#define REG_JSON_MAX_ALL_DIGITS 1048576

/**
 * Parses a text that must be one JSON object.
 * @param text not changed; the object does not point into it.
 * @param error set on failure: to the place of the error, "line 1, column 17", or to NULL
 *        if there was no memory.
 * @return the object, owned by the pool; NULL on failure.
 */
reg_json_t *reg_json_parse(apr_pool_t *pool, const char *text, apr_size_t length,
                           const char **error);

/**
 * The text of a value as the client wrote it.
 * @param text that reg_json_parse() has accepted, NUL-terminated.
 * @param key in the outermost object, in ASCII; then a key in that object, and so on, up
 *        to NULL.
 * @return a copy of the value's text; NULL if a key is missing.
 */
const char *reg_json_raw(apr_pool_t *pool, const char *text, const char *key, ...)
    __attribute__((sentinel));

/**
 * The decoded string of a value; the text of a value that is no string.
 * @param raw from a text that PostgreSQL has written, which escapes ASCII only; or NULL.
 * @return NULL also for null.
 */
const char *reg_json_plain(apr_pool_t *pool, const char *raw);

/**
 * Whether the numbers in a text that reg_json_parse() has accepted are short enough to be
 * stored. The database writes 1e400 out, so a few bytes could become gigabytes.
 */
int reg_json_numbers_fit(const char *text);

/** The value of a key; NULL if it is missing, or the object is NULL or no object. */
reg_json_t *reg_json_get(const reg_json_t *object, const char *key);

/**
 * The first key of an object that is not a known key.
 * @param known the known keys, up to NULL.
 * @return NULL if there is none; the key belongs to the object.
 */
const char *reg_json_other_key(const reg_json_t *object, const char *const *known);

/** Whether the object has the key and no other key that differs from it in case only. */
int reg_json_has_only(const reg_json_t *object, const char *key);

/** The text of a string, as valid UTF-8; NULL if the value is no string. */
const char *reg_json_string(const reg_json_t *value);

int reg_json_is_null(const reg_json_t *value);
int reg_json_is_object(const reg_json_t *value);
int reg_json_is_array(const reg_json_t *value);

/** Items of an array; 0 and NULL for everything else. */
apr_size_t reg_json_length(const reg_json_t *array);
reg_json_t *reg_json_item(const reg_json_t *array, apr_size_t index);

/** A new object or array, owned by the pool. It owns the values that are set in it. */
reg_json_t *reg_json_object(apr_pool_t *pool);
reg_json_t *reg_json_array(apr_pool_t *pool);

/** Sets a key; keys are written in the order in which they were set. Texts are UTF-8. */
void reg_json_set_string(reg_json_t *object, const char *key, const char *value);
void reg_json_set_integer(reg_json_t *object, const char *key, int value);
/** Sets a key, or appends an item. The value also stays owned by its own pool. */
void reg_json_set(reg_json_t *object, const char *key, reg_json_t *value);
void reg_json_append(reg_json_t *array, reg_json_t *value);

/** The value as compact JSON. */
const char *reg_json_text(apr_pool_t *pool, const reg_json_t *value);

#endif
