/* SPDX-License-Identifier: Apache-2.0 */

/* Requests for rows that another transaction has locked. */

#include "batching_fixture.h"

/* A request for row 2 that counts how often it is run, also while the row is locked. */
#define COUNTED_ROW                                                                      \
    "UPDATE marks SET value = value + 1 WHERE id = 2 AND nextval('counted') > 0"         \
    " RETURNING $1, 'updated', NULL, NULL"

static void locked_row_delays_only_its_own_requests(void **state)
{
    service_t *service = *state;
    client_t *locked, *late;

    sql(service->observer,
        "CREATE SEQUENCE counted; GRANT ALL ON SEQUENCE counted TO registration");
    sql(service->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    locked = start_clients(service, 6, ROW(1));
    WAIT_FOR(runs(service->database) >= 8); /* All are in the slow queue. */

    /* No request for row 2 shares a call with them and has to be called again. */
    for (int i = 0; i < 10; i++) {
        await_outcomes(start_client(service, &run_operation, COUNTED_ROW, SOON), 1,
                       REG_UPDATED);
    }
    assert_int_equal(sql_number(service->observer, "SELECT last_value FROM counted"), 10);
    assert_waiting(locked, 6);

    /* One more request does not wait on another connection. */
    late = start_client(service, &run_operation, ROW(1), SOON);
    assert_int_equal(max_lock_waits(service), 1);

    sql(service->database->administrator, "COMMIT");
    await_outcomes(locked, 6, REG_UPDATED);
    await_outcomes(late, 1, REG_UPDATED);
    assert_int_equal(value_of(service, 1), 107);
    assert_int_equal(value_of(service, 2), 10);
}

/* A call for them would make the other requests of their batch wait for the lock. */
static void request_queued_before_lock_was_found_goes_to_slow_queue(void **state)
{
    service_t *service = *state;
    client_t *stalled, *locked;

    sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
    stalled = start_clients(service, 1, STALLED);
    WAIT_FOR(runs(service->database) >= 1);
    sql(service->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    locked = start_clients(service, 8, ROW(1)); /* more than one batch */
    apr_sleep(apr_time_from_msec(100));         /* until all are queued */
    sql(service->observer, "DELETE FROM stalled");
    assert_int_equal(max_lock_waits(service), 1);
    assert_waiting(locked, 8);
    sql(service->database->administrator, "COMMIT");
    await_outcomes(stalled, 1, REG_CREATED);
    await_outcomes(locked, 8, REG_UPDATED);
    assert_int_equal(value_of(service, 1), 108);
}

static void unlocked_row_does_not_wait_for_locked_row(void **state)
{
    service_t *service = *state;
    client_t *first, *second;

    sql(service->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 2");
    sql(service->database->connection.pg,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    first = start_clients(service, 4, ROW(1));
    second = start_clients(service, 4, ROW(2));
    WAIT_FOR(runs(service->database) >= 14);
    assert_int_equal(max_lock_waits(service), 1);

    sql(service->database->connection.pg, "COMMIT");
    await_outcomes(first, 4, REG_UPDATED);
    assert_waiting(second, 4);
    sql(service->database->administrator, "COMMIT");
    await_outcomes(second, 4, REG_UPDATED);
    assert_int_equal(value_of(service, 1), 104);
    assert_int_equal(value_of(service, 2), 104);
}

/* Also with batching switched off; then each request has a transaction of its own. */
static void requests_for_locked_row_without_batching_share_connection(void **state)
{
    service_t *service = *state;
    client_t *locked, *unlocked;
    int before;

    service->batching = reg_batching_make(service->database->pool, 1, NULL, NULL);
    sql(service->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    locked = start_clients(service, 6, ROW(1));
    WAIT_FOR(max_lock_waits(service) == 1); /* until each has found it locked */
    unlocked = start_clients(service, 6, ROW(2));
    await_outcomes(unlocked, 6, REG_UPDATED);
    assert_waiting(locked, 6);
    before = runs(service->database);
    sql(service->database->administrator, "COMMIT");
    await_outcomes(locked, 6, REG_UPDATED);
    assert_interval(runs(service->database) - before, 5, 50); /* one in progress */
    assert_int_equal(value_of(service, 1), 106);
}

static void
request_with_lock_until_deadline_is_unavailable_and_writes_nothing(void **state)
{
    service_t *service = *state;
    const apr_interval_time_t timeout = apr_time_from_sec(1);
    apr_time_t start = apr_time_now();
    client_t *late;

    sql(service->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    late = start_client(service, &run_operation, ROW(1), SOON);
    for (int i = 0; i < 3; i++) {
        start_client(service, &run_operation, ROW(1), timeout);
    }
    await_outcomes(late + 1, 3, REG_UNAVAILABLE);
    assert_interval(apr_time_now() - start, 0, SOON / 2);
    assert_waiting(late, 1);

    /* A call that was cut off at its deadline continues until its lock timeout. */
    apr_sleep(apr_time_from_msec(2 * REG_LOCK_TIMEOUT));
    sql(service->database->administrator, "ROLLBACK");
    await_outcomes(late, 1, REG_UPDATED);
    await_outcomes(start_client(service, &run_operation, ROW(1), SOON), 1, REG_UPDATED);
    assert_int_equal(value_of(service, 1), 2);
}

/* Runs many requests for alternating rows. */
static void *run_many(void *data)
{
    static const char *const scripts[] = {ROW(1), ROW(2), ROW(3)};
    client_t *client = data;
    reg_outcome_t outcome = REG_UPDATED;

    for (int i = 0; i < 200 && outcome == REG_UPDATED; i++) {
        client->values[0] = scripts[i % 3];
        run_client(client);
        outcome = client->item.answer.outcome;
    }
    return NULL;
}

static void requests_with_intermittent_locks_run_exactly_once(void **state)
{
    service_t *service = *state;
    client_t *clients = service->clients;
    int done = 0;

    for (int i = 0; i < MOST_CLIENTS; i++) {
        clients[i] =
            (client_t){.service = service, .operation = &run_operation, .timeout = SOON};
        clients[i].item.values = clients[i].values;
        assert_int_equal(0,
                         pthread_create(&clients[i].thread, NULL, run_many, &clients[i]));
    }
    for (int id = 1; id <= 3; id++) {
        sql(service->database->administrator,
            apr_psprintf(service->database->pool,
                         "BEGIN; UPDATE marks SET value = value WHERE id = %d", id));
        apr_sleep(SEVERAL_LOCK_TIMEOUTS / 2);
        sql(service->database->administrator, "COMMIT");
        apr_sleep(apr_time_from_msec(20));
    }
    await_outcomes(clients, MOST_CLIENTS, REG_UPDATED);
    for (int id = 1; id <= 3; id++) {
        done += value_of(service, id);
    }
    assert_int_equal(done, 200 * MOST_CLIENTS);
    assert_interval(runs(service->database), 1, 200 * MOST_CLIENTS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BATCHING_TEST(locked_row_delays_only_its_own_requests),
        BATCHING_TEST(request_queued_before_lock_was_found_goes_to_slow_queue),
        BATCHING_TEST(unlocked_row_does_not_wait_for_locked_row),
        BATCHING_TEST(requests_for_locked_row_without_batching_share_connection),
        BATCHING_TEST(request_with_lock_until_deadline_is_unavailable_and_writes_nothing),
        BATCHING_TEST(requests_with_intermittent_locks_run_exactly_once),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
