/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_DBD_H
#define REGISTRATION_HTTPD_DBD_H

#include <httpd.h>
#include <util_cfgtree.h>

/**
 * What mod_dbd is configured to. Its settings are private, so they are read from the
 * configuration's tree, as mod_info does.
 */
typedef struct reg_dbd_t {
    const char *driver; /* NULL when unset, and so on */
    const char *params;
    int min, keep, max; /* connections; mod_dbd's own defaults when unset, */
    int exptime;        /* seconds; likewise */
} reg_dbd_t;

/** The directives of a server: those in its <VirtualHost>, or the whole tree. */
const ap_directive_t *reg_dbd_directives(const server_rec *server);

/** The settings in force in a server: its own, and the main server's for the rest. */
reg_dbd_t reg_dbd_settings(apr_pool_t *pool, const server_rec *server);

/**
 * How long libpq may take to give up connecting: connect_timeout times the hosts of
 * DBDParams; 0 when that may be for ever, or DBDParams cannot be read.
 */
apr_interval_time_t reg_dbd_connect_time(const reg_dbd_t *dbd);

/** Text that is the same for two servers just when they share mod_dbd's pool. */
const char *reg_dbd_key(apr_pool_t *pool, const reg_dbd_t *dbd);

/**
 * Why mod_dbd cannot serve the module.
 * @param connections RegistrationConnections, or -1 when unset.
 * @param timeout RegistrationTimeout.
 * @return one sentence that says what is wrong and what to write instead, or NULL.
 */
const char *reg_dbd_fault(apr_pool_t *pool, const reg_dbd_t *dbd, int connections,
                          apr_interval_time_t timeout);

#endif
