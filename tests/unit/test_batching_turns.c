/* SPDX-License-Identifier: Apache-2.0 */

/* Turns of the batches of two child processes, each with its queues and connections. */

#include "batching_fixture.h"

#define FOLLOWERS 5

static const reg_operation_t single_run = {
    .name = "run", .parameters = 1, .alone = 1, .audited = 1};
static const reg_operation_t read_run = {.name = "run", .parameters = 1};

/* Two child processes that share turns. */
typedef struct {
    service_t *first, second;
    int waited, without; /* batches of the second one, as it traces them */
} processes_t;

static void count_step(void *baton, const char *operation, const char *step)
{
    processes_t *processes = (void *)((char *)baton - offsetof(processes_t, second));

    (void)operation;
    if (strcmp(step, "waited for its turn") == 0) {
        __atomic_add_fetch(&processes->waited, 1, __ATOMIC_SEQ_CST);
    }
    else if (strcmp(step, "goes on without its turn") == 0) {
        __atomic_add_fetch(&processes->without, 1, __ATOMIC_SEQ_CST);
    }
}

static int count_without(processes_t *processes)
{
    return __atomic_load_n(&processes->without, __ATOMIC_SEQ_CST);
}

/* @param count of the turns of an operation; 0: none */
static processes_t *start_processes(service_t *service, int count)
{
    apr_pool_t *pool = service->database->pool;
    processes_t *processes = apr_pcalloc(pool, sizeof(*processes));
    const reg_turns_t turns = reg_turns_of_host(
        reg_turns_make(apr_palloc(pool, reg_turns_size())), count, "database");

    processes->first = service;
    processes->second = *service;
    service->batching = reg_batching_make(pool, 64, NULL, &turns);
    service->count = 0;
    processes->second.batching = reg_batching_make(pool, 64, NULL, &turns);
    processes->second.count = 0;
    processes->second.connections.baton = &processes->second;
    processes->second.connections.trace = count_step;
    pthread_mutex_init(&processes->second.mutex, NULL);
    for (int i = 0; i < MOST_CONNECTIONS; i++) {
        processes->second.list[i] = (reg_connection_t){.pg = connect_service(pool)};
    }
    return processes;
}

static void stop_processes(processes_t *processes)
{
    for (int i = 0; i < MOST_CONNECTIONS; i++) {
        PQfinish(processes->second.list[i].pg);
    }
    pthread_mutex_destroy(&processes->second.mutex);
}

/* Starts a request of the first process that runs until `stalled` is empty. */
static client_t *stall_first(processes_t *processes, const reg_operation_t *operation)
{
    client_t *stalled;

    start_over(processes->first->database);
    sql(processes->first->observer, "INSERT INTO marks SELECT id, 0"
                                    "  FROM generate_series(1, 3) AS id;"
                                    "INSERT INTO stalled DEFAULT VALUES");
    stalled = start_client(processes->first, operation, STALLED, 5 * SOON);
    WAIT_FOR(runs(processes->first->database) == 1);
    return stalled;
}

static void end_stall(const processes_t *processes)
{
    sql(processes->first->observer, "DELETE FROM stalled");
}

static void batch_goes_on_without_turn_of_stalled_process(void **state)
{
    static const struct {
        const char *row;
        const reg_operation_t *operation;
        int turns, without;
    } rows[] = {{"one turn", &run_operation, 1, 1},
                {"no turns", &run_operation, 0, 0},
                {"reads", &read_run, 1, 0}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        processes_t *processes = start_processes(*state, rows[i].turns);
        client_t *stalled = stall_first(processes, rows[i].operation);

        await_outcomes(start_client(&processes->second, rows[i].operation, ROW(1), SOON),
                       1, REG_UPDATED);
        assert_waiting(stalled, 1);
        assert_number(rows[i].row, count_without(processes), rows[i].without);
        end_stall(processes);
        await_outcomes(stalled, 1, REG_CREATED);
        stop_processes(processes);
    }
}

/* Repeated until the first process' call ends before the second one has waited for too
 * long, and all requests have been queued meanwhile. */
static void batch_that_waited_for_turn_has_all_queued_requests(void **state)
{
    processes_t *processes = start_processes(*state, 1);
    int has_all = 0;

    for (int i = 0; !has_all; i++) {
        client_t *stalled = stall_first(processes, &run_operation), *waiting;
        int before = processes->waited;

        assert_interval(i, 0, 100);
        waiting = start_clients(&processes->second, 1 + FOLLOWERS, ROW(1));
        apr_sleep(REG_TURN_TIME / 4);
        end_stall(processes);
        await_outcomes(stalled, 1, REG_CREATED);
        await_outcomes(waiting, 1 + FOLLOWERS, REG_UPDATED);
        has_all =
            processes->waited > before && waiting->item.stats.batch == 1 + FOLLOWERS;
        assert_int_equal(value_of(processes->first, 1), 1 + FOLLOWERS);
        processes->first->count = processes->second.count = 0;
    }
    stop_processes(processes);
}

/* Requests for a locked row are called again and again, without a turn. */
static void requests_for_locked_row_take_no_turn(void **state)
{
    processes_t *processes = start_processes(*state, 1);
    client_t *locked;
    int before;

    sql(processes->first->database->administrator,
        "BEGIN; UPDATE marks SET value = 100 WHERE id = 1");
    locked = start_clients(processes->first, 4, ROW(1));
    WAIT_FOR(runs(processes->first->database) >= 6); /* All are in the slow queue. */
    before = processes->waited + processes->without;
    for (int i = 0; i < 10; i++) {
        await_outcomes(start_clients(&processes->second, 1, ROW(2)), 1, REG_UPDATED);
    }
    assert_int_equal(processes->waited + processes->without, before);
    assert_waiting(locked, 4);
    sql(processes->first->database->administrator, "COMMIT");
    await_outcomes(locked, 4, REG_UPDATED);
    stop_processes(processes);
}

/* A call of an operation that is not batched may take long. */
static void single_requests_take_no_turn(void **state)
{
    processes_t *processes = start_processes(*state, 1);
    client_t *stalled;

    sql(processes->first->observer, "INSERT INTO stalled DEFAULT VALUES");
    stalled = start_client(processes->first, &single_run, STALLED, 5 * SOON);
    WAIT_FOR(runs(processes->first->database) == 1);
    for (int i = 0; i < 2; i++) {
        await_outcomes(start_client(&processes->second, i ? &run_operation : &single_run,
                                    ROW(1), SOON),
                       1, REG_UPDATED);
    }
    assert_int_equal(processes->waited + processes->without, 0);
    assert_waiting(stalled, 1);
    end_stall(processes);
    await_outcomes(stalled, 1, REG_CREATED);
    stop_processes(processes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BATCHING_TEST(batch_goes_on_without_turn_of_stalled_process),
        BATCHING_TEST(batch_that_waited_for_turn_has_all_queued_requests),
        BATCHING_TEST(requests_for_locked_row_take_no_turn),
        BATCHING_TEST(single_requests_take_no_turn),
    };

    return cmocka_run_group_tests(tests, make_database, drop_database);
}
