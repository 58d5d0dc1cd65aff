/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_RETRY_FIXTURE_H
#define REGISTRATION_RETRY_FIXTURE_H

/**
 * A database for the tests of the database, with one operation: run(scripts), whose
 * requests are queries, each of which gives its own answer. So a test says in one line of
 * SQL what the database is to do to it:
 *
 *     SELECT $1, 'created', NULL, NULL
 *
 * $1 is the request's number. The database is the test program's own, made beside the one
 * of REGISTRATION_DSN, and logs nothing, because most of what happens in it is an error.
 */

#include "unit.h"

#include "retry.h"

#include <libpq-fe.h>
#include <sys/socket.h>
#include <unistd.h>

#define CREATED "SELECT $1, 'created', NULL, NULL"
#define NOTHING "SELECT $1, NULL, NULL, NULL WHERE false"

/** Time enough for whatever ought to be quick. */
#define SOON apr_time_from_sec(20)

static const reg_operation_t run_operation = {
    .name = "run", .parameters = 1, .audited = 1};

/** A database with one connection, as reg_connections_t has it. */
typedef struct {
    apr_pool_t *pool;
    PGconn *administrator;
    reg_connection_t connection; /* the service's */
    reg_connections_t connections;
    int checked_out, checkouts;
    int cut_after_checkout;   /* the next connection is dead when it is handed out */
    int refusals;             /* how many of the next checkouts give nothing */
    int refusals_after_break; /* how many do once a connection has broken */
    const char *reports;      /* all of them, one behind the other */
} database_t;

static inline void sql(PGconn *pg, const char *text)
{
    PGresult *result = PQexec(pg, text);

    if (PQresultStatus(result) != PGRES_COMMAND_OK
        && PQresultStatus(result) != PGRES_TUPLES_OK) {
        print_error("%s\n%s", text, PQerrorMessage(pg));
        fail();
    }
    PQclear(result);
}

/** The number that a query gives. */
static inline int sql_number(PGconn *pg, const char *text)
{
    PGresult *result = PQexec(pg, text);
    int number;

    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    number = atoi(PQgetvalue(result, 0, 0));
    PQclear(result);
    return number;
}

/*
 * The database
 */

static const char schema_of_the_tests[] =
    "CREATE SCHEMA registration;"
    "GRANT USAGE ON SCHEMA registration TO registration;"

    "CREATE SEQUENCE runs;"
    "CREATE TABLE marks (id integer CONSTRAINT marks_pkey PRIMARY KEY,"
    "                    value integer CONSTRAINT marks_value_check CHECK (value >= 0));"

    "CREATE FUNCTION registration.run(scripts text[])"
    "    RETURNS TABLE (item integer, outcome text, detail text, body text)"
    "    LANGUAGE plpgsql AS $$ BEGIN"
    "    PERFORM nextval('runs');"
    "    FOR i IN 1 .. cardinality(scripts) LOOP"
    "        RETURN QUERY EXECUTE scripts[i] USING i;"
    "    END LOOP; END $$;"

    /* Returns its arguments, element by element. */
    "CREATE FUNCTION registration.echo(details text[], bodies text[])"
    "    RETURNS TABLE (item integer, outcome text, detail text, body text)"
    "    LANGUAGE sql AS $$"
    "    SELECT n::integer, 'found', d, b"
    "      FROM unnest(details, bodies) WITH ORDINALITY AS e (d, b, n) $$;"

    /* Fails with an SQLSTATE, in the first so many calls or always. */
    "CREATE FUNCTION fail(state text, times integer = 1000) RETURNS text"
    "    LANGUAGE plpgsql AS $$ BEGIN"
    "    IF (SELECT last_value FROM runs) <= times THEN"
    "        RAISE EXCEPTION 'SECRET' USING ERRCODE = state, DETAIL = 'SECRET';"
    "    END IF;"
    "    RETURN 'created'; END $$;"

    /* Sends a warning, which flushes the server's output buffer. */
    "CREATE FUNCTION tell() RETURNS void LANGUAGE plpgsql AS"
    "    $$ BEGIN RAISE WARNING 'SECRET'; END $$;"

    /* Lasts as long as there is a row in the table. */
    "CREATE TABLE stalled ();"
    "CREATE FUNCTION stall() RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
    "    WHILE EXISTS (SELECT FROM stalled) LOOP PERFORM pg_sleep(0.005); END LOOP;"
    "    RETURN NULL; END $$;"

    /* Runs a query when the transaction is about to be committed. */
    "CREATE TABLE at_commit (script text);"
    "CREATE FUNCTION run_at_commit() RETURNS trigger"
    "    LANGUAGE plpgsql AS $$ BEGIN EXECUTE NEW.script; RETURN NULL; END $$;"
    "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON at_commit"
    "    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION run_at_commit();"

    /* Tells what it is to run, and with what. */
    "CREATE FUNCTION registration.idempotent(operation text, keys text[],"
    "                                        VARIADIC arguments text[])"
    "    RETURNS TABLE (item integer, outcome text, detail text, body text)"
    "    LANGUAGE sql AS $$"
    "    SELECT n::integer, 'created', operation, k || arguments::text"
    "      FROM unnest(keys) WITH ORDINALITY AS e (k, n) $$;"

    "GRANT ALL ON ALL TABLES IN SCHEMA public TO registration;"
    "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO registration;";

static inline const char *database_name(apr_pool_t *pool)
{
    return apr_psprintf(pool, "unit_retry_%d", (int)getpid());
}

/** An administrator's connection, to the database of the tests or to another. */
static inline PGconn *connect_administrator(apr_pool_t *pool, const char *database)
{
    const char *dsn = database ? apr_pstrcat(pool, "dbname=", database, NULL) : "";
    PGconn *pg = PQconnectdb(dsn);

    if (!getenv("REGISTRATION_DSN") || PQstatus(pg) != CONNECTION_OK) {
        print_error("This test needs a PostgreSQL of its own:\n"
                    "    python3 tests/with_postgres.py …\n%s",
                    PQerrorMessage(pg));
        fail();
    }
    return pg;
}

static inline int make_database(void **state)
{
    apr_pool_t *pool;
    const char *name;
    PGconn *pg;

    unit_start(state);
    apr_pool_create(&pool, NULL);
    name = database_name(pool);
    pg = connect_administrator(pool, NULL);
    sql(pg, apr_pstrcat(pool, "CREATE DATABASE ", name, NULL));
    sql(pg, apr_pstrcat(pool, "ALTER DATABASE ", name, " SET log_min_messages = panic",
                        NULL));
    /* Of two that deadlock, the service's call is the one to be sacrificed. */
    sql(pg, apr_pstrcat(pool, "ALTER ROLE registration IN DATABASE ", name,
                        " SET deadlock_timeout = '20ms'", NULL));
    PQfinish(pg);

    pg = connect_administrator(pool, name);
    sql(pg, schema_of_the_tests);
    PQfinish(pg);
    apr_pool_destroy(pool);
    return 0;
}

static inline int drop_database(void **state)
{
    apr_pool_t *pool;
    PGconn *pg;

    apr_pool_create(&pool, NULL);
    pg = connect_administrator(pool, NULL);
    sql(pg,
        apr_pstrcat(pool, "DROP DATABASE ", database_name(pool), " WITH (FORCE)", NULL));
    PQfinish(pg);
    apr_pool_destroy(pool);
    return unit_stop(state);
}

/*
 * The database
 */

static inline reg_connection_t *fixture_checkout(void *baton, apr_time_t deadline)
{
    database_t *database = baton;

    (void)deadline;
    if (database->refusals) {
        database->refusals--;
        return NULL;
    }
    if (!reg_connection_refresh(&database->connection)) {
        return NULL;
    }
    if (database->cut_after_checkout) {
        database->cut_after_checkout = 0;
        shutdown(PQsocket(database->connection.pg), SHUT_RDWR);
    }
    assert_int_equal(database->checked_out++, 0);
    database->checkouts++;
    return &database->connection;
}

static inline void fixture_checkin(void *baton, reg_connection_t *connection)
{
    database_t *database = baton;

    assert_ptr_equal(connection, &database->connection);
    assert_int_equal(database->checked_out--, 1);
    if (PQstatus(connection->pg) != CONNECTION_OK) {
        database->refusals = database->refusals_after_break;
    }
}

static inline void fixture_report(void *baton, const char *message)
{
    database_t *database = baton;

    database->reports =
        apr_pstrcat(database->pool, database->reports, message, "\n", NULL);
}

/** As if nothing had been called yet. Waits for no backend that still is at something. */
static inline void start_over(database_t *database)
{
    sql(database->administrator,
        "SELECT setval('runs', 1, false); DELETE FROM marks; DELETE FROM at_commit;"
        "DELETE FROM stalled");
}

/* mod_dbd's driver ignores them as well. */
static inline void ignore_notice(void *data, const char *message)
{
    (void)data;
    (void)message;
}

/** A connection of the service's to the database of the tests. */
static inline PGconn *connect_service(apr_pool_t *pool)
{
    /* The last name of a connection string counts. */
    PGconn *pg = PQconnectdb(apr_pstrcat(pool, getenv("REGISTRATION_DSN"),
                                         " dbname=", database_name(pool), NULL));

    PQsetNoticeProcessor(pg, ignore_notice, NULL);
    return pg;
}

static inline int make_retry_fixture(void **state)
{
    apr_pool_t *pool;
    database_t *database;
    const char *name;

    apr_pool_create(&pool, NULL);
    name = database_name(pool);
    database = *state = apr_pcalloc(pool, sizeof(*database));
    database->pool = pool;
    database->reports = "";
    database->connections = (reg_connections_t){
        fixture_checkout, fixture_checkin, fixture_report, database, NULL, NULL};
    database->administrator = connect_administrator(pool, name);
    database->connection.pg = connect_service(pool);
    start_over(database);
    return 0;
}

static inline int destroy_retry_fixture(void **state)
{
    database_t *database = *state;
    int held = database->checked_out;

    PQfinish(database->connection.pg);
    PQfinish(database->administrator);
    apr_pool_destroy(database->pool);
    return held; /* whatever is checked out is checked in again */
}

#define RETRY_TEST(function)                                                             \
    cmocka_unit_test_setup_teardown(function, make_retry_fixture, destroy_retry_fixture)

/*
 * Calls
 */

static inline const char *outcome_name(reg_outcome_t outcome)
{
    static const char *const names[] = {
        [REG_CREATED] = "created",
        [REG_FOUND] = "found",
        [REG_MORE] = "more",
        [REG_UPDATED] = "updated",
        [REG_DELETED] = "deleted",
        [REG_NOT_FOUND] = "not_found",
        [REG_NOT_JOINABLE] = "not_joinable",
        [REG_DUPLICATE] = "duplicate",
        [REG_FULL] = "full",
        [REG_NO_WAITING_LIST] = "no_waiting_list",
        [REG_CHANGED] = "changed",
        [REG_INVALID] = "invalid",
        [REG_CHILDREN_UNKNOWN] = "children_unknown",
        [REG_INSTITUTION_UNKNOWN] = "institution_unknown",
        [REG_ACCEPTABLE] = "acceptable",
        [REG_KEY_REUSED] = "key_reused",
        [REG_BAD_DATA] = "BAD_DATA",
        [REG_LOCKED] = "LOCKED",
        [REG_UNAVAILABLE] = "UNAVAILABLE",
        [REG_FAULT] = "FAULT",
    };

    return names[outcome];
}

/** A function that makes a call. */
typedef void call_function_t(const reg_call_t *call);

/** Calls an operation for `count` requests by one of the functions. @return the answers.
 */
static inline const reg_answer_t *call_as(call_function_t *function, database_t *database,
                                          const reg_operation_t *operation,
                                          const char *const *const *values, int count,
                                          apr_interval_time_t timeout)
{
    reg_item_t *items = apr_pcalloc(database->pool, (size_t)count * sizeof(*items));
    reg_item_t **list = apr_pcalloc(database->pool, (size_t)count * sizeof(*list));
    reg_answer_t *answers = apr_pcalloc(database->pool, (size_t)count * sizeof(*answers));
    reg_connection_t *held = NULL;

    for (int i = 0; i < count; i++) {
        items[i] = (reg_item_t){.values = values[i],
                                .pool = database->pool,
                                .answer = {REG_FAULT, "unset", "unset"}};
        list[i] = &items[i];
    }
    function(&(reg_call_t){.connections = &database->connections,
                           .pool = database->pool,
                           .operation = operation,
                           .items = list,
                           .count = count,
                           .start_by = apr_time_now() + timeout - REG_CALL_TIME,
                           .held = &held});
    if (held) {
        fixture_checkin(database, held);
    }
    for (int i = 0; i < count; i++) {
        answers[i] = items[i].answer;
    }
    return answers;
}

static inline const reg_answer_t *call(database_t *database,
                                       const reg_operation_t *operation,
                                       const char *const *const *values, int count,
                                       apr_interval_time_t timeout)
{
    return call_as(reg_retry_call, database, operation, values, count, timeout);
}

/**
 * Runs scripts, up to NULL, as the requests of one call.
 * @return their answers: "created detail body", a missing detail or body left out, and
 *         "; " between them.
 */
static inline const char *run_all(database_t *database, apr_interval_time_t timeout,
                                  const char *const *scripts)
{
    const char *const *values[16] = {NULL};
    const char *text = "";
    const reg_answer_t *answers;
    int count = 0;

    for (; scripts[count]; count++) {
        values[count] = &scripts[count];
    }
    answers = call(database, &run_operation, values, count, timeout);
    for (int i = 0; i < count; i++) {
        text = apr_pstrcat(
            database->pool, text, i ? "; " : "", outcome_name(answers[i].outcome),
            answers[i].detail ? " " : "", answers[i].detail ? answers[i].detail : "",
            answers[i].body ? " " : "", answers[i].body ? answers[i].body : "", NULL);
    }
    return text;
}

/** The same for a single script. */
static inline const char *run(database_t *database, apr_interval_time_t timeout,
                              const char *script)
{
    const char *const scripts[] = {script, NULL};

    return run_all(database, timeout, scripts);
}

/** How often run() was called in the database. */
static inline int runs(database_t *database)
{
    return sql_number(database->administrator,
                      "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM runs");
}

#endif
