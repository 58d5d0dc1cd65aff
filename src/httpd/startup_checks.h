/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_STARTUP_CHECKS_H
#define REGISTRATION_HTTPD_STARTUP_CHECKS_H

/**
 * Checks of the configuration at startup: access to the APIs, TLS, and the connection to
 * PostgreSQL.
 *
 * httpd does not start with an API without a Require, an API with Satisfy Any, an API
 * that another one hides, or a RegistrationOrganization that applies to no events API. An
 * API without TLS, a connection to PostgreSQL that is not verified, or fewer threads than
 * requests in a batch, is one warning at each start and test of the configuration.
 * reg_pool_configure() and the directives check the rest.
 */

#include <httpd.h>

void reg_startup_checks_register(apr_pool_t *pool);

#endif
