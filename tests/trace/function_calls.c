/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Linked into a copy of the module that is compiled with -finstrument-functions: writes a
 * line to MODULE.trace for each function that a thread enters or leaves, and for each
 * prepared statement that it sends to PostgreSQL:
 *
 *     THREAD enter|leave|send ADDRESS
 *
 * The address is the function's in the module, as addr2line takes it.
 */

#ifndef _GNU_SOURCE /* APR's flags define it */
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define NOT_TRACED __attribute__((no_instrument_function))

NOT_TRACED void __cyg_profile_func_enter(void *function, void *caller);
NOT_TRACED void __cyg_profile_func_exit(void *function, void *caller);
NOT_TRACED int __real_PQsendQueryPrepared(PGconn *pg, const char *name, int count,
                                          const char *const *values, const int *lengths,
                                          const int *formats, int format);
NOT_TRACED int __wrap_PQsendQueryPrepared(PGconn *pg, const char *name, int count,
                                          const char *const *values, const int *lengths,
                                          const int *formats, int format);

static int file;

/* While httpd still has the rights of the user that started it. */
NOT_TRACED __attribute__((constructor)) static void open_file(void)
{
    Dl_info module;
    char path[4096];

    if (dladdr((const void *)(uintptr_t)open_file, &module)) {
        snprintf(path, sizeof(path), "%s.trace", module.dli_fname);
        file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
}

/* One write a line, so that the lines of several threads and processes stay whole. */
NOT_TRACED static void record(const char *event, const void *function)
{
    Dl_info module = {.dli_fbase = NULL};
    char line[80];
    int length;

    dladdr(function, &module);
    length = snprintf(line, sizeof(line), "%d %s %#lx\n", gettid(), event,
                      (unsigned long)((uintptr_t)function - (uintptr_t)module.dli_fbase));
    if (write(file, line, (size_t)length) != length) {
        _exit(1);
    }
}

void __cyg_profile_func_enter(void *function, void *caller)
{
    (void)caller;
    record("enter", function);
}

void __cyg_profile_func_exit(void *function, void *caller)
{
    (void)caller;
    record("leave", function);
}

/* The linker's option --wrap has the module call this. */
int __wrap_PQsendQueryPrepared(PGconn *pg, const char *name, int count,
                               const char *const *values, const int *lengths,
                               const int *formats, int format)
{
    record("send", (const void *)(uintptr_t)__wrap_PQsendQueryPrepared);
    return __real_PQsendQueryPrepared(pg, name, count, values, lengths, formats, format);
}
