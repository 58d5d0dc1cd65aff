/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_POOL_H
#define REGISTRATION_HTTPD_POOL_H

/**
 * Connections from mod_dbd's pool, kept by a limiter (limiter.h).
 *
 * mod_dbd waits without limit for a connection when all are in use, and holds a lock that
 * every thread of the process needs while it connects. So no thread that serves a request
 * asks mod_dbd: the limiter's own thread does, and only when there is no idle connection
 * and fewer than RegistrationConnections. The limiter keeps what it gets until the child
 * process ends. Virtual hosts with the same DBD settings share mod_dbd's pool, and so the
 * limiter.
 */

#include "config.h"
#include "registration.h"

/**
 * Checks, once the configuration is read, that mod_dbd can serve every server that has an
 * API, and settles what is unset. Logs one line saying what is wrong and what to write.
 * @return OK, or an error that keeps httpd from starting.
 */
int reg_pool_configure(apr_pool_t *pool, server_rec *main_server);

/** Makes the limiters of a child process. */
void reg_pool_init(apr_pool_t *pool, server_rec *main_server);

/** By when a request has to be answered: RegistrationTimeout after this was first asked,
 *  or its first operation was run. */
apr_time_t reg_pool_deadline(reg_request_t *request);

/** Runs an operation: reg_host_t's `call` for a request that httpd handed us. */
void reg_pool_run_operation(reg_request_t *request, const reg_operation_t *operation,
                            const char *const *values, reg_answer_t *answer);

#endif
