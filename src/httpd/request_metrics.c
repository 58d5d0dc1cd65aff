/* SPDX-License-Identifier: Apache-2.0 */
#include "request_metrics.h"

#include "request.h"
#include "routes.h"

#include <apr_shm.h>
#include <apr_strings.h>
#include <http_log.h>
#include <http_protocol.h>

APLOG_USE_MODULE(registration);

/* Whether anything is counted. The benchmark is built without to see what it costs. */
#ifndef REG_METRICS
#define REG_METRICS 1
#endif

/* Whether children count together. Tests build a module in which each does by itself, to
 * see that they would notice. */
#ifndef REG_METRICS_SHARED
#define REG_METRICS_SHARED 1
#endif

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

/* Names the memory by all that decides what stands where in it. */
static const char *memory_key(apr_pool_t *pool)
{
    const char *key =
        apr_psprintf(pool, "mod_registration %" APR_SIZE_T_FMT, reg_metrics_size());

    for (const char *const *name = reg_route_operations(pool); *name; name++) {
        key = apr_pstrcat(pool, key, " ", *name, NULL);
    }
    return key;
}

static void *aligned(void *memory)
{
    return (void *)APR_ALIGN((apr_uintptr_t)memory, ALIGNMENT);
}

static void *memory_of(const apr_shm_t *memory)
{
    return aligned(apr_shm_baseaddr_get(memory));
}

/* Makes the memory, unless an earlier configuration has. It is kept with the process,
 * which may have another copy of this module's code by then: so apr copies the key. */
static int make_memory(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *main_server)
{
    apr_pool_t *pool = main_server->process->pool;
    const char *key = memory_key(ptemp);
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
        ap_log_error(APLOG_MARK, APLOG_WARNING, rv, main_server,
                     "REG0401: there is no shared memory to count in; there are no "
                     "metrics");
        return OK;
    }
    memset(memory_of(memory), 0, reg_metrics_size());
    reg_metrics_begin(memory_of(memory));
    apr_pool_userdata_set(memory, key, NULL, pool);
    return OK;
}

static void join(apr_pool_t *pool, server_rec *main_server)
{
    void *memory = NULL, *block;
    reg_metrics_t *metrics;

    apr_pool_userdata_get(&memory, memory_key(pool), main_server->process->pool);
    if (!memory) {
        return;
    }
    block = REG_METRICS_SHARED
                ? memory_of(memory)
                : aligned(apr_pcalloc(pool, reg_metrics_size() + ALIGNMENT));
    metrics = reg_metrics_join(pool, block);
    for (server_rec *s = main_server; s; s = s->next) {
        reg_server_conf(s)->metrics = metrics;
    }
}

/* What a log may want to tell of a request, as %{registration-…}n. */
static void note(request_rec *r, const reg_request_t *request)
{
    if (request->route) {
        apr_table_setn(r->notes, "registration-operation", request->route->operation);
    }
    if (request->outcome) {
        apr_table_setn(r->notes, "registration-outcome", request->outcome);
        apr_table_setn(r->notes, "registration-batch", apr_itoa(r->pool, request->batch));
        apr_table_setn(r->notes, "registration-dbtime", apr_ltoa(r->pool, request->took));
    }
}

/* The request as it was served; one that was refused before is looked at now. */
static const reg_request_t *request_of(request_rec *r, const reg_dir_conf_t *conf)
{
    reg_request_t *request = reg_request_kept(r);

    if (!request) {
        request = reg_request_make(r, conf);
        request->route = reg_route_find(request);
    }
    return request;
}

static int count_request(request_rec *r)
{
    const reg_dir_conf_t *conf = reg_dir_conf(r);
    request_rec *answering = r;
    const reg_request_t *request;

    if (conf->api < 0) {
        return DECLINED;
    }
    while (answering->next) { /* an ErrorDocument is another request */
        answering = answering->next;
    }
    request = request_of(r, conf);
    note(answering, request); /* mod_log_config looks there */
    reg_metrics_request(reg_metrics(r->server), reg_route_operation(request->route),
                        answering->status, apr_time_now() - r->request_time);
    return OK;
}

void reg_metrics_register(apr_pool_t *pool)
{
    (void)pool;
    if (REG_METRICS) {
        ap_hook_post_config(make_memory, NULL, NULL, APR_HOOK_MIDDLE);
        ap_hook_child_init(join, NULL, NULL, APR_HOOK_FIRST);
        ap_hook_log_transaction(count_request, NULL, NULL, APR_HOOK_FIRST);
    }
}
