/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_CHECKS_H
#define REGISTRATION_HTTPD_CHECKS_H

/**
 * What works and is probably not meant: an API that everybody may use, or without TLS.
 * Each is one warning when httpd starts, and when its configuration is tested. What
 * cannot work is refused elsewhere, see reg_pool_configure() and the directives; of a
 * driver that is missing, which mod_dbd refuses, it is said here where to get it.
 */

#include <httpd.h>

void reg_checks_register(apr_pool_t *pool);

#endif
