/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_ADDRESSES_H
#define REGISTRATION_HTTPD_ADDRESSES_H

#include <apr_time.h>

/**
 * Counts the addresses of a host name. libpq may take a connect_timeout for each.
 *
 * A child process calls the resolver, as only a process can be stopped at a timeout. Not
 * for a process with threads.
 * @return 0 if the name has no address, or the resolver did not answer in time.
 */
int reg_addresses_count(const char *host, apr_interval_time_t timeout);

#endif
