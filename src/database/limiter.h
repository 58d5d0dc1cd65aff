/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_LIMITER_H
#define REGISTRATION_DATABASE_LIMITER_H

#include <apr_pools.h>
#include <apr_time.h>

/**
 * A connection limiter with a circuit breaker, in front of a pool of connections.
 *
 * The limiter has up to `most` connections. A request takes an idle one, or waits for one
 * until its deadline, in FIFO order. Only the limiter's own thread connects, one
 * connection at a time, because the name resolver, libpq's connect and the lock of
 * mod_dbd's pool ignore deadlines. So an attempt to connect that hangs delays no request
 * beyond its deadline, and requests use the connections that work.
 *
 * A connection that is returned unusable is reconnected at once. A failed attempt to
 * connect opens the circuit breaker for a second: all waiting requests are refused, and
 * every request that finds no idle connection is refused without a wait.
 *
 * The limiter does not know what a connection is.
 */
typedef struct reg_limiter_t reg_limiter_t;

/** The time after a failed attempt to connect during which no other is made. */
#define REG_BREAKER_OPEN_TIME apr_time_from_sec(1)

/** How connections are made and closed. */
typedef struct reg_connector_t {
    /**
     * Makes a connection, or makes one usable again. Called in the limiter's thread.
     * @param broken a connection that was returned unusable; NULL: make a new one.
     * @return the connection, `broken` unless that is NULL; or NULL on failure.
     */
    void *(*connect)(void *baton, void *broken);
    /** Closes a connection, usable or not. */
    void (*close)(void *baton, void *connection);
    void *baton;
} reg_connector_t;

/** Why a request gets no connection. */
typedef enum {
    REG_LIMITER_OPEN_BREAKER, /* the circuit breaker is open: an attempt to connect has
                                 just failed */
    REG_LIMITER_FAILED,       /* an attempt to connect failed while the request waited */
    REG_LIMITER_BUSY,         /* all connections were in use until its deadline */
    REG_LIMITER_CONNECTING    /* an attempt to connect was running at its deadline */
} reg_limiter_refusal_t;

/**
 * Makes a limiter. Its thread is started when it is first needed.
 * @param most the most connections at the same time.
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
 * @return a connection to be returned with reg_limiter_leave(), or NULL.
 */
void *reg_limiter_enter(reg_limiter_t *limiter, apr_time_t deadline,
                        reg_limiter_refusal_t *refusal);

/** Returns a connection. @param usable whether another request can use it as it is. */
void reg_limiter_leave(reg_limiter_t *limiter, void *connection, int usable);

/** Ends the thread, after its current attempt to connect, and closes every connection.
 *  The limiter must not be used after that. */
void reg_limiter_stop(reg_limiter_t *limiter);

#endif
