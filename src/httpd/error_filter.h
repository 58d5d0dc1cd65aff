/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_ERROR_FILTER_H
#define REGISTRATION_HTTPD_ERROR_FILTER_H

#include <httpd.h>

/**
 * The errors that httpd and its other modules make for a request under a mount, put into
 * the shape of its API: 401, 403, 408, 413, an oversized header, and so on. The body is
 * replaced by an output filter, after httpd has written its HTML and before the headers
 * go out.
 */

/** Registers the filter and the hooks that insert it. */
void reg_error_filter_register(apr_pool_t *pool);

#endif
