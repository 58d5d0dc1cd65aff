/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_CONNECTION_H
#define REGISTRATION_DATABASE_CONNECTION_H

/**
 * A connection to PostgreSQL: whether it can be used, reconnecting it, and whether the
 * module can work with the schema that it finds there. execute.h makes calls on it.
 */

#include "registration.h"

/** The most operations that one connection can have prepared; there are fewer. */
#define REG_MAX_OPERATIONS 24

/** Milliseconds after which a call stops waiting for a lock and ends as REG_LOCKED. Long
 *  compared with a transaction, short for the requests that wait with it or after it. */
#define REG_LOCK_TIMEOUT 100

/** The version of the schema that this module was written for; `newest` in
 *  sql/install.sql. */
#define REG_SCHEMA_VERSION 3

struct pg_conn;

/** A connection, with what the server has prepared on it. */
typedef struct reg_connection_t {
    struct pg_conn *pg;
    int backend;           /* process id of the session that the fields below describe */
    int is_schema_known;   /* the session's schema has been found to fit this module */
    int is_unreplicated;   /* a call was committed, but no standby has confirmed it */
    char own_session[96];  /* condition on pg_stat_activity that finds this session, or ""
                            */
    char left_session[96]; /* the same for a session that was left, which may still be
                              running a call, or "" */
    const reg_operation_t *prepared[REG_MAX_OPERATIONS];
    int prepared_count;
} reg_connection_t;

/** Where connections come from. */
typedef struct reg_connections_t {
    /** Takes a healthy idle connection. @return NULL if there is none by the deadline. */
    reg_connection_t *(*checkout)(void *baton, apr_time_t deadline);
    /** Gives a connection back, in any state. */
    void (*checkin)(void *baton, reg_connection_t *connection);
    /** Logs a message. It starts with a tag and contains no data of a request. */
    void (*report)(void *baton, const char *message);
    void *baton;
    struct reg_metrics_t *metrics; /* counts the calls; or NULL */
    /** Logs a step of an operation, without data of a request; NULL: steps are not
     * logged. */
    void (*trace)(void *baton, const char *operation, const char *step);
} reg_connections_t;

/** Shuts a connection down; reg_connection_refresh() reconnects it. */
void reg_connection_close(reg_connection_t *connection);

/**
 * Whether a call can be made on the connection as it is: the session is idle, the server
 * has not closed it, and the schema is known to fit. Does not block.
 */
int reg_connection_is_usable(reg_connection_t *connection);

/**
 * Reconnects the connection if the server has closed it or it is inside a transaction.
 * Forgets the statements that an earlier session had prepared. Blocks in the name
 * resolver and, for each address of the server, for connect_timeout, without a deadline:
 * not for a thread that serves a request.
 * @return whether the connection is open.
 */
int reg_connection_refresh(reg_connection_t *connection);

/**
 * Checks that the module can work with the schema: once for each session, and again after
 * a call that failed for an unknown reason. The same statement cancels the call that the
 * session before this one may still be running, as that call was given up; the process id
 * and the start of that session identify it.
 * @return a schema version mismatch and its remedy, or NULL. NULL also when the server
 *         does not answer, as the next call finds out why.
 */
const char *reg_connection_schema_mismatch(reg_connection_t *connection, apr_pool_t *pool,
                                           apr_time_t deadline);

#endif
