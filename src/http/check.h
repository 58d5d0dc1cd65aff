/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_CHECK_H
#define REGISTRATION_HTTP_CHECK_H

/**
 * Checks of fields. Each check takes a NUL-terminated UTF-8 string and returns NULL if it
 * is valid, else the error, which follows the field's name in a message: "must be …".
 * Lengths are in code points unless said otherwise.
 */

#include "registration.h"

#define REG_MAX_TEXT 255
#define REG_MAX_EMAIL 254

typedef const char *reg_check_t(const char *value);

/** At most 255 code points, no control characters. */
reg_check_t reg_check_text;
/** Like reg_check_text, and not empty. */
reg_check_t reg_check_name;
/** An address by the grammar of the HTML standard's `input type=email`, at most 254. */
reg_check_t reg_check_email;
/** A telephone number of ITU-T E.164: + and 2 to 15 digits, the first not 0. */
reg_check_t reg_check_phone;
/** A well-formed language tag: RFC 5646, section 2.1, grandfathered ones included. */
reg_check_t reg_check_locale;
/** yyyy-MM-dd, a date of the proleptic Gregorian calendar, year 1 to 9999. */
reg_check_t reg_check_date;
/** A UUID in the text form of RFC 9562, section 4, hex digits in either case. */
reg_check_t reg_check_uuid;
/** A MongoDB ObjectId: 24 hex digits in either case. */
reg_check_t reg_check_object_id;

/** The text without white space at its ends, as JavaScript's trim() returns it; allocated
 *  in the pool if it differs. */
const char *reg_check_trimmed(apr_pool_t *pool, const char *text);
/** Whether the text has a character U+0000 to U+001F or U+007F. */
int reg_check_has_control(const char *text);
/** The number of code points of a valid UTF-8 text. */
apr_size_t reg_check_code_points(const char *text);

/** An invalid field and its error. */
typedef struct reg_problem_t {
    const char *field;   /* as the client wrote it: "groupMember.user.email" */
    const char *message; /* "must be …" */
} reg_problem_t;

/** All invalid fields of a request, in the order of the checks. */
typedef struct reg_problems_t {
    apr_array_header_t *list; /* of reg_problem_t; NULL if there is none */
    apr_pool_t *pool;
    int null_is_absent; /* a null is a missing key, not a wrong type */
} reg_problems_t;

void reg_problems_add(reg_problems_t *problems, const char *field, const char *message);

/**
 * Reads a string field and checks it.
 * @param object that has the field, or NULL.
 * @param prefix of the field's name in a problem, "groupMember." or "".
 * @return the value; NULL if the field is missing, which is no problem, or invalid, which
 *         is added to the problems.
 */
const char *reg_field(reg_problems_t *problems, const reg_json_t *object,
                      const char *prefix, const char *key, reg_check_t *check);

/** Reads a required string field: a missing field is a problem. */
const char *reg_field_required(reg_problems_t *problems, const reg_json_t *object,
                               const char *prefix, const char *key, reg_check_t *check);

/** Reads a field that is an object. */
const reg_json_t *reg_field_object(reg_problems_t *problems, const reg_json_t *object,
                                   const char *prefix, const char *key);

/**
 * Reads a field that is a free JSON object, which is stored as the client wrote it.
 * @param raw the object's text, from reg_json_raw().
 * @return that text.
 */
const char *reg_field_free(reg_problems_t *problems, const reg_json_t *object,
                           const char *prefix, const char *key, const char *raw);

/** The error for free JSON larger than settings->max_fields, as the database stores it.
 * In the request's pool. */
const char *reg_check_size_message(const reg_request_t *request);

#endif
