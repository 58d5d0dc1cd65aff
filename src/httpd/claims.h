/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_CLAIMS_H
#define REGISTRATION_HTTPD_CLAIMS_H

/**
 * The claims of a request's bearer token, by their exact names.
 *
 * mod_oauth2 and mod_auth_openidc put the claims of a token that they have verified into
 * the request's environment, a table whose names have no case: of `scope` and `SCOPE`, or
 * `org` and `ORG`, the last one wins. So a claim counts here only if the environment has
 * it under exactly its name, and the payload of the same token, which is there too, has
 * it once, with no other name that differs in case only. Where the token is no JWT (it
 * was introspected), the exact name in the environment has to do.
 */

#include <httpd.h>

/**
 * Whether the token has one of these scopes (RFC 6749, section 3.3), as a text or an
 * array of texts in the claim `scope`.
 */
int reg_claims_has_scope(request_rec *r, const char *scope);

/**
 * The environment variables with claims that an expression names.
 * @return array of `const char *`, owned by the pool; empty when there are none.
 */
const apr_array_header_t *reg_claims_named(apr_pool_t *pool, const char *expression);

/** Whether each of these variables holds the text of that very claim of the token. */
int reg_claims_are_texts(request_rec *r, const apr_array_header_t *variables);

/**
 * Whether there is an AuthType and the caller's name is empty (a token with an empty
 * `sub`): it is no caller, and not an anonymous one either, so it is answered 401.
 */
int reg_claims_lack_name(const request_rec *r);

#endif
