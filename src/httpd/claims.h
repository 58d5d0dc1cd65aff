/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_CLAIMS_H
#define REGISTRATION_HTTPD_CLAIMS_H

/**
 * The claims of a request's bearer token, by their exact names.
 *
 * mod_oauth2 and mod_auth_openidc set a variable in the request's environment for each
 * claim of a verified token. The environment ignores the case of names, so of `scope` and
 * `SCOPE`, or `org` and `ORG`, the last claim wins. Therefore a claim counts only if the
 * environment has it under its exact name, and the payload of the token has it once, and
 * no claim that differs only in case. For an introspected token, which is no JWT, only
 * the name in the environment is compared.
 */

#include <httpd.h>

/** Whether the token's claim `scope`, a text or an array of texts, has a scope (RFC 6749,
 *  section 3.3). */
int reg_claims_has_scope(request_rec *r, const char *scope);

/**
 * The variables with claims that an expression names.
 * @return array of `const char *`, owned by the pool; empty if there is none.
 */
const apr_array_header_t *reg_claims_named(apr_pool_t *pool, const char *expression);

/** Whether each of these variables has the text of its claim in the token. */
int reg_claims_are_texts(request_rec *r, const apr_array_header_t *variables);

/** Whether there is an AuthType and the caller's name is empty, as for a token with an
 * empty `sub`: the request is answered 401. */
int reg_claims_lack_name(const request_rec *r);

#endif
