/* SPDX-License-Identifier: Apache-2.0 */

/* Which requests share a call, and how many connections they use. */

#include "batching_fixture.h"

static const reg_operation_t echo = {.name = "echo", .parameters = 2};
static const reg_operation_t single_run = {.name = "run", .parameters = 1, .alone = 1};

/*
 * Calls
 */

static void concurrent_requests_share_call_where_batched(void **state)
{
    static const struct {
        const char *row;
        int batch;
        const reg_operation_t *operation;
        int at_once; /* calls that eight requests make while none of them has ended */
    } rows[] = {
        {"combined", 64, &run_operation, 1},
        {"not combined", 1, &run_operation, 8},
        {"alone", 64, &single_run, 8},
    };
    service_t *service = *state;

    for (size_t i = 0; i < LENGTH(rows); i++) {
        start_over(service->database);
        sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
        service->batching =
            reg_batching_make(service->database->pool, rows[i].batch, NULL, NULL);
        service->count = 0;
        for (int n = 0; n < 8; n++) {
            start_client(service, rows[i].operation, STALLED, SOON);
        }
        WAIT_FOR(runs(service->database) >= rows[i].at_once);
        apr_sleep(apr_time_from_msec(100)); /* until the others are queued */
        assert_number(rows[i].row, runs(service->database), rows[i].at_once);
        sql(service->observer, "DELETE FROM stalled");
        await_outcomes(service->clients, 8, REG_CREATED);
        assert_number(rows[i].row, runs(service->database) == 8, rows[i].at_once == 8);
    }
}

static void stalled_operation_delays_no_other_operation(void **state)
{
    service_t *service = *state;
    client_t *stalled;

    sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
    stalled = start_clients(service, 3, STALLED);
    WAIT_FOR(runs(service->database) >= 1);
    await_outcomes(start_client(service, &echo, "x", SOON), 1, REG_FOUND);
    await_outcomes(start_client(service, &echo, NULL, SOON), 1,
                   REG_FOUND); /* has no key */
    assert_waiting(stalled, 3);
    sql(service->observer, "DELETE FROM stalled");
    await_outcomes(stalled, 3, REG_CREATED);
}

static void set_exhausted(service_t *service, int is_exhausted)
{
    __atomic_store_n(&service->is_exhausted, is_exhausted, __ATOMIC_SEQ_CST);
}

/* Only the leader waits for a connection. */
static void request_waiting_for_connection_leaves_at_own_deadline(void **state)
{
    service_t *service = *state;
    client_t *late, *early;
    apr_time_t start = apr_time_now();

    set_exhausted(service, 1);
    late = start_clients(service, 3, ROW(1));
    apr_sleep(apr_time_from_msec(50));
    early = start_client(service, &run_operation, ROW(1), apr_time_from_msec(300));
    await_outcomes(early, 1, REG_UNAVAILABLE);
    assert_interval(apr_time_now() - start, 0, SOON / 2);
    assert_waiting(late, 3);
    set_exhausted(service, 0);
    await_outcomes(late, 3, REG_UPDATED);
    assert_interval(runs(service->database), 1, 2); /* They shared a call. */
}

/* The leader's deadline is earlier than the next request's. */
static void leader_without_connection_passes_lead(void **state)
{
    service_t *service = *state;
    client_t *early, *late;

    set_exhausted(service, 1);
    early = start_client(service, &run_operation, ROW(1), apr_time_from_msec(300));
    apr_sleep(apr_time_from_msec(50));
    late = start_clients(service, 3, ROW(1));
    await_outcomes(early, 1, REG_UNAVAILABLE);
    assert_waiting(late, 3);
    set_exhausted(service, 0);
    await_outcomes(late, 3, REG_UPDATED);
}

static void operation_over_maximum_is_unavailable(void **state)
{
    service_t *service = *state;
    static reg_operation_t operations[REG_MAX_OPERATIONS + 1];

    for (int i = 0; i <= REG_MAX_OPERATIONS; i++) {
        operations[i] = run_operation;
        service->count = 0;
        await_outcomes(start_client(service, &operations[i], CREATED, SOON), 1,
                       i < REG_MAX_OPERATIONS ? REG_CREATED : REG_UNAVAILABLE);
    }
}

/*
 * Requests that take long
 */

/* Requests queued behind a slow request, and in one batch with another slow request. They
 * are retried one by one and succeed. */
static void slow_request_in_batch_is_cancelled_and_retried_alone(void **state)
{
    service_t *service = *state;
    const apr_interval_time_t timeout = apr_time_from_sec(15);
    apr_time_t start = apr_time_now();
    client_t *slow, *quick;

    for (int i = 0; i < MOST_CONNECTIONS; i++) {
        sql(service->list[i].pg, "SET statement_timeout = 0");
    }
    sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
    slow = start_client(service, &run_operation, STALLED, timeout);
    WAIT_FOR(runs(service->database) == 1);
    quick = start_clients(service, 3, ROW(1));
    start_client(service, &run_operation, STALLED, timeout);
    start_clients(service, 12, ROW(1));
    for (int i = 0; i < 16; i++) {
        if (i != 3) {
            await_outcomes(&quick[i], 1, REG_UPDATED);
        }
    }
    assert_interval(apr_time_now() - start, apr_time_from_sec(1), timeout);
    assert_waiting(slow, 1);
    assert_waiting(&quick[3], 1);
    sql(service->observer, "DELETE FROM stalled");
    await_outcomes(slow, 1, REG_CREATED);
    await_outcomes(&quick[3], 1, REG_CREATED);
    assert_int_equal(value_of(service, 1), 15);
}

static void single_calls_over_semaphore_limit_wait(void **state)
{
    service_t *service = *state;
    reg_semaphore_t *semaphore = reg_semaphore_make(service->database->pool, 2);
    apr_time_t start = apr_time_now();
    client_t *single = service->clients;

    service->batching = reg_batching_make(service->database->pool, 64, semaphore, NULL);
    sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
    for (int i = 0; i < 6; i++) {
        start_client(service, &single_run, STALLED, SOON);
    }
    WAIT_FOR(runs(service->database) == 2);
    await_outcomes(start_client(service, &single_run, STALLED, apr_time_from_msec(300)),
                   1, REG_UNAVAILABLE);
    assert_interval(apr_time_now() - start, apr_time_from_msec(300) - REG_CALL_TIME,
                    SOON / 2);
    assert_number("inside", runs(service->database), 2);
    await_outcomes(start_client(service, &run_operation, ROW(1), SOON), 1, REG_UPDATED);
    sql(service->observer, "DELETE FROM stalled");
    await_outcomes(single, 6, REG_CREATED);
}

/*
 * Connections that break
 */

#define ROWS_OF_A_CLIENT 100

/* Inserts rows one by one, with statements that recognize a row that was already
 * written. */
static void *make_rows(void *data)
{
    client_t *client = data;
    int first = 1000 + ROWS_OF_A_CLIENT * (int)(client - client->service->clients);

    for (int id = first; id < first + ROWS_OF_A_CLIENT; id++) {
        char script[200];

        apr_snprintf(script, sizeof(script),
                     "INSERT INTO marks VALUES (%d, 0) ON CONFLICT (id)"
                     " DO UPDATE SET value = 1 RETURNING $1, 'created', NULL, NULL",
                     id);
        client->values[0] = script;
        run_client(client);
        client->created += client->item.answer.outcome == REG_CREATED;
    }
    client->values[0] = NULL;
    return NULL;
}

/* Ends all of the service's connections. */
static void end_backends(const service_t *service)
{
    sql(service->observer, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                           " WHERE usename = 'registration'"
                           "   AND datname = current_database()");
}

/* Many threads, as in a child process, on several connections. */
static void confirmed_writes_with_terminated_sessions_are_exactly_once(void **state)
{
    service_t *service = *state;
    client_t *clients = service->clients;
    int made = 0, created = 0, total = ROWS_OF_A_CLIENT * MOST_CLIENTS;

    service->batching = reg_batching_make(service->database->pool, 8, NULL, NULL);
    for (int i = 0; i < MOST_CLIENTS; i++) {
        clients[i] =
            (client_t){.service = service, .operation = &run_operation, .timeout = SOON};
        clients[i].item.values = clients[i].values;
        assert_int_equal(
            0, pthread_create(&clients[i].thread, NULL, make_rows, &clients[i]));
    }
    for (int tenths = 1; tenths <= 5; tenths++) {
        WAIT_FOR(sql_number(service->observer, "SELECT count(*) - 3 FROM marks")
                 >= total / 10 * tenths);
        end_backends(service);
    }
    for (int i = 0; i < MOST_CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        created += clients[i].created;
    }
    made = sql_number(service->observer, "SELECT count(*) - 3 FROM marks");
    assert_number("all is done in the end", created, total);
    assert_number("and nothing else", made, total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BATCHING_TEST(concurrent_requests_share_call_where_batched),
        BATCHING_TEST(stalled_operation_delays_no_other_operation),
        BATCHING_TEST(request_waiting_for_connection_leaves_at_own_deadline),
        BATCHING_TEST(leader_without_connection_passes_lead),
        BATCHING_TEST(operation_over_maximum_is_unavailable),
        BATCHING_TEST(slow_request_in_batch_is_cancelled_and_retried_alone),
        BATCHING_TEST(single_calls_over_semaphore_limit_wait),
        BATCHING_TEST(confirmed_writes_with_terminated_sessions_are_exactly_once),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
