/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_POOL_H
#define REGISTRATION_HTTPD_POOL_H

/**
 * Connections of mod_dbd's pool, managed by a limiter (limiter.h).
 *
 * mod_dbd waits without a limit for a free connection, and holds a lock that every thread
 * of the process needs while it connects. So only the limiter's thread calls mod_dbd, and
 * only if no connection is idle and there are fewer than RegistrationConnections. The
 * limiter keeps its connections until the child process ends. Virtual hosts with the same
 * DBD settings share a pool of mod_dbd, and so a limiter.
 */

#include "config.h"
#include "registration.h"

/**
 * Checks that mod_dbd can serve every server with an API, and sets defaults, after the
 * configuration has been read. Logs an error and its remedy.
 * @return OK, or an error, with which httpd does not start.
 */
int reg_pool_configure(apr_pool_t *pool, server_rec *main_server);

/** Makes the limiters and the batching of a child process. */
void reg_pool_init(apr_pool_t *pool, server_rec *main_server);

/** The deadline of a request: RegistrationTimeout after the first call of this function
 * or of reg_pool_run_operation(). */
apr_time_t reg_pool_deadline(reg_request_t *request);

/** reg_host_t's run_operation. */
void reg_pool_run_operation(reg_request_t *request, const reg_operation_t *operation,
                            const char *const *values, reg_answer_t *answer);

#endif
