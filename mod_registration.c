/* SPDX-License-Identifier: Apache-2.0 */

/**
 * mod_registration: registration APIs served from PostgreSQL. The module record, its
 * hooks and the handler.
 */

#include "caller.h"
#include "startup_checks.h"
#include "claims.h"
#include "config.h"
#include "error_filter.h"
#include "hashing.h"
#include "keepalive.h"
#include "lists.h"
#include "metrics_memory.h"
#include "request_metrics.h"
#include "pool.h"
#include "request.h"
#include "authz.h"
#include "status.h"
#include "reply.h"
#include "serve.h"

#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>

static int is_mounted(const request_rec *r)
{
    return reg_dir_conf(r)->api >= 0;
}

static int handler(request_rec *r)
{
    const reg_dir_conf_t *conf = reg_dir_conf(r);
    reg_request_t *request;
    reg_reply_t *reply;
    int status;

    if (!is_mounted(r)) {
        return DECLINED;
    }
    if (reg_claims_lack_name(r)) {
        return HTTP_UNAUTHORIZED;
    }
    if (reg_request_has_other_coding(r)) {
        return HTTP_NOT_IMPLEMENTED;
    }
    request = reg_request_make(r, conf);
    reg_request_attach(r, request);
    reg_keepalive_enter(r);
    reply = reg_request_set_organization(r, conf, request)
                ? reg_serve(request)
                : reg_reply_status(request, HTTP_FORBIDDEN);
    reg_keepalive_decide(r);
    status = reg_request_send(r, reply);
    reg_keepalive_leave(r);
    reg_lists_leave(request);
    return status;
}

/* Sets the request's id before any module logs, so that logs and answer have the same. */
static int set_request_id(request_rec *r)
{
    if (reg_server_conf(r->server)->mounted) {
        reg_request_id(r);
        if (r->proto_num < HTTP_VERSION(1, 1)
            && apr_table_get(r->headers_in, "Transfer-Encoding")) {
            /* The end of such a request is unknown (RFC 9112, section 6.1). */
            r->connection->keepalive = AP_CONN_CLOSE;
        }
    }
    return DECLINED;
}

/*
 * A mounted path is not a file. httpd must not map it to the file system, where
 * <Directory> sections, mod_dir and a limit on the length of names would apply. httpd
 * forgets the matching <Location> between the hooks translate_name and map_to_storage, so
 * the first one marks the request with the address of this name.
 */
static const char handler_name[] = "registration";

static int translate_name(request_rec *r)
{
    if (!is_mounted(r) || !reg_request_path(r, reg_dir_conf(r))) {
        return DECLINED;
    }
    r->filename = r->uri; /* httpd requires one */
    r->handler = handler_name;
    return OK;
}

static int map_to_storage(request_rec *r)
{
    return r->handler == handler_name ? OK : DECLINED;
}

/* Not in post_config, which `httpd -t` does not run: a configuration that it accepts
 * would then stop a running server at its next restart. */
static int configure_pools(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                           server_rec *main_server)
{
    (void)plog;
    (void)ptemp;
    return reg_pool_configure(pconf, main_server);
}

static void register_hooks(apr_pool_t *pool)
{
    ap_hook_check_config(configure_pools, NULL, NULL, APR_HOOK_MIDDLE);
    reg_metrics_memory_register(pool);
    reg_request_metrics_register(pool);
    reg_caller_register(pool);
    reg_keepalive_register(pool);
    ap_hook_child_init(reg_pool_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(reg_hashing_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(reg_lists_init, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_read_request(set_request_id, NULL, NULL, APR_HOOK_LAST);
    ap_hook_generate_log_id(reg_request_make_id, NULL, NULL, APR_HOOK_LAST);
    ap_hook_translate_name(translate_name, NULL, NULL, APR_HOOK_LAST);
    ap_hook_map_to_storage(map_to_storage, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
    reg_startup_checks_register(pool);
    reg_error_filter_register(pool);
    reg_authz_register(pool);
    reg_status_register(pool);
}

AP_DECLARE_MODULE(registration) = {STANDARD20_MODULE_STUFF, reg_dir_conf_create,
                                   reg_dir_conf_merge,      reg_server_conf_create,
                                   reg_server_conf_merge,   reg_directives,
                                   register_hooks,          AP_MODULE_FLAG_NONE};
