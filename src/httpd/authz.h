/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_AUTHZ_H
#define REGISTRATION_HTTPD_AUTHZ_H

#include <httpd.h>

/**
 * `Require registration-scope families:create …`: grants access to a token with one of
 * the named scopes. The claim checks of mod_oauth2 and mod_auth_openidc compare the whole
 * claim; this provider splits it into scopes (RFC 6749, section 3.3).
 */

/** Registers the authorization provider. */
void reg_authz_register(apr_pool_t *pool);

/**
 * Sets WWW-Authenticate: the missing scope (RFC 6750, section 3.1) if the request was
 * refused for that; a challenge for every other 401.
 * @param r the request that is answered: the refused one, or its ErrorDocument.
 */
void reg_scope_challenge(request_rec *r, const request_rec *refused);

#endif
