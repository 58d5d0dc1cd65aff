/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_REPLY_H
#define REGISTRATION_HTTP_REPLY_H

/**
 * The status, the body and the text of every error, whether this module, httpd or another
 * module refuses the request. An API's own texts are in its table in src/api. The bodies
 * are those of the APIs' pages:
 *
 *   live, and APIs without registrations  {"error": code, "message": text}
 *   groups    {"status": n, "message": text, "errors": [{"field", "message"}]}
 *   families  {"code": n, "message": text, "description": text}
 *   events    {"statusCode": n, "message": text, "error": reason, "errors": [...]}
 */

#include "check.h"
#include "registration.h"

/** An error. A text that is NULL is the default text of the status. */
typedef struct reg_error_t {
    int status;
    const char *message;
    const char *code;               /* live: "error" */
    const char *description;        /* families */
    const reg_problems_t *problems; /* invalid fields, or NULL */
} reg_error_t;

/** The reply of an API to an outcome. Successes have no message. */
typedef struct reg_rule_t {
    reg_outcome_t outcome;
    reg_error_t error; /* of a success, only the status is used */
} reg_rule_t;

#define REG_CONTENT_TYPE "application/json; charset=utf-8"

/** A reply with a body in JSON; NULL for none. */
reg_reply_t *reg_reply(reg_request_t *request, int status, const char *body);

/** The reply to an error, as the request's API writes it. 503 has Retry-After, 405 Allow.
 */
reg_reply_t *reg_reply_error(reg_request_t *request, const reg_error_t *error);

/** The reply to an error with the default texts of its status. */
reg_reply_t *reg_reply_status(reg_request_t *request, int status);

/** The reply to a request with invalid fields: an API's error, with the fields added. */
reg_reply_t *reg_reply_problems(reg_request_t *request, const reg_error_t *invalid,
                                const reg_problems_t *problems);

/** The reply to a request body that is not a JSON object. @param where it is not. */
reg_reply_t *reg_reply_not_json(reg_request_t *request, const char *where);

/** The reply to a request body with a content coding (RFC 9110, section 15.5.16). */
reg_reply_t *reg_reply_encoded(reg_request_t *request);

/**
 * The reply to an operation's answer.
 * @param rules of this API, up to one whose status is 0. An outcome without a rule has
 * the same status in every API: 400 or 422 for invalid data or an invalid
 *        Idempotency-Key, else 503 or 500.
 */
reg_reply_t *reg_reply_answer(reg_request_t *request, const reg_answer_t *answer,
                              const reg_rule_t *rules);

/** The default Retry-After of a status, in seconds; NULL if a retry cannot help. */
const char *reg_reply_retry_after(int status);

/** The body of an error, for answers of httpd or of another module. */
const char *reg_reply_error_body(const reg_request_t *request, const reg_error_t *error);

/** The body of an error of no API: httpd has refused the request before it had a URI. */
const char *reg_reply_plain_body(apr_pool_t *pool, int status);

/** The body of the 400 to a plain HTTP request on a port that takes TLS only. */
const char *reg_reply_tls_only_body(void);

#endif
