/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_REQUEST_METRICS_H
#define REGISTRATION_HTTPD_REQUEST_METRICS_H

/**
 * Counting requests, in memory that all child processes share, and noting what a log may
 * want to tell of each.
 *
 * The memory belongs to the parent process and outlives graceful and other restarts, so
 * that nothing begins at 0 again before httpd itself does, or before a module with other
 * operations is loaded. Children of both generations count in it.
 */

#include "config.h"
#include "metrics.h"

void reg_metrics_register(apr_pool_t *pool);

/** Where a child process counts; NULL where nothing is counted. */
reg_metrics_t *reg_metrics(const server_rec *server);

#endif
