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
 * The first host of DBDParams that another machine could stand in for, or listen to: it
 * is reached by TCP, is not this machine, and sslmode is not verify-full. NULL: none is.
 */
const char *reg_dbd_unverified_host(apr_pool_t *pool, const reg_dbd_t *dbd);

/**
 * A directive of another module that uses the connections of a server's pool: those of
 * mod_authn_dbd, mod_authz_dbd and mod_session_dbd, DBDPrepareSQL, or a RewriteMap of
 * type dbd. NULL: there is none.
 * @param main_server the first of all servers.
 */
const ap_directive_t *reg_dbd_other_user(apr_pool_t *pool, const server_rec *server,
                                         const server_rec *main_server);

/** Text that is the same for two servers just when they share mod_dbd's pool. */
const char *reg_dbd_key(apr_pool_t *pool, const reg_dbd_t *dbd);

/**
 * Why mod_dbd cannot serve the module. It takes until all host names are resolved, but
 * only some seconds each.
 * @param connections RegistrationConnections, or -1 when unset.
 * @param timeout RegistrationTimeout.
 * @return one sentence that says what is wrong and what to write instead, or NULL.
 */
const char *reg_dbd_fault(apr_pool_t *pool, const reg_dbd_t *dbd, int connections,
                          apr_interval_time_t timeout);

#endif
