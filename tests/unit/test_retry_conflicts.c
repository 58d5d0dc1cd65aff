/* SPDX-License-Identifier: Apache-2.0 */

/* Conflicts, deadlocks and locks. */

#include "retry_fixture.h"

#include <pthread.h>

/* The turn of the call of a test, or NULL. */
static reg_turn_t *taken;

/*
 * Conflicts
 */

static void call_with_serialization_failure_is_retried(void **state)
{
    static const char *const states[] = {"40001", "40P01"};
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(states); i++) {
        for (int times = 1; times <= 3; times++) {
            const char *const scripts[] = {
                CREATED,
                apr_psprintf(database->pool, "SELECT $1, fail('%s', %d), NULL, NULL",
                             states[i], times),
                NULL};

            start_over(database);
            assert_text(scripts[1], run_all(database, SOON, scripts), "created; created");
            assert_number(scripts[1], runs(database), times + 1);
        }
    }
    assert_text("reports", database->reports, "");
}

/* Another session that deadlocks with a call. */
static void *deadlock(void *data)
{
    PGconn *pg = data;

    /* Failing, it must not end the program: this is not the main thread. */
    PQclear(PQexec(pg, "BEGIN; UPDATE marks SET value = 2 WHERE id = 2"));
    PQclear(PQexec(pg, "SELECT pg_sleep(0.2)"));
    PQclear(PQexec(pg, "UPDATE marks SET value = 2 WHERE id = 1; COMMIT"));
    return NULL;
}

static void call_with_deadlock_is_retried(void **state)
{
    database_t *database = *state;
    pthread_t rival;

    sql(database->administrator,
        "INSERT INTO marks VALUES (1, 0), (2, 0);"
        "CREATE OR REPLACE FUNCTION lock_both() RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
        "    UPDATE marks SET value = value + 10 WHERE id = 1;"
        "    PERFORM pg_sleep(0.4);"
        "    UPDATE marks SET value = value + 10 WHERE id = 2;"
        "    RETURN 'created'; END $$;"
        "SET deadlock_timeout = '10s'");
    assert_int_equal(0, pthread_create(&rival, NULL, deadlock, database->administrator));
    assert_text("call", run(database, SOON, "SELECT $1, lock_both(), NULL, NULL"),
                "created");
    pthread_join(rival, NULL);
    /* Two, or more if the retry locks row 1 before the rival does. */
    assert_true(runs(database) >= 2);
    assert_int_equal(sql_number(database->administrator, "SELECT sum(value) FROM marks"),
                     24);
}

/* Records whether the call has its turn when it is retried. */
static void record_turn(void *baton, const char *operation, const char *step)
{
    database_t *database = baton;

    (void)operation;
    if (strncmp(step, "retries ", strlen("retries ")) == 0
        || strncmp(step, "sends call", strlen("sends call")) == 0) {
        database->reports = apr_pstrcat(database->pool, database->reports,
                                        *step == 's' ? "call" : "retry",
                                        taken ? " with turn; " : " without turn; ", NULL);
    }
}

static void call_in_turn(const reg_call_t *call)
{
    reg_call_t in_turn = *call;
    int has_waited;

    in_turn.turn = &taken;
    assert_true(reg_turn_take(taken, apr_time_now(), &has_waited));
    reg_retry_call(&in_turn);
    assert_null(taken);
}

static void turn_is_given_back_before_call_is_retried(void **state)
{
    static const char *const scripts[] = {
        "SELECT $1, fail('40001', 2), NULL, NULL",
        "SELECT $1, fail('57P01', 2), NULL, NULL",
    };
    database_t *database = *state;
    const reg_turns_t turns = reg_turns_of_host(
        reg_turns_make(apr_palloc(database->pool, reg_turns_size())), 1, "database");

    database->connections.trace = record_turn;
    for (size_t i = 0; i < LENGTH(scripts); i++) {
        const char *const *values = &scripts[i];

        start_over(database);
        database->reports = "";
        taken = reg_turns_find(&turns, "key");
        assert_int_equal(
            call_as(call_in_turn, database, &run_operation, &values, 1, SOON)->outcome,
            REG_CREATED);
        assert_true(strncmp(database->reports, "call with turn; ", 16) == 0);
        assert_null(strstr(database->reports + 16, "with turn"));
        assert_non_null(strstr(database->reports + 16, "retry without turn; "));
        assert_non_null(strstr(database->reports + 16, "call without turn; "));
    }
}

/*
 * Locks
 */

/* A request that returns its lock timeout. */
#define LOCKED_ROW                                                                       \
    "UPDATE marks SET value = 3 WHERE id = 1 RETURNING $1, 'updated', NULL, NULL"
#define FREE_ROW                                                                         \
    "UPDATE marks SET value = 3 WHERE id = 2 RETURNING $1, 'updated', NULL, NULL"

#define LOCK_TIMEOUT "SELECT $1, 'found', current_setting('lock_timeout'), NULL"

static void call_locked(const reg_call_t *call)
{
    reg_retry_call_locked(call, call->count);
}

static void lock_timeout_is_divided_among_keys(void **state)
{
    static const struct {
        const char *row;
        call_function_t *function;
        int keys;
        const char *lock_timeout;
    } rows[] = {
        {"one key", reg_retry_call, 1, "100ms"},
        {"many keys", reg_retry_call, 20, "100ms"},
        {"one that is locked", call_locked, 1, "100ms"},
        {"two", call_locked, 2, "50ms"},
        {"ten", call_locked, 10, "10ms"},
        {"too many to share it", call_locked, 20, "10ms"},
    };
    database_t *database = *state;

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *scripts[40];
        const char *const *values[LENGTH(scripts)];
        const reg_answer_t *answers;
        int before = runs(database), count = 2 * rows[i].keys;

        for (int n = 0; n < count; n++) {
            scripts[n] =
                apr_psprintf(database->pool, LOCK_TIMEOUT " -- %d", n % rows[i].keys);
            values[n] = &scripts[n];
        }
        answers =
            call_as(rows[i].function, database, &run_operation, values, count, SOON);
        for (int n = 0; n < count; n++) {
            assert_text(rows[i].row, answers[n].detail, rows[i].lock_timeout);
        }
        assert_number(rows[i].row, runs(database) - before,
                      rows[i].function == reg_retry_call ? 1 : rows[i].keys);
        /* The session's own setting, which other modules may use, is unchanged. */
        assert_number(rows[i].row,
                      sql_number(database->connection.pg,
                                 "SELECT count(*) FROM pg_settings "
                                 "WHERE source = 'session'"),
                      0);
    }
}

static void call_locked_one_by_one(const reg_call_t *call)
{
    reg_retry_call_locked(call, 1);
}

/* With batching switched off each request has a transaction of its own; but after a lock
 * timeout the remaining requests for the key are not called. */
static void requests_after_lock_timeout_of_key_are_not_called(void **state)
{
    static const char *const scripts[] = {LOCKED_ROW, LOCKED_ROW, FREE_ROW, LOCKED_ROW,
                                          FREE_ROW};
    database_t *database = *state;
    const char *const *values[LENGTH(scripts)];
    const reg_answer_t *answers;

    sql(database->administrator, "INSERT INTO marks VALUES (1, 1), (2, 2)");
    sql(database->administrator, "BEGIN; UPDATE marks SET value = 5 WHERE id = 1");
    for (size_t i = 0; i < LENGTH(scripts); i++) {
        values[i] = &scripts[i];
    }
    answers = call_as(call_locked_one_by_one, database, &run_operation, values,
                      LENGTH(scripts), SOON);
    sql(database->administrator, "ROLLBACK");
    for (size_t i = 0; i < LENGTH(scripts); i++) {
        assert_text(scripts[i], outcome_name(answers[i].outcome),
                    strcmp(scripts[i], LOCKED_ROW) == 0 ? "LOCKED" : "updated");
    }
    assert_int_equal(runs(database), 3);
}

static void locked_key_in_batch_is_locked_alone(void **state)
{
    static const char *const scripts[] = {
        "INSERT INTO marks VALUES (1, 1) RETURNING $1, 'created', NULL, NULL",
        "UPDATE marks SET value = 1 WHERE id = 2 RETURNING $1, 'updated', NULL, NULL",
        "UPDATE marks SET value = 1 WHERE id = 2 RETURNING $1, 'updated', NULL, NULL",
        "INSERT INTO marks VALUES (3, 1) RETURNING $1, 'created', NULL, NULL", NULL};
    database_t *database = *state;

    sql(database->administrator, "INSERT INTO marks VALUES (2, 0)");
    sql(database->administrator, "BEGIN; UPDATE marks SET value = 2");
    assert_text("batch", run_all(database, SOON, scripts),
                "created; LOCKED; LOCKED; created");
    assert_text("alone", run(database, SOON, scripts[1]), "LOCKED");
    sql(database->administrator, "COMMIT");
    assert_text("afterwards", run(database, SOON, scripts[1]), "updated");
    assert_int_equal(runs(database), 1 + 3 + 1 + 1);
    assert_text("reports", database->reports, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RETRY_TEST(call_with_serialization_failure_is_retried),
        RETRY_TEST(call_with_deadlock_is_retried),
        RETRY_TEST(turn_is_given_back_before_call_is_retried),
        RETRY_TEST(lock_timeout_is_divided_among_keys),
        RETRY_TEST(requests_after_lock_timeout_of_key_are_not_called),
        RETRY_TEST(locked_key_in_batch_is_locked_alone),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
