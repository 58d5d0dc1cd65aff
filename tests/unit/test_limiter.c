/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "limiter.h"
#include "threads.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/param.h>

/* Long enough for a thread to have begun to wait; nothing fails if it has not. */
#define A_MOMENT apr_time_from_msec(50)

/* Long enough for the limiter's thread to have begun an attempt to connect. */
#define LONG_ENOUGH apr_time_from_sec(1)

/* So long that a test that waits for it has failed. */
#define FOR_EVER apr_time_from_sec(20)

enum { MOST_MADE = 64 };

/* What the limiter's connections are made of. */
typedef struct {
    int made[MOST_MADE]; /* a connection is the address of one; how often it was made */
    int count, closed;
    int attempts;
    int fails; /* an attempt to connect does */
    int hangs; /* an attempt waits for `go_on` */
    sem_t go_on;
    int connecting, most_connecting;
} source_t;

static source_t source;

static void *connect_source(void *baton, void *broken)
{
    source_t *from = baton;
    int *made = broken ? broken : &from->made[from->count];

    from->connecting++;
    from->most_connecting = MAX(from->most_connecting, from->connecting);
    __atomic_add_fetch(&from->attempts, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&from->hangs, __ATOMIC_SEQ_CST)) {
        sem_wait(&from->go_on);
    }
    from->connecting--;
    if (__atomic_load_n(&from->fails, __ATOMIC_SEQ_CST)) {
        return NULL;
    }
    from->count += !broken;
    ++*made;
    return made;
}

static void close_source(void *baton, void *connection)
{
    (void)connection;
    ((source_t *)baton)->closed++;
}

static reg_limiter_t *make_limiter(void **state, int most)
{
    const reg_connector_t connector = {connect_source, close_source, &source};

    source = (source_t){0};
    sem_init(&source.go_on, 0, 0);
    return reg_limiter_make(*state, most, &connector);
}

static int attempts(void)
{
    return __atomic_load_n(&source.attempts, __ATOMIC_SEQ_CST);
}

/* A request in a thread of its own. cmocka's assertions work in the main thread only. */
typedef struct {
    pthread_t thread;
    pid_t id; /* of the thread, once it asks */
    reg_limiter_t *limiter;
    apr_interval_time_t patience, took;
    int *connection;
    reg_limiter_refusal_t refusal;
    int turn; /* when it was served, counted */
} request_t;

static int turns; /* changed by the request that holds the only connection */

static void *ask(void *data)
{
    request_t *request = data;
    apr_time_t start = apr_time_now();

    __atomic_store_n(&request->id, gettid(), __ATOMIC_SEQ_CST);
    request->connection =
        reg_limiter_enter(request->limiter, start + request->patience, &request->refusal);
    request->took = apr_time_now() - start;
    if (request->connection) {
        request->turn = ++turns;
        reg_limiter_leave(request->limiter, request->connection, 1);
    }
    return NULL;
}

static void begin(request_t *request, reg_limiter_t *limiter,
                  apr_interval_time_t patience)
{
    *request = (request_t){.limiter = limiter, .patience = patience};
    assert_int_equal(0, pthread_create(&request->thread, NULL, ask, request));
}

static void end(request_t *requests, int count)
{
    for (int i = 0; i < count; i++) {
        pthread_join(requests[i].thread, NULL);
    }
}

/* Takes a connection in this thread; NULL: there was none. */
static int *take(reg_limiter_t *limiter, apr_interval_time_t patience,
                 reg_limiter_refusal_t *refusal)
{
    return reg_limiter_enter(limiter, apr_time_now() + patience, refusal);
}

static void a_connection_is_made_once_and_kept(void **state)
{
    reg_limiter_t *limiter = make_limiter(state, 3);
    reg_limiter_refusal_t refusal;

    for (int i = 0; i < 5; i++) {
        int *connection = take(limiter, FOR_EVER, &refusal);

        assert_ptr_equal(connection, &source.made[0]);
        reg_limiter_leave(limiter, connection, 1);
    }
    reg_limiter_stop(limiter);
    assert_int_equal(source.count, 1);
    assert_int_equal(source.closed, 1);
}

static void no_more_connections_are_made_than_the_limit(void **state)
{
    reg_limiter_t *limiter = make_limiter(state, 3);
    reg_limiter_refusal_t refusal;
    apr_time_t start;

    reg_limiter_limit(limiter, 5);
    reg_limiter_limit(limiter, 2);
    reg_limiter_limit(limiter, 3);
    assert_non_null(take(limiter, FOR_EVER, &refusal));
    assert_non_null(take(limiter, FOR_EVER, &refusal));
    start = apr_time_now();
    assert_null(take(limiter, 4 * A_MOMENT, &refusal));
    assert_in_range(apr_time_now() - start, 4 * A_MOMENT, FOR_EVER / 2);
    assert_int_equal(refusal, REG_LIMITER_BUSY);
    assert_null(take(limiter, -A_MOMENT, &refusal));
    reg_limiter_stop(limiter);
    assert_int_equal(source.count, 2);
    assert_int_equal(source.closed, 2); /* those in use too */
}

static void requests_are_served_in_the_order_in_which_they_came(void **state)
{
    enum { REQUESTS = 8 };
    reg_limiter_t *limiter = make_limiter(state, 1);
    reg_limiter_refusal_t refusal;
    request_t requests[REQUESTS];
    int *connection = take(limiter, FOR_EVER, &refusal);

    turns = 0;
    for (int i = 0; i < REQUESTS; i++) {
        begin(&requests[i], limiter, i == 3 ? A_MOMENT : FOR_EVER);
        await_sleep(&requests[i].id);
    }
    pthread_join(requests[3].thread, NULL); /* leaves at its deadline */
    reg_limiter_leave(limiter, connection, 1);
    end(requests, 3);
    end(&requests[4], REQUESTS - 4);
    for (int i = 0; i < REQUESTS; i++) {
        assert_number(apr_itoa(*state, i), requests[i].turn, i == 3 ? 0 : i + (i < 3));
    }
    reg_limiter_stop(limiter);
}

static void an_attempt_that_hangs_delays_no_request_beyond_its_deadline(void **state)
{
    reg_limiter_t *limiter = make_limiter(state, 2);
    reg_limiter_refusal_t refusal;
    int *connection = take(limiter, FOR_EVER, &refusal);
    apr_time_t start;
    request_t requests[4];

    source.hangs = 1;
    for (int i = 0; i < 4; i++) {
        begin(&requests[i], limiter, LONG_ENOUGH);
    }
    end(requests, 4);
    for (int i = 0; i < 4; i++) {
        assert_null(requests[i].connection);
        assert_int_equal(requests[i].refusal, REG_LIMITER_CONNECTING);
        assert_in_range(requests[i].took, LONG_ENOUGH, FOR_EVER / 2);
    }
    /* The connection that works is used meanwhile. */
    start = apr_time_now();
    for (int i = 0; i < 100; i++) {
        reg_limiter_leave(limiter, connection, 1);
        connection = take(limiter, FOR_EVER, &refusal);
        assert_ptr_equal(connection, &source.made[0]);
    }
    assert_in_range(apr_time_now() - start, 0, FOR_EVER / 2);
    assert_int_equal(attempts(), 2);
    sem_post(&source.go_on);
    assert_ptr_equal(take(limiter, FOR_EVER, &refusal), &source.made[1]);
    reg_limiter_stop(limiter);
    assert_int_equal(source.most_connecting, 1);
}

static void a_failed_attempt_refuses_all_for_a_second(void **state)
{
    reg_limiter_t *limiter = make_limiter(state, 2);
    reg_limiter_refusal_t refusal;
    int *connection = take(limiter, FOR_EVER, &refusal);
    request_t requests[4];
    apr_time_t failed;

    __atomic_store_n(&source.fails, 1, __ATOMIC_SEQ_CST);
    source.hangs = 1;
    for (int i = 0; i < 4; i++) {
        begin(&requests[i], limiter, FOR_EVER);
    }
    apr_sleep(A_MOMENT);
    failed = apr_time_now();
    sem_post(&source.go_on);
    end(requests, 4);
    for (int i = 0; i < 4; i++) {
        assert_null(requests[i].connection);
        assert_in_range(requests[i].took, 0, FOR_EVER / 2);
    }
    while (apr_time_now() < failed + REG_BREAKER_OPEN_TIME / 2) {
        assert_null(take(limiter, FOR_EVER, &refusal));
        assert_int_equal(refusal, REG_LIMITER_OPEN_BREAKER);
        apr_sleep(A_MOMENT);
    }
    assert_int_equal(attempts(), 2);

    /* An idle connection is used all the same. */
    reg_limiter_leave(limiter, connection, 1);
    assert_ptr_equal(take(limiter, FOR_EVER, &refusal), connection);

    source.hangs = 0;
    __atomic_store_n(&source.fails, 0, __ATOMIC_SEQ_CST);
    while (!take(limiter, FOR_EVER, &refusal)) {
        assert_int_equal(refusal, REG_LIMITER_OPEN_BREAKER);
        assert_in_range(apr_time_now() - failed, 0, FOR_EVER);
        apr_sleep(A_MOMENT);
    }
    assert_true(apr_time_now() - failed >= REG_BREAKER_OPEN_TIME);
    reg_limiter_stop(limiter);
}

/* Whatever the session before was doing is to be cancelled soon. */
static void a_broken_connection_is_made_again_though_no_request_waits(void **state)
{
    reg_limiter_t *limiter = make_limiter(state, 1);
    reg_limiter_refusal_t refusal;
    int *connection = take(limiter, FOR_EVER, &refusal);
    apr_time_t start = apr_time_now();

    reg_limiter_leave(limiter, connection, 0);
    while (attempts() < 2) {
        assert_in_range(apr_time_now() - start, 0, FOR_EVER);
        apr_sleep(apr_time_from_msec(1));
    }
    assert_ptr_equal(take(limiter, FOR_EVER, &refusal), connection);
    assert_int_equal(*connection, 2);

    /* Also when the first attempt fails. */
    __atomic_store_n(&source.fails, 1, __ATOMIC_SEQ_CST);
    reg_limiter_leave(limiter, connection, 0);
    while (attempts() < 3) {
        apr_sleep(apr_time_from_msec(1));
    }
    __atomic_store_n(&source.fails, 0, __ATOMIC_SEQ_CST);
    while (!(connection = take(limiter, FOR_EVER, &refusal))) {
        assert_in_range(apr_time_now() - start, 0, FOR_EVER);
        apr_sleep(A_MOMENT);
    }
    assert_ptr_equal(connection, &source.made[0]);
    reg_limiter_stop(limiter);
    assert_int_equal(source.count, 1);
    assert_int_equal(source.closed, 1);
}

/* A connection that comes back at the deadline of the first request must reach the
 * second. The moment is met by luck, so it is tried often. */
static void a_connection_is_not_lost_on_a_request_that_leaves(void **state)
{
    for (int i = 0; i < 200; i++) {
        reg_limiter_t *limiter = make_limiter(state, 1);
        reg_limiter_refusal_t refusal;
        int *connection = take(limiter, FOR_EVER, &refusal);
        apr_time_t deadline = apr_time_now() + apr_time_from_msec(5);
        request_t hasty, patient;

        begin(&hasty, limiter, deadline - apr_time_now());
        apr_sleep(apr_time_from_msec(2)); /* so that the hasty one is first in line */
        begin(&patient, limiter, FOR_EVER);
        while (apr_time_now() < deadline - i % 60) {
        }
        reg_limiter_leave(limiter, connection, 1);
        end(&hasty, 1);
        end(&patient, 1);
        assert_number(apr_itoa(*state, i),
                      patient.connection && patient.took < FOR_EVER / 2, 1);
        reg_limiter_stop(limiter);
    }
}

/*
 * A crowd
 */

enum { CROWD = 16, PLACES = 3, VISITS = 200 };

static struct {
    reg_limiter_t *limiter;
    int in_use, most_in_use, refused;
} crowd;

static void *come_and_go(void *data)
{
    for (int i = 0; i < VISITS; i++) {
        reg_limiter_refusal_t refusal;
        int *connection = take(crowd.limiter, FOR_EVER, &refusal);
        int now;

        if (!connection) {
            __atomic_add_fetch(&crowd.refused, 1, __ATOMIC_SEQ_CST);
            continue;
        }
        now = __atomic_add_fetch(&crowd.in_use, 1, __ATOMIC_SEQ_CST);
        while (now > __atomic_load_n(&crowd.most_in_use, __ATOMIC_SEQ_CST)) {
            __atomic_store_n(&crowd.most_in_use, now, __ATOMIC_SEQ_CST);
        }
        ++*connection; /* by its holder alone: ThreadSanitizer looks */
        apr_sleep(i % 3 * 100);
        __atomic_sub_fetch(&crowd.in_use, 1, __ATOMIC_SEQ_CST);
        reg_limiter_leave(crowd.limiter, connection, (i + (int)(size_t)data) % 7 != 0);
    }
    return NULL;
}

static void a_crowd_gets_through(void **state)
{
    pthread_t threads[CROWD];
    int uses = 0;

    crowd.limiter = make_limiter(state, PLACES);
    for (size_t i = 0; i < CROWD; i++) {
        assert_int_equal(0, pthread_create(&threads[i], NULL, come_and_go, (void *)i));
    }
    for (int i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
    }
    reg_limiter_stop(crowd.limiter);
    assert_int_equal(crowd.refused, 0);
    assert_int_equal(crowd.most_in_use, PLACES);
    assert_int_equal(source.most_connecting, 1);
    assert_int_equal(source.count, PLACES);
    assert_int_equal(source.closed, PLACES);
    for (int i = 0; i < PLACES; i++) {
        uses += source.made[i];
    }
    assert_int_equal(uses, CROWD * VISITS + source.attempts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(a_connection_is_made_once_and_kept),
        POOL_TEST(no_more_connections_are_made_than_the_limit),
        POOL_TEST(requests_are_served_in_the_order_in_which_they_came),
        POOL_TEST(an_attempt_that_hangs_delays_no_request_beyond_its_deadline),
        POOL_TEST(a_failed_attempt_refuses_all_for_a_second),
        POOL_TEST(a_broken_connection_is_made_again_though_no_request_waits),
        POOL_TEST(a_connection_is_not_lost_on_a_request_that_leaves),
        POOL_TEST(a_crowd_gets_through),
    };

    return RUN_TESTS(tests);
}
