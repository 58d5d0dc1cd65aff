/* SPDX-License-Identifier: Apache-2.0 */
#include "connection.h"

#include "metrics.h"

#include <apr_strings.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>

/* Milliseconds after its lock timeout in which a call that was cancelled may have been so
 * because of it: it can have waited more than once. statement_timeout is longer. */
#define CANCELLATION_DELAY 300

/* How long having a call cancelled may take. */
#define CANCELLING_TIME apr_time_from_msec(500)

/* SQLSTATE of a write, an audit's entry too, on a standby or in a read-only session. */
#define READ_ONLY "25006"

/* The outcomes as the SQL names them. */
static const struct {
    const char *name;
    reg_outcome_t outcome;
} outcomes[] = {{"created", REG_CREATED},
                {"found", REG_FOUND},
                {"more", REG_MORE},
                {"updated", REG_UPDATED},
                {"deleted", REG_DELETED},
                {"not_found", REG_NOT_FOUND},
                {"not_joinable", REG_NOT_JOINABLE},
                {"duplicate", REG_DUPLICATE},
                {"full", REG_FULL},
                {"no_waiting_list", REG_NO_WAITING_LIST},
                {"changed", REG_CHANGED},
                {"too_large", REG_TOO_LARGE},
                {"invalid", REG_INVALID},
                {"children_unknown", REG_CHILDREN_UNKNOWN},
                {"institution_unknown", REG_INSTITUTION_UNKNOWN},
                {"acceptable", REG_ACCEPTABLE},
                {"key_reused", REG_KEY_REUSED}};

/* Those that no SQL gives, as logs name them. */
static const char *const own_outcomes[] = {
    [REG_KEY_INVALID] = "key_invalid", [REG_BAD_DATA] = "bad_data",
    [REG_LOCKED] = "locked",           [REG_SLOW] = "slow",
    [REG_UNAVAILABLE] = "unavailable", [REG_FAULT] = "fault"};

const char *reg_outcome_name(reg_outcome_t outcome)
{
    for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
        if (outcomes[i].outcome == outcome) {
            return outcomes[i].name;
        }
    }
    return own_outcomes[outcome];
}

/* By the beginning of SQLSTATE. What is not here is a fault. */
static const struct {
    const char *prefix;
    reg_verdict_t verdict;
} verdicts[] = {
    {"40001", REG_CALL_CONFLICT},   /* serialization_failure */
    {"40P01", REG_CALL_CONFLICT},   /* deadlock_detected */
    {"26000", REG_CALL_UNPREPARED}, /* invalid_sql_statement_name */
    {"42P05", REG_CALL_UNPREPARED}, /* duplicate_prepared_statement */
    {"0A000", REG_CALL_UNPREPARED}, /* cached plan must not change result type */
    {"55P03", REG_CALL_LOCKED},     /* lock_not_available */
    {"57014", REG_CALL_CANCELLED},  /* query_canceled */
    {"57P0", REG_CALL_BROKEN},      /* shutting down, starting up */
    {READ_ONLY, REG_CALL_BROKEN},   /* read_only_sql_transaction */
    {"08", REG_CALL_BROKEN},        /* connection exceptions */
    {"53", REG_CALL_UNAVAILABLE},   /* insufficient resources */
    {"58", REG_CALL_UNAVAILABLE},   /* system errors */
    {"22", REG_CALL_REFUSED},       /* data exceptions */
    {"23", REG_CALL_REFUSED},       /* constraint violations */
    {"54", REG_CALL_REFUSED},       /* program limit exceeded: something is too large */
};

void reg_call_report(const reg_call_t *call, const char *message)
{
    call->connections->report(call->connections->baton, message);
}

void reg_call_answer(const reg_call_t *call, reg_outcome_t outcome)
{
    for (int i = 0; i < call->count; i++) {
        call->items[i]->answer = (reg_answer_t){.outcome = outcome};
    }
}

/*
 * Parameters
 */

/* Appends an element of an array in PostgreSQL's text form, quoted; returns the end. */
static char *put_element(char *p, const char *value)
{
    if (!value) {
        return apr_cpystrn(p, "NULL", sizeof("NULL"));
    }
    *p++ = '"';
    for (; *value; value++) {
        if (*value == '"' || *value == '\\') {
            *p++ = '\\';
        }
        *p++ = *value;
    }
    *p++ = '"';
    return p;
}

/* One parameter of all requests as an array: {"a",NULL,"c"}. */
static const char *array_of(const reg_call_t *call, int parameter)
{
    apr_size_t size = 3;
    char *array, *p;

    for (int i = 0; i < call->count; i++) {
        const char *value = call->items[i]->values[parameter];

        size += value ? 2 * strlen(value) + 3 : sizeof("NULL,");
    }
    array = p = apr_palloc(call->pool, size);
    *p++ = '{';
    for (int i = 0; i < call->count; i++) {
        if (i) {
            *p++ = ',';
        }
        p = put_element(p, call->items[i]->values[parameter]);
    }
    *p++ = '}';
    *p = '\0';
    return array;
}

/*
 * Calls
 */

/* Waits until the connection has something to read or room to write; 0 at the deadline.
 */
static int wait_for(PGconn *pg, int writing, apr_time_t deadline)
{
    struct pollfd fd = {.fd = PQsocket(pg),
                        .events = (short)(writing ? POLLIN | POLLOUT : POLLIN)};
    int ready;

    do {
        apr_time_t left = deadline - apr_time_now();

        /* Rounded up, or the last millisecond would be spent spinning. */
        ready = left > 0 ? poll(&fd, 1, (int)apr_time_as_msec(left) + 1) : 0;
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

/* The next result of what was sent, NULL when there is no more of it or the connection is
 * lost. At the deadline it is cut, so that nothing here can wait for a server that does
 * not answer; PQcancel() could. */
static PGresult *next_result(PGconn *pg, apr_time_t deadline)
{
    for (;;) {
        int writing = PQflush(pg);

        if (writing < 0 || (!writing && !PQisBusy(pg))) {
            return PQgetResult(pg);
        }
        if (!wait_for(pg, writing, deadline)) {
            shutdown(PQsocket(pg), SHUT_RDWR);
            return NULL;
        }
        if (!PQconsumeInput(pg)) {
            return PQgetResult(pg);
        }
    }
}

/*
 * The result of one command that was sent: the last that holds rows or an error. NULL
 * unless the server has said that it is ready for another: rows can arrive before the
 * transaction that made them is committed, and only then is what they say true.
 */
static PGresult *finish(PGconn *pg, apr_time_t deadline)
{
    PGresult *result = NULL, *next;

    while ((next = next_result(pg, deadline)) != NULL) {
        PQclear(result);
        result = next;
    }
    if (PQtransactionStatus(pg) != PQTRANS_IDLE) {
        PQclear(result);
        result = NULL;
    }
    return result;
}

/* What the result of what was sent then means. What an administrator should know of is
 * reported by its code, as its message may hold data. */
static reg_verdict_t judge(const reg_call_t *call, const PGresult *result,
                           apr_time_t sent, int was_cancelled)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    reg_verdict_t verdict = REG_CALL_FAULT;

    if (PQresultStatus(result) == PGRES_TUPLES_OK
        || PQresultStatus(result) == PGRES_COMMAND_OK) {
        return REG_CALL_DONE;
    }
    if (!state) {
        int broke = apr_time_now() < call->deadline;

        reg_metrics_error(call->connections->metrics, NULL);
        reg_call_report(call,
                        apr_psprintf(call->pool, "REG0305: operation %s got no answer%s",
                                     call->operation->name,
                                     broke ? ", its connection broke" : " in time"));
        return broke ? REG_CALL_BROKEN : REG_CALL_UNAVAILABLE;
    }
    reg_metrics_error(call->connections->metrics, state);
    for (size_t i = 0;
         i < sizeof(verdicts) / sizeof(verdicts[0]) && verdict == REG_CALL_FAULT; i++) {
        if (strncmp(state, verdicts[i].prefix, strlen(verdicts[i].prefix)) == 0) {
            verdict = verdicts[i].verdict;
        }
    }
    if (verdict == REG_CALL_CANCELLED) {
        /* PostgreSQL gets a lock at the moment at which it gives up waiting for it, and
         * then takes its own time-out for a request of somebody's. */
        if (apr_time_now() - sent
            < apr_time_from_msec(call->lock_timeout + CANCELLATION_DELAY)) {
            verdict = REG_CALL_LOCKED;
        }
        else if (was_cancelled) {
            verdict = REG_CALL_SLOW;
        }
    }
    if (verdict == REG_CALL_BROKEN || verdict == REG_CALL_CANCELLED
        || verdict == REG_CALL_UNAVAILABLE || verdict == REG_CALL_FAULT) {
        reg_call_report(call,
                        apr_psprintf(call->pool,
                                     "REG0303: operation %s failed with SQLSTATE %s%s",
                                     call->operation->name, state,
                                     strcmp(state, READ_ONLY) == 0
                                         ? ": the server is read-only, a standby?"
                                         : ""));
    }
    return verdict;
}

static int is_prepared(const reg_connection_t *connection,
                       const reg_operation_t *operation)
{
    for (int i = 0; i < connection->prepared_count; i++) {
        if (connection->prepared[i] == operation) {
            return 1;
        }
    }
    return 0;
}

/* The verdict on a command that returns nothing, once it has been sent. */
static reg_verdict_t complete(const reg_call_t *call, reg_connection_t *connection,
                              int is_sent)
{
    apr_time_t sent = apr_time_now();
    PGresult *result = is_sent ? finish(connection->pg, call->deadline) : NULL;
    reg_verdict_t verdict = judge(call, result, sent, 0);

    PQclear(result);
    return verdict;
}

/* Prepares the operation on a connection that does not have it yet. */
static reg_verdict_t prepare(const reg_call_t *call, reg_connection_t *connection)
{
    const reg_operation_t *operation = call->operation;
    const char *placeholders = "$1";
    const char *function, *statement;
    reg_verdict_t verdict;

    if (is_prepared(connection, operation)) {
        return REG_CALL_DONE;
    }
    for (int i = 2; i <= operation->parameters; i++) {
        placeholders = apr_psprintf(call->pool, "%s, $%d", placeholders, i);
    }
    function = operation->wrapped
                   ? apr_psprintf(call->pool, "idempotent('%s', ", operation->wrapped)
                   : apr_psprintf(call->pool, "%s(", operation->name);
    /* The lock timeout is this transaction's alone: other modules may use the session.
     * A condition without a column is evaluated first, before the function is called. */
    statement = apr_psprintf(call->pool,
                             "SELECT item, outcome, detail, body FROM registration.%s%s) "
                             "WHERE (SELECT set_config('lock_timeout', $%d, true)) "
                             "IS NOT NULL",
                             function, placeholders, operation->parameters + 1);
    verdict =
        complete(call, connection,
                 PQsendPrepare(connection->pg, operation->name, statement, 0, NULL));
    if (verdict == REG_CALL_DONE && connection->prepared_count < REG_MAX_OPERATIONS) {
        connection->prepared[connection->prepared_count++] = operation;
    }
    return verdict;
}

static reg_outcome_t outcome_of(const char *name)
{
    for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
        if (strcmp(outcomes[i].name, name) == 0) {
            return outcomes[i].outcome;
        }
    }
    return REG_FAULT;
}

/* A column of a row in the pool's memory; NULL for SQL NULL. */
static const char *column(apr_pool_t *pool, const PGresult *result, int row, int number)
{
    return PQgetisnull(result, row, number)
               ? NULL
               : apr_pstrmemdup(pool, PQgetvalue(result, row, number),
                                (apr_size_t)PQgetlength(result, row, number));
}

/* Hands each request the row that is its own. A request without one, or with an outcome
 * that is not known here, gets a fault. */
static void deliver(const reg_call_t *call, const PGresult *result)
{
    int answered = 0;

    reg_call_answer(call, REG_FAULT);
    for (int row = 0; row < PQntuples(result); row++) {
        apr_int64_t number = apr_atoi64(PQgetvalue(result, row, 0));

        if (number >= 1 && number <= call->count) {
            reg_item_t *item = call->items[number - 1];

            item->answer.outcome = outcome_of(PQgetvalue(result, row, 1));
            item->answer.detail = column(item->pool, result, row, 2);
            item->answer.body = column(item->pool, result, row, 3);
            answered += item->answer.outcome != REG_FAULT;
        }
    }
    if (answered < call->count) {
        reg_call_report(
            call, apr_psprintf(call->pool,
                               "REG0306: operation %s gave %d of %d requests an answer",
                               call->operation->name, answered, call->count));
    }
}

/* Notes that the call may have been done, or may be done yet. */
static void set_unsettled(const reg_call_t *call)
{
    for (int i = 0; i < call->count; i++) {
        call->items[i]->in_doubt = 1;
    }
}

/* Whether what was sent is not answered yet at the time of its limit, and that comes
 * before the deadline, which leaves no time to cancel anything. */
static int is_busy_at_limit(const reg_call_t *call, PGconn *pg, apr_time_t sent)
{
    int has_limit = call->limit && sent + call->limit < call->deadline;
    int writing = PQflush(pg);

    while (has_limit && writing >= 0 && (writing || PQisBusy(pg))) {
        if (!wait_for(pg, writing, sent + call->limit)) {
            return 1;
        }
        if (!PQconsumeInput(pg)) {
            break;
        }
        writing = PQflush(pg);
    }
    return 0;
}

/* Has the call's statement cancelled, on another connection, if there is one soon: then
 * PostgreSQL says that nothing of it was done, and the locks are free. */
static void cancel(const reg_call_t *call, const reg_connection_t *connection)
{
    const reg_connections_t *from = call->connections;
    apr_time_t deadline = MIN(apr_time_now() + CANCELLING_TIME, call->deadline);
    reg_connection_t *other = from->checkout(from->baton, deadline);
    const char *statement = apr_psprintf(call->pool, "SELECT pg_cancel_backend(%d)",
                                         PQbackendPID(connection->pg));

    if (other) {
        PQclear(PQsendQuery(other->pg, statement) ? finish(other->pg, deadline) : NULL);
        from->checkin(from->baton, other);
    }
}

/* Makes the call on a connection, once. */
static reg_verdict_t run(const reg_call_t *call, reg_connection_t *connection)
{
    const char *values[REG_MAX_PARAMETERS + 1];
    int count = call->operation->parameters;
    reg_verdict_t verdict = prepare(call, connection);
    int is_sent, was_cancelled;
    apr_time_t sent;
    PGresult *result;

    if (verdict != REG_CALL_DONE) {
        return verdict;
    }
    for (int i = 0; i < count; i++) {
        values[i] = array_of(call, i);
    }
    values[count] = apr_itoa(call->pool, call->lock_timeout);
    connection->unreplicated = 0;
    sent = apr_time_now();
    is_sent = PQsendQueryPrepared(connection->pg, call->operation->name, count + 1,
                                  values, NULL, NULL, 0);
    was_cancelled = is_sent && is_busy_at_limit(call, connection->pg, sent);
    if (was_cancelled) {
        cancel(call, connection);
    }
    result = is_sent ? finish(connection->pg, call->deadline) : NULL;
    reg_metrics_call(call->connections->metrics, apr_time_now() - sent);
    verdict = judge(call, result, sent, was_cancelled);
    if (verdict == REG_CALL_DONE && connection->unreplicated) {
        reg_call_report(call,
                        apr_psprintf(call->pool,
                                     "REG0307: operation %s did not wait for the standby",
                                     call->operation->name));
        verdict = REG_CALL_BROKEN;
    }
    if (verdict == REG_CALL_DONE) {
        deliver(call, result);
    }
    else if (verdict == REG_CALL_BROKEN) {
        set_unsettled(call);
    }
    else if (verdict == REG_CALL_FAULT) {
        connection->fits = 0; /* the schema may be gone */
    }
    PQclear(result);
    return verdict;
}

/* Makes the session forget a statement, whether or not it has one of that name. */
static reg_verdict_t forget(const reg_call_t *call, reg_connection_t *connection)
{
    const char *name = call->operation->name;
    reg_verdict_t verdict = complete(
        call, connection,
        PQsendQuery(connection->pg, apr_psprintf(call->pool, "DEALLOCATE \"%s\"", name)));

    for (int i = 0; i < connection->prepared_count; i++) {
        if (connection->prepared[i] == call->operation) {
            connection->prepared[i] = connection->prepared[--connection->prepared_count];
        }
    }
    return verdict == REG_CALL_UNPREPARED ? REG_CALL_DONE : verdict;
}

reg_verdict_t reg_connection_call(reg_connection_t *connection, const reg_call_t *call)
{
    reg_verdict_t verdict = run(call, connection);

    if (verdict == REG_CALL_UNPREPARED) {
        verdict = forget(call, connection);
        if (verdict == REG_CALL_DONE) {
            verdict = run(call, connection);
        }
    }
    if (verdict == REG_CALL_BROKEN || verdict == REG_CALL_UNPREPARED) {
        /* A connection to a server that only refuses is still open. */
        shutdown(PQsocket(connection->pg), SHUT_RDWR);
    }
    return verdict;
}

/*
 * Sessions
 */

/* Whether the server has closed the connection. What it has said unasked is read, but
 * that alone would not tell: its farewell is such a message. */
static int has_hung_up(PGconn *pg)
{
    struct pollfd fd = {.fd = PQsocket(pg), .events = POLLIN | POLLRDHUP};

    return poll(&fd, 1, 0) != 0
           && (fd.revents != POLLIN || !PQconsumeInput(pg)
               || PQstatus(pg) != CONNECTION_OK);
}

/* Notes a warning that the wait for a synchronous standby was cut short: what was
 * committed is lost with this server. It is told by where it comes from, as its words are
 * translated. */
static void receive_notice(void *data, const PGresult *notice)
{
    reg_connection_t *connection = data;
    const char *source = PQresultErrorField(notice, PG_DIAG_SOURCE_FILE);

    if (source && strcmp(source, "syncrep.c") == 0) {
        connection->unreplicated = 1;
    }
}

/* Whether the connection is open, and its session at rest. */
static int is_idle(PGconn *pg)
{
    return PQstatus(pg) == CONNECTION_OK && !has_hung_up(pg)
           && PQtransactionStatus(pg) == PQTRANS_IDLE;
}

void reg_connection_close(reg_connection_t *connection)
{
    shutdown(PQsocket(connection->pg), SHUT_RDWR);
}

int reg_connection_is_usable(reg_connection_t *connection)
{
    return connection->fits && connection->backend == PQbackendPID(connection->pg)
           && is_idle(connection->pg);
}

/* Leaves the session for a new one. What it was doing is cancelled from there; if that
 * cannot be reached, the next attempt to do so remembers the same session. */
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
        connection->fits = 0;
        PQsetNoticeReceiver(pg, receive_notice, connection);
    }
    return PQsetnonblocking(pg, 1) == 0;
}

/* The command that would mend a schema, with the name of the session's database. */
static const char *remedy(apr_pool_t *pool, const PGconn *pg, const char *command)
{
    return apr_psprintf(pool, "registration-schema %s %s", command, PQdb(pg));
}

/* What a schema that cannot even be asked lacks; NULL when it may only be the moment. */
static const char *judge_refusal(apr_pool_t *pool, const PGconn *pg, const char *state)
{
    const char *install = remedy(pool, pg, "install");

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

/* What is wrong with a schema of this version, which serves modules for `oldest` on. */
static const char *judge_version(apr_pool_t *pool, const PGconn *pg, int version,
                                 int oldest)
{
    if (version < REG_SCHEMA_VERSION) {
        return apr_psprintf(pool,
                            "the database's schema is at version %d and this module "
                            "needs %d; run: %s",
                            version, REG_SCHEMA_VERSION, remedy(pool, pg, "upgrade"));
    }
    if (oldest > REG_SCHEMA_VERSION) {
        return apr_psprintf(pool,
                            "the database's schema is at version %d, for modules from %d "
                            "on, and this one is for %d; install a newer module",
                            version, oldest, REG_SCHEMA_VERSION);
    }
    return NULL;
}

/* Asks for the version of the schema and how the session is to be found, and cancels what
 * the one before is still doing. */
static const char *question(apr_pool_t *pool, const reg_connection_t *connection)
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

    if (connection->fits) {
        return NULL;
    }
    result = PQsendQuery(connection->pg, question(pool, connection))
                 ? finish(connection->pg, deadline)
                 : NULL;
    state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (state) {
        mismatch = judge_refusal(pool, connection->pg, state);
    }
    else if (PQntuples(result) == 1) {
        mismatch =
            judge_version(pool, connection->pg, (int)apr_atoi64(PQgetvalue(result, 0, 0)),
                          (int)apr_atoi64(PQgetvalue(result, 0, 1)));
        connection->fits = !mismatch;
        apr_cpystrn(connection->own_session, PQgetvalue(result, 0, 2),
                    sizeof(connection->own_session));
        *connection->left_session = '\0';
    }
    PQclear(result);
    return mismatch;
}
