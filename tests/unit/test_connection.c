/* SPDX-License-Identifier: Apache-2.0 */

/* Calls on a connection that is lost, slow, or in another state than expected. */

#include "retry_fixture.h"

#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>

/* The timeout of a call that takes too long, and the time by which it must be
 * answered. */
#define TIMEOUT apr_time_from_msec(900)
#define PROMPTLY apr_time_from_sec(5)

/* A script that takes longer than any timeout here. */
#define SLOW "SELECT $1, 'created', NULL, pg_sleep(6)::text"

static int backend(const database_t *database)
{
    return PQbackendPID(database->connection.pg);
}

/* Terminates the service's session and waits until it has ended. */
static void terminate_backend(database_t *database)
{
    sql(database->administrator,
        apr_psprintf(database->pool, "SELECT pg_terminate_backend(%d, 5000)",
                     backend(database)));
}

/*
 * Preparing
 */

static void operation_called_often_is_prepared_once(void **state)
{
    static const reg_operation_t echo = {.name = "echo", .parameters = 2};
    static const char *const values[] = {"d", "b"};
    const char *const *batch[] = {values};
    database_t *database = *state;

    for (int i = 0; i < 5; i++) {
        assert_text("run", run(database, SOON, CREATED), "created");
        assert_int_equal(call(database, &echo, batch, 1, SOON)->outcome, REG_FOUND);
    }
    assert_int_equal(sql_number(database->connection.pg,
                                "SELECT count(*) FROM pg_prepared_statements"),
                     2);
}

/* Changes by other clients to a session or its prepared statements between two calls. */
static void deallocated_statement_is_prepared_again(void **state)
{
    static const struct {
        const char *by_service, *by_administrator;
    } rows[] = {
        {"DEALLOCATE ALL", NULL},
        {"DISCARD ALL", NULL},
        {"DEALLOCATE run", NULL},
        /* Cached plan must not change result type. */
        {NULL, "ALTER FUNCTION registration.run RENAME TO old_run;"
               "CREATE FUNCTION registration.run(scripts text[])"
               "    RETURNS TABLE (item bigint, outcome varchar, detail text, body json)"
               "    LANGUAGE sql AS"
               "    $$ SELECT 1::bigint, 'created'::varchar, NULL, NULL::json $$"},
        {NULL, "DROP FUNCTION registration.run;"
               "ALTER FUNCTION registration.old_run RENAME TO run"},
    };
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row =
            rows[i].by_service ? rows[i].by_service : rows[i].by_administrator;

        assert_text(row, run(database, SOON, CREATED), "created");
        if (rows[i].by_service) {
            sql(database->connection.pg, rows[i].by_service);
        }
        else {
            sql(database->administrator, rows[i].by_administrator);
        }
        assert_text(row, run(database, SOON, CREATED), "created");
        assert_text(row, run(database, SOON, CREATED), "created");
    }
    assert_text("reports", database->reports, "");
}

static void statement_name_in_use_is_replaced(void **state)
{
    database_t *database = *state;

    sql(database->connection.pg, "PREPARE run AS SELECT 1");
    assert_text("call", run(database, SOON, CREATED), "created");
}

static void failed_prepare_is_retried_by_next_call(void **state)
{
    static const reg_operation_t late = {.name = "late", .parameters = 1};
    static const char *const values[] = {"x"};
    const char *const *batch[] = {values};
    database_t *database = *state;

    assert_int_equal(call(database, &late, batch, 1, SOON)->outcome, REG_FAULT);
    assert_non_null(strstr(database->reports, "42883"));
    assert_text("another", run(database, SOON, CREATED), "created");
    sql(database->administrator,
        "CREATE FUNCTION registration.late(text[])"
        "    RETURNS TABLE (item integer, outcome text, detail text, body text)"
        "    LANGUAGE sql AS $$ SELECT 1, 'updated', NULL, NULL $$");
    assert_int_equal(call(database, &late, batch, 1, SOON)->outcome, REG_UPDATED);
}

/*
 * Connections that are lost
 */

static void connection_lost_before_call_is_reconnected(void **state)
{
    database_t *database = *state;

    for (int i = 0; i < 3; i++) {
        assert_text("call", run(database, SOON, CREATED), "created");
        terminate_backend(database);
    }
    assert_text("call", run(database, SOON, CREATED), "created");

    shutdown(PQsocket(database->connection.pg), SHUT_RDWR);
    assert_text("cut here", run(database, SOON, CREATED), "created");
}

static void connection_inside_transaction_is_reconnected(void **state)
{
    static const char *const left[] = {"BEGIN", "BEGIN; SELECT 1/0"};
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(left); i++) {
        PQclear(PQexec(database->connection.pg, left[i]));
        assert_text(
            left[i],
            run(database, SOON,
                "INSERT INTO marks VALUES (1) RETURNING $1, 'created', NULL, NULL"),
            "created");
        assert_number(left[i],
                      sql_number(database->administrator, "SELECT count(*) FROM marks"),
                      1);
        sql(database->administrator, "DELETE FROM marks");
    }
}

static void connection_with_pending_notification_is_usable(void **state)
{
    database_t *database = *state;
    int before;

    assert_text("before", run(database, SOON, CREATED), "created");
    before = backend(database);
    sql(database->connection.pg, "LISTEN rumour");
    sql(database->administrator, "NOTIFY rumour");
    apr_sleep(apr_time_from_msec(100));
    assert_text("after", run(database, SOON, CREATED), "created");
    assert_int_equal(backend(database), before);
}

/* Terminates or disconnects the session during a call. */
static void *terminate_soon(void *data)
{
    database_t *database = data;

    apr_sleep(TIMEOUT);
    PQclear(PQexec(database->administrator,
                   "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                   " WHERE usename = 'registration' AND datname = current_database()"));
    return NULL;
}

static void *cut_soon(void *data)
{
    apr_sleep(TIMEOUT);
    shutdown(*(const int *)data, SHUT_RDWR);
    return NULL;
}

/* Takes longer than any timeout here, but only at its first call. */
#define SLOW_ONCE                                                                        \
    "SELECT $1, 'created', NULL, CASE WHEN (SELECT last_value FROM runs) = 1"            \
    " THEN pg_sleep(6)::text END"

static void call_on_broken_connection_is_retried(void **state)
{
    database_t *database = *state;
    pthread_t thread;
    int fd;

    assert_int_equal(0, pthread_create(&thread, NULL, terminate_soon, database));
    assert_text("terminated", run(database, SOON, SLOW_ONCE), "created");
    pthread_join(thread, NULL);
    assert_int_equal(runs(database), 2);

    start_over(database);
    fd = PQsocket(database->connection.pg);
    assert_int_equal(0, pthread_create(&thread, NULL, cut_soon, &fd));
    assert_text("cut", run(database, SOON, SLOW_ONCE), "created");
    pthread_join(thread, NULL);
    assert_int_equal(runs(database), 2);

    start_over(database);
    assert_text("its own doing",
                run(database, SOON,
                    "SELECT $1, 'created', CASE WHEN (SELECT last_value FROM runs) = 1"
                    " THEN pg_terminate_backend(pg_backend_pid())::text END, NULL"),
                "created");
    assert_int_equal(runs(database), 2);
    assert_non_null(strstr(database->reports, "REG0305: operation run: connection lost"));

    start_over(database);
    database->cut_after_checkout = 1;
    assert_text("cut before it was sent", run(database, SOON, CREATED), "created");
    assert_int_equal(runs(database), 1);
}

static void call_breaking_every_connection_ends_at_deadline(void **state)
{
    static const char *const scripts[] = {
        CREATED, "SELECT $1, pg_terminate_backend(pg_backend_pid())::text, NULL, NULL",
        CREATED, NULL};
    database_t *database = *state;
    apr_time_t start = apr_time_now();

    assert_text("batch", run_all(database, apr_time_from_sec(3), scripts),
                "UNAVAILABLE; UNAVAILABLE; UNAVAILABLE");
    assert_interval(runs(database), 3, 20);
    assert_interval(apr_time_now() - start, 0, PROMPTLY);
}

static void call_without_connection_waits_only_if_in_doubt(void **state)
{
    database_t *database = *state;

    database->refusals_after_break = 3;
    assert_text("sent",
                run(database, SOON,
                    "SELECT $1, 'created', CASE WHEN (SELECT last_value FROM runs) = 1"
                    " THEN pg_terminate_backend(pg_backend_pid())::text END, NULL"),
                "created");
    assert_int_equal(runs(database), 2);
    assert_int_equal(database->refusals, 0);

    database->refusals = 3;
    assert_text("not sent", run(database, SOON, CREATED), "UNAVAILABLE");
    assert_int_equal(runs(database), 2);
    assert_int_equal(database->refusals, 2);
}

static void call_without_connection_is_unavailable(void **state)
{
    database_t *database = *state;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int unused = socket(AF_INET, SOCK_STREAM, 0); /* bound, but not listening */

    assert_int_equal(0, bind(unused, (struct sockaddr *)&address, length));
    getsockname(unused, (struct sockaddr *)&address, &length);
    PQfinish(database->connection.pg);
    database->connection.pg =
        PQconnectdb(apr_psprintf(database->pool, "host=127.0.0.1 port=%d user=x dbname=x",
                                 ntohs(address.sin_port)));

    assert_false(reg_connection_refresh(&database->connection));
    assert_text("call", run(database, SOON, CREATED), "UNAVAILABLE");
    assert_int_equal(database->checkouts, 0);
    assert_text("reports", database->reports, "");
    close(unused);
}

/* A session sees a read-only server as it sees a standby. */
static void write_on_read_only_server_is_unavailable(void **state)
{
    database_t *database = *state;

    sql(database->administrator, apr_psprintf(database->pool,
                                              "ALTER ROLE registration IN DATABASE %s SET"
                                              " default_transaction_read_only = on",
                                              database_name(database->pool)));
    PQreset(database->connection.pg);
    assert_text("write",
                run(database, TIMEOUT,
                    "INSERT INTO marks VALUES (1) RETURNING $1, 'created', NULL, NULL"),
                "UNAVAILABLE");
    sql(database->administrator,
        apr_psprintf(database->pool,
                     "ALTER ROLE registration IN DATABASE %s RESET"
                     " default_transaction_read_only",
                     database_name(database->pool)));
}

/*
 * Deadlines
 */

/* Runs scripts that cannot end in time, and measures the time. */
static void assert_late(database_t *database, const char *row, const char *const *scripts,
                        const char *answers)
{
    apr_time_t start = apr_time_now();

    assert_text(row, run_all(database, TIMEOUT, scripts), answers);
    assert_number(row, apr_time_now() - start < PROMPTLY, 1);
}

static void slow_call_is_unavailable_at_deadline(void **state)
{
    static const char *const slow[] = {SLOW, NULL};
    static const char *const slow_batch[] = {CREATED, SLOW, CREATED, NULL};
    static const char *const locked[] = {
        "UPDATE marks SET value = 1 RETURNING $1, 'updated', NULL, NULL", NULL};
    /* The deadline passes while its requests are retried one by one. */
    static const char *const refused[] = {"SELECT $1, fail('22000'), NULL, NULL",
                                          "SELECT $1, pg_sleep(0.2)::text, NULL, NULL",
                                          SLOW, CREATED, NULL};
    database_t *database = *state;

    assert_late(database, "slow", slow, "UNAVAILABLE");
    assert_text("afterwards", run(database, SOON, CREATED), "created");
    assert_late(database, "batch", slow_batch, "UNAVAILABLE; UNAVAILABLE; UNAVAILABLE");
    assert_text("afterwards", run(database, SOON, CREATED), "created");
    assert_late(database, "one by one", refused,
                "BAD_DATA; FAULT; UNAVAILABLE; UNAVAILABLE");

    sql(database->administrator, "INSERT INTO marks VALUES (1, 0)");
    sql(database->administrator, "BEGIN; UPDATE marks SET value = 2");
    assert_late(database, "locked", locked, "LOCKED");
    sql(database->administrator, "COMMIT");
    assert_text("afterwards", run(database, SOON, CREATED), "created");
}

static void call_after_deadline_is_unavailable(void **state)
{
    database_t *database = *state;
    apr_time_t start = apr_time_now();

    assert_text("past", run(database, -SOON, CREATED), "UNAVAILABLE");
    assert_interval(apr_time_now() - start, 0, PROMPTLY);
    assert_text("afterwards", run(database, SOON, CREATED), "created");
}

/* Calls on a connection that is already held. */
static void call_held(const reg_call_t *call)
{
    *call->held = call->connections->checkout(call->connections->baton, call->start_by);
    reg_retry_call(call);
}

/* It would be cut off, which costs the connection. */
static void call_without_time_is_not_sent(void **state)
{
    static const char *const values[] = {CREATED};
    const char *const *batch[] = {values};
    database_t *database = *state;
    int before, checkouts;

    assert_text("before", run(database, SOON, CREATED), "created");
    before = backend(database);
    checkouts = database->checkouts;
    assert_text("no time", run(database, REG_CALL_TIME / 3, CREATED), "UNAVAILABLE");
    assert_int_equal(database->checkouts, checkouts);
    assert_number(
        "held",
        call_as(call_held, database, &run_operation, batch, 1, REG_CALL_TIME / 3)
            ->outcome,
        REG_UNAVAILABLE);
    assert_int_equal(runs(database), 1);
    assert_text("afterwards", run(database, SOON, CREATED), "created");
    assert_int_equal(backend(database), before);
}

/* With client_connection_check_interval the server cancels a call whose client is
 * gone. */
static void call_at_deadline_is_disconnected(void **state)
{
    database_t *database = *state;
    apr_time_t start = apr_time_now();
    const char *alive = apr_psprintf(
        database->pool, "SELECT count(*) FROM pg_stat_activity WHERE pid = %d",
        backend(database));

    sql(database->connection.pg, "SET client_connection_check_interval = 100");
    assert_text("late", run(database, TIMEOUT, SLOW), "UNAVAILABLE");
    while (sql_number(database->administrator, alive) > 0) {
        assert_interval(apr_time_now() - start, 0, PROMPTLY);
        apr_sleep(apr_time_from_msec(20));
    }
}

/* Like a machine that has stopped answering without closing its connections. */
static void frozen_server_is_unavailable_at_deadline(void **state)
{
    database_t *database = *state;
    const char *const scripts[] = {CREATED, NULL};
    /* More than the socket buffers hold, so that sending blocks. */
    const char *const large[] = {apr_pstrcat(database->pool, CREATED " -- ",
                                             repeated(database->pool, "x", 32000000),
                                             NULL),
                                 NULL};
    const struct {
        const char *row;
        const char *const *scripts;
        int prepared;
    } rows[] = {
        {"reading", scripts, 1}, {"writing", large, 1}, {"preparing", scripts, 0}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        int frozen;

        assert_true(reg_connection_refresh(&database->connection));
        if (rows[i].prepared) {
            assert_text(rows[i].row, run(database, SOON, CREATED), "created");
        }
        frozen = backend(database);
        kill(frozen, SIGSTOP);
        assert_late(database, rows[i].row, rows[i].scripts, "UNAVAILABLE");
        /* The next call does not wait for the frozen one to go on. */
        assert_text(rows[i].row, run(database, PROMPTLY, CREATED), "created");
        kill(frozen, SIGCONT);
        assert_int_not_equal(backend(database), frozen);
        terminate_backend(
            database); /* so that the next row starts without prepared statements */
    }
}

static void call_committed_after_deadline_is_not_repeated(void **state)
{
    static const char *const scripts[] = {
        "INSERT INTO marks SELECT 1, 1 FROM pg_sleep(1) RETURNING $1, 'created', NULL, "
        "NULL",
        NULL};
    database_t *database = *state;

    assert_late(database, "late", scripts, "UNAVAILABLE");
    apr_sleep(apr_time_from_msec(1500));
    assert_int_equal(runs(database), 1);
    assert_int_equal(sql_number(database->administrator, "SELECT count(*) FROM marks"),
                     1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RETRY_TEST(operation_called_often_is_prepared_once),
        RETRY_TEST(deallocated_statement_is_prepared_again),
        RETRY_TEST(statement_name_in_use_is_replaced),
        RETRY_TEST(failed_prepare_is_retried_by_next_call),
        RETRY_TEST(connection_lost_before_call_is_reconnected),
        RETRY_TEST(connection_inside_transaction_is_reconnected),
        RETRY_TEST(connection_with_pending_notification_is_usable),
        RETRY_TEST(call_on_broken_connection_is_retried),
        RETRY_TEST(call_breaking_every_connection_ends_at_deadline),
        RETRY_TEST(call_without_connection_waits_only_if_in_doubt),
        RETRY_TEST(call_without_connection_is_unavailable),
        RETRY_TEST(write_on_read_only_server_is_unavailable),
        RETRY_TEST(slow_call_is_unavailable_at_deadline),
        RETRY_TEST(call_after_deadline_is_unavailable),
        RETRY_TEST(call_without_time_is_not_sent),
        RETRY_TEST(call_at_deadline_is_disconnected),
        RETRY_TEST(frozen_server_is_unavailable_at_deadline),
        RETRY_TEST(call_committed_after_deadline_is_not_repeated),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
