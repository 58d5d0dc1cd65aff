/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <stdlib.h>
#include <string.h>

struct reg_cache_t {
    apr_thread_mutex_t *mutex; /* of all members below */
    const reg_operation_t *operation;
    char *body; /* from malloc(), as it is replaced often */
    apr_time_t since;
};

static apr_status_t free_body(void *data)
{
    free(((reg_cache_t *)data)->body);
    return APR_SUCCESS;
}

reg_cache_t *reg_cache_make(apr_pool_t *pool)
{
    reg_cache_t *cache = apr_pcalloc(pool, sizeof(*cache));

    if (apr_thread_mutex_create(&cache->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    apr_pool_cleanup_register(pool, cache, free_body, apr_pool_cleanup_null);
    return cache;
}

/* Whether the cached answer is within its TTL. If the clock was set back, it is not. */
static int is_fresh(const reg_cache_t *cache, const reg_operation_t *operation)
{
    apr_interval_time_t age = apr_time_now() - cache->since;

    return cache->body && cache->operation == operation && age >= 0
           && age < operation->cache_ttl;
}

int reg_cache_get(reg_cache_t *cache, apr_pool_t *pool, const reg_operation_t *operation,
                  reg_answer_t *answer)
{
    int hit;

    if (!cache || !operation->cache_ttl) {
        return 0;
    }
    apr_thread_mutex_lock(cache->mutex);
    hit = is_fresh(cache, operation);
    if (hit) {
        *answer = (reg_answer_t){REG_FOUND, NULL, apr_pstrdup(pool, cache->body)};
    }
    apr_thread_mutex_unlock(cache->mutex);
    return hit;
}

void reg_cache_put(reg_cache_t *cache, const reg_operation_t *operation,
                   const reg_answer_t *answer)
{
    if (!cache || !operation->cache_ttl || answer->outcome != REG_FOUND
        || !answer->body) {
        return;
    }
    apr_thread_mutex_lock(cache->mutex);
    free(cache->body);
    cache->body = strdup(answer->body);
    cache->operation = operation;
    cache->since = apr_time_now();
    apr_thread_mutex_unlock(cache->mutex);
}
