/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_REQUEST_METRICS_H
#define REGISTRATION_HTTPD_REQUEST_METRICS_H

/** Counts each request when httpd logs it, and sets the notes that LogFormat can name. */

#include <httpd.h>

void reg_request_metrics_register(apr_pool_t *pool);

#endif
