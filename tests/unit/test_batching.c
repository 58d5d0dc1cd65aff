/* SPDX-License-Identifier: Apache-2.0 */

/* Which requests share a call, and how many connections they take up. */

#include "batching_fixture.h"

static const reg_operation_t echo = {.name = "echo", .parameters = 2};
static const reg_operation_t lone_run = {.name = "run", .parameters = 1, .alone = 1};

/*
 * Calls
 */

static void requests_share_a_call_where_they_may(void **state)
{
    static const struct {
        const char *row;
        int batch;
        const reg_operation_t *operation;
        int at_once; /* calls that eight requests make while none of them has ended */
    } rows[] = {
        {"combined", 64, &run_operation, 1},
        {"not combined", 1, &run_operation, 8},
        {"alone", 64, &lone_run, 8},
    };
    service_t *service = *state;

    for (size_t i = 0; i < LENGTH(rows); i++) {
        start_over(service->database);
        sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
        service->batching =
            reg_batching_make(service->database->pool, rows[i].batch, NULL);
        service->count = 0;
        for (int n = 0; n < 8; n++) {
            begin(service, rows[i].operation, STALLED, SOON);
        }
        WAIT_FOR(runs(service->database) >= rows[i].at_once);
        apr_sleep(apr_time_from_msec(100)); /* for those who have to queue up */
        assert_number(rows[i].row, runs(service->database), rows[i].at_once);
        sql(service->observer, "DELETE FROM stalled");
        await(service->clients, 8, REG_CREATED);
        assert_number(rows[i].row, runs(service->database) == 8, rows[i].at_once == 8);
    }
}

static void an_operation_does_not_wait_for_another(void **state)
{
    service_t *service = *state;
    client_t *stalled;

    sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
    stalled = begin_many(service, 3, STALLED);
    WAIT_FOR(runs(service->database) >= 1);
    await(begin(service, &echo, "x", SOON), 1, REG_FOUND);
    await(begin(service, &echo, NULL, SOON), 1, REG_FOUND); /* has no key */
    assert_waiting(stalled, 3);
    sql(service->observer, "DELETE FROM stalled");
    await(stalled, 3, REG_CREATED);
}

static void set_exhausted(service_t *service, int is_exhausted)
{
    __atomic_store_n(&service->is_exhausted, is_exhausted, __ATOMIC_SEQ_CST);
}

/* One of them waits for a connection, and the others neither for it nor with it. */
static void who_waits_for_a_connection_leaves_at_its_own_deadline(void **state)
{
    service_t *service = *state;
    client_t *patient, *impatient;
    apr_time_t start = apr_time_now();

    set_exhausted(service, 1);
    patient = begin_many(service, 3, ROW(1));
    apr_sleep(apr_time_from_msec(50));
    impatient = begin(service, &run_operation, ROW(1), apr_time_from_msec(300));
    await(impatient, 1, REG_UNAVAILABLE);
    assert_in_range(apr_time_now() - start, 0, SOON / 2);
    assert_waiting(patient, 3);
    set_exhausted(service, 0);
    await(patient, 3, REG_UPDATED);
    assert_in_range(runs(service->database), 1, 2); /* They were carried together. */
}

/* The one whose turn it is cannot wait as long as the next. */
static void who_gets_no_connection_passes_the_turn_on(void **state)
{
    service_t *service = *state;
    client_t *impatient, *patient;

    set_exhausted(service, 1);
    impatient = begin(service, &run_operation, ROW(1), apr_time_from_msec(300));
    apr_sleep(apr_time_from_msec(50));
    patient = begin_many(service, 3, ROW(1));
    await(impatient, 1, REG_UNAVAILABLE);
    assert_waiting(patient, 3);
    set_exhausted(service, 0);
    await(patient, 3, REG_UPDATED);
}

static void more_operations_than_there_is_room_for_are_not_called(void **state)
{
    service_t *service = *state;
    static reg_operation_t operations[REG_MAX_OPERATIONS + 1];

    for (int i = 0; i <= REG_MAX_OPERATIONS; i++) {
        operations[i] = run_operation;
        service->count = 0;
        await(begin(service, &operations[i], CREATED, SOON), 1,
              i < REG_MAX_OPERATIONS ? REG_CREATED : REG_UNAVAILABLE);
    }
}

/*
 * Requests that take long
 */

/* Behind one that takes long, and in one batch with another. Each of these is made again
 * by itself, and is done in the end. */
static void one_that_takes_long_holds_up_others_for_a_part_of_their_time(void **state)
{
    service_t *service = *state;
    const apr_interval_time_t patience = apr_time_from_sec(15);
    apr_time_t start = apr_time_now();
    client_t *slow, *quick;

    for (int i = 0; i < MOST_CONNECTIONS; i++) {
        sql(service->list[i].pg, "SET statement_timeout = 0");
    }
    sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
    slow = begin(service, &run_operation, STALLED, patience);
    WAIT_FOR(runs(service->database) == 1);
    quick = begin_many(service, 3, ROW(1));
    begin(service, &run_operation, STALLED, patience);
    begin_many(service, 12, ROW(1));
    for (int i = 0; i < 16; i++) {
        if (i != 3) {
            await(&quick[i], 1, REG_UPDATED);
        }
    }
    assert_in_range(apr_time_now() - start, apr_time_from_sec(1), patience);
    assert_waiting(slow, 1);
    assert_waiting(&quick[3], 1);
    sql(service->observer, "DELETE FROM stalled");
    await(slow, 1, REG_CREATED);
    await(&quick[3], 1, REG_CREATED);
    assert_int_equal(value_of(service, 1), 15);
}

static void no_more_are_called_by_themselves_than_the_gate_lets_in(void **state)
{
    service_t *service = *state;
    reg_semaphore_t *gate = reg_semaphore_make(service->database->pool, 2);
    apr_time_t start = apr_time_now();
    client_t *lone = service->clients;

    service->batching = reg_batching_make(service->database->pool, 64, gate);
    sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
    for (int i = 0; i < 6; i++) {
        begin(service, &lone_run, STALLED, SOON);
    }
    WAIT_FOR(runs(service->database) == 2);
    await(begin(service, &lone_run, STALLED, apr_time_from_msec(300)), 1,
          REG_UNAVAILABLE);
    assert_in_range(apr_time_now() - start, apr_time_from_msec(300) - REG_CALL_TIME,
                    SOON / 2);
    assert_number("inside", runs(service->database), 2);
    await(begin(service, &run_operation, ROW(1), SOON), 1, REG_UPDATED);
    sql(service->observer, "DELETE FROM stalled");
    await(lone, 6, REG_CREATED);
}

/*
 * Connections that break
 */

#define ROWS_OF_A_CLIENT 100

/* A client that makes row after row, in a way that recognizes what it wrote. */
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
        join(client);
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

/* The database as all threads of a child process have it, on several connections at a
 * time.
 */
static void what_is_confirmed_is_done_while_connections_are_ended(void **state)
{
    service_t *service = *state;
    client_t *clients = service->clients;
    int made = 0, created = 0, total = ROWS_OF_A_CLIENT * MOST_CLIENTS;

    service->batching = reg_batching_make(service->database->pool, 8, NULL);
    for (int i = 0; i < MOST_CLIENTS; i++) {
        clients[i] =
            (client_t){.service = service, .operation = &run_operation, .patience = SOON};
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
        DISPATCH_TEST(requests_share_a_call_where_they_may),
        DISPATCH_TEST(an_operation_does_not_wait_for_another),
        DISPATCH_TEST(who_waits_for_a_connection_leaves_at_its_own_deadline),
        DISPATCH_TEST(who_gets_no_connection_passes_the_turn_on),
        DISPATCH_TEST(more_operations_than_there_is_room_for_are_not_called),
        DISPATCH_TEST(one_that_takes_long_holds_up_others_for_a_part_of_their_time),
        DISPATCH_TEST(no_more_are_called_by_themselves_than_the_gate_lets_in),
        DISPATCH_TEST(what_is_confirmed_is_done_while_connections_are_ended),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
