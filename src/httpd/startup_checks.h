/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_STARTUP_CHECKS_H
#define REGISTRATION_HTTPD_STARTUP_CHECKS_H

/**
 * What a configuration says of who may use the APIs, and how they are reached.
 *
 * An API for which no Require says who may use it keeps httpd from starting, as does one
 * that Satisfy Any opens or that another hides, and a RegistrationOrganization that
 * limits nothing. An API without TLS, or an unprotected connection to PostgreSQL, is one
 * warning when httpd starts, and when its configuration is tested. Other faults are
 * refused elsewhere, see reg_pool_configure() and the directives; a message here says
 * where to get a driver that is missing, which mod_dbd refuses.
 */

#include <httpd.h>

void reg_startup_checks_register(apr_pool_t *pool);

#endif
