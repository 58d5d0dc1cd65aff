/* SPDX-License-Identifier: Apache-2.0 */

/* Answers and errors of PostgreSQL. Lost connections and deadlines are in
 * test_connection.c, conflicts and locks in test_retry_conflicts.c. */

#include "retry_fixture.h"

/*
 * Answers
 */

static void outcome_has_name_in_sql(void **state)
{
    static const char *const names[] = {"created",
                                        "found",
                                        "more",
                                        "updated",
                                        "deleted",
                                        "full",
                                        "not_joinable",
                                        "duplicate",
                                        "not_found",
                                        "no_waiting_list",
                                        "changed",
                                        "invalid",
                                        "children_unknown",
                                        "institution_unknown",
                                        "acceptable",
                                        "key_reused"};
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(names); i++) {
        assert_text(
            names[i],
            run(database, SOON,
                apr_psprintf(database->pool, "SELECT $1, '%s', NULL, NULL", names[i])),
            names[i]);
    }
    assert_text("reports", database->reports, "");
}

/* Some requests of one call, and the answer to each. */
static const struct {
    const char *scripts[5];
    const char *answers;
    int faults; /* whether a message is logged */
} batches[] = {
    {{CREATED}, "created", 0},
    {{"SELECT $1, 'found', 'd', '{\"a\" : 1}'"}, "found d {\"a\" : 1}", 0},
    {{"SELECT $1, 'found', 'd', NULL"}, "found d", 0},
    {{"SELECT $1, 'found', '', ''"}, "found  ", 0},
    {{"SELECT $1, 'found', NULL, '\xC3\xA9\xF0\x9F\x98\x80'"},
     "found \xC3\xA9\xF0\x9F\x98\x80",
     0},
    {{CREATED, "SELECT $1, 'full', NULL, NULL", "SELECT $1, 'duplicate', 'x', NULL"},
     "created; full; duplicate x",
     0},

    /* Rows may come in any order; the number counts. */
    {{NOTHING, NOTHING,
      "VALUES ($1, 'full', '3', NULL), (1, 'created', '1', NULL), (2, 'more', '2', "
      "NULL)"},
     "created 1; more 2; full 3",
     0},

    /* A request without a row, or with an invalid one, gets a fault; the other requests
       get their answers. */
    {{CREATED, NOTHING, CREATED}, "created; FAULT; created", 1},
    {{"SELECT $1, 'nonsense', NULL, NULL", CREATED}, "FAULT; created", 1},
    {{"SELECT $1, 'CREATED', NULL, NULL"}, "FAULT", 1},
    {{"SELECT $1, NULL, NULL, NULL"}, "FAULT", 1},
    {{"SELECT NULL::integer, 'created', NULL, NULL"}, "FAULT", 1},
    {{"SELECT 0, 'created', NULL, NULL"}, "FAULT", 1},
    {{"SELECT 2, 'created', NULL, NULL"}, "FAULT", 1},
    {{"SELECT -1, 'created', NULL, NULL", CREATED}, "FAULT; created", 1},
    {{"SELECT 2147483647, 'created', NULL, NULL", CREATED}, "FAULT; created", 1},
};

static void requests_get_answer_with_their_number(void **state)
{
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(batches); i++) {
        database->reports = "";
        assert_text(batches[i].answers, run_all(database, SOON, batches[i].scripts),
                    batches[i].answers);
        assert_number(batches[i].answers, *database->reports != '\0', batches[i].faults);
        assert_null(strchr(database->reports, '\'')); /* nothing of a request */
    }
    assert_int_equal(runs(database), LENGTH(batches));
}

static void values_and_answers_are_unchanged(void **state)
{
    static const reg_operation_t echo = {.name = "echo", .parameters = 2};
    database_t *database = *state;
    const char *const values[] = {
        "plain",
        "",
        NULL,
        "NULL",
        "null",
        " blanks around ",
        "\"quoted\"",
        "back\\slash\\",
        "\\\"",
        "{a,b}",
        ",",
        "{",
        "}",
        "'; DROP TABLE marks; --",
        "$1 %s %n",
        "line\nbreak\ttab",
        "\x01\x1F\x7F",
        "\xC3\xA9 \xE6\x97\xA5 \xF0\x9F\x98\x80",
        repeated(database->pool, "\"\\", 100000),
    };
    const char *const *batch[LENGTH(values)];
    const reg_answer_t *answers;

    for (size_t i = 0; i < LENGTH(values); i++) {
        const char **pair = apr_palloc(database->pool, 2 * sizeof(*pair));

        pair[0] = values[i];
        pair[1] = values[LENGTH(values) - 1 - i];
        batch[i] = pair;
        answers = call(database, &echo, &batch[i], 1, SOON);
        assert_text("alone", answers[0].detail, pair[0]);
        assert_text("alone", answers[0].body, pair[1]);
    }
    answers = call(database, &echo, batch, LENGTH(values), SOON);
    for (size_t i = 0; i < LENGTH(values); i++) {
        assert_number("outcome", answers[i].outcome, REG_FOUND);
        assert_text("together", answers[i].detail, batch[i][0]);
        assert_text("together", answers[i].body, batch[i][1]);
    }
}

/* idempotent() gets the name of the operation, and the parameters after the keys. */
static void keyed_operation_calls_idempotent_with_its_name(void **state)
{
    static const reg_operation_t outer = {
        .name = "echo_under_key", .wrapped = "echo", .parameters = 3};
    database_t *database = *state;
    const char *const values[] = {"key", "a", "b"}, *const others[] = {"other", "c",
                                                                       NULL};
    const char *const *batch[] = {values, others};
    const reg_answer_t *answers = call(database, &outer, batch, 2, SOON);

    assert_text("first", answers[0].detail, "echo");
    assert_text("first", answers[0].body,
                "key{\"{\\\"a\\\",\\\"c\\\"}\",\"{\\\"b\\\",NULL}\"}");
    assert_text("second", apr_pstrmemdup(database->pool, answers[1].body, 5), "other");
}

/* More than the socket buffers hold, in both directions. */
static void large_call_is_answered(void **state)
{
    database_t *database = *state;
    const char *padding = repeated(database->pool, "x", 32000000);

    assert_text(
        "request",
        run(database, SOON, apr_pstrcat(database->pool, CREATED " -- ", padding, NULL)),
        "created");
    assert_int_equal(
        strlen(run(database, SOON, "SELECT $1, 'found', NULL, repeat('x', 32000000)")),
        strlen("found ") + strlen(padding));
}

/* An answer is in the pool of its request, not of the call. */
static void answer_outlives_pool_of_call(void **state)
{
    database_t *database = *state;
    const char *const values[] = {"SELECT $1, 'found', 'detail', 'body'"};
    reg_item_t item = {.values = values, .pool = database->pool};
    reg_item_t *items[] = {&item};
    reg_connection_t *held = NULL;
    apr_pool_t *call_pool;

    apr_pool_create(&call_pool, NULL);
    reg_retry_call(&(reg_call_t){.connections = &database->connections,
                                 .pool = call_pool,
                                 .operation = &run_operation,
                                 .items = items,
                                 .count = 1,
                                 .start_by = apr_time_now() + SOON,
                                 .held = &held});
    fixture_checkin(database, held);
    memset(apr_palloc(call_pool, 4000), 'x', 4000);
    apr_pool_clear(call_pool);
    memset(apr_palloc(call_pool, 8000), 'x', 8000);
    assert_text("detail", item.answer.detail, "detail");
    assert_text("body", item.answer.body, "body");
    apr_pool_destroy(call_pool);
}

/*
 * Failures, by SQLSTATE
 */

/* A call that is retried until its deadline, which is short then. */
#define AGAIN (-1)
#define SOME_TIME apr_time_from_msec(1500)

/* The answer to a call that always fails, and its number of attempts. A message is logged
 * unless the data or a lock is the cause. */
static const struct {
    const char *state;
    const char *outcome;
    int runs;
} verdicts[] = {
    /* A conflict with another transaction: three retries. */
    {"40001", "UNAVAILABLE", 4}, /* serialization_failure */
    {"40P01", "UNAVAILABLE", 4}, /* deadlock_detected */

    /* Prepared again, once. */
    {"26000", "FAULT", 2}, /* invalid_sql_statement_name */
    {"42P05", "FAULT", 2}, /* duplicate_prepared_statement */
    {"0A000", "FAULT", 2}, /* feature_not_supported */

    /* Like a broken connection: retried on another one until the deadline. */
    {"08000", "UNAVAILABLE", AGAIN}, /* connection_exception */
    {"08006", "UNAVAILABLE", AGAIN}, /* connection_failure */
    {"08P01", "UNAVAILABLE", AGAIN}, /* protocol_violation */
    {"25006", "UNAVAILABLE", AGAIN}, /* read_only_sql_transaction */
    {"57P01", "UNAVAILABLE", AGAIN}, /* admin_shutdown */
    {"57P02", "UNAVAILABLE", AGAIN}, /* crash_shutdown */
    {"57P03", "UNAVAILABLE", AGAIN}, /* cannot_connect_now */

    /* Temporary: 503. */
    {"53000", "UNAVAILABLE", 1}, /* insufficient_resources */
    {"53100", "UNAVAILABLE", 1}, /* disk_full */
    {"53200", "UNAVAILABLE", 1}, /* out_of_memory */
    {"53300", "UNAVAILABLE", 1}, /* too_many_connections */
    {"58000", "UNAVAILABLE", 1}, /* system_error */
    {"58030", "UNAVAILABLE", 1}, /* io_error */

    /* Caused by another transaction; batching.c retries. */
    {"55P03", "LOCKED", 1}, /* lock_not_available */
    {"57014", "LOCKED", 1}, /* query_canceled, before any statement_timeout */

    /* The data of the request. */
    {"54000", "BAD_DATA", 1}, /* program_limit_exceeded */
    {"22000", "BAD_DATA", 1}, /* data_exception */
    {"22021", "BAD_DATA", 1}, /* character_not_in_repertoire */
    {"22P02", "BAD_DATA", 1}, /* invalid_text_representation */
    {"23502", "BAD_DATA", 1}, /* not_null_violation */
    {"23503", "BAD_DATA", 1}, /* foreign_key_violation */
    {"23505", "BAD_DATA", 1}, /* unique_violation */
    {"23514", "BAD_DATA", 1}, /* check_violation */

    /* A bug. */
    {"P0001", "FAULT", 1}, /* raise_exception */
    {"42501", "FAULT", 1}, /* insufficient_privilege */
    {"42703", "FAULT", 1}, /* undefined_column */
    {"25P02", "FAULT", 1}, /* in_failed_sql_transaction */
    {"40002", "FAULT", 1}, /* transaction_integrity_constraint_violation */
    {"57000", "FAULT", 1}, /* operator_intervention */
    {"XX000", "FAULT", 1}, /* internal_error */
    {"ZZ999", "FAULT", 1}, /* unassigned */
};

static void failed_call_is_answered_by_sqlstate(void **state)
{
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(verdicts); i++) {
        const char *row = verdicts[i].state;
        int again = verdicts[i].runs == AGAIN;
        apr_interval_time_t time = again ? SOME_TIME : SOON;
        int before;

        do { /* On a busy machine the first call may last until the deadline. */
            before = runs(database);
            database->reports = "";
            assert_text(row,
                        run(database, time,
                            apr_psprintf(database->pool,
                                         "SELECT $1, fail('%s'), NULL, NULL", row)),
                        verdicts[i].outcome);
            time *= 2;
        } while (again && runs(database) - before < 2 && time <= SOON);
        if (again) {
            assert_interval(runs(database) - before, 2, 20 * (time / 2 / SOME_TIME));
        }
        else {
            assert_number(row, runs(database) - before, verdicts[i].runs);
        }
        if (strcmp(verdicts[i].outcome, "BAD_DATA") != 0
            && strcmp(verdicts[i].outcome, "LOCKED") != 0) {
            assert_number(row, strstr(database->reports, "run") != NULL, 1);
            if (again || verdicts[i].runs == 1) {
                assert_number(row, strstr(database->reports, row) != NULL, 1);
            }
            assert_number(row, strstr(database->reports, "SECRET") == NULL, 1);
        }
        else {
            assert_text(row, database->reports, "");
        }
    }
    assert_text("afterwards", run(database, SOON, CREATED), "created");
}

/* A later cancellation may be a statement_timeout and is not retried. */
static void cancellation_after_lock_timeout_is_unavailable(void **state)
{
    database_t *database = *state;
    int before = runs(database);

    assert_string_equal(
        run(database, SOON, "SELECT $1, fail('57014'), NULL, NULL FROM pg_sleep(0.5)"),
        "UNAVAILABLE");
    assert_int_equal(runs(database) - before, 1);
    assert_non_null(strstr(database->reports, "57014"));
}

/* A request that is cancelled or too large fails alone. */
static void cancelled_batch_is_retried_one_by_one(void **state)
{
    static const char *const failing[][2] = {
        {"SELECT $1, fail('57014'), NULL, NULL FROM pg_sleep(0.5)", "UNAVAILABLE"},
        {"SELECT $1, fail('54000'), NULL, NULL", "BAD_DATA"},
        {"SELECT $1, 'found', NULL, repeat('x', 1100000000)", "BAD_DATA"},
    };
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(failing); i++) {
        const char *const scripts[] = {CREATED, failing[i][0], CREATED, NULL};

        assert_text(failing[i][0], run_all(database, SOON, scripts),
                    apr_psprintf(database->pool, "created; %s; created", failing[i][1]));
    }
}

/* Errors of PostgreSQL itself instead of fail(). */
static void request_with_invalid_data_is_bad_data(void **state)
{
    static const struct {
        const char *script, *outcome;
    } rows[] = {
        {"INSERT INTO marks VALUES (1, 1) RETURNING $1, 'created', NULL, NULL",
         "created"},
        {"INSERT INTO marks VALUES (1, 1) RETURNING $1, 'created', NULL, NULL",
         "BAD_DATA"},
        {"INSERT INTO marks VALUES (2, -1) RETURNING $1, 'created', NULL, NULL",
         "BAD_DATA"},
        {"INSERT INTO marks VALUES (NULL) RETURNING $1, 'created', NULL, NULL",
         "BAD_DATA"},
        {"SELECT $1, (1 / ($1 - 1))::text, NULL, NULL", "BAD_DATA"},
        {"SELECT $1, 'x'::uuid::text, NULL, NULL", "BAD_DATA"},
        {"SELECT $1, 2147483648::integer::text, NULL, NULL", "BAD_DATA"},
        {"SELECT $1, '\xFF', NULL, NULL", "BAD_DATA"},         /* no UTF-8 */
        {"SELECT $1, '\xED\xA0\x80', NULL, NULL", "BAD_DATA"}, /* a surrogate */
        {"SELECT $1, nothing, NULL, NULL", "FAULT"},
        {"SELECT", "FAULT"},
        {"SELECT $1, pg_read_file('/etc/hostname'), NULL, NULL", "FAULT"},
    };
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_text(rows[i].script, run(database, SOON, rows[i].script), rows[i].outcome);
    }
    assert_int_equal(sql_number(database->administrator, "SELECT count(*) FROM marks"),
                     1);
}

static void invalid_request_in_batch_fails_alone(void **state)
{
    static const struct {
        const char *scripts[6];
        const char *answers;
    } rows[] = {
        {{CREATED, "SELECT $1, fail('22000'), NULL, NULL", CREATED},
         "created; BAD_DATA; created"},
        {{"SELECT $1, fail('23514'), NULL, NULL", "SELECT $1, 'full', NULL, NULL"},
         "BAD_DATA; full"},
        {{"SELECT $1, fail('22000'), NULL, NULL", "SELECT $1, fail('23505'), NULL, NULL"},
         "BAD_DATA; BAD_DATA"},
        {{CREATED, "SELECT $1, '\xFF', NULL, NULL"}, "created; BAD_DATA"},
        {{CREATED, "SELECT $1, fail('22000'), NULL, NULL",
          "SELECT $1, fail('XX000'), NULL, NULL", "SELECT $1, fail('53100'), NULL, NULL",
          CREATED},
         "created; BAD_DATA; FAULT; UNAVAILABLE; created"},
        /* The call as a whole failed for another reason. */
        {{CREATED, "SELECT $1, fail('XX000'), NULL, NULL"}, "FAULT; FAULT"},
        {{CREATED, "SELECT $1, fail('53100'), NULL, NULL"}, "UNAVAILABLE; UNAVAILABLE"},
        {{CREATED, "SELECT $1, fail('40001'), NULL, NULL"}, "UNAVAILABLE; UNAVAILABLE"},
    };
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_text(rows[i].answers, run_all(database, SOON, rows[i].scripts),
                    rows[i].answers);
    }
}

static void batch_with_invalid_request_writes_once(void **state)
{
    static const char *const scripts[] = {
        "INSERT INTO marks VALUES (1, 1) RETURNING $1, 'created', NULL, NULL",
        "INSERT INTO marks VALUES (2, -1) RETURNING $1, 'created', NULL, NULL",
        "INSERT INTO marks VALUES (3, 1) RETURNING $1, 'created', NULL, NULL", NULL};
    database_t *database = *state;

    assert_text("batch", run_all(database, SOON, scripts), "created; BAD_DATA; created");
    assert_int_equal(sql_number(database->administrator,
                                "SELECT string_agg(id::text, '' ORDER BY id) FROM marks"),
                     13);
}

/*
 * Answers before the commit
 */

/* Errors at the commit, after the rows of the answer were produced, and mostly sent. */
static void answer_before_failed_commit_is_discarded(void **state)
{
    static const struct {
        const char *at_commit, *outcome;
        int runs;
    } rows[] = {
        {"SELECT tell()", "created", 1},
        {"SELECT tell(), fail(''40001'')", "UNAVAILABLE", 4},
        {"SELECT tell(), fail(''40001'', 1)", "created", 2},
        {"SELECT tell(), fail(''23505'')", "BAD_DATA", 1},
        {"SELECT tell(), fail(''53100'')", "UNAVAILABLE", 1},
        {"SELECT tell(), fail(''XX000'')", "FAULT", 1},
        {"SELECT tell(), pg_terminate_backend(pg_backend_pid())", "UNAVAILABLE", AGAIN},
        {"SELECT fail(''40001'')", "UNAVAILABLE", 4},
        {"SELECT pg_terminate_backend(pg_backend_pid())", "UNAVAILABLE", AGAIN},
        {"SELECT pg_sleep(3)", "UNAVAILABLE", 1},
        {"SELECT tell(), pg_sleep(3)", "UNAVAILABLE", 1},
    };
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row = rows[i].at_commit;
        int late = strstr(row, "sleep") || rows[i].runs == AGAIN;

        start_over(database);
        assert_text(row,
                    run(database, late ? SOME_TIME : SOON,
                        apr_psprintf(database->pool,
                                     "INSERT INTO at_commit VALUES ('%s')"
                                     " RETURNING $1, 'created', NULL, NULL",
                                     row)),
                    rows[i].outcome);
        if (rows[i].runs == AGAIN) {
            assert_interval(runs(database), 2, 20);
        }
        else {
            assert_number(row, runs(database), rows[i].runs);
        }
    }
    assert_text("afterwards", run(database, SOON, CREATED), "created");
}

/*
 * Installed operations
 */

static void live_register_batch_is_answered_by_item(void **state)
{
    static const reg_operation_t live_register = {.name = "live_register",
                                                  .parameters = 7};
    static const char open[] = "00000000-0000-4000-8000-00000000aaa1";
    static const char ended[] = "00000000-0000-4000-8000-00000000aaa2";
    static const struct {
        const char *session, *patient, *guest;
        reg_outcome_t outcome;
    } rows[] = {
        {ended, "p", NULL, REG_NOT_JOINABLE},
        {open, "p \"1\"", NULL, REG_CREATED},
        {"00000000-0000-4000-8000-00000000aaa3", "p", NULL, REG_NOT_FOUND},
        {open, "p \"1\"", NULL, REG_DUPLICATE},
        {open, NULL, "g@example.org", REG_CREATED},
        {open, NULL, "G@EXAMPLE.ORG", REG_DUPLICATE},
        {open, "p2", NULL, REG_FULL},
    };
    database_t *database = *state;
    PGconn *administrator = connect_administrator(database->pool, NULL);
    const char *const *batch[LENGTH(rows)];
    const reg_answer_t *answers;

    sql(administrator,
        apr_psprintf(
            database->pool,
            "INSERT INTO registration.live_sessions"
            " (id, title, status, max_participants)"
            " VALUES ('%s', 'Open', 'scheduled', 2), ('%s', 'Ended', 'ended', 2)",
            open, ended));
    PQfinish(database->connection.pg);
    database->connection.pg = PQconnectdb(getenv("REGISTRATION_DSN"));

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char **values = apr_palloc(database->pool, 7 * sizeof(*values));

        values[0] =
            apr_psprintf(database->pool, "00000000-0000-7000-8000-00000000bbb%d", (int)i);
        values[1] = rows[i].session;
        values[2] = rows[i].patient;
        values[3] = rows[i].guest;
        values[4] = "guest";
        values[5] = "caller";
        values[6] = NULL;
        batch[i] = values;
    }
    answers = call(database, &live_register, batch, LENGTH(rows), SOON);
    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_number(batch[i][0], answers[i].outcome, rows[i].outcome);
        assert_number(batch[i][0], answers[i].body != NULL,
                      rows[i].outcome == REG_CREATED);
        if (answers[i].body) {
            assert_non_null(strstr(answers[i].body, batch[i][0]));
        }
    }
    PQfinish(administrator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RETRY_TEST(outcome_has_name_in_sql),
        RETRY_TEST(requests_get_answer_with_their_number),
        RETRY_TEST(values_and_answers_are_unchanged),
        RETRY_TEST(keyed_operation_calls_idempotent_with_its_name),
        RETRY_TEST(large_call_is_answered),
        RETRY_TEST(answer_outlives_pool_of_call),
        RETRY_TEST(failed_call_is_answered_by_sqlstate),
        RETRY_TEST(request_with_invalid_data_is_bad_data),
        RETRY_TEST(invalid_request_in_batch_fails_alone),
        RETRY_TEST(batch_with_invalid_request_writes_once),
        RETRY_TEST(cancellation_after_lock_timeout_is_unavailable),
        RETRY_TEST(cancelled_batch_is_retried_one_by_one),
        RETRY_TEST(answer_before_failed_commit_is_discarded),
        RETRY_TEST(live_register_batch_is_answered_by_item),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
