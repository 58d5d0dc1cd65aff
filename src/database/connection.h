/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_CONNECTION_H
#define REGISTRATION_DATABASE_CONNECTION_H

/**
 * A connection to PostgreSQL, and one call of an operation on it: asynchronous libpq
 * under a deadline. What came of it is told by a verdict, which SQLSTATE decides; what
 * that means for the requests is decided in retry.c.
 */

#include "registration.h"

/** Operations one connection can have prepared; there are fewer. */
#define REG_MAX_OPERATIONS 24

/** Milliseconds a call waits for a lock before it gives up with REG_LOCKED. Long compared
 *  with a transaction, short for those who have to wait with it, or after it. */
#define REG_LOCK_TIMEOUT 100

/** The least time that a call is given: none is begun later before its deadline, only to
 * be cut off, which costs the connection. */
#define REG_CALL_TIME apr_time_from_msec(REG_LOCK_TIMEOUT)

/** The version of the schema that this module was written for; `newest` in
 *  sql/install.sql. */
#define REG_SCHEMA_VERSION 2

struct pg_conn;

/** A connection, with what the server has prepared on it. */
typedef struct reg_connection_t {
    struct pg_conn *pg;
    int backend;          /* process id of the session that what follows is true for */
    int fits;             /* the session's schema is known to be one to work with */
    int unreplicated;     /* the call was committed, but a standby did not confirm that */
    char own_session[96]; /* a condition on pg_stat_activity that finds the session */
    char left_session[96]; /* one that finds a session that was left, and may be at work;
                              both "" where there is none */
    const reg_operation_t *prepared[REG_MAX_OPERATIONS];
    int prepared_count;
} reg_connection_t;

/** Where connections come from. */
typedef struct reg_connections_t {
    /** A healthy idle connection, or NULL when there is none by the deadline. */
    reg_connection_t *(*checkout)(void *baton, apr_time_t deadline);
    /** Gives it back, whatever state it is in. */
    void (*checkin)(void *baton, reg_connection_t *connection);
    /** Tells an administrator. The text has a tag and holds no data of any request. */
    void (*report)(void *baton, const char *message);
    void *baton;
    struct reg_metrics_t *metrics; /* where calls are counted; or NULL */
} reg_connections_t;

/** One request of a call. */
typedef struct reg_item_t {
    const char *const *values; /* as many as the operation has parameters */
    apr_pool_t *pool;          /* of the answer's strings */
    reg_answer_t answer;
    int batch;                /* requests of the call that carried it */
    apr_interval_time_t took; /* all its calls, waiting for a connection included */
    int in_doubt; /* it was sent, and its outcome is not known; 0 to begin with */
} reg_item_t;

/** One call being made. */
typedef struct reg_call_t {
    const reg_connections_t *connections;
    apr_pool_t *pool;
    const reg_operation_t *operation;
    reg_item_t *const *items;
    int count;
    apr_time_t deadline;
    /** The connection that is checked out for the call, for all its parts; NULL where
     * there is none. It stays the caller's to check in. */
    reg_connection_t **held;
    /** How long PostgreSQL may be at it before it is cancelled, so that others need not
     * wait for it longer; 0: until the deadline. */
    apr_interval_time_t limit;
    int lock_timeout; /* milliseconds; retry.c sets it */
} reg_call_t;

/** What became of a call as a whole. */
typedef enum {
    REG_CALL_DONE,        /* every item has its answer */
    REG_CALL_CONFLICT,    /* rolled back in favour of another transaction: again */
    REG_CALL_UNPREPARED,  /* what was prepared is not there or not valid any more */
    REG_CALL_REFUSED,     /* a value of some request is at fault */
    REG_CALL_LOCKED,      /* another transaction holds a lock that a request needs */
    REG_CALL_SLOW,        /* it was cancelled at its limit; nothing was done */
    REG_CALL_CANCELLED,   /* by a time-out of PostgreSQL's or by an administrator */
    REG_CALL_BROKEN,      /* the connection is no good; if it was sent, its outcome is not
                             known */
    REG_CALL_UNAVAILABLE, /* 503 */
    REG_CALL_FAULT        /* 500 */
} reg_verdict_t;

/** Makes a call once, or twice where the operation has to be prepared anew. A connection
 *  that is no good then is shut down, and so is reg_connection_is_usable() no more. */
reg_verdict_t reg_connection_call(reg_connection_t *connection, const reg_call_t *call);

/** Answers every request of a call with an outcome that has no words of its own. */
void reg_call_answer(const reg_call_t *call, reg_outcome_t outcome);

/** Tells an administrator of a call; see reg_connections_t. */
void reg_call_report(const reg_call_t *call, const char *message);

/** What the SQL, or a log, calls an outcome. */
const char *reg_outcome_name(reg_outcome_t outcome);

/** Closes a connection; reg_connection_refresh() makes it anew. */
void reg_connection_close(reg_connection_t *connection);

/**
 * Whether a call can be made on the connection as it is: the session is idle, the server
 * has not hung up, and the schema is known to fit. Waits for nothing.
 */
int reg_connection_is_usable(reg_connection_t *connection);

/**
 * Makes a connection fit for a call: reconnects it when the server has hung up or left it
 * inside a transaction, and forgets what an earlier session had prepared. It waits for
 * the name resolver and, for each address of the server, for connect_timeout, and looks
 * at no deadline: not for a thread that serves a request.
 * @return whether it is.
 */
int reg_connection_refresh(reg_connection_t *connection);

/**
 * Makes sure that the module can work with the schema, which a new session is asked once,
 * and again after a call that failed for a reason which is not known here. With it goes
 * the request to cancel what the session before may still be doing: its call had been
 * given up. That session is known by its process id and its start, so no other is hit.
 * @return what is wrong and what to do, or NULL: also when the session does not answer,
 *         as the call will find out what is wrong with that.
 */
const char *reg_connection_schema_mismatch(reg_connection_t *connection, apr_pool_t *pool,
                                           apr_time_t deadline);

#endif
