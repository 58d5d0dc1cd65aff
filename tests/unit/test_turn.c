/* SPDX-License-Identifier: Apache-2.0 */

/* Turns in memory that several processes share. */

#include "unit.h"

#include "turn.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOON apr_time_from_sec(30)

#define PROCESSES 4

/* Memory that the processes forked from now on share, initially zero. */
static void *share_memory(size_t size)
{
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

static reg_turn_t *make_block(void)
{
    reg_turn_t *block = reg_turns_make(share_memory(reg_turns_size()));

    assert_non_null(block);
    return block;
}

static int take(reg_turn_t *turn, apr_interval_time_t timeout)
{
    int has_waited;

    return reg_turn_take(turn, apr_time_now() + timeout, &has_waited);
}

/* Takes a turn and keeps it. */
static void keep_turn(reg_turn_t *turn, void *is_taken)
{
    __atomic_store_n((int *)is_taken, take(turn, SOON), __ATOMIC_SEQ_CST);
    pause();
}

/* Forks a process that runs a function and ends. */
static pid_t start_process(void (*function)(reg_turn_t *turn, void *data),
                           reg_turn_t *turn, void *data)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        function(turn, data);
        _exit(0);
    }
    return pid;
}

static void kill_process(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Starts a process that has the turn. */
static pid_t start_owner(reg_turn_t *turn)
{
    int *is_taken = share_memory(sizeof(*is_taken));
    pid_t pid = start_process(keep_turn, turn, is_taken);

    while (!__atomic_load_n(is_taken, __ATOMIC_SEQ_CST)) {
        assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
        apr_sleep(apr_time_from_msec(1));
    }
    return pid;
}

/* A turn of an operation in a database. */
static reg_turn_t *find(reg_turn_t *block, int count, const char *database,
                        const char *operation, const char *key)
{
    reg_turns_t turns =
        reg_turns_of_operation(reg_turns_of_host(block, count, database), operation);

    return reg_turns_find(&turns, key);
}

static void same_key_has_same_turn(void **state)
{
    reg_turn_t *block = make_block();
    reg_turn_t *turn = find(block, 8, "database", "operation", "key");
    int different = 0;

    (void)state;
    assert_ptr_equal(find(block, 8, "database", "operation", "key"), turn);
    for (char key[] = "a"; *key <= 'z'; ++*key) {
        different += find(block, 8, "database", "operation", key) != turn;
        assert_ptr_equal(find(block, 1, "database", "operation", key),
                         find(block, 1, "database", "operation", "key"));
    }
    assert_interval(different, 1, 26);
    assert_ptr_not_equal(find(block, 8, "database", "another", "key"), turn);
    assert_ptr_not_equal(find(block, 8, "another", "operation", "key"), turn);
}

static void no_turn_is_found_where_switched_off(void **state)
{
    reg_turn_t *turn = NULL;

    (void)state;
    assert_null(find(make_block(), 0, "database", "operation", "key"));
    assert_null(find(NULL, 1, "database", "operation", "key"));
    reg_turn_give(&turn);
}

static void turn_of_other_process_is_waited_for_until_deadline(void **state)
{
    static const apr_interval_time_t timeouts[] = {0, REG_TURN_TIME / 4, SOON};
    reg_turn_t *turn = make_block();
    pid_t owner = start_owner(turn);

    (void)state;
    for (size_t i = 0; i < LENGTH(timeouts); i++) {
        apr_time_t start = apr_time_now();
        int has_waited = 0;

        assert_false(reg_turn_take(turn, start + timeouts[i], &has_waited));
        assert_true(has_waited);
        assert_interval(apr_time_now() - start, MIN(timeouts[i], REG_TURN_TIME), SOON);
    }
    kill_process(owner);
}

static void turn_given_back_is_taken_without_wait(void **state)
{
    reg_turn_t *turn = make_block();

    (void)state;
    for (int i = 0; i < 3; i++) {
        reg_turn_t *own = turn;
        int has_waited = 1;

        assert_true(reg_turn_take(turn, apr_time_now(), &has_waited));
        assert_false(has_waited);
        reg_turn_give(&own);
        assert_null(own);
    }
}

/* The control: a mutex that is not robust, in the same place, stays locked. */
static void turn_of_killed_process_is_taken_if_mutex_is_robust(void **state)
{
    pthread_mutexattr_t shared;

    (void)state;
    pthread_mutexattr_init(&shared);
    pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    for (int is_robust = 0; is_robust <= 1; is_robust++) {
        reg_turn_t *turn = make_block();

        if (!is_robust) { /* a turn begins with its mutex */
            pthread_mutex_init((pthread_mutex_t *)turn, &shared);
        }
        for (int i = 0; i < 3; i++) {
            reg_turn_t *own = turn;

            if (i == 0 || is_robust) {
                kill_process(start_owner(turn));
            }
            assert_number(is_robust ? "robust" : "not robust", take(turn, SOON),
                          is_robust);
            if (is_robust) {
                reg_turn_give(&own);
            }
        }
    }
    pthread_mutexattr_destroy(&shared);
}

/* A process is killed while another one waits for its turn. */
static void turn_of_killed_process_wakes_waiting_process(void **state)
{
    reg_turn_t *turn = make_block();
    int woken = 0;

    (void)state;
    for (int i = 0; i < 20 || !woken; i++) {
        pid_t owner = start_owner(turn), killer = fork();
        reg_turn_t *own = turn;
        int has_waited = 0;

        if (killer == 0) {
            apr_sleep(apr_time_from_msec(i % 20));
            kill(owner, SIGKILL);
            _exit(0);
        }
        if (reg_turn_take(turn, apr_time_now() + SOON, &has_waited)) {
            reg_turn_give(&own);
            woken += has_waited;
        }
        waitpid(killer, NULL, 0);
        waitpid(owner, NULL, 0);
        assert_interval(i, 0, 1000);
    }
}

/* The memory in which processes record their turns. */
typedef struct {
    pid_t owner, victim; /* the process killed last */
    int turns, violations;
} record_t;

/* Takes turns until it is killed. Only the victim may have left its turn without giving
 * it back. */
static void take_turns(reg_turn_t *turn, void *data)
{
    record_t *record = data;

    for (;;) {
        reg_turn_t *own = turn;

        if (take(turn, SOON)) {
            pid_t other = __atomic_exchange_n(&record->owner, getpid(), __ATOMIC_SEQ_CST);

            record->turns++;
            record->violations += other != 0 && other != record->victim;
            __atomic_store_n(&record->owner, 0, __ATOMIC_SEQ_CST);
            reg_turn_give(&own);
        }
    }
}

static void turns_of_processes_exclude_each_other_while_some_are_killed(void **state)
{
    reg_turn_t *turn = make_block();
    record_t *record = share_memory(sizeof(*record));
    pid_t processes[PROCESSES];

    (void)state;
    for (int i = 0; i < PROCESSES; i++) {
        processes[i] = start_process(take_turns, turn, record);
    }
    for (int i = 0; i < 50; i++) {
        int before = __atomic_load_n(&record->turns, __ATOMIC_SEQ_CST);
        apr_time_t end = apr_time_now() + SOON;

        __atomic_store_n(&record->victim, processes[i % PROCESSES], __ATOMIC_SEQ_CST);
        kill_process(processes[i % PROCESSES]);
        while (__atomic_load_n(&record->turns, __ATOMIC_SEQ_CST) < before + 100) {
            assert_true(apr_time_now() < end);
            apr_sleep(100);
        }
        processes[i % PROCESSES] = start_process(take_turns, turn, record);
    }
    for (int i = 0; i < PROCESSES; i++) {
        kill_process(processes[i]);
    }
    assert_int_equal(record->violations, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_key_has_same_turn),
        cmocka_unit_test(no_turn_is_found_where_switched_off),
        cmocka_unit_test(turn_of_other_process_is_waited_for_until_deadline),
        cmocka_unit_test(turn_given_back_is_taken_without_wait),
        cmocka_unit_test(turn_of_killed_process_is_taken_if_mutex_is_robust),
        cmocka_unit_test(turn_of_killed_process_wakes_waiting_process),
        cmocka_unit_test(turns_of_processes_exclude_each_other_while_some_are_killed),
    };

    return RUN_TESTS(tests);
}
