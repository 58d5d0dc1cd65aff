/* SPDX-License-Identifier: Apache-2.0 */
#include "execute.h"

#include "async.h"
#include "metrics.h"
#include "outcomes.h"

#include <apr_strings.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>

/* Milliseconds after the lock timeout until which a cancelled call counts as a lock
 * timeout: it can have waited for more than one lock. statement_timeout is longer. */
#define CANCELLATION_DELAY 300

/* The most time that cancelling a call may take. */
#define CANCELLING_TIME apr_time_from_msec(500)

/* SQLSTATE of a write, also of an audit entry, on a standby or in a read-only session. */
#define READ_ONLY "25006"

/* By the beginning of SQLSTATE. An SQLSTATE that is not listed is a fault. */
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

void reg_execute_report(const reg_call_t *call, const char *message)
{
    call->connections->report(call->connections->baton, message);
}

void reg_execute_answer(const reg_call_t *call, reg_outcome_t outcome)
{
    for (int i = 0; i < call->count; i++) {
        call->items[i]->answer = (reg_answer_t){.outcome = outcome};
    }
}

static apr_time_t deadline_of(const reg_call_t *call)
{
    return call->start_by + REG_CALL_TIME;
}

/*
 * Parameters
 */

/* Appends an array element in PostgreSQL's text form, quoted. @return the end. */
static char *append_array_element(char *p, const char *value)
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
static const char *format_array(const reg_call_t *call, int parameter)
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
        p = append_array_element(p, call->items[i]->values[parameter]);
    }
    *p++ = '}';
    *p = '\0';
    return array;
}

/*
 * Verdicts
 */

static reg_verdict_t judge_missing_result(const reg_call_t *call)
{
    int is_broken = apr_time_now() < deadline_of(call);

    reg_metrics_error(call->connections->metrics, NULL);
    reg_execute_report(
        call,
        apr_psprintf(call->pool, "REG0305: operation %s: %s", call->operation->name,
                     is_broken ? "connection lost before the answer; retrying on another "
                                 "connection"
                               : "no answer before the deadline; returning 503"));
    return is_broken ? REG_CALL_BROKEN : REG_CALL_UNAVAILABLE;
}

static reg_verdict_t look_up_verdict(const char *state)
{
    for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++) {
        if (strncmp(state, verdicts[i].prefix, strlen(verdicts[i].prefix)) == 0) {
            return verdicts[i].verdict;
        }
    }
    return REG_CALL_FAULT;
}

/* Reports an error that concerns an administrator, by its SQLSTATE: the message of the
 * error may contain data of a request. */
static void report_error(const reg_call_t *call, const char *state, reg_verdict_t verdict)
{
    static const char *const next_steps[] = {
        [REG_CALL_BROKEN] = "retrying on another connection",
        [REG_CALL_CANCELLED] = "retrying each request alone",
        [REG_CALL_UNAVAILABLE] = "returning 503",
        [REG_CALL_FAULT] = "returning 500"};
    int is_retried = verdict != REG_CALL_CANCELLED || call->count > 1;

    if (next_steps[verdict]) {
        reg_execute_report(
            call, apr_psprintf(call->pool,
                               "REG0303: operation %s failed with SQLSTATE %s%s; %s",
                               call->operation->name, state,
                               strcmp(state, READ_ONLY) == 0
                                   ? ": the server is read-only, a standby?"
                                   : "",
                               next_steps[is_retried ? verdict : REG_CALL_UNAVAILABLE]));
    }
}

/*
 * The verdict on a result.
 *
 * When a lock timeout expires at the moment at which the lock is granted, PostgreSQL ends
 * the statement with 57014 and "user request", as it does for pg_cancel_backend(),
 * instead of 55P03. No field of the error tells the two apart, so the time does.
 */
static reg_verdict_t judge_result(const reg_call_t *call, const PGresult *result,
                                  apr_time_t sent, int was_cancelled)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    reg_verdict_t verdict;

    if (PQresultStatus(result) == PGRES_TUPLES_OK
        || PQresultStatus(result) == PGRES_COMMAND_OK) {
        return REG_CALL_DONE;
    }
    if (!state) {
        return judge_missing_result(call);
    }
    reg_metrics_error(call->connections->metrics, state);
    verdict = look_up_verdict(state);
    if (verdict == REG_CALL_CANCELLED) {
        if (apr_time_now() - sent
            < apr_time_from_msec(call->lock_timeout + CANCELLATION_DELAY)) {
            verdict = REG_CALL_LOCKED;
        }
        else if (was_cancelled) {
            verdict = REG_CALL_SLOW;
        }
    }
    report_error(call, state, verdict);
    return verdict;
}

/* The verdict on a command without rows that has been sent, or could not be. */
static reg_verdict_t complete_command(const reg_call_t *call,
                                      reg_connection_t *connection, int is_sent)
{
    apr_time_t sent = apr_time_now();
    PGresult *result =
        is_sent ? reg_async_receive(connection->pg, deadline_of(call)) : NULL;
    reg_verdict_t verdict = judge_result(call, result, sent, 0);

    PQclear(result);
    return verdict;
}

/*
 * Prepared statements
 */

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

/* Prepares the operation unless the connection has it. */
static reg_verdict_t prepare_operation(const reg_call_t *call,
                                       reg_connection_t *connection)
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
    /* The lock timeout is set for this transaction only, as other modules may use the
     * session. A condition without a column is evaluated before the function is
     * called. */
    statement = apr_psprintf(call->pool,
                             "SELECT item, outcome, detail, body FROM registration.%s%s) "
                             "WHERE (SELECT set_config('lock_timeout', $%d, true)) "
                             "IS NOT NULL",
                             function, placeholders, operation->parameters + 1);
    verdict = complete_command(
        call, connection,
        PQsendPrepare(connection->pg, operation->name, statement, 0, NULL));
    if (verdict == REG_CALL_DONE && connection->prepared_count < REG_MAX_OPERATIONS) {
        connection->prepared[connection->prepared_count++] = operation;
    }
    return verdict;
}

/* Deallocates the operation's statement, whether or not the session has it. */
static reg_verdict_t deallocate_operation(const reg_call_t *call,
                                          reg_connection_t *connection)
{
    const char *name = call->operation->name;
    reg_verdict_t verdict = complete_command(
        call, connection,
        PQsendQuery(connection->pg, apr_psprintf(call->pool, "DEALLOCATE \"%s\"", name)));

    for (int i = 0; i < connection->prepared_count; i++) {
        if (connection->prepared[i] == call->operation) {
            connection->prepared[i] = connection->prepared[--connection->prepared_count];
        }
    }
    return verdict == REG_CALL_UNPREPARED ? REG_CALL_DONE : verdict;
}

/*
 * Calls
 */

/* A column of a row, copied into the pool; NULL for SQL NULL. */
static const char *copy_column(apr_pool_t *pool, const PGresult *result, int row,
                               int column)
{
    return PQgetisnull(result, row, column)
               ? NULL
               : apr_pstrmemdup(pool, PQgetvalue(result, row, column),
                                (apr_size_t)PQgetlength(result, row, column));
}

/* Sets each request's answer from its row. A request without a row, or with an unknown
 * outcome, is answered REG_FAULT. */
static void set_answers(const reg_call_t *call, const PGresult *result)
{
    int answered = 0;

    reg_execute_answer(call, REG_FAULT);
    for (int row = 0; row < PQntuples(result); row++) {
        apr_int64_t number = apr_atoi64(PQgetvalue(result, row, 0));

        if (number >= 1 && number <= call->count) {
            reg_item_t *item = call->items[number - 1];

            item->answer.outcome = reg_outcome_from_name(PQgetvalue(result, row, 1));
            item->answer.detail = copy_column(item->pool, result, row, 2);
            item->answer.body = copy_column(item->pool, result, row, 3);
            answered += item->answer.outcome != REG_FAULT;
        }
    }
    if (answered < call->count) {
        reg_execute_report(
            call, apr_psprintf(call->pool,
                               "REG0306: operation %s returned %d results for %d "
                               "requests, schema version mismatch?; returning 500",
                               call->operation->name, answered, call->count));
    }
}

static void set_in_doubt(const reg_call_t *call)
{
    for (int i = 0; i < call->count; i++) {
        call->items[i]->in_doubt = 1;
    }
}

/* Waits for the result until the call's limit. A limit after the deadline is none: no
 * time is left to cancel the call. @return whether the limit has been exceeded. */
static int is_limit_exceeded(const reg_call_t *call, PGconn *pg, apr_time_t sent)
{
    return call->limit && sent + call->limit < deadline_of(call)
           && reg_async_is_busy_until(pg, sent + call->limit);
}

/* Cancels the call's statement from another connection, if one is available soon. Then
 * PostgreSQL rolls the call back, which releases its locks, and reports that. */
static void cancel_call(const reg_call_t *call, const reg_connection_t *connection)
{
    const reg_connections_t *from = call->connections;
    apr_time_t deadline = MIN(apr_time_now() + CANCELLING_TIME, deadline_of(call));
    reg_connection_t *other = from->checkout(from->baton, deadline);
    const char *statement = apr_psprintf(call->pool, "SELECT pg_cancel_backend(%d)",
                                         PQbackendPID(connection->pg));

    if (other) {
        PQclear(PQsendQuery(other->pg, statement) ? reg_async_receive(other->pg, deadline)
                                                  : NULL);
        from->checkin(from->baton, other);
    }
}

/* Makes the call on a connection, once. */
static reg_verdict_t execute_once(const reg_call_t *call, reg_connection_t *connection)
{
    const char *values[REG_MAX_PARAMETERS + 1];
    int count = call->operation->parameters;
    reg_verdict_t verdict = prepare_operation(call, connection);
    int is_sent, was_cancelled;
    apr_time_t sent;
    PGresult *result;

    if (verdict != REG_CALL_DONE) {
        return verdict;
    }
    for (int i = 0; i < count; i++) {
        values[i] = format_array(call, i);
    }
    values[count] = apr_itoa(call->pool, call->lock_timeout);
    connection->is_unreplicated = 0;
    sent = apr_time_now();
    is_sent = PQsendQueryPrepared(connection->pg, call->operation->name, count + 1,
                                  values, NULL, NULL, 0);
    was_cancelled = is_sent && is_limit_exceeded(call, connection->pg, sent);
    if (was_cancelled) {
        cancel_call(call, connection);
    }
    result = is_sent ? reg_async_receive(connection->pg, deadline_of(call)) : NULL;
    reg_metrics_call(call->connections->metrics, apr_time_now() - sent);
    verdict = judge_result(call, result, sent, was_cancelled);
    if (verdict == REG_CALL_DONE && connection->is_unreplicated) {
        reg_execute_report(
            call, apr_psprintf(call->pool,
                               "REG0307: operation %s was committed without the "
                               "synchronous standby; retrying on another connection",
                               call->operation->name));
        verdict = REG_CALL_BROKEN;
    }
    if (verdict == REG_CALL_DONE) {
        set_answers(call, result);
    }
    else if (verdict == REG_CALL_BROKEN) {
        set_in_doubt(call);
    }
    else if (verdict == REG_CALL_FAULT) {
        connection->is_schema_known = 0; /* the schema may have been dropped */
    }
    PQclear(result);
    return verdict;
}

reg_verdict_t reg_execute(reg_connection_t *connection, const reg_call_t *call)
{
    reg_verdict_t verdict = execute_once(call, connection);

    if (verdict == REG_CALL_UNPREPARED) {
        verdict = deallocate_operation(call, connection);
        if (verdict == REG_CALL_DONE) {
            verdict = execute_once(call, connection);
        }
    }
    if (verdict == REG_CALL_BROKEN || verdict == REG_CALL_UNPREPARED) {
        /* The server may have kept the connection open: a read-only one does. */
        shutdown(PQsocket(connection->pg), SHUT_RDWR);
    }
    return verdict;
}
