/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_EXECUTE_H
#define REGISTRATION_DATABASE_EXECUTE_H

/**
 * One call of an operation on one connection: prepared statement, parameters, result. Its
 * result as a whole is a verdict, which the SQLSTATE decides. retry.c decides what the
 * verdict means for the requests.
 *
 * Time: a call has `start_by`, the latest time at which an attempt may start, and ends at
 * most REG_CALL_TIME later. batching.c converts a request's deadline into start_by;
 * execute.c converts it back. The code between them uses start_by only.
 */

#include "connection.h"
#include "turn.h"

/** The time between the latest start of a call and its deadline. A call that starts later
 *  would only be cut off, which costs the connection. */
#define REG_CALL_TIME apr_time_from_msec(REG_LOCK_TIMEOUT)

/** One request of a call. */
typedef struct reg_item_t {
    const char *const *values; /* as many as the operation has parameters */
    apr_pool_t *pool;          /* of the answer's strings */
    reg_answer_t answer;
    reg_call_stats_t stats; /* initially 0 */
    int in_doubt;           /* it was sent and its outcome is unknown; initially 0 */
} reg_item_t;

/** A call. */
typedef struct reg_call_t {
    const reg_connections_t *connections;
    apr_pool_t *pool;
    const reg_operation_t *operation;
    reg_item_t *const *items;
    int count;
    apr_time_t start_by; /* the earliest of its requests */
    /** The connection that is checked out for the call, for all its parts; NULL if none
     *  is. The caller checks it in. */
    reg_connection_t **held;
    /** The turn that was taken for the call, or NULL; retry.c gives it back after the
     * first attempt. */
    reg_turn_t **turn;
    /** The time after which the call is cancelled in PostgreSQL, as other requests wait
     *  for it; 0: at its deadline. */
    apr_interval_time_t limit;
    int lock_timeout; /* milliseconds; set by retry.c */
} reg_call_t;

/** The result of a call as a whole. */
typedef enum {
    REG_CALL_DONE,        /* every item has its answer */
    REG_CALL_CONFLICT,    /* rolled back: deadlock or serialization failure; retry */
    REG_CALL_UNPREPARED,  /* the prepared statement is missing or invalid */
    REG_CALL_REFUSED,     /* a value of some request is invalid */
    REG_CALL_LOCKED,      /* lock timeout: another transaction holds the lock */
    REG_CALL_SLOW,        /* cancelled at its limit and rolled back */
    REG_CALL_CANCELLED,   /* by a timeout of PostgreSQL or by an administrator */
    REG_CALL_BROKEN,      /* the connection is unusable; if the call was sent, its outcome
                             is unknown */
    REG_CALL_UNAVAILABLE, /* 503 */
    REG_CALL_FAULT        /* 500 */
} reg_verdict_t;

/** Makes a call once, or twice if the operation has to be prepared again. After
 *  REG_CALL_BROKEN and REG_CALL_UNPREPARED the connection is shut down. */
reg_verdict_t reg_execute(reg_connection_t *connection, const reg_call_t *call);

/** Sets the answer of every request of a call to an outcome without detail and body. */
void reg_execute_answer(const reg_call_t *call, reg_outcome_t outcome);

/** Logs a message about a call; see reg_connections_t. */
void reg_execute_report(const reg_call_t *call, const char *message);

#endif
