/* SPDX-License-Identifier: Apache-2.0 */

/* Which requests share a call, and how many connections they take up. On a real
 * PostgreSQL, by whose locks they are told apart. */

#include "store_fixture.h"

#include "dispatch.h"

#include <errno.h>
#include <pthread.h>

#define MOST_CLIENTS 20
#define MOST_CONNECTIONS 8

/* Time for some calls to find a row locked. */
#define A_WHILE apr_time_from_msec(3 * REG_LOCK_TIMEOUT)

/* A request for a row. Its text is its key as well: what it competes for. */
#define ROW(id)                                                                          \
    "UPDATE marks SET value = value + 1 WHERE id = " #id                                 \
    " RETURNING $1, 'updated', NULL, NULL"

/* A request that lasts until the administrator lets it end. */
#define STALLED "SELECT $1, 'created', NULL, stall()"

static const reg_operation_t echo = {.name = "echo", .parameters = 2};
static const reg_operation_t lone_run = {.name = "run", .parameters = 1, .alone = 1};

/* A thread with a request. */
typedef struct {
    pthread_t thread;
    struct service_t *service;
    const reg_operation_t *operation;
    const char *values[2];
    apr_interval_time_t patience;
    reg_item_t item;
    int created;
} client_t;

/* What a child process of httpd has for one database, and its clients. */
typedef struct service_t {
    store_t *store;
    PGconn *observer; /* an administrator who is in no transaction */
    reg_dispatch_t *dispatch;
    reg_connections_t connections;
    pthread_mutex_t mutex; /* of who uses which connection */
    reg_connection_t list[MOST_CONNECTIONS];
    int is_used[MOST_CONNECTIONS];
    int used;
    int is_exhausted; /* who wants a connection waits for one in vain */
    client_t clients[MOST_CLIENTS];
    int count;
} service_t;

static void check_in(void *baton, reg_connection_t *connection)
{
    service_t *service = baton;

    pthread_mutex_lock(&service->mutex);
    service->is_used[connection - service->list] = 0;
    service->used--;
    pthread_mutex_unlock(&service->mutex);
}

static reg_connection_t *check_out(void *baton, apr_time_t deadline)
{
    service_t *service = baton;
    int i = 0;

    while (__atomic_load_n(&service->is_exhausted, __ATOMIC_SEQ_CST)) {
        if (apr_time_now() >= deadline) {
            return NULL;
        }
        apr_sleep(apr_time_from_msec(1));
    }
    pthread_mutex_lock(&service->mutex);
    while (i < MOST_CONNECTIONS && service->is_used[i]) {
        i++;
    }
    if (i < MOST_CONNECTIONS) {
        service->is_used[i] = 1;
        service->used++;
    }
    pthread_mutex_unlock(&service->mutex);
    if (i < MOST_CONNECTIONS && !reg_connection_refresh(&service->list[i])) {
        check_in(service, &service->list[i]);
        return NULL;
    }
    return i < MOST_CONNECTIONS ? &service->list[i] : NULL;
}

static void ignore_report(void *baton, const char *message)
{
    (void)baton;
    (void)message;
}

static int make_service(void **state)
{
    service_t *service;
    store_t *store;

    make_store(state);
    store = *state;
    service = *state = apr_pcalloc(store->pool, sizeof(*service));
    service->store = store;
    service->observer = connect_administrator(store->pool, database_name(store->pool));
    service->dispatch = reg_dispatch_make(store->pool, 64, 1, NULL);
    service->connections =
        (reg_connections_t){check_out, check_in, ignore_report, service, NULL};
    pthread_mutex_init(&service->mutex, NULL);
    for (int i = 0; i < MOST_CONNECTIONS; i++) {
        service->list[i].pg = connect_service(store->pool);
    }
    sql(store->administrator,
        "INSERT INTO marks SELECT id, 0 FROM generate_series(1, 3) AS id");
    return 0;
}

static int destroy_service(void **state)
{
    service_t *service = *state;
    int used = service->used;

    for (int i = 0; i < MOST_CONNECTIONS; i++) {
        PQfinish(service->list[i].pg);
    }
    PQfinish(service->observer);
    pthread_mutex_destroy(&service->mutex);
    *state = service->store;
    return destroy_store(state) || used;
}

#define DISPATCH_TEST(function)                                                          \
    cmocka_unit_test_setup_teardown(function, make_service, destroy_service)

static void *join(void *data)
{
    client_t *client = data;
    service_t *service = client->service;

    apr_pool_create(&client->item.pool, NULL);
    reg_dispatch_run(service->dispatch, &service->connections, client->item.pool,
                     client->operation, &client->item, apr_time_now() + client->patience);
    apr_pool_destroy(client->item.pool);
    return NULL;
}

static client_t *begin(service_t *service, const reg_operation_t *operation,
                       const char *value, apr_interval_time_t patience)
{
    client_t *client = &service->clients[service->count++];

    assert_in_range(service->count, 1, MOST_CLIENTS);
    *client = (client_t){.service = service,
                         .operation = operation,
                         .values = {value, NULL},
                         .patience = patience};
    client->item.values = client->values;
    assert_int_equal(0, pthread_create(&client->thread, NULL, join, client));
    return client;
}

static client_t *begin_many(service_t *service, int count, const char *script)
{
    client_t *first = &service->clients[service->count];

    for (int i = 0; i < count; i++) {
        begin(service, &run_operation, script, SOON);
    }
    return first;
}

static void await(client_t *clients, int count, reg_outcome_t outcome)
{
    for (int i = 0; i < count; i++) {
        pthread_join(clients[i].thread, NULL);
        assert_text(clients[i].values[0], outcome_name(clients[i].item.answer.outcome),
                    outcome_name(outcome));
    }
}

static void assert_waiting(const client_t *clients, int count)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(pthread_tryjoin_np(clients[i].thread, NULL), EBUSY);
    }
}

#define WAIT_FOR(condition)                                                              \
    for (apr_time_t end = apr_time_now() + SOON; !(condition);                           \
         apr_sleep(apr_time_from_msec(1))) {                                             \
        assert_true(apr_time_now() < end);                                               \
    }

/* How many connections wait for a lock. */
static int held_up(const service_t *service)
{
    return sql_number(service->observer,
                      "SELECT count(*) FROM pg_stat_activity"
                      " WHERE usename = 'registration' AND wait_event_type = 'Lock'"
                      "   AND datname = current_database()");
}

/* The most connections that are seen to wait for a lock in a while. */
static int most_held_up(const service_t *service)
{
    apr_time_t end = apr_time_now() + A_WHILE;
    int most = 0;

    while (apr_time_now() < end) {
        int now = held_up(service);

        most = now > most ? now : most;
        apr_sleep(apr_time_from_msec(2));
    }
    return most;
}

static int value_of(const service_t *service, int id)
{
    return sql_number(
        service->observer,
        apr_psprintf(service->store->pool, "SELECT value FROM marks WHERE id = %d", id));
}

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
        start_over(service->store);
        sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
        service->dispatch =
            reg_dispatch_make(service->store->pool, rows[i].batch, 1, NULL);
        service->count = 0;
        for (int n = 0; n < 8; n++) {
            begin(service, rows[i].operation, STALLED, SOON);
        }
        WAIT_FOR(runs(service->store) >= rows[i].at_once);
        apr_sleep(apr_time_from_msec(100)); /* for those who have to queue up */
        assert_number(rows[i].row, runs(service->store), rows[i].at_once);
        sql(service->observer, "DELETE FROM stalled");
        await(service->clients, 8, REG_CREATED);
        assert_number(rows[i].row, runs(service->store) == 8, rows[i].at_once == 8);
    }
}

static void an_operation_does_not_wait_for_another(void **state)
{
    service_t *service = *state;
    client_t *stalled;

    sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
    stalled = begin_many(service, 3, STALLED);
    WAIT_FOR(runs(service->store) >= 1);
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
    assert_in_range(runs(service->store), 1, 2); /* They were carried together. */
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

#define SLOW(seconds) "SELECT $1, 'created', NULL, pg_sleep(" #seconds ")::text -- slow"

/* Behind one that takes long, and in one batch with another. Each of these is done as
 * well, by itself. */
static void one_that_takes_long_holds_up_others_for_a_part_of_their_time(void **state)
{
    service_t *service = *state;
    const apr_interval_time_t patience = apr_time_from_sec(10);
    apr_time_t start = apr_time_now();
    client_t *slow, *quick;

    slow = begin(service, &run_operation, SLOW(3), patience);
    WAIT_FOR(runs(service->store) == 1);
    quick = begin_many(service, 3, ROW(1));
    begin(service, &run_operation, SLOW(3), patience);
    begin_many(service, 12, ROW(1));
    for (int i = 0; i < 16; i++) {
        if (i != 3) {
            await(&quick[i], 1, REG_UPDATED);
        }
    }
    assert_in_range(apr_time_now() - start, apr_time_from_sec(1), apr_time_from_sec(6));
    assert_waiting(slow, 1);
    assert_waiting(&quick[3], 1);
    await(slow, 1, REG_CREATED);
    await(&quick[3], 1, REG_CREATED);
    assert_int_equal(value_of(service, 1), 15);
}

static void no_more_are_called_by_themselves_than_the_gate_lets_in(void **state)
{
    service_t *service = *state;
    reg_gate_t *gate = reg_gate_make(service->store->pool, 2);
    apr_time_t start = apr_time_now();
    client_t *lone = service->clients;

    service->dispatch = reg_dispatch_make(service->store->pool, 64, 1, gate);
    sql(service->observer, "INSERT INTO stalled DEFAULT VALUES");
    for (int i = 0; i < 6; i++) {
        begin(service, &lone_run, STALLED, SOON);
    }
    WAIT_FOR(runs(service->store) == 2);
    await(begin(service, &lone_run, STALLED, apr_time_from_msec(300)), 1,
          REG_UNAVAILABLE);
    assert_in_range(apr_time_now() - start, apr_time_from_msec(300) - REG_CALL_TIME,
                    SOON / 2);
    assert_number("inside", runs(service->store), 2);
    await(begin(service, &run_operation, ROW(1), SOON), 1, REG_UPDATED);
    sql(service->observer, "DELETE FROM stalled");
    await(lone, 6, REG_CREATED);
}

/*
 * Locked rows
 */

static void a_locked_row_holds_up_only_those_who_want_it(void **state)
{
    service_t *service = *state;
    client_t *locked, *late;
    int before;

    sql(service->store->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    locked = begin_many(service, 6, ROW(1));
    WAIT_FOR(runs(service->store) >= 8); /* All have come back from the first queue. */

    /* Nobody meets one of them in a call, and then has to be called once more. */
    before = runs(service->store);
    for (int i = 0; i < 10; i++) {
        await(begin(service, &run_operation, ROW(2), SOON), 1, REG_UPDATED);
    }
    assert_in_range(runs(service->store) - before, 10, 15);
    assert_waiting(locked, 6);

    /* One more does not wait in another place. */
    late = begin(service, &run_operation, ROW(1), SOON);
    assert_int_equal(most_held_up(service), 1);

    sql(service->store->administrator, "COMMIT");
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
    WAIT_FOR(runs(service->store) >= 1);
    sql(service->store->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    locked = begin_many(service, 8, ROW(1)); /* more than one batch */
    apr_sleep(apr_time_from_msec(100));      /* for all to queue up */
    sql(service->observer, "DELETE FROM stalled");
    assert_int_equal(most_held_up(service), 1);
    assert_waiting(locked, 8);
    sql(service->store->administrator, "COMMIT");
    await(stalled, 1, REG_CREATED);
    await(locked, 8, REG_UPDATED);
    assert_int_equal(value_of(service, 1), 108);
}

static void a_row_that_is_free_again_does_not_wait_for_another(void **state)
{
    service_t *service = *state;
    client_t *first, *second;

    sql(service->store->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 2");
    sql(service->store->connection.pg,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    first = begin_many(service, 4, ROW(1));
    second = begin_many(service, 4, ROW(2));
    WAIT_FOR(runs(service->store) >= 14);
    assert_int_equal(most_held_up(service), 1);

    sql(service->store->connection.pg, "COMMIT");
    await(first, 4, REG_UPDATED);
    assert_waiting(second, 4);
    sql(service->store->administrator, "COMMIT");
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

    service->dispatch = reg_dispatch_make(service->store->pool, 1, 1, NULL);
    sql(service->store->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    locked = begin_many(service, 6, ROW(1));
    apr_sleep(A_WHILE); /* until each has found it locked */
    assert_int_equal(most_held_up(service), 1);
    others = begin_many(service, 6, ROW(2));
    await(others, 6, REG_UPDATED);
    assert_waiting(locked, 6);
    before = runs(service->store);
    sql(service->store->administrator, "COMMIT");
    await(locked, 6, REG_UPDATED);
    assert_in_range(runs(service->store) - before, 5, 50); /* one under way */
    assert_int_equal(value_of(service, 1), 106);
}

static void who_waits_in_vain_is_told_so_and_leaves_nothing_behind(void **state)
{
    service_t *service = *state;
    const apr_interval_time_t patience = apr_time_from_sec(1);
    apr_time_t start = apr_time_now();
    client_t *patient;

    sql(service->store->administrator,
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
    sql(service->store->administrator, "ROLLBACK");
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
        sql(service->store->administrator,
            apr_psprintf(service->store->pool,
                         "BEGIN; UPDATE marks SET value = value WHERE id = %d", id));
        apr_sleep(A_WHILE / 2);
        sql(service->store->administrator, "COMMIT");
        apr_sleep(apr_time_from_msec(20));
    }
    await(clients, MOST_CLIENTS, REG_UPDATED);
    for (int id = 1; id <= 3; id++) {
        done += value_of(service, id);
    }
    assert_int_equal(done, 200 * MOST_CLIENTS);
    assert_in_range(runs(service->store), 1, 200 * MOST_CLIENTS / 2);
}

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

/* The store as all threads of a child process have it, on several connections at a time.
 */
static void what_is_confirmed_is_done_while_connections_are_ended(void **state)
{
    service_t *service = *state;
    client_t *clients = service->clients;
    int made = 0, created = 0, total = ROWS_OF_A_CLIENT * MOST_CLIENTS;

    service->dispatch = reg_dispatch_make(service->store->pool, 8, 4, NULL);
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
        DISPATCH_TEST(a_locked_row_holds_up_only_those_who_want_it),
        DISPATCH_TEST(who_came_before_the_row_was_found_locked_is_not_called),
        DISPATCH_TEST(a_row_that_is_free_again_does_not_wait_for_another),
        DISPATCH_TEST(who_waits_for_a_row_shares_a_connection_where_nothing_is_combined),
        DISPATCH_TEST(who_waits_in_vain_is_told_so_and_leaves_nothing_behind),
        DISPATCH_TEST(every_request_is_done_once_while_rows_are_locked_now_and_then),
        DISPATCH_TEST(what_is_confirmed_is_done_while_connections_are_ended),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
