/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_CHECK_H
#define REGISTRATION_HTTP_CHECK_H

/**
 * What a field may hold. Each check takes a NUL-terminated UTF-8 string and returns NULL
 * when it is good, else what is wrong, worded to follow the field's name: "must be …".
 * Lengths are in code points unless said otherwise.
 */

#include "registration.h"

#define REG_MAX_TEXT 255
#define REG_MAX_EMAIL 254

typedef const char *reg_check_t(const char *value);

/** At most 255 code points, no control characters. */
reg_check_t reg_check_text;
/** The same, and not empty. */
reg_check_t reg_check_name;
/** An address by the grammar of the HTML standard's `input type=email`, at most 254. */
reg_check_t reg_check_email;
/** A telephone number as ITU-T E.164 has it: + and 2 to 15 digits, the first not 0. */
reg_check_t reg_check_phone;
/** A well-formed language tag: RFC 5646, section 2.1, grandfathered ones included. */
reg_check_t reg_check_locale;
/** yyyy-MM-dd, a date of the proleptic Gregorian calendar, year 1 to 9999. */
reg_check_t reg_check_date;
/** A UUID in the text form of RFC 9562, section 4, hex digits in either case. */
reg_check_t reg_check_uuid;
/** A MongoDB ObjectId: 24 hex digits in either case. */
reg_check_t reg_check_object_id;

/** The text without white space at its ends, as JavaScript's trim() leaves it; in the
 *  pool where that is another text. */
const char *reg_check_trimmed(apr_pool_t *pool, const char *text);
/** Whether the text holds a character U+0000 to U+001F or U+007F. */
int reg_check_has_control(const char *text);
/** Code points of a valid UTF-8 text. */
apr_size_t reg_check_code_points(const char *text);

/** A field that is wrong, and how. */
typedef struct reg_problem_t {
    const char *field;   /* as the client wrote it: "groupMember.user.email" */
    const char *message; /* "must be …" */
} reg_problem_t;

/** All that is wrong with one request, in the order of the checks. */
typedef struct reg_problems_t {
    apr_array_header_t *list; /* of reg_problem_t; NULL while all is well */
    apr_pool_t *pool;
    int null_is_absent; /* a null counts as a missing key, not as a wrong type */
} reg_problems_t;

void reg_problems_add(reg_problems_t *problems, const char *field, const char *message);

/**
 * Reads a string field and checks it.
 * @param object holds the field, or NULL.
 * @param prefix what the field's name begins with in a problem, "groupMember." or "".
 * @return the value; NULL when it is missing, which is no problem here, or wrong, which
 *         is added to the problems.
 */
const char *reg_field(reg_problems_t *problems, const reg_json_t *object,
                      const char *prefix, const char *key, reg_check_t *check);

/** The same for a field that must be there. */
const char *reg_field_required(reg_problems_t *problems, const reg_json_t *object,
                               const char *prefix, const char *key, reg_check_t *check);

/** The same for a field that holds an object. */
const reg_json_t *reg_field_object(reg_problems_t *problems, const reg_json_t *object,
                                   const char *prefix, const char *key);

/**
 * The same for a field of free JSON, which is kept as it was written.
 * @param raw the object's text, as reg_json_raw() gives it.
 * @return that text.
 */
const char *reg_field_free(reg_problems_t *problems, const reg_json_t *object,
                           const char *prefix, const char *key, const char *raw);

/** The message for free JSON that is larger than settings->max_fields; the database
 *  measures it, as it is stored. Lives in the request's pool. */
const char *reg_check_size_message(const reg_request_t *request);

#endif
