/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_POOL_H
#define REGISTRATION_HTTPD_POOL_H

/**
 * Connections from mod_dbd's pool, behind a gate.
 *
 * mod_dbd waits without end for a connection when all are in use, and makes every thread
 * of the process wait while one connects. The gate keeps both from happening: it lets in
 * no more calls than the pool has connections, one at a time while a connection may have
 * to be made, each for no longer than its deadline; and for a second after a failed
 * attempt to connect it turns everybody away at once. Virtual hosts with the same DBD
 * settings share mod_dbd's pool, and so the gate.
 */

#include "httpd_config.h"
#include "registration.h"

/**
 * Checks, once the configuration is read, that mod_dbd can serve every server that has an
 * API, and settles what is unset. Logs one line saying what is wrong and what to write.
 * @return OK, or an error that keeps httpd from starting.
 */
int reg_pool_configure(apr_pool_t *pool, server_rec *main_server);

/** Makes the gates of a child process. */
void reg_pool_init(apr_pool_t *pool, server_rec *main_server);

/** Runs an operation: reg_host_t's `call` for a request that httpd handed us. */
void reg_pool_call(reg_request_t *request, const reg_operation_t *operation,
                   const char *const *values, reg_answer_t *answer);

#endif
