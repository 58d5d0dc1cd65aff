/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_LOCKED_KEYS_H
#define REGISTRATION_DATABASE_LOCKED_KEYS_H

#include <apr_pools.h>

/**
 * The keys of one operation whose rows another transaction has locked. Requests for these
 * keys go to the slow queue (batching.h).
 *
 * Each request whose key was found locked has an entry until it is answered. A key is
 * marked locked while it has an entry. All functions are thread-safe.
 */
typedef struct reg_locked_keys_t reg_locked_keys_t;

/** An entry; part of its request. */
typedef struct reg_locked_key_t {
    const char *key;
    int is_listed;
    struct reg_locked_key_t *next;
} reg_locked_key_t;

/** Makes an empty list. @return NULL when the system has no mutex left. */
reg_locked_keys_t *reg_locked_keys_make(apr_pool_t *pool);

/** Adds an entry, unless it is listed. */
void reg_locked_keys_add(reg_locked_keys_t *keys, reg_locked_key_t *entry);

/** Removes an entry, if it is listed. Called by its request's thread. */
void reg_locked_keys_remove(reg_locked_keys_t *keys, reg_locked_key_t *entry);

/** Whether a key has an entry. */
int reg_locked_keys_has(reg_locked_keys_t *keys, const char *key);

#endif
