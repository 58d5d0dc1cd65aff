/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_ASYNC_H
#define REGISTRATION_DATABASE_ASYNC_H

/**
 * Asynchronous libpq under a deadline.
 */

#include <apr_time.h>
#include <libpq-fe.h>

/**
 * Sends and receives until the result of a command is complete, or until a time.
 * @return whether the result is still incomplete at that time; 0 also when the connection
 *         is lost.
 */
int reg_async_is_busy_until(PGconn *pg, apr_time_t end);

/**
 * Receives the result of one command that was sent: the last one that holds rows or an
 * error. At the deadline the connection is shut down.
 * @return NULL unless the server has reported that it is ready for the next command: rows
 *         can arrive before their transaction is committed. To be freed with PQclear().
 */
PGresult *reg_async_receive(PGconn *pg, apr_time_t deadline);

#endif
