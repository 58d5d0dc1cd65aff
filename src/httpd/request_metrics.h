/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_REQUEST_METRICS_H
#define REGISTRATION_HTTPD_REQUEST_METRICS_H

/** When httpd logs a request: counts it, sets the notes that a LogFormat can name, and
 * logs how it was answered at level debug. */

#include <httpd.h>

void reg_request_metrics_register(apr_pool_t *pool);

#endif
