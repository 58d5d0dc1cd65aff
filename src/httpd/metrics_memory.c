/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics_memory.h"

#include "routes.h"

#include <apr_shm.h>
#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(registration);

#define ALIGNMENT ((apr_uintptr_t)64)

reg_metrics_t *reg_metrics(const server_rec *server)
{
    return reg_server_conf(server)->metrics;
}

static int is_mounted_anywhere(const server_rec *server)
{
    while (server && !reg_server_conf(server)->mounted) {
        server = server->next;
    }
    return server != NULL;
}

/* A key that differs if the layout of the memory differs. */
static const char *make_memory_key(apr_pool_t *pool)
{
    const char *key =
        apr_psprintf(pool, "mod_registration %" APR_SIZE_T_FMT, reg_metrics_size());

    for (const char *const *name = reg_route_operations(pool); *name; name++) {
        key = apr_pstrcat(pool, key, " ", *name, NULL);
    }
    return key;
}

static void *align_memory(const apr_shm_t *memory)
{
    return (void *)APR_ALIGN((apr_uintptr_t)apr_shm_baseaddr_get(memory), ALIGNMENT);
}

/* Makes the memory once for the parent process. After a restart the module may be loaded
 * anew, so apr copies the key. */
static int make_memory(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *main_server)
{
    apr_pool_t *pool = main_server->process->pool;
    const char *key = make_memory_key(ptemp);
    void *memory = NULL;
    apr_status_t rv;

    (void)pconf;
    (void)plog;
    apr_pool_userdata_get(&memory, key, pool);
    if (memory || !is_mounted_anywhere(main_server)) {
        return OK;
    }
    rv =
        apr_shm_create((apr_shm_t **)&memory, reg_metrics_size() + ALIGNMENT, NULL, pool);
    if (rv != APR_SUCCESS) {
        ap_log_error(
            APLOG_MARK, APLOG_WARNING, rv, main_server,
            "REG0401: cannot create shared memory for the metrics; metrics are off "
            "until httpd is restarted");
        return OK;
    }
    memset(align_memory(memory), 0, reg_metrics_size());
    reg_metrics_begin(align_memory(memory));
    apr_pool_userdata_set(memory, key, NULL, pool);
    return OK;
}

static void join_memory(apr_pool_t *pool, server_rec *main_server)
{
    void *memory = NULL;
    reg_metrics_t *metrics;

    apr_pool_userdata_get(&memory, make_memory_key(pool), main_server->process->pool);
    if (!memory) {
        return;
    }
    metrics = reg_metrics_join(pool, align_memory(memory));
    for (server_rec *s = main_server; s; s = s->next) {
        reg_server_conf(s)->metrics = metrics;
    }
}

void reg_metrics_memory_register(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_post_config(make_memory, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(join_memory, NULL, NULL, APR_HOOK_FIRST);
}
