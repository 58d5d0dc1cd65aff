/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <stdlib.h>
#include <string.h>

struct reg_kept_t {
    apr_thread_mutex_t *mutex; /* of all that follows */
    const reg_operation_t *operation;
    char *body; /* no pool's, as each is replaced */
    apr_time_t since;
};

static apr_status_t release(void *data)
{
    free(((reg_kept_t *)data)->body);
    return APR_SUCCESS;
}

reg_kept_t *reg_kept_make(apr_pool_t *pool)
{
    reg_kept_t *kept = apr_pcalloc(pool, sizeof(*kept));

    if (apr_thread_mutex_create(&kept->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    apr_pool_cleanup_register(pool, kept, release, apr_pool_cleanup_null);
    return kept;
}

/* Whether it may be given for the operation. A clock that was set back makes it no
 * younger. */
static int is_good(const reg_kept_t *kept, const reg_operation_t *operation)
{
    apr_interval_time_t age = apr_time_now() - kept->since;

    return kept->body && kept->operation == operation && age >= 0
           && age < operation->lasts;
}

int reg_kept_get(reg_kept_t *kept, apr_pool_t *pool, const reg_operation_t *operation,
                 reg_answer_t *answer)
{
    int good;

    if (!kept || !operation->lasts) {
        return 0;
    }
    apr_thread_mutex_lock(kept->mutex);
    good = is_good(kept, operation);
    if (good) {
        *answer = (reg_answer_t){REG_FOUND, NULL, apr_pstrdup(pool, kept->body)};
    }
    apr_thread_mutex_unlock(kept->mutex);
    return good;
}

void reg_kept_put(reg_kept_t *kept, const reg_operation_t *operation,
                  const reg_answer_t *answer)
{
    if (!kept || !operation->lasts || answer->outcome != REG_FOUND || !answer->body) {
        return;
    }
    apr_thread_mutex_lock(kept->mutex);
    free(kept->body);
    kept->body = strdup(answer->body);
    kept->operation = operation;
    kept->since = apr_time_now();
    apr_thread_mutex_unlock(kept->mutex);
}
