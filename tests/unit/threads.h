/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_THREADS_H
#define REGISTRATION_THREADS_H

/**
 * Threads whose order is part of a test: the next one begins when the one before waits.
 */

#include <apr_time.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

/**
 * Waits until a thread sleeps, or has ended.
 * @param id set by the thread (gettid()) right before the call in which it is to wait.
 */
static inline void await_sleep(const pid_t *id)
{
    char path[64], state = 0;
    FILE *file;

    while (!__atomic_load_n(id, __ATOMIC_SEQ_CST)) {
        apr_sleep(100);
    }
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat",
             (int)__atomic_load_n(id, __ATOMIC_SEQ_CST));
    while (state != 'S' && (file = fopen(path, "r"))) {
        if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) {
            state = 'S'; /* It has ended. */
        }
        fclose(file);
        apr_sleep(100);
    }
}

#endif
