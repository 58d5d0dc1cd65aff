/* SPDX-License-Identifier: Apache-2.0 */
#include "caller.h"

#include "config.h"

#include <apr_siphash.h>
#include <apr_strings.h>
#include <http_log.h>
#include <http_protocol.h>

APLOG_USE_MODULE(registration);

/* Generated in the parent process, and kept over restarts. */
static const unsigned char *random_key;

static int make_random_key(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                           server_rec *main_server)
{
    static const char name[] = "registration-log-key";
    unsigned char *key = ap_retained_data_get(name);

    (void)pconf;
    (void)plog;
    (void)ptemp;
    if (!key) {
        apr_status_t status;

        key = ap_retained_data_create(name, REG_LOG_KEY_SIZE);
        status = apr_generate_random_bytes(key, REG_LOG_KEY_SIZE);
        if (status != APR_SUCCESS) {
            ap_log_error(
                APLOG_MARK, APLOG_EMERG, status, main_server,
                "REG0108: no random numbers for the default RegistrationLogKey; httpd "
                "does not start");
            return HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    random_key = key;
    return OK;
}

static const char *hash_caller(request_rec *r)
{
    const unsigned char *key = reg_server_conf(r->server)->log_key;

    if (!r->user || !*r->user) {
        return NULL;
    }
    return apr_psprintf(r->pool, "%016" APR_UINT64_T_HEX_FMT,
                        apr_siphash24(r->user, strlen(r->user), key ? key : random_key));
}

static int note_caller(request_rec *r)
{
    request_rec *answering = r;
    const char *hash;

    if (reg_dir_conf(r)->api < 0) {
        return DECLINED;
    }
    hash = hash_caller(r);
    if (hash) {
        while (answering->next) { /* mod_log_config reads the notes of the ErrorDocument's
                                     request */
            answering = answering->next;
        }
        apr_table_setn(answering->notes, "registration-caller", hash);
    }
    if (r->status == HTTP_FORBIDDEN) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "REG0206: request refused, caller %s; returned 403",
                      hash ? hash : "unknown");
    }
    else if (r->status == HTTP_UNAUTHORIZED
             && apr_table_get(r->headers_in, "Authorization")) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "REG0207: the request's token was refused; returned 401");
    }
    return OK;
}

void reg_caller_register(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_post_config(make_random_key, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_log_transaction(note_caller, NULL, NULL, APR_HOOK_FIRST);
}
