/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_AUTHZ_H
#define REGISTRATION_HTTPD_AUTHZ_H

#include <httpd.h>

/**
 * `Require registration-scope families:create …`: grants who has a token with one of the
 * named scopes. mod_oauth2's and mod_auth_openidc's own claim checks compare the claim as
 * a whole; this one takes it apart, as RFC 6749, section 3.3, has it.
 */

/** Registers the authorization provider. */
void reg_authz_register(apr_pool_t *pool);

/**
 * Says in WWW-Authenticate which scope was missing (RFC 6750, section 3.1), where that is
 * what a request was refused for. A 401 has a challenge in any case.
 * @param r answers the request that was refused; an ErrorDocument, or that very request.
 */
void reg_scope_challenge(request_rec *r, const request_rec *refused);

#endif
