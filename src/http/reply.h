/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_REPLY_H
#define REGISTRATION_HTTP_REPLY_H

/**
 * Every status and every body of an error, whoever made it: the one place that knows how
 * each API words a failure. The shapes are those of the APIs' own pages:
 *
 *   live, and what is no registration API  {"error": code, "message": text}
 *   groups    {"status": n, "message": text, "errors": [{"field", "message"}]}
 *   families  {"code": n, "message": text, "description": text}
 *   events    {"statusCode": n, "message": text, "error": reason, "errors": [...]}
 */

#include "check.h"
#include "registration.h"

/** A failure, in words. What is left NULL is filled in from the status. */
typedef struct reg_error_t {
    int status;
    const char *message;
    const char *code;               /* live: "error" */
    const char *description;        /* families */
    const reg_problems_t *problems; /* fields at fault, or NULL */
} reg_error_t;

/** What an API makes of an outcome. Successes have no message. */
typedef struct reg_rule_t {
    reg_outcome_t outcome;
    reg_error_t error; /* of a success, only the status counts */
} reg_rule_t;

#define REG_CONTENT_TYPE "application/json; charset=utf-8"

/** A reply with a body that is already JSON; NULL for none. */
reg_reply_t *reg_reply(reg_request_t *request, int status, const char *body);

/** A reply in the shape of the request's API. 503 carries Retry-After, 405 Allow. */
reg_reply_t *reg_reply_error(reg_request_t *request, const reg_error_t *error);

/** The same, of a status that needs no words of its own. */
reg_reply_t *reg_reply_status(reg_request_t *request, int status);

/** The reply to a request with invalid fields: an API's error, with the fields added. */
reg_reply_t *reg_reply_problems(reg_request_t *request, const reg_error_t *invalid,
                                const reg_problems_t *problems);

/** The reply to a request body that is not a JSON object. @param where it is not. */
reg_reply_t *reg_reply_not_json(reg_request_t *request, const char *where);

/** The reply to a request body with a content coding (RFC 9110, section 15.5.16). */
reg_reply_t *reg_reply_encoded(reg_request_t *request);

/**
 * The reply to what an operation answered.
 * @param rules of this API, up to one whose status is 0. An outcome that has none is one
 *        that every API words alike: 400 or 422 for bad data or a bad Idempotency-Key,
 * 503, 500.
 */
reg_reply_t *reg_reply_answer(reg_request_t *request, const reg_answer_t *answer,
                              const reg_rule_t *rules);

/**
 * Seconds after which a request that was answered so may be made again, where nobody who
 * knows better has said it; NULL where that does not depend on time.
 */
const char *reg_reply_retry_after(int status);

/** The body of an error, for answers that httpd or another of its modules makes. */
const char *reg_reply_error_body(const reg_request_t *request, const reg_error_t *error);

/** The body of an error of no API: what httpd refuses before there is a URI. */
const char *reg_reply_plain_body(apr_pool_t *pool, int status);

/** The body of the 400 to a plain HTTP request on a port that takes TLS only. */
const char *reg_reply_tls_only_body(void);

#endif
