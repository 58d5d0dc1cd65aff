/* SPDX-License-Identifier: Apache-2.0 */
#include "connection.h"

#include "async.h"

#include <apr_strings.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* Whether the server has closed the connection. Reads pending messages: the message by
 * which the server ends a session looks like any other until it is read. */
static int is_closed_by_server(PGconn *pg)
{
    struct pollfd fd = {.fd = PQsocket(pg), .events = POLLIN | POLLRDHUP};

    return poll(&fd, 1, 0) != 0
           && (fd.revents != POLLIN || !PQconsumeInput(pg)
               || PQstatus(pg) != CONNECTION_OK);
}

/* Records the warning that the wait for a synchronous standby was cancelled: the commit
 * is lost if this server is. The warning has no SQLSTATE and its text is translated, so
 * its source file identifies it. */
static void receive_notice(void *data, const PGresult *notice)
{
    reg_connection_t *connection = data;
    const char *source = PQresultErrorField(notice, PG_DIAG_SOURCE_FILE);

    if (source && strcmp(source, "syncrep.c") == 0) {
        connection->is_unreplicated = 1;
    }
}

/* Whether the connection is open and its session is idle. */
static int is_idle(PGconn *pg)
{
    return PQstatus(pg) == CONNECTION_OK && !is_closed_by_server(pg)
           && PQtransactionStatus(pg) == PQTRANS_IDLE;
}

void reg_connection_close(reg_connection_t *connection)
{
    shutdown(PQsocket(connection->pg), SHUT_RDWR);
}

int reg_connection_is_usable(reg_connection_t *connection)
{
    return connection->is_schema_known
           && connection->backend == PQbackendPID(connection->pg)
           && is_idle(connection->pg);
}

/* Reconnects. The call that the old session runs is cancelled from the new one; if the
 * new session cannot be opened, the next attempt still knows the old one. */
static void leave_session(reg_connection_t *connection)
{
    if (*connection->own_session) {
        apr_cpystrn(connection->left_session, connection->own_session,
                    sizeof(connection->left_session));
        *connection->own_session = '\0';
    }
    PQreset(connection->pg);
}

int reg_connection_refresh(reg_connection_t *connection)
{
    PGconn *pg = connection->pg;

    if (!is_idle(pg)) {
        leave_session(connection);
    }
    if (PQstatus(pg) != CONNECTION_OK) {
        return 0;
    }
    if (connection->backend != PQbackendPID(pg)) {
        connection->backend = PQbackendPID(pg);
        connection->prepared_count = 0;
        connection->is_schema_known = 0;
        PQsetNoticeReceiver(pg, receive_notice, connection);
    }
    return PQsetnonblocking(pg, 1) == 0;
}

/* The shell command that installs or upgrades the schema of the session's database. */
static const char *format_command(apr_pool_t *pool, const PGconn *pg, const char *command)
{
    return apr_psprintf(pool, "registration-schema %s %s", command, PQdb(pg));
}

/* The mismatch that an error of the version query means; NULL if the error may be
 * temporary. */
static const char *explain_error(apr_pool_t *pool, const PGconn *pg, const char *state)
{
    const char *install = format_command(pool, pg, "install");

    if (strcmp(state, "3F000") == 0 || strcmp(state, "42883") == 0) {
        return apr_pstrcat(
            pool, "the database has no schema of this module; run: ", install, NULL);
    }
    return strcmp(state, "42501") == 0
               ? apr_pstrcat(pool,
                             "the database's user may not use the schema; let DBDParams "
                             "have user=registration, or run: ",
                             install, NULL)
               : NULL;
}

/* The mismatch with a schema of this version, which serves modules from version `oldest`
 * on; NULL if there is none. */
static const char *explain_version(apr_pool_t *pool, const PGconn *pg, int version,
                                   int oldest)
{
    if (version < REG_SCHEMA_VERSION) {
        return apr_psprintf(pool,
                            "the database's schema is at version %d and this module "
                            "needs %d; run: %s",
                            version, REG_SCHEMA_VERSION,
                            format_command(pool, pg, "upgrade"));
    }
    if (oldest > REG_SCHEMA_VERSION) {
        return apr_psprintf(pool,
                            "the database's schema is at version %d, for modules from %d "
                            "on, and this one is for %d; install a newer module",
                            version, oldest, REG_SCHEMA_VERSION);
    }
    return NULL;
}

/* The query for the version of the schema and for the condition that finds this session.
 * It also cancels the call of the session that was left. */
static const char *format_version_query(apr_pool_t *pool,
                                        const reg_connection_t *connection)
{
    return apr_psprintf(
        pool,
        "SELECT v.version, v.oldest,"
        " 'pid = ' || a.pid || ' AND extract(epoch FROM backend_start) = '"
        " || extract(epoch FROM a.backend_start),"
        " (SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE %s)"
        " FROM registration.schema_version() AS v,"
        " pg_stat_get_activity(pg_backend_pid()) AS a"
        " WHERE (SELECT set_config('lock_timeout', '%d', true)) IS NOT NULL",
        *connection->left_session ? connection->left_session : "false", REG_LOCK_TIMEOUT);
}

const char *reg_connection_schema_mismatch(reg_connection_t *connection, apr_pool_t *pool,
                                           apr_time_t deadline)
{
    const char *state, *mismatch = NULL;
    PGresult *result;

    if (connection->is_schema_known) {
        return NULL;
    }
    result = PQsendQuery(connection->pg, format_version_query(pool, connection))
                 ? reg_async_receive(connection->pg, deadline)
                 : NULL;
    state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (state) {
        mismatch = explain_error(pool, connection->pg, state);
    }
    else if (PQntuples(result) == 1) {
        mismatch = explain_version(pool, connection->pg,
                                   (int)apr_atoi64(PQgetvalue(result, 0, 0)),
                                   (int)apr_atoi64(PQgetvalue(result, 0, 1)));
        connection->is_schema_known = !mismatch;
        apr_cpystrn(connection->own_session, PQgetvalue(result, 0, 2),
                    sizeof(connection->own_session));
        *connection->left_session = '\0';
    }
    PQclear(result);
    return mismatch;
}
