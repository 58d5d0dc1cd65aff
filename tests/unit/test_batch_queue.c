/* SPDX-License-Identifier: Apache-2.0 */

/* Which requests share a batch, in which order, and how many batches run at a time. */

#include "batch_queue_fixture.h"

static void one_request_is_run_at_once_and_alone(void **state)
{
    line_t line;

    make_line(&line, *state, 8);
    begin(&line, FOR_EVER);
    go_on(&line);
    assert_text("batches", line.backend.order, "0");
}

static void what_arrives_meanwhile_is_carried_together_and_in_order(void **state)
{
    line_t line;

    line_up(&line, *state, 8, 6);
    go_on(&line);
    assert_text("batches", line.backend.order, "0 1234 56"); /* half of all, the rest */
}

static void undivided_all_who_wait_are_carried_together(void **state)
{
    line_t line;

    make_line(&line, *state, 8);
    line.queue = make_queue(*state, 8, 1);
    begin(&line, FOR_EVER);
    await_batches(&line.backend, 1);
    for (int i = 0; i < 6; i++) {
        line_up_one(&line, FOR_EVER);
    }
    go_on(&line);
    assert_text("batches", line.backend.order, "0 123456");
}

static void a_batch_is_no_larger_than_it_may_be(void **state)
{
    line_t line;

    line_up(&line, *state, 2, 7);
    go_on(&line);
    assert_text("batches", line.backend.order, "0 12 34 56 7");
}

/* One by itself may be larger. */
static void a_batch_has_no_more_bytes_than_it_may(void **state)
{
    static const apr_size_t sizes[] = {BYTES / 2, BYTES / 2, 1, 2 * BYTES, BYTES, 1};
    line_t line;

    make_line(&line, *state, 8);
    line.queue = make_queue(*state, 8, 1);
    begin(&line, FOR_EVER);
    await_batches(&line.backend, 1);
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        begin_sized(&line, FOR_EVER, sizes[i]);
        await_length(line.queue, (int)i + 1);
    }
    go_on(&line);
    assert_text("batches", line.backend.order, "0 12 3 4 5 6");
}

static void who_was_run_leaves_while_others_wait(void **state)
{
    line_t line;

    line_up(&line, *state, 2, 5);
    let_one_go_on(&line);
    await(&line.clients[0]);
    let_one_go_on(&line);
    await(&line.clients[1]);
    await(&line.clients[2]);
    assert_int_equal(reg_batch_queue_length(line.queue), 1);
    go_on(&line);
    assert_text("batches", line.backend.order, "0 12 34 5");
}

static void a_failure_is_one_request_s_own(void **state)
{
    for (int culprit = 1; culprit <= 3; culprit++) { /* The first of them leads. */
        line_t line;

        line_up(&line, *state, 8, 5);
        line.clients[culprit].request.fails = 1;
        go_on(&line);
        assert_text("batches", line.backend.order, "0 123 45");
        for (int i = 0; i <= 5; i++) {
            assert_int_equal(line.clients[i].request.outcome, i == culprit ? -1 : 1);
        }
    }
}

/* As two virtual hosts have them, each with a database of its own. */
static void one_queue_does_not_hold_up_another(void **state)
{
    line_t stalled, other;

    line_up(&stalled, *state, 8, 3);
    line_up(&other, *state, 8, 5);
    go_on(&other);
    assert_text("other", other.backend.order, "0 123 45");
    assert_text("stalled", stalled.backend.order, "0");
    go_on(&stalled);
    assert_text("stalled", stalled.backend.order, "0 12 3");
    assert_int_equal(other.backend.strays + stalled.backend.strays, 0);
}

#define THREADS 32
#define ROUNDS 500

/* A thread that has many requests run, now here and now there, some of which cannot wait.
 */
typedef struct {
    pthread_t thread;
    line_t *lines; /* two */
    int wrong;
} busy_t;

static void *keep_busy(void *data)
{
    busy_t *busy = data;

    for (int i = 0; i < ROUNDS; i++) {
        line_t *line = &busy->lines[i % 5 == 0];
        request_t request = {.backend = &line->backend, .fails = i % 3 == 0};
        apr_interval_time_t patience = i % 7 == 0 ? 50 : FOR_EVER;
        apr_pool_t *pool;
        int was_run;

        apr_pool_create(&pool, NULL);
        was_run =
            reg_batch_queue_run(line->queue, pool, &request, 1 + (apr_size_t)i % BYTES,
                                &line->backend, apr_time_now() + patience);
        busy->wrong += request.runs != was_run || (!was_run && i % 7 != 0)
                       || (was_run && request.outcome != (request.fails ? -1 : 1));
        apr_pool_destroy(pool);
    }
    return NULL;
}

static void everything_is_run_once_whatever_the_interleaving(void **state)
{
    static const int sizes[] = {1, 2, 3, 8, 64};

    for (size_t s = 0; s < LENGTH(sizes); s++) {
        busy_t busy[THREADS];
        line_t lines[2];

        for (int i = 0; i < 2; i++) {
            make_line(&lines[i], *state, sizes[s]);
            lines[i].backend.mode = RUNS;
        }
        for (int i = 0; i < THREADS; i++) {
            busy[i] = (busy_t){.lines = lines};
            assert_int_equal(0,
                             pthread_create(&busy[i].thread, NULL, keep_busy, &busy[i]));
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(busy[i].thread, NULL);
            assert_int_equal(busy[i].wrong, 0);
        }
        for (int i = 0; i < 2; i++) {
            assert_in_range(lines[i].backend.largest, 1, sizes[s]);
            assert_in_range(lines[i].backend.most_running, 1, 1);
            assert_int_equal(lines[i].backend.strays, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(one_request_is_run_at_once_and_alone),
        POOL_TEST(what_arrives_meanwhile_is_carried_together_and_in_order),
        POOL_TEST(undivided_all_who_wait_are_carried_together),
        POOL_TEST(a_batch_is_no_larger_than_it_may_be),
        POOL_TEST(a_batch_has_no_more_bytes_than_it_may),
        POOL_TEST(who_was_run_leaves_while_others_wait),
        POOL_TEST(a_failure_is_one_request_s_own),
        POOL_TEST(one_queue_does_not_hold_up_another),
        POOL_TEST(everything_is_run_once_whatever_the_interleaving),
    };

    alarm(600); /* A forgotten client would wait for ever, and this program with it. */
    return RUN_TESTS(tests);
}
