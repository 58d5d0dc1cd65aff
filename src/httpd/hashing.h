/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_HASHING_H
#define REGISTRATION_HTTPD_HASHING_H

/**
 * Limits how many passwords a child process hashes at the same time, for all its virtual
 * hosts: RegistrationHashing. Requests wait in the order in which they came, until the
 * time before their deadline is only enough to hash and to register.
 */

#include "registration.h"

#include <httpd.h>

/** Makes the semaphore of a child process. */
void reg_hashing_init(apr_pool_t *pool, server_rec *main_server);

/** reg_host_t's begin_hashing and end_hashing. */
int reg_hashing_begin(reg_request_t *request);
void reg_hashing_end(reg_request_t *request, apr_interval_time_t took);

#endif
