/* SPDX-License-Identifier: Apache-2.0 */

/* Requests for rows that another transaction has locked. */

#include "batching_fixture.h"

/* A request for row 2 that counts how often it is run, also while the row is locked. */
#define COUNTED_ROW                                                                      \
    "UPDATE marks SET value = value + 1 WHERE id = 2 AND nextval('counted') > 0"         \
    " RETURNING $1, 'updated', NULL, NULL"

static void a_locked_row_holds_up_only_those_who_want_it(void **state)
{
    service_t *service = *state;
    client_t *locked, *late;

    sql(service->observer,
        "CREATE SEQUENCE counted; GRANT ALL ON SEQUENCE counted TO registration");
    sql(service->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    locked = begin_many(service, 6, ROW(1));
    WAIT_FOR(runs(service->database) >= 8); /* All have come back from the first queue. */

    /* None meets one of them in a call, and then has to be called once more. */
    for (int i = 0; i < 10; i++) {
        await(begin(service, &run_operation, COUNTED_ROW, SOON), 1, REG_UPDATED);
    }
    assert_int_equal(sql_number(service->observer, "SELECT last_value FROM counted"), 10);
    assert_waiting(locked, 6);

    /* One more does not wait in another place. */
    late = begin(service, &run_operation, ROW(1), SOON);
    assert_int_equal(most_held_up(service), 1);

    sql(service->database->administrator, "COMMIT");
    await(locked, 6, REG_UPDATED);
    await(late, 1, REG_UPDATED);
    assert_int_equal(value_of(service, 1), 107);
    assert_int_equal(value_of(service, 2), 10);
}

/* They would wait for the lock on the connection of the others who have come since. */
static void who_came_before_the_row_was_found_locked_is_not_called(void **state)
{
    service_t *service = *state;
    client_t *stalled, *locked;

    sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
    stalled = begin_many(service, 1, STALLED);
    WAIT_FOR(runs(service->database) >= 1);
    sql(service->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    locked = begin_many(service, 8, ROW(1)); /* more than one batch */
    apr_sleep(apr_time_from_msec(100));      /* for all to queue up */
    sql(service->observer, "DELETE FROM stalled");
    assert_int_equal(most_held_up(service), 1);
    assert_waiting(locked, 8);
    sql(service->database->administrator, "COMMIT");
    await(stalled, 1, REG_CREATED);
    await(locked, 8, REG_UPDATED);
    assert_int_equal(value_of(service, 1), 108);
}

static void a_row_that_is_free_again_does_not_wait_for_another(void **state)
{
    service_t *service = *state;
    client_t *first, *second;

    sql(service->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 2");
    sql(service->database->connection.pg,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    first = begin_many(service, 4, ROW(1));
    second = begin_many(service, 4, ROW(2));
    WAIT_FOR(runs(service->database) >= 14);
    assert_int_equal(most_held_up(service), 1);

    sql(service->database->connection.pg, "COMMIT");
    await(first, 4, REG_UPDATED);
    assert_waiting(second, 4);
    sql(service->database->administrator, "COMMIT");
    await(second, 4, REG_UPDATED);
    assert_int_equal(value_of(service, 1), 104);
    assert_int_equal(value_of(service, 2), 104);
}

/* Where nothing is combined as well, and then each in a transaction of its own. */
static void
who_waits_for_a_row_shares_a_connection_where_nothing_is_combined(void **state)
{
    service_t *service = *state;
    client_t *locked, *others;
    int before;

    service->batching = reg_batching_make(service->database->pool, 1, NULL);
    sql(service->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    locked = begin_many(service, 6, ROW(1));
    WAIT_FOR(most_held_up(service) == 1); /* once each has found it locked */
    others = begin_many(service, 6, ROW(2));
    await(others, 6, REG_UPDATED);
    assert_waiting(locked, 6);
    before = runs(service->database);
    sql(service->database->administrator, "COMMIT");
    await(locked, 6, REG_UPDATED);
    assert_in_range(runs(service->database) - before, 5, 50); /* one under way */
    assert_int_equal(value_of(service, 1), 106);
}

static void who_waits_in_vain_is_told_so_and_leaves_nothing_behind(void **state)
{
    service_t *service = *state;
    const apr_interval_time_t patience = apr_time_from_sec(1);
    apr_time_t start = apr_time_now();
    client_t *patient;

    sql(service->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    patient = begin(service, &run_operation, ROW(1), SOON);
    for (int i = 0; i < 3; i++) {
        begin(service, &run_operation, ROW(1), patience);
    }
    await(patient + 1, 3, REG_UNAVAILABLE);
    assert_in_range(apr_time_now() - start, 0, SOON / 2);
    assert_waiting(patient, 1);

    /* A call that was cut off at its deadline goes on for as long as it waits for locks.
     */
    apr_sleep(apr_time_from_msec(2 * REG_LOCK_TIMEOUT));
    sql(service->database->administrator, "ROLLBACK");
    await(patient, 1, REG_UPDATED);
    await(begin(service, &run_operation, ROW(1), SOON), 1, REG_UPDATED);
    assert_int_equal(value_of(service, 1), 2);
}

/* A client that goes on and on, from row to row. */
static void *keep_busy(void *data)
{
    static const char *const scripts[] = {ROW(1), ROW(2), ROW(3)};
    client_t *client = data;
    reg_outcome_t outcome = REG_UPDATED;

    for (int i = 0; i < 200 && outcome == REG_UPDATED; i++) {
        client->values[0] = scripts[i % 3];
        join(client);
        outcome = client->item.answer.outcome;
    }
    return NULL;
}

static void every_request_is_done_once_while_rows_are_locked_now_and_then(void **state)
{
    service_t *service = *state;
    client_t *clients = service->clients;
    int done = 0;

    for (int i = 0; i < MOST_CLIENTS; i++) {
        clients[i] =
            (client_t){.service = service, .operation = &run_operation, .patience = SOON};
        clients[i].item.values = clients[i].values;
        assert_int_equal(
            0, pthread_create(&clients[i].thread, NULL, keep_busy, &clients[i]));
    }
    for (int id = 1; id <= 3; id++) {
        sql(service->database->administrator,
            apr_psprintf(service->database->pool,
                         "BEGIN; UPDATE marks SET value = value WHERE id = %d", id));
        apr_sleep(A_WHILE / 2);
        sql(service->database->administrator, "COMMIT");
        apr_sleep(apr_time_from_msec(20));
    }
    await(clients, MOST_CLIENTS, REG_UPDATED);
    for (int id = 1; id <= 3; id++) {
        done += value_of(service, id);
    }
    assert_int_equal(done, 200 * MOST_CLIENTS);
    assert_in_range(runs(service->database), 1, 200 * MOST_CLIENTS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DISPATCH_TEST(a_locked_row_holds_up_only_those_who_want_it),
        DISPATCH_TEST(who_came_before_the_row_was_found_locked_is_not_called),
        DISPATCH_TEST(a_row_that_is_free_again_does_not_wait_for_another),
        DISPATCH_TEST(who_waits_for_a_row_shares_a_connection_where_nothing_is_combined),
        DISPATCH_TEST(who_waits_in_vain_is_told_so_and_leaves_nothing_behind),
        DISPATCH_TEST(every_request_is_done_once_while_rows_are_locked_now_and_then),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
