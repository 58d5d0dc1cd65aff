/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_METRICS_MEMORY_H
#define REGISTRATION_HTTPD_METRICS_MEMORY_H

/**
 * The shared memory of the counters (metrics.h). It belongs to the parent process and
 * survives restarts; counters start at 0 only when httpd is started, or a module with
 * other operations is loaded. During a graceful restart child processes of both
 * generations use it.
 */

#include "config.h"
#include "metrics.h"

void reg_metrics_memory_register(apr_pool_t *pool);

/** The counters of a child process; NULL without shared memory. */
reg_metrics_t *reg_metrics(const server_rec *server);

#endif
