/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_CALLER_H
#define REGISTRATION_HTTPD_CALLER_H

/** The caller in logs: a keyed hash of its name, and a message for each 403. */

#include <httpd.h>

/**
 * Sets the note `registration-caller` of each request under a mount before it is logged:
 * 16 hex digits, SipHash-2-4 of r->user, if there is one. The key is the server's
 * RegistrationLogKey, or random octets that are the same in all child processes until
 * httpd is stopped. Logs a request that was refused with 403 at level info.
 */
void reg_caller_register(apr_pool_t *pool);

#endif
