/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "fifo_semaphore.h"
#include "threads.h"

#include <pthread.h>

/* Long enough for a thread to have begun to wait; nothing fails if it has not. */
#define A_MOMENT apr_time_from_msec(50)

/* So long that a thread that waits for it has been forgotten. */
#define FOR_EVER apr_time_from_sec(20)

/* A visit to the gate in a thread of its own. cmocka's assertions work in the main thread
 * only, so a visitor notes what it saw. */
typedef struct {
    pthread_t thread;
    pid_t id; /* of the thread, once it asks */
    reg_semaphore_t *gate;
    apr_interval_time_t patience;
    int stays; /* it does not leave by itself */
    int entered;
    apr_interval_time_t took;
} visitor_t;

static void *visit(void *data)
{
    visitor_t *visitor = data;
    apr_time_t start = apr_time_now();

    __atomic_store_n(&visitor->id, gettid(), __ATOMIC_SEQ_CST);
    visitor->entered = reg_semaphore_enter(visitor->gate, start + visitor->patience);
    visitor->took = apr_time_now() - start;
    if (visitor->entered && !visitor->stays) {
        reg_semaphore_leave(visitor->gate);
    }
    return NULL;
}

static void send_in(visitor_t *visitor, reg_semaphore_t *gate,
                    apr_interval_time_t patience)
{
    *visitor = (visitor_t){.gate = gate, .patience = patience};
    assert_int_equal(0, pthread_create(&visitor->thread, NULL, visit, visitor));
}

static void send_in_to_stay(visitor_t *visitor, reg_semaphore_t *gate)
{
    *visitor = (visitor_t){.gate = gate, .patience = FOR_EVER, .stays = 1};
    assert_int_equal(0, pthread_create(&visitor->thread, NULL, visit, visitor));
}

static void await(visitor_t *visitors, int count)
{
    for (int i = 0; i < count; i++) {
        pthread_join(visitors[i].thread, NULL);
    }
}

/* Whether the calling thread gets in by that time. */
static int enters(reg_semaphore_t *gate, apr_interval_time_t patience)
{
    return reg_semaphore_enter(gate, apr_time_now() + patience);
}

/* Goes in and stays. */
static void occupy(reg_semaphore_t *gate)
{
    assert_true(enters(gate, FOR_EVER));
}

static void no_more_are_inside_than_there_are_places(void **state)
{
    reg_semaphore_t *gate = reg_semaphore_make(*state, 2);

    occupy(gate);
    occupy(gate);
    assert_false(enters(gate, A_MOMENT));
    reg_semaphore_leave(gate);
    occupy(gate);
    assert_false(enters(gate, A_MOMENT));
}

static void who_waits_is_turned_away_at_the_deadline(void **state)
{
    reg_semaphore_t *gate = reg_semaphore_make(*state, 1);
    visitor_t visitor;

    occupy(gate);
    send_in(&visitor, gate, apr_time_from_msec(200));
    await(&visitor, 1);
    assert_false(visitor.entered);
    assert_in_range(visitor.took, apr_time_from_msec(200), apr_time_from_sec(5));

    send_in(&visitor, gate, -A_MOMENT);
    await(&visitor, 1);
    assert_false(visitor.entered);
    assert_in_range(visitor.took, 0, apr_time_from_sec(5));
}

static void who_waits_gets_in_when_somebody_leaves(void **state)
{
    reg_semaphore_t *gate = reg_semaphore_make(*state, 1);
    visitor_t visitors[8];

    occupy(gate);
    for (int i = 0; i < 8; i++) {
        send_in(&visitors[i], gate, FOR_EVER);
    }
    apr_sleep(A_MOMENT);
    reg_semaphore_leave(gate);
    await(visitors, 8);
    for (int i = 0; i < 8; i++) {
        assert_true(visitors[i].entered);
        assert_in_range(visitors[i].took, 0, FOR_EVER / 2);
    }
}

/* Who comes later does not overtake, though it asks at the very moment at which a place
 * becomes free, when the threads that wait are asleep. */
static void who_came_first_gets_in_first(void **state)
{
    reg_semaphore_t *gate = reg_semaphore_make(*state, 1);
    visitor_t visitors[8];

    occupy(gate);
    for (int i = 0; i < 8; i++) {
        send_in_to_stay(&visitors[i], gate);
        await_sleep(&visitors[i].id);
    }
    for (int i = 0; i < 8; i++) {
        reg_semaphore_leave(gate);
        assert_false(enters(gate, A_MOMENT));
        await(&visitors[i], 1); /* in this order, or the test hangs */
        assert_true(visitors[i].entered);
    }
}

static void a_limit_lowers_the_number_of_places_and_never_raises_it(void **state)
{
    reg_semaphore_t *gate = reg_semaphore_make(*state, 3);

    reg_semaphore_limit(gate, 5);
    reg_semaphore_limit(gate, 2);
    reg_semaphore_limit(gate, 3);
    occupy(gate);
    occupy(gate);
    assert_false(enters(gate, A_MOMENT));
}

/*
 * A thread that leaves wakes the first that waits. If that one gives up at this very
 * moment, the next must get the place. The moment is met by luck, so it is tried often.
 */
static void a_place_is_not_lost_on_one_who_gives_up(void **state)
{
    for (int i = 0; i < 300; i++) {
        reg_semaphore_t *gate = reg_semaphore_make(*state, 1);
        visitor_t hasty, patient;
        apr_time_t deadline = apr_time_now() + apr_time_from_msec(5);
        apr_interval_time_t early = i % 60; /* microseconds */

        occupy(gate);
        send_in(&hasty, gate, deadline - apr_time_now());
        apr_sleep(apr_time_from_msec(2)); /* so that the hasty one is first in line */
        send_in(&patient, gate, FOR_EVER);
        while (apr_time_now() < deadline - early) {
        }
        reg_semaphore_leave(gate);
        await(&hasty, 1);
        await(&patient, 1);
        assert_number(
            apr_psprintf(*state, "try %d, %d us before the deadline", i, (int)early),
            patient.entered && patient.took < FOR_EVER / 2, 1);
    }
}

/*
 * A crowd
 */

enum { CROWD = 16, PLACES = 3, VISITS = 200 };

static struct {
    reg_semaphore_t *gate;
    int inside, most_inside; /* kept with atomic operations */
    int turned_away;
} crowd;

static void note_most(int *most, int now)
{
    int before = __atomic_load_n(most, __ATOMIC_SEQ_CST);

    while (now > before
           && !__atomic_compare_exchange_n(most, &before, now, 0, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST)) {
    }
}

static void *come_and_go(void *data)
{
    (void)data;
    for (int i = 0; i < VISITS; i++) {
        if (!reg_semaphore_enter(crowd.gate, apr_time_now() + FOR_EVER)) {
            __atomic_add_fetch(&crowd.turned_away, 1, __ATOMIC_SEQ_CST);
            continue;
        }
        note_most(&crowd.most_inside,
                  __atomic_add_fetch(&crowd.inside, 1, __ATOMIC_SEQ_CST));
        apr_sleep(i % 3 * 100);
        __atomic_sub_fetch(&crowd.inside, 1, __ATOMIC_SEQ_CST);
        reg_semaphore_leave(crowd.gate);
    }
    return NULL;
}

static void a_crowd_gets_through(void **state)
{
    pthread_t threads[CROWD];

    crowd.gate = reg_semaphore_make(*state, PLACES);
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(0, pthread_create(&threads[i], NULL, come_and_go, NULL));
    }
    for (int i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(crowd.turned_away, 0);
    assert_int_equal(crowd.most_inside, PLACES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(no_more_are_inside_than_there_are_places),
        POOL_TEST(who_waits_is_turned_away_at_the_deadline),
        POOL_TEST(who_waits_gets_in_when_somebody_leaves),
        POOL_TEST(who_came_first_gets_in_first),
        POOL_TEST(a_limit_lowers_the_number_of_places_and_never_raises_it),
        POOL_TEST(a_place_is_not_lost_on_one_who_gives_up),
        POOL_TEST(a_crowd_gets_through),
    };

    return RUN_TESTS(tests);
}
