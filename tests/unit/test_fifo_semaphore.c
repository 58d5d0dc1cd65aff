/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "fifo_semaphore.h"
#include "threads.h"

#include <pthread.h>

/* Enough for a thread to begin to wait; the test passes if it has not. */
#define SHORT_TIME apr_time_from_msec(50)

/* A thread that waits for so long was never woken. */
#define LONG_TIME apr_time_from_sec(20)

/* A thread that enters the semaphore and leaves it. cmocka's assertions work in the main
 * thread only, so the thread records its results. */
typedef struct {
    pthread_t thread;
    pid_t id; /* of the thread, set before it enters */
    reg_semaphore_t *semaphore;
    apr_interval_time_t timeout;
    int stays; /* it does not leave by itself */
    int entered;
    apr_interval_time_t took;
} client_t;

static void *enter_and_leave(void *data)
{
    client_t *client = data;
    apr_time_t start = apr_time_now();

    __atomic_store_n(&client->id, gettid(), __ATOMIC_SEQ_CST);
    client->entered = reg_semaphore_enter(client->semaphore, start + client->timeout);
    client->took = apr_time_now() - start;
    if (client->entered && !client->stays) {
        reg_semaphore_leave(client->semaphore);
    }
    return NULL;
}

static void start_client(client_t *client, reg_semaphore_t *semaphore,
                         apr_interval_time_t timeout)
{
    *client = (client_t){.semaphore = semaphore, .timeout = timeout};
    assert_int_equal(0, pthread_create(&client->thread, NULL, enter_and_leave, client));
}

static void start_staying_client(client_t *client, reg_semaphore_t *semaphore)
{
    *client = (client_t){.semaphore = semaphore, .timeout = LONG_TIME, .stays = 1};
    assert_int_equal(0, pthread_create(&client->thread, NULL, enter_and_leave, client));
}

static void join_clients(client_t *clients, int count)
{
    for (int i = 0; i < count; i++) {
        pthread_join(clients[i].thread, NULL);
    }
}

/* Whether the calling thread can enter in that time. */
static int can_enter(reg_semaphore_t *semaphore, apr_interval_time_t timeout)
{
    return reg_semaphore_enter(semaphore, apr_time_now() + timeout);
}

/* Enters and stays. */
static void occupy(reg_semaphore_t *semaphore)
{
    assert_true(can_enter(semaphore, LONG_TIME));
}

static void thread_over_limit_does_not_enter(void **state)
{
    reg_semaphore_t *semaphore = reg_semaphore_make(*state, 2);

    occupy(semaphore);
    occupy(semaphore);
    assert_false(can_enter(semaphore, SHORT_TIME));
    reg_semaphore_leave(semaphore);
    occupy(semaphore);
    assert_false(can_enter(semaphore, SHORT_TIME));
}

static void waiting_thread_at_deadline_is_refused(void **state)
{
    reg_semaphore_t *semaphore = reg_semaphore_make(*state, 1);
    client_t client;

    occupy(semaphore);
    start_client(&client, semaphore, apr_time_from_msec(200));
    join_clients(&client, 1);
    assert_false(client.entered);
    assert_interval(client.took, apr_time_from_msec(200), apr_time_from_sec(5));

    start_client(&client, semaphore, -SHORT_TIME);
    join_clients(&client, 1);
    assert_false(client.entered);
    assert_interval(client.took, 0, apr_time_from_sec(5));
}

static void waiting_threads_enter_after_leave(void **state)
{
    reg_semaphore_t *semaphore = reg_semaphore_make(*state, 1);
    client_t clients[8];

    occupy(semaphore);
    for (int i = 0; i < 8; i++) {
        start_client(&clients[i], semaphore, LONG_TIME);
    }
    apr_sleep(SHORT_TIME);
    reg_semaphore_leave(semaphore);
    join_clients(clients, 8);
    for (int i = 0; i < 8; i++) {
        assert_true(clients[i].entered);
        assert_interval(clients[i].took, 0, LONG_TIME / 2);
    }
}

/* The calling thread does not overtake, although it tries to enter at the moment at which
 * a place becomes free, while the waiting threads are asleep. */
static void waiting_threads_enter_in_fifo_order(void **state)
{
    reg_semaphore_t *semaphore = reg_semaphore_make(*state, 1);
    client_t clients[8];

    occupy(semaphore);
    for (int i = 0; i < 8; i++) {
        start_staying_client(&clients[i], semaphore);
        await_sleep(&clients[i].id);
    }
    for (int i = 0; i < 8; i++) {
        reg_semaphore_leave(semaphore);
        assert_false(can_enter(semaphore, SHORT_TIME));
        join_clients(&clients[i], 1); /* in this order, or the test hangs */
        assert_true(clients[i].entered);
    }
}

static void limit_lowers_places_and_never_raises_them(void **state)
{
    reg_semaphore_t *semaphore = reg_semaphore_make(*state, 3);

    reg_semaphore_limit(semaphore, 5);
    reg_semaphore_limit(semaphore, 2);
    reg_semaphore_limit(semaphore, 3);
    occupy(semaphore);
    occupy(semaphore);
    assert_false(can_enter(semaphore, SHORT_TIME));
}

/*
 * A thread that leaves wakes the first waiting thread. If that one leaves the queue at
 * this moment, the next thread must get the place. The race is rare, so it is tried
 * often.
 */
static void place_freed_at_deadline_goes_to_next_thread(void **state)
{
    for (int i = 0; i < 300; i++) {
        reg_semaphore_t *semaphore = reg_semaphore_make(*state, 1);
        client_t first, second;
        apr_time_t deadline = apr_time_now() + apr_time_from_msec(5);
        apr_interval_time_t early = i % 60; /* microseconds */

        occupy(semaphore);
        start_client(&first, semaphore, deadline - apr_time_now());
        apr_sleep(apr_time_from_msec(2)); /* so that this thread is first in the queue */
        start_client(&second, semaphore, LONG_TIME);
        while (apr_time_now() < deadline - early) {
        }
        reg_semaphore_leave(semaphore);
        join_clients(&first, 1);
        join_clients(&second, 1);
        assert_number(
            apr_psprintf(*state, "try %d, %d us before the deadline", i, (int)early),
            second.entered && second.took < LONG_TIME / 2, 1);
    }
}

/*
 * Many threads
 */

enum { THREADS = 16, PLACES = 3, VISITS = 200 };

static struct {
    reg_semaphore_t *semaphore;
    int inside, most_inside; /* atomic */
    int refused;
} shared;

static void set_maximum(int *most, int now)
{
    int before = __atomic_load_n(most, __ATOMIC_SEQ_CST);

    while (now > before
           && !__atomic_compare_exchange_n(most, &before, now, 0, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST)) {
    }
}

static void *enter_often(void *data)
{
    (void)data;
    for (int i = 0; i < VISITS; i++) {
        if (!reg_semaphore_enter(shared.semaphore, apr_time_now() + LONG_TIME)) {
            __atomic_add_fetch(&shared.refused, 1, __ATOMIC_SEQ_CST);
            continue;
        }
        set_maximum(&shared.most_inside,
                    __atomic_add_fetch(&shared.inside, 1, __ATOMIC_SEQ_CST));
        apr_sleep(i % 3 * 100);
        __atomic_sub_fetch(&shared.inside, 1, __ATOMIC_SEQ_CST);
        reg_semaphore_leave(shared.semaphore);
    }
    return NULL;
}

static void many_threads_all_enter(void **state)
{
    pthread_t threads[THREADS];

    shared.semaphore = reg_semaphore_make(*state, PLACES);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(0, pthread_create(&threads[i], NULL, enter_often, NULL));
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(shared.refused, 0);
    assert_int_equal(shared.most_inside, PLACES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(thread_over_limit_does_not_enter),
        POOL_TEST(waiting_thread_at_deadline_is_refused),
        POOL_TEST(waiting_threads_enter_after_leave),
        POOL_TEST(waiting_threads_enter_in_fifo_order),
        POOL_TEST(limit_lowers_places_and_never_raises_them),
        POOL_TEST(place_freed_at_deadline_goes_to_next_thread),
        POOL_TEST(many_threads_all_enter),
    };

    return RUN_TESTS(tests);
}
