/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_STATUS_H
#define REGISTRATION_HTTPD_STATUS_H

#include <httpd.h>

/** Has mod_status, where it is loaded, show what this module counts: on its page, and for
 *  ?auto. */
void reg_status_register(apr_pool_t *pool);

#endif
