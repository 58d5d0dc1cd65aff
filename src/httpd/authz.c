/* SPDX-License-Identifier: Apache-2.0 */
#include "authz.h"

#include "claims.h"

#include <apr_strings.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_auth.h>

/* The note with the scopes that a request lacks. It is also set when another Require
 * grants access, and read only if access was denied. */
#define MISSING_NOTE "registration-missing-scope"

static authz_status check_scopes(request_rec *r, const char *line, const void *parsed)
{
    const char *scopes = line;
    const char *scope;

    (void)parsed;
    if (!r->user || !*r->user) {
        return AUTHZ_DENIED_NO_USER; /* authentication runs, then this again */
    }
    while (*(scope = ap_getword_conf(r->pool, &scopes))) {
        if (reg_claims_has_scope(r, scope)) {
            return AUTHZ_GRANTED;
        }
    }
    apr_table_setn(r->notes, MISSING_NOTE, line);
    return AUTHZ_DENIED;
}

static const char *parse_require(cmd_parms *cmd, const char *line, const void **parsed)
{
    (void)parsed;
    if (!*line) {
        return "Require registration-scope must name a scope, like families:create";
    }
    if (strpbrk(line, "\"\\")) {
        return apr_psprintf(
            cmd->pool,
            "Require registration-scope must name scopes without quotes or "
            "backslashes, not %s",
            line);
    }
    return NULL;
}

static const authz_provider provider = {check_scopes, parse_require};

void reg_authz_register(apr_pool_t *pool)
{
    ap_register_auth_provider(pool, AUTHZ_PROVIDER_GROUP, "registration-scope",
                              AUTHZ_PROVIDER_VERSION, &provider,
                              AP_AUTH_INTERNAL_PER_CONF);
}

static int has_challenge(const request_rec *r)
{
    return apr_table_get(r->headers_out, "WWW-Authenticate")
           || apr_table_get(r->err_headers_out, "WWW-Authenticate");
}

void reg_scope_challenge(request_rec *r, const request_rec *refused)
{
    const char *missing = apr_table_get(refused->notes, MISSING_NOTE);

    if (missing && (r->status == HTTP_FORBIDDEN || r->status == HTTP_UNAUTHORIZED)) {
        apr_table_setn(r->err_headers_out, "WWW-Authenticate",
                       apr_psprintf(r->pool,
                                    "Bearer error=\"insufficient_scope\", scope=\"%s\"",
                                    missing));
    }
    else if (r->status == HTTP_UNAUTHORIZED && !has_challenge(r)) {
        apr_table_setn(r->err_headers_out, "WWW-Authenticate",
                       "Bearer error=\"invalid_token\"");
    }
}
