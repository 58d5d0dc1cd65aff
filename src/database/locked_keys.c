/* SPDX-License-Identifier: Apache-2.0 */
#include "locked_keys.h"

#include <apr_thread_mutex.h>
#include <string.h>

struct reg_locked_keys_t {
    apr_thread_mutex_t *mutex; /* of the list and its entries */
    reg_locked_key_t *first;   /* also read without the mutex, as it is mostly NULL */
};

reg_locked_keys_t *reg_locked_keys_make(apr_pool_t *pool)
{
    reg_locked_keys_t *keys = apr_pcalloc(pool, sizeof(*keys));

    return apr_thread_mutex_create(&keys->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
                   == APR_SUCCESS
               ? keys
               : NULL;
}

void reg_locked_keys_add(reg_locked_keys_t *keys, reg_locked_key_t *entry)
{
    apr_thread_mutex_lock(keys->mutex);
    if (!entry->is_listed) {
        entry->is_listed = 1;
        entry->next = keys->first;
        __atomic_store_n(&keys->first, entry, __ATOMIC_RELAXED);
    }
    apr_thread_mutex_unlock(keys->mutex);
}

void reg_locked_keys_remove(reg_locked_keys_t *keys, reg_locked_key_t *entry)
{
    reg_locked_key_t **link = &keys->first;

    if (!entry->is_listed) {
        return;
    }
    apr_thread_mutex_lock(keys->mutex);
    while (*link != entry) {
        link = &(*link)->next;
    }
    __atomic_store_n(link, entry->next, __ATOMIC_RELAXED);
    entry->is_listed = 0;
    apr_thread_mutex_unlock(keys->mutex);
}

int reg_locked_keys_has(reg_locked_keys_t *keys, const char *key)
{
    const reg_locked_key_t *entry;

    if (!__atomic_load_n(&keys->first, __ATOMIC_RELAXED)) {
        return 0;
    }
    apr_thread_mutex_lock(keys->mutex);
    entry = keys->first;
    while (entry && strcmp(entry->key, key) != 0) {
        entry = entry->next;
    }
    apr_thread_mutex_unlock(keys->mutex);
    return entry != NULL;
}
