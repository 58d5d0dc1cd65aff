/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_ERROR_FILTER_H
#define REGISTRATION_HTTPD_ERROR_FILTER_H

#include <httpd.h>

/**
 * Rewrites the errors that httpd and other modules make for a request under a mount, 401,
 * 403, 408, 413 and so on, as errors of its API. An output filter replaces the body,
 * after httpd has written its HTML and before the headers are sent.
 */

/** Registers the filter and the hooks that insert it. */
void reg_error_filter_register(apr_pool_t *pool);

#endif
