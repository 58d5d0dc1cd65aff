/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_CALLER_H
#define REGISTRATION_HTTPD_CALLER_H

/** What logs tell of a caller: a keyed hash of its name, and that it was refused. */

#include <httpd.h>

/** Has each request under a mount get the note `registration-caller` before it is logged:
 * 16 hex digits, SipHash-2-4 of r->user, where there is one. The key is the server's
 *  RegistrationLogKey, or random octets that stay the same, in all child processes, until
 *  httpd is stopped. A request that is refused with 403 is logged at level info. */
void reg_caller_register(apr_pool_t *pool);

#endif
