/* SPDX-License-Identifier: Apache-2.0 */

/* A handler that does nothing: the most requests this httpd can answer. */

#include <httpd.h>

#include <http_config.h>
#include <string.h>

static int handler(request_rec *r)
{
    return r->handler && strcmp(r->handler, "empty") == 0 ? OK : DECLINED;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(empty) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks,
    AP_MODULE_FLAG_NONE};
