/* SPDX-License-Identifier: Apache-2.0 */
#include "turn.h"

#include <apr_general.h>
#include <apr_hash.h>
#include <errno.h>
#include <pthread.h>
#include <sys/param.h>

/* Turns of all databases and operations. Two operations may share one: then their batches
 * wait for each other. */
#define TURNS 1024

/* A processor's cache line: two turns in one would slow each other down. */
#define ALIGNMENT 64

struct reg_turn_t {
    _Alignas(ALIGNMENT) pthread_mutex_t mutex;
};

apr_size_t reg_turns_size(void)
{
    return TURNS * sizeof(reg_turn_t) + ALIGNMENT;
}

reg_turn_t *reg_turns_make(void *memory)
{
    reg_turn_t *block =
        (void *)APR_ALIGN((apr_uintptr_t)memory, (apr_uintptr_t)ALIGNMENT);
    pthread_mutexattr_t attributes;
    int rv = pthread_mutexattr_init(&attributes);

    if (rv == 0) {
        rv = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    }
    if (rv == 0) {
        rv = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    }
    for (int i = 0; i < TURNS && rv == 0; i++) {
        rv = pthread_mutex_init(&block[i].mutex, &attributes);
    }
    return rv == 0 ? block : NULL;
}

static unsigned hash_text(const char *text)
{
    apr_ssize_t length = APR_HASH_KEY_STRING;

    return apr_hashfunc_default(text, &length);
}

reg_turns_t reg_turns_of_host(reg_turn_t *block, int count, const char *database)
{
    return (reg_turns_t){block, count, hash_text(database)};
}

reg_turns_t reg_turns_of_operation(reg_turns_t host, const char *operation)
{
    host.hash = host.hash * 31 + hash_text(operation);
    return host;
}

reg_turn_t *reg_turns_find(const reg_turns_t *turns, const char *key)
{
    return turns->block && turns->count > 0
               ? &turns->block[(turns->hash + hash_text(key) % (unsigned)turns->count)
                               % TURNS]
               : NULL;
}

/* Whether the mutex is locked now. A process that ended while it had the turn has left
 * nothing that would have to be repaired. */
static int has_locked(reg_turn_t *turn, int rv)
{
    return rv == 0 || (rv == EOWNERDEAD && pthread_mutex_consistent(&turn->mutex) == 0);
}

int reg_turn_take(reg_turn_t *turn, apr_time_t until, int *has_waited)
{
    apr_time_t end = MIN(until, apr_time_now() + REG_TURN_TIME);
    const struct timespec time = {.tv_sec = (time_t)apr_time_sec(end),
                                  .tv_nsec = (long)apr_time_usec(end) * 1000};
    int rv = pthread_mutex_trylock(&turn->mutex);

    *has_waited = rv == EBUSY;
    if (*has_waited) {
        rv = pthread_mutex_timedlock(&turn->mutex, &time);
    }
    return has_locked(turn, rv);
}

void reg_turn_give(reg_turn_t **turn)
{
    if (*turn) {
        pthread_mutex_unlock(&(*turn)->mutex);
        *turn = NULL;
    }
}
