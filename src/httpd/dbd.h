/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_DBD_H
#define REGISTRATION_HTTPD_DBD_H

#include <httpd.h>
#include <util_cfgtree.h>

/**
 * The settings of mod_dbd. They are private to mod_dbd, so they are read from the
 * configuration tree, as mod_info does.
 */
typedef struct reg_dbd_t {
    const char *driver; /* NULL: unset */
    const char *params; /* NULL: unset */
    int min, keep, max; /* connections; mod_dbd's defaults if unset */
    int exptime;        /* seconds; mod_dbd's default if unset */
} reg_dbd_t;

/** The directives of a server: those in its <VirtualHost>, or the whole tree. */
const ap_directive_t *reg_dbd_directives(const server_rec *server);

/** The settings of a server: its own, and the main server's for unset ones. */
reg_dbd_t reg_dbd_settings(apr_pool_t *pool, const server_rec *server);

/** The first host of DBDParams that is reached by TCP on another machine without sslmode
 *  verify-full, so that a third machine could read or answer; NULL: none. */
const char *reg_dbd_unverified_host(apr_pool_t *pool, const reg_dbd_t *dbd);

/**
 * A directive of another module that uses the connections of a server's pool: of
 * mod_authn_dbd, mod_authz_dbd or mod_session_dbd, DBDPrepareSQL, or a RewriteMap of type
 * dbd. NULL: none.
 * @param main_server the first of all servers.
 */
const ap_directive_t *reg_dbd_other_user(apr_pool_t *pool, const server_rec *server,
                                         const server_rec *main_server);

/** A key that two servers have in common if and only if they share mod_dbd's pool. */
const char *reg_dbd_key(apr_pool_t *pool, const reg_dbd_t *dbd);

/**
 * Checks whether mod_dbd can serve the module. It resolves all host names, for some
 * seconds each at most.
 * @param connections RegistrationConnections, or -1 if unset.
 * @param timeout RegistrationTimeout.
 * @return one sentence with the error and its remedy, or NULL.
 */
const char *reg_dbd_fault(apr_pool_t *pool, const reg_dbd_t *dbd, int connections,
                          apr_interval_time_t timeout);

#endif
