/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_METRICS_MEMORY_H
#define REGISTRATION_HTTPD_METRICS_MEMORY_H

/**
 * The memory in which all child processes count (metrics.h).
 *
 * It belongs to the parent process and outlives graceful and other restarts, so that no
 * counter begins at 0 again before httpd itself does, or before a module with other
 * operations is loaded. Children of both generations count in it.
 */

#include "config.h"
#include "metrics.h"

void reg_metrics_memory_register(apr_pool_t *pool);

/** The counters of a child process; NULL without shared memory. */
reg_metrics_t *reg_metrics(const server_rec *server);

#endif
