/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_JSON_H
#define REGISTRATION_HTTP_JSON_H

/**
 * JSON, read strictly and written compactly: jansson, with every value bound to a pool.
 *
 * What is accepted is RFC 8259 less what two readers could take for two things: one
 * object, UTF-8, no key twice, nothing behind it, at most REG_JSON_MAX_DEPTH levels and
 * REG_JSON_MAX_VALUES values, no \u0000. Numbers are checked for their grammar only and
 * have no value here, because no field of the APIs is one: where free JSON holds numbers,
 * its text goes to the database as the client wrote it (reg_json_raw), not through a
 * double.
 *
 * Without memory a text is not read, and never as another one; to write one ends the
 * process, as it does where a pool of httpd's has none.
 */

#include "registration.h"

#define REG_JSON_MAX_DEPTH 100

/** Most values of a text. An empty object is 3 bytes to send and 230 to keep, and what a
 *  thread has once allocated it does not give back. */
#define REG_JSON_MAX_VALUES 50000

/** Most digits of a number in free JSON, written out: 1e400 has 401. */
#define REG_JSON_MAX_DIGITS 1000
/** Most digits that all the numbers of a piece of free JSON have together. */
#define REG_JSON_MAX_ALL_DIGITS 1048576

/**
 * Parses a text that must be one JSON object.
 * @param text not changed; what is returned does not point into it.
 * @param error set to where the text goes wrong, "line 1, column 17", on failure; to NULL
 *        when there was no memory to read it.
 * @return the object, owned by the pool; NULL when the text is something else.
 */
reg_json_t *reg_json_parse(apr_pool_t *pool, const char *text, apr_size_t length,
                           const char **error);

/**
 * The text of a value as the client wrote it.
 * @param text one that reg_json_parse() has accepted, ending in a NUL.
 * @param key of the outermost object, in ASCII; and so on with each further object
 * inside, up to NULL.
 * @return a copy of the value's text; NULL when a key is missing.
 */
const char *reg_json_raw(apr_pool_t *pool, const char *text, const char *key, ...)
    __attribute__((sentinel));

/**
 * The string that a value stands for, or the text of one that is no string.
 * @param raw of a text that PostgreSQL has written, and so without an escape for what is
 *        not ASCII; or NULL.
 * @return NULL for null as well.
 */
const char *reg_json_plain(apr_pool_t *pool, const char *raw);

/**
 * Whether the numbers in a text that reg_json_parse() has accepted may be kept. The
 * database writes them out, so that a few bytes could become gigabytes in an answer.
 */
int reg_json_numbers_fit(const char *text);

/** The value of a key, NULL when it is missing or the object is NULL or no object. */
reg_json_t *reg_json_get(const reg_json_t *object, const char *key);

/**
 * The first key of an object that is not one of those named.
 * @param known their names, up to NULL.
 * @return NULL when there is none; the key belongs to the object.
 */
const char *reg_json_other_key(const reg_json_t *object, const char *const *known);

/** Whether the object has the key and no other key that differs from it in case only. */
int reg_json_has_only(const reg_json_t *object, const char *key);

/** The text of a string, valid UTF-8, its content not checked; NULL if it is no string.
 */
const char *reg_json_string(const reg_json_t *value);

int reg_json_is_null(const reg_json_t *value);
int reg_json_is_object(const reg_json_t *value);
int reg_json_is_array(const reg_json_t *value);

/** Items of an array; 0 and NULL for everything else. */
apr_size_t reg_json_length(const reg_json_t *array);
reg_json_t *reg_json_item(const reg_json_t *array, apr_size_t index);

/** A new object or array, owned by the pool; what is set in it is owned by it as well. */
reg_json_t *reg_json_object(apr_pool_t *pool);
reg_json_t *reg_json_array(apr_pool_t *pool);

/** Sets a key; keys are written in the order in which they were set. Texts are UTF-8. */
void reg_json_set_string(reg_json_t *object, const char *key, const char *value);
void reg_json_set_integer(reg_json_t *object, const char *key, int value);
/** Sets a key or adds an item to the value, which its own pool goes on owning as well. */
void reg_json_set(reg_json_t *object, const char *key, reg_json_t *value);
void reg_json_append(reg_json_t *array, reg_json_t *value);

/** The value as compact JSON. */
const char *reg_json_text(apr_pool_t *pool, const reg_json_t *value);

#endif
