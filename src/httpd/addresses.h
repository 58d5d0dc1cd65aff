/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_ADDRESSES_H
#define REGISTRATION_HTTPD_ADDRESSES_H

#include <apr_time.h>

/**
 * Counts the addresses that a host name has, for each of which libpq takes a
 * connect_timeout. A process of its own asks the resolver, which can only be given up so.
 * Not for a process with threads.
 * @param patience how long the resolver may take.
 * @return how many; 0 when the name has none, or the resolver has not answered.
 */
int reg_addresses_count(const char *host, apr_interval_time_t patience);

#endif
