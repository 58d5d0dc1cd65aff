/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_LIMITER_H
#define REGISTRATION_DATABASE_LIMITER_H

#include <apr_pools.h>
#include <apr_time.h>

/**
 * A connection limiter with a circuit breaker, in front of a pool of connections.
 *
 * The limiter keeps up to `most` connections. A request takes an idle one, or waits for
 * one until its deadline; requests are served in the order in which they came. No request
 * connects itself: a thread of the limiter's own does, one connection at a time, as
 * neither the name resolver nor libpq's connect nor the lock of mod_dbd's pool can be
 * left at a deadline. So an attempt to connect that hangs delays no request beyond its
 * deadline, and requests go on with the connections that work.
 *
 * A connection that is returned unusable is connected anew at once. When an attempt to
 * connect fails, the requests that wait are refused at once, and so is, for a second,
 * every request that finds no idle connection.
 *
 * The limiter does not know what a connection is.
 */
typedef struct reg_limiter_t reg_limiter_t;

/** How long after a failed attempt to connect no other is made. */
#define REG_BREAKER_OPEN_TIME apr_time_from_sec(1)

/** How connections are made and closed. */
typedef struct reg_connector_t {
    /**
     * Makes a connection, or makes one usable again. Called in the limiter's thread.
     * @param broken what was returned unusable; NULL: a new one is wanted.
     * @return the connection, the same where there was one, or NULL: it failed.
     */
    void *(*connect)(void *baton, void *broken);
    /** Closes a connection, usable or not. */
    void (*close)(void *baton, void *connection);
    void *baton;
} reg_connector_t;

/** Why a request gets no connection. */
typedef enum {
    REG_LIMITER_OPEN_BREAKER, /* the breaker is open: an attempt to connect failed just
                                 now */
    REG_LIMITER_FAILED,       /* an attempt to connect failed while the request waited */
    REG_LIMITER_BUSY,         /* all connections were in use until its deadline */
    REG_LIMITER_CONNECTING    /* an attempt to connect went on until its deadline */
} reg_limiter_refusal_t;

/**
 * Makes a limiter. Its thread is started when it is first needed.
 * @param most how many connections there may be at a time.
 * @param connector is copied; its baton has to outlive the limiter.
 * @return NULL when the system has no mutex left.
 */
reg_limiter_t *reg_limiter_make(apr_pool_t *pool, int most,
                                const reg_connector_t *connector);

/** Lowers the number of connections to `most`, if it is higher. */
void reg_limiter_limit(reg_limiter_t *limiter, int most);

/**
 * Takes a connection.
 * @param refusal set when there is none by the deadline.
 * @return a connection to be given back with reg_limiter_leave(), or NULL.
 */
void *reg_limiter_enter(reg_limiter_t *limiter, apr_time_t deadline,
                        reg_limiter_refusal_t *refusal);

/** Gives a connection back. @param usable whether another request can use it as it is. */
void reg_limiter_leave(reg_limiter_t *limiter, void *connection, int usable);

/** Ends the thread, after the attempt to connect that it makes, and closes every
 *  connection. The limiter is not to be used after that. */
void reg_limiter_stop(reg_limiter_t *limiter);

#endif
