/* SPDX-License-Identifier: Apache-2.0 */

/* Requests that leave at their deadline, and leaders that cannot run a batch yet. */

#include "batch_queue_fixture.h"

/* Longer than it takes to line up some clients, also on a machine that is busy. */
#define PATIENCE apr_time_from_sec(3)

static void set_unready(line_t *line, int is_unready)
{
    pthread_mutex_lock(&line->backend.mutex);
    line->backend.is_unready = is_unready;
    pthread_mutex_unlock(&line->backend.mutex);
}

static void await_preparing(backend_t *backend, int count)
{
    pthread_mutex_lock(&backend->mutex);
    while (backend->preparing < count) {
        pthread_cond_wait(&backend->changed, &backend->mutex);
    }
    pthread_mutex_unlock(&backend->mutex);
}

/* Client 0 leads, and cannot get ready yet. */
static void begin_unready(line_t *line, apr_pool_t *pool, apr_interval_time_t patience)
{
    make_line(line, pool, 8);
    line->queue = make_queue(pool, 8, 1);
    line->backend.mode = RUNS;
    set_unready(line, 1);
    begin(line, patience);
    await_preparing(&line->backend, 1);
}

/* While a leader cannot get ready, other requests leave at their deadline, and requests
 * that come meanwhile are in its batch. */
static void no_request_is_taken_before_the_leader_is_ready(void **state)
{
    line_t line;

    begin_unready(&line, *state, FOR_EVER);
    line_up_one(&line, FOR_EVER);
    line_up_one(&line, PATIENCE);
    line_up_one(&line, FOR_EVER);
    await(&line.clients[2]);
    assert_false(line.clients[2].was_run);
    assert_in_range(line.clients[2].took, PATIENCE, FOR_EVER / 2);
    line_up_one(&line, FOR_EVER);
    set_unready(&line, 0);
    go_on(&line);
    assert_text("batches", line.backend.order, "0134");
}

static void who_cannot_get_ready_passes_the_turn_on(void **state)
{
    line_t line;

    begin_unready(&line, *state, PATIENCE);
    line_up_one(&line, FOR_EVER);
    line_up_one(&line, FOR_EVER);
    await(&line.clients[0]);
    assert_false(line.clients[0].was_run);
    assert_int_equal(line.clients[0].request.runs, 0);
    await_preparing(&line.backend, 2);
    set_unready(&line, 0);
    go_on(&line);
    assert_text("batches", line.backend.order, "12");
}

/* Who has led a batch does not stay for the next one, nor do those it has led. */
/* From the head of the queue, from its middle and from its end. */
static void who_has_not_been_taken_leaves_at_the_deadline(void **state)
{
    line_t line;
    client_t *impatient;

    line_up(&line, *state, 8, 0);
    for (int i = 1; i <= 6; i++) {
        line_up_one(&line, i == 1 || i == 4 || i == 6 ? PATIENCE : FOR_EVER);
    }
    for (int i = 1; i <= 6; i++) {
        impatient = &line.clients[i];
        if (impatient->patience == PATIENCE) {
            await(impatient); /* while the backend stalls */
            assert_false(impatient->was_run);
            assert_int_equal(impatient->request.runs, 0);
            assert_in_range(impatient->took, PATIENCE, FOR_EVER / 2);
        }
    }
    line_up_one(&line, FOR_EVER);
    go_on(&line);
    assert_text("batches", line.backend.order, "0 235 7");
}

static void who_has_been_taken_stays_until_it_was_run(void **state)
{
    line_t line;
    client_t *client;

    line_up(&line, *state, 8, 0);
    line_up_one(&line, PATIENCE);
    client = line_up_one(&line, PATIENCE);
    let_one_go_on(&line);
    apr_sleep(PATIENCE + apr_time_from_msec(100));
    assert_int_equal(pthread_tryjoin_np(client->thread, NULL), EBUSY);
    go_on(&line);
    assert_text("batches", line.backend.order, "0 12");
}

static void a_batch_s_deadline_is_its_earliest(void **state)
{
    apr_time_t start = apr_time_now();
    line_t line;

    line_up(&line, *state, 8, 1);
    line_up_one(&line, apr_time_from_sec(20));
    go_on(&line);
    assert_text("batches", line.backend.order, "0 12");
    assert_in_range(line.backend.deadline, start + apr_time_from_sec(20),
                    start + apr_time_from_sec(25));
}

/* Neither one that leads nor one that would be led. */
static void no_request_s_time_is_cut_to_less_than_half(void **state)
{
    const apr_interval_time_t half = apr_time_from_sec(10);
    line_t line;

    line_up(&line, *state, 8, 0);
    line_up_one(&line, half);
    line_up_one(&line, half);
    for (int i = 0; i < 4; i++) {
        line_up_one(&line, FOR_EVER);
    }
    line_up_one(&line, half);
    go_on(&line);
    assert_text("batches", line.backend.order, "0 12 3456 7");
}

/* Leaders, followers and waiters, when a database answers no call before its deadline. */
static void no_request_stays_longer_than_a_stalling_batch(void **state)
{
    line_t line;

    make_line(&line, *state, 4);
    line.backend.mode = STALLS_TO_THE_DEADLINE;
    while (line.count < MOST_CLIENTS) {
        begin(&line, apr_time_from_msec(300));
    }
    for (int i = 0; i < MOST_CLIENTS; i++) {
        await(&line.clients[i]);
        assert_in_range(line.clients[i].took, 0, FOR_EVER / 2);
        assert_int_equal(line.clients[i].request.runs, line.clients[i].was_run);
    }
    assert_int_equal(line.backend.most_running, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(no_request_is_taken_before_the_leader_is_ready),
        POOL_TEST(who_cannot_get_ready_passes_the_turn_on),
        POOL_TEST(who_has_not_been_taken_leaves_at_the_deadline),
        POOL_TEST(who_has_been_taken_stays_until_it_was_run),
        POOL_TEST(a_batch_s_deadline_is_its_earliest),
        POOL_TEST(no_request_s_time_is_cut_to_less_than_half),
        POOL_TEST(no_request_stays_longer_than_a_stalling_batch),
    };

    alarm(600); /* A forgotten client would wait for ever, and this program with it. */
    return RUN_TESTS(tests);
}
