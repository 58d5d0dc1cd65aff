/* SPDX-License-Identifier: Apache-2.0 */

/* Which requests share a batch, in which order, and how many batches run at a time. */

#include "batch_queue_fixture.h"

static void single_request_runs_at_once_and_alone(void **state)
{
    fixture_t fixture;

    make_fixture(&fixture, *state, 8);
    start_client(&fixture, LONG_TIMEOUT);
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "0");
}

static void requests_queued_during_batch_share_next_batches_in_order(void **state)
{
    fixture_t fixture;

    queue_clients(&fixture, *state, 8, 6);
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order,
                "0 1234 56"); /* half of all, the rest */
}

static void requests_queued_with_one_part_share_one_batch(void **state)
{
    fixture_t fixture;

    make_fixture(&fixture, *state, 8);
    fixture.backend.parts = 1;
    start_client(&fixture, LONG_TIMEOUT);
    await_batch_count(&fixture.backend, 1);
    for (int i = 0; i < 6; i++) {
        queue_client(&fixture, LONG_TIMEOUT);
    }
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "0 123456");
}

static void batch_over_size_limit_is_split(void **state)
{
    fixture_t fixture;

    queue_clients(&fixture, *state, 2, 7);
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "0 12 34 56 7");
}

/* A single request may be larger. */
static void batch_over_byte_limit_is_split(void **state)
{
    static const apr_size_t sizes[] = {BYTES / 2, BYTES / 2, 1, 2 * BYTES, BYTES, 1};
    fixture_t fixture;

    make_fixture(&fixture, *state, 8);
    fixture.backend.parts = 1;
    start_client(&fixture, LONG_TIMEOUT);
    await_batch_count(&fixture.backend, 1);
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        start_client_of_size(&fixture, LONG_TIMEOUT, sizes[i]);
        await_length(fixture.queue, (int)i + 1);
    }
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "0 12 3 4 5 6");
}

static void followers_of_finished_batch_leave_while_others_wait(void **state)
{
    fixture_t fixture;

    queue_clients(&fixture, *state, 2, 5);
    finish_one_batch(&fixture);
    join_client(&fixture.clients[0]);
    finish_one_batch(&fixture);
    join_client(&fixture.clients[1]);
    join_client(&fixture.clients[2]);
    assert_int_equal(reg_batch_queue_length(fixture.queue), 1);
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "0 12 34 5");
}

static void failed_request_in_batch_fails_alone(void **state)
{
    for (int failing = 1; failing <= 3; failing++) { /* The first one leads. */
        fixture_t fixture;

        queue_clients(&fixture, *state, 8, 5);
        fixture.clients[failing].request.fails = 1;
        finish_all_batches(&fixture);
        assert_text("batches", fixture.backend.order, "0 123 45");
        for (int i = 0; i <= 5; i++) {
            assert_int_equal(fixture.clients[i].request.outcome, i == failing ? -1 : 1);
        }
    }
}

/* Like the queues of two virtual hosts, each with a database of its own. */
static void stalled_queue_delays_no_other_queue(void **state)
{
    fixture_t stalled, other;

    queue_clients(&stalled, *state, 8, 3);
    queue_clients(&other, *state, 8, 5);
    finish_all_batches(&other);
    assert_text("other", other.backend.order, "0 123 45");
    assert_text("stalled", stalled.backend.order, "0");
    finish_all_batches(&stalled);
    assert_text("stalled", stalled.backend.order, "0 12 3");
    assert_int_equal(other.backend.misplaced + stalled.backend.misplaced, 0);
}

#define THREADS 32
#define ROUNDS 500

/* A thread that runs many requests in two queues; some have a short timeout. */
typedef struct {
    pthread_t thread;
    fixture_t *fixtures; /* two */
    int wrong;
} looping_t;

static void *run_many(void *data)
{
    looping_t *looping = data;

    for (int i = 0; i < ROUNDS; i++) {
        fixture_t *fixture = &looping->fixtures[i % 5 == 0];
        request_t request = {.backend = &fixture->backend, .fails = i % 3 == 0};
        apr_interval_time_t timeout = i % 7 == 0 ? 50 : LONG_TIMEOUT;
        apr_pool_t *pool;
        int was_run;

        apr_pool_create(&pool, NULL);
        was_run =
            reg_batch_queue_run(fixture->queue, pool, &request, 1 + (apr_size_t)i % BYTES,
                                &fixture->backend, apr_time_now() + timeout);
        looping->wrong += request.runs != was_run || (!was_run && i % 7 != 0)
                          || (was_run && request.outcome != (request.fails ? -1 : 1));
        apr_pool_destroy(pool);
    }
    return NULL;
}

static void requests_of_many_threads_run_exactly_once(void **state)
{
    static const int sizes[] = {1, 2, 3, 8, 64};

    for (size_t s = 0; s < LENGTH(sizes); s++) {
        looping_t looping[THREADS];
        fixture_t fixtures[2];

        for (int i = 0; i < 2; i++) {
            make_fixture(&fixtures[i], *state, sizes[s]);
            fixtures[i].backend.mode = RUNS;
        }
        for (int i = 0; i < THREADS; i++) {
            looping[i] = (looping_t){.fixtures = fixtures};
            assert_int_equal(
                0, pthread_create(&looping[i].thread, NULL, run_many, &looping[i]));
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(looping[i].thread, NULL);
            assert_int_equal(looping[i].wrong, 0);
        }
        for (int i = 0; i < 2; i++) {
            assert_interval(fixtures[i].backend.largest, 1, sizes[s]);
            assert_interval(fixtures[i].backend.most_running, 1, 1);
            assert_int_equal(fixtures[i].backend.misplaced, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(single_request_runs_at_once_and_alone),
        POOL_TEST(requests_queued_during_batch_share_next_batches_in_order),
        POOL_TEST(requests_queued_with_one_part_share_one_batch),
        POOL_TEST(batch_over_size_limit_is_split),
        POOL_TEST(batch_over_byte_limit_is_split),
        POOL_TEST(followers_of_finished_batch_leave_while_others_wait),
        POOL_TEST(failed_request_in_batch_fails_alone),
        POOL_TEST(stalled_queue_delays_no_other_queue),
        POOL_TEST(requests_of_many_threads_run_exactly_once),
    };

    alarm(600); /* A client that is never woken would hang this program. */
    return RUN_TESTS(tests);
}
