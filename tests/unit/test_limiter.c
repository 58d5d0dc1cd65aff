/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "limiter.h"
#include "threads.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/param.h>

/* Enough for a thread to begin to wait; the test passes if it has not. */
#define SHORT_TIME apr_time_from_msec(50)

/* Long enough for the limiter's thread to have begun an attempt to connect. */
#define LONG_ENOUGH apr_time_from_sec(1)

/* A test that waits for so long has failed. */
#define LONG_TIME apr_time_from_sec(20)

enum { MOST_MADE = 64 };

/* A source of connections in place of a database. */
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
    pid_t id; /* of the thread, set before it waits */
    reg_limiter_t *limiter;
    apr_interval_time_t timeout, took;
    int *connection;
    reg_limiter_refusal_t refusal;
    int turn; /* when it was served, counted */
} request_t;

static int turns; /* changed by the request that holds the only connection */

static void *take_in_thread(void *data)
{
    request_t *request = data;
    apr_time_t start = apr_time_now();

    __atomic_store_n(&request->id, gettid(), __ATOMIC_SEQ_CST);
    request->connection =
        reg_limiter_enter(request->limiter, start + request->timeout, &request->refusal);
    request->took = apr_time_now() - start;
    if (request->connection) {
        request->turn = ++turns;
        reg_limiter_leave(request->limiter, request->connection, 1);
    }
    return NULL;
}

static void start_request(request_t *request, reg_limiter_t *limiter,
                          apr_interval_time_t timeout)
{
    *request = (request_t){.limiter = limiter, .timeout = timeout};
    assert_int_equal(0, pthread_create(&request->thread, NULL, take_in_thread, request));
}

static void join_requests(request_t *requests, int count)
{
    for (int i = 0; i < count; i++) {
        pthread_join(requests[i].thread, NULL);
    }
}

/* Takes a connection in this thread, or NULL. */
static int *take_connection(reg_limiter_t *limiter, apr_interval_time_t timeout,
                            reg_limiter_refusal_t *refusal)
{
    return reg_limiter_enter(limiter, apr_time_now() + timeout, refusal);
}

static void returned_connection_is_used_again(void **state)
{
    reg_limiter_t *limiter = make_limiter(state, 3);
    reg_limiter_refusal_t refusal;

    for (int i = 0; i < 5; i++) {
        int *connection = take_connection(limiter, LONG_TIME, &refusal);

        assert_ptr_equal(connection, &source.made[0]);
        reg_limiter_leave(limiter, connection, 1);
    }
    reg_limiter_stop(limiter);
    assert_int_equal(source.count, 1);
    assert_int_equal(source.closed, 1);
}

static void request_over_limit_waits_until_deadline(void **state)
{
    reg_limiter_t *limiter = make_limiter(state, 3);
    reg_limiter_refusal_t refusal;
    apr_time_t start;

    reg_limiter_limit(limiter, 5);
    reg_limiter_limit(limiter, 2);
    reg_limiter_limit(limiter, 3);
    assert_non_null(take_connection(limiter, LONG_TIME, &refusal));
    assert_non_null(take_connection(limiter, LONG_TIME, &refusal));
    start = apr_time_now();
    assert_null(take_connection(limiter, 4 * SHORT_TIME, &refusal));
    assert_interval(apr_time_now() - start, 4 * SHORT_TIME, LONG_TIME / 2);
    assert_int_equal(refusal, REG_LIMITER_BUSY);
    assert_null(take_connection(limiter, -SHORT_TIME, &refusal));
    reg_limiter_stop(limiter);
    assert_int_equal(source.count, 2);
    assert_int_equal(source.closed, 2); /* connections in use too */
}

static void waiting_requests_are_served_in_fifo_order(void **state)
{
    enum { REQUESTS = 8 };
    reg_limiter_t *limiter = make_limiter(state, 1);
    reg_limiter_refusal_t refusal;
    request_t requests[REQUESTS];
    int *connection = take_connection(limiter, LONG_TIME, &refusal);

    turns = 0;
    for (int i = 0; i < REQUESTS; i++) {
        start_request(&requests[i], limiter, i == 3 ? SHORT_TIME : LONG_TIME);
        await_sleep(&requests[i].id);
    }
    pthread_join(requests[3].thread, NULL); /* leaves at its deadline */
    reg_limiter_leave(limiter, connection, 1);
    join_requests(requests, 3);
    join_requests(&requests[4], REQUESTS - 4);
    for (int i = 0; i < REQUESTS; i++) {
        assert_number(apr_itoa(*state, i), requests[i].turn, i == 3 ? 0 : i + (i < 3));
    }
    reg_limiter_stop(limiter);
}

static void hanging_connect_delays_no_request_beyond_deadline(void **state)
{
    reg_limiter_t *limiter = make_limiter(state, 2);
    reg_limiter_refusal_t refusal;
    int *connection = take_connection(limiter, LONG_TIME, &refusal);
    apr_time_t start;
    request_t requests[4];

    source.hangs = 1;
    for (int i = 0; i < 4; i++) {
        start_request(&requests[i], limiter, LONG_ENOUGH);
    }
    join_requests(requests, 4);
    for (int i = 0; i < 4; i++) {
        assert_null(requests[i].connection);
        assert_int_equal(requests[i].refusal, REG_LIMITER_CONNECTING);
        assert_interval(requests[i].took, LONG_ENOUGH, LONG_TIME / 2);
    }
    /* The connection that works is still used. */
    start = apr_time_now();
    for (int i = 0; i < 100; i++) {
        reg_limiter_leave(limiter, connection, 1);
        connection = take_connection(limiter, LONG_TIME, &refusal);
        assert_ptr_equal(connection, &source.made[0]);
    }
    assert_interval(apr_time_now() - start, 0, LONG_TIME / 2);
    assert_int_equal(attempts(), 2);
    sem_post(&source.go_on);
    assert_ptr_equal(take_connection(limiter, LONG_TIME, &refusal), &source.made[1]);
    reg_limiter_stop(limiter);
    assert_int_equal(source.most_connecting, 1);
}

static void failed_connect_opens_breaker_for_a_second(void **state)
{
    reg_limiter_t *limiter = make_limiter(state, 2);
    reg_limiter_refusal_t refusal;
    int *connection = take_connection(limiter, LONG_TIME, &refusal);
    request_t requests[4];
    apr_time_t failed;

    __atomic_store_n(&source.fails, 1, __ATOMIC_SEQ_CST);
    source.hangs = 1;
    for (int i = 0; i < 4; i++) {
        start_request(&requests[i], limiter, LONG_TIME);
    }
    apr_sleep(SHORT_TIME);
    failed = apr_time_now();
    sem_post(&source.go_on);
    join_requests(requests, 4);
    for (int i = 0; i < 4; i++) {
        assert_null(requests[i].connection);
        assert_interval(requests[i].took, 0, LONG_TIME / 2);
    }
    while (apr_time_now() < failed + REG_BREAKER_OPEN_TIME / 2) {
        assert_null(take_connection(limiter, LONG_TIME, &refusal));
        assert_int_equal(refusal, REG_LIMITER_OPEN_BREAKER);
        apr_sleep(SHORT_TIME);
    }
    assert_int_equal(attempts(), 2);

    /* An idle connection is used all the same. */
    reg_limiter_leave(limiter, connection, 1);
    assert_ptr_equal(take_connection(limiter, LONG_TIME, &refusal), connection);

    source.hangs = 0;
    __atomic_store_n(&source.fails, 0, __ATOMIC_SEQ_CST);
    while (!take_connection(limiter, LONG_TIME, &refusal)) {
        assert_int_equal(refusal, REG_LIMITER_OPEN_BREAKER);
        assert_interval(apr_time_now() - failed, 0, LONG_TIME);
        apr_sleep(SHORT_TIME);
    }
    assert_true(apr_time_now() - failed >= REG_BREAKER_OPEN_TIME);
    reg_limiter_stop(limiter);
}

/* Reconnecting cancels the call of the session that was left, so it must not wait for a
 * request. */
static void broken_connection_without_request_is_reconnected(void **state)
{
    reg_limiter_t *limiter = make_limiter(state, 1);
    reg_limiter_refusal_t refusal;
    int *connection = take_connection(limiter, LONG_TIME, &refusal);
    apr_time_t start = apr_time_now();

    reg_limiter_leave(limiter, connection, 0);
    while (attempts() < 2) {
        assert_interval(apr_time_now() - start, 0, LONG_TIME);
        apr_sleep(apr_time_from_msec(1));
    }
    assert_ptr_equal(take_connection(limiter, LONG_TIME, &refusal), connection);
    assert_int_equal(*connection, 2);

    /* Also when the first attempt fails. */
    __atomic_store_n(&source.fails, 1, __ATOMIC_SEQ_CST);
    reg_limiter_leave(limiter, connection, 0);
    while (attempts() < 3) {
        apr_sleep(apr_time_from_msec(1));
    }
    __atomic_store_n(&source.fails, 0, __ATOMIC_SEQ_CST);
    while (!(connection = take_connection(limiter, LONG_TIME, &refusal))) {
        assert_interval(apr_time_now() - start, 0, LONG_TIME);
        apr_sleep(SHORT_TIME);
    }
    assert_ptr_equal(connection, &source.made[0]);
    reg_limiter_stop(limiter);
    assert_int_equal(source.count, 1);
    assert_int_equal(source.closed, 1);
}

/* A connection that is returned at the deadline of the first request must reach the
 * second. The race is rare, so it is tried often. */
static void connection_returned_at_deadline_goes_to_next_request(void **state)
{
    for (int i = 0; i < 200; i++) {
        reg_limiter_t *limiter = make_limiter(state, 1);
        reg_limiter_refusal_t refusal;
        int *connection = take_connection(limiter, LONG_TIME, &refusal);
        apr_time_t deadline = apr_time_now() + apr_time_from_msec(5);
        request_t first, second;

        start_request(&first, limiter, deadline - apr_time_now());
        apr_sleep(apr_time_from_msec(2)); /* so that this request is first in the queue */
        start_request(&second, limiter, LONG_TIME);
        while (apr_time_now() < deadline - i % 60) {
        }
        reg_limiter_leave(limiter, connection, 1);
        join_requests(&first, 1);
        join_requests(&second, 1);
        assert_number(apr_itoa(*state, i),
                      second.connection && second.took < LONG_TIME / 2, 1);
        reg_limiter_stop(limiter);
    }
}

/*
 * Many threads
 */

enum { THREADS = 16, PLACES = 3, VISITS = 200 };

static struct {
    reg_limiter_t *limiter;
    int in_use, most_in_use, refused;
} shared;

static void *use_connections(void *data)
{
    for (int i = 0; i < VISITS; i++) {
        reg_limiter_refusal_t refusal;
        int *connection = take_connection(shared.limiter, LONG_TIME, &refusal);
        int now;

        if (!connection) {
            __atomic_add_fetch(&shared.refused, 1, __ATOMIC_SEQ_CST);
            continue;
        }
        now = __atomic_add_fetch(&shared.in_use, 1, __ATOMIC_SEQ_CST);
        while (now > __atomic_load_n(&shared.most_in_use, __ATOMIC_SEQ_CST)) {
            __atomic_store_n(&shared.most_in_use, now, __ATOMIC_SEQ_CST);
        }
        ++*connection; /* by its holder alone: ThreadSanitizer looks */
        apr_sleep(i % 3 * 100);
        __atomic_sub_fetch(&shared.in_use, 1, __ATOMIC_SEQ_CST);
        reg_limiter_leave(shared.limiter, connection, (i + (int)(size_t)data) % 7 != 0);
    }
    return NULL;
}

static void many_requests_share_connections(void **state)
{
    pthread_t threads[THREADS];
    int uses = 0;

    shared.limiter = make_limiter(state, PLACES);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(0,
                         pthread_create(&threads[i], NULL, use_connections, (void *)i));
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    reg_limiter_stop(shared.limiter);
    assert_int_equal(shared.refused, 0);
    assert_int_equal(shared.most_in_use, PLACES);
    assert_int_equal(source.most_connecting, 1);
    assert_int_equal(source.count, PLACES);
    assert_int_equal(source.closed, PLACES);
    for (int i = 0; i < PLACES; i++) {
        uses += source.made[i];
    }
    assert_int_equal(uses, THREADS * VISITS + source.attempts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(returned_connection_is_used_again),
        POOL_TEST(request_over_limit_waits_until_deadline),
        POOL_TEST(waiting_requests_are_served_in_fifo_order),
        POOL_TEST(hanging_connect_delays_no_request_beyond_deadline),
        POOL_TEST(failed_connect_opens_breaker_for_a_second),
        POOL_TEST(broken_connection_without_request_is_reconnected),
        POOL_TEST(connection_returned_at_deadline_goes_to_next_request),
        POOL_TEST(many_requests_share_connections),
    };

    return RUN_TESTS(tests);
}
