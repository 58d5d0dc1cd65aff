/* SPDX-License-Identifier: Apache-2.0 */

/* Requests that leave at their start_by, and leaders that wait to prepare. */

#include "batch_queue_fixture.h"

/* Longer than it takes to queue some clients, also on a busy machine. */
#define SHORT_TIMEOUT apr_time_from_sec(3)

static void set_unready(fixture_t *fixture, int is_unready)
{
    pthread_mutex_lock(&fixture->backend.mutex);
    fixture->backend.is_unready = is_unready;
    pthread_mutex_unlock(&fixture->backend.mutex);
}

static void await_preparing(backend_t *backend, int count)
{
    pthread_mutex_lock(&backend->mutex);
    while (backend->preparing < count) {
        pthread_cond_wait(&backend->changed, &backend->mutex);
    }
    pthread_mutex_unlock(&backend->mutex);
}

/* Client 0 leads and waits to prepare. */
static void start_unready_leader(fixture_t *fixture, apr_pool_t *pool,
                                 apr_interval_time_t timeout)
{
    make_fixture(fixture, pool, 8);
    fixture->backend.parts = 1;
    fixture->backend.mode = RUNS;
    set_unready(fixture, 1);
    start_client(fixture, timeout);
    await_preparing(&fixture->backend, 1);
}

/* While a leader prepares, other requests leave at their start_by, and requests that
 * arrive join its batch. */
static void leader_preparing_takes_no_request(void **state)
{
    fixture_t fixture;

    start_unready_leader(&fixture, *state, LONG_TIMEOUT);
    queue_client(&fixture, LONG_TIMEOUT);
    queue_client(&fixture, SHORT_TIMEOUT);
    queue_client(&fixture, LONG_TIMEOUT);
    join_client(&fixture.clients[2]);
    assert_false(fixture.clients[2].was_run);
    assert_interval(fixture.clients[2].took, SHORT_TIMEOUT, LONG_TIMEOUT / 2);
    queue_client(&fixture, LONG_TIMEOUT);
    set_unready(&fixture, 0);
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "0134");
}

static void leader_failing_to_prepare_passes_lead(void **state)
{
    fixture_t fixture;

    start_unready_leader(&fixture, *state, SHORT_TIMEOUT);
    queue_client(&fixture, LONG_TIMEOUT);
    queue_client(&fixture, LONG_TIMEOUT);
    join_client(&fixture.clients[0]);
    assert_false(fixture.clients[0].was_run);
    assert_int_equal(fixture.clients[0].request.runs, 0);
    await_preparing(&fixture.backend, 2);
    set_unready(&fixture, 0);
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "12");
}

/* From the head of the queue, from its middle and from its end. */
static void queued_request_at_deadline_leaves(void **state)
{
    fixture_t fixture;
    client_t *client;

    queue_clients(&fixture, *state, 8, 0);
    for (int i = 1; i <= 6; i++) {
        queue_client(&fixture, i == 1 || i == 4 || i == 6 ? SHORT_TIMEOUT : LONG_TIMEOUT);
    }
    for (int i = 1; i <= 6; i++) {
        client = &fixture.clients[i];
        if (client->timeout == SHORT_TIMEOUT) {
            join_client(client); /* while the backend stalls */
            assert_false(client->was_run);
            assert_int_equal(client->request.runs, 0);
            assert_interval(client->took, SHORT_TIMEOUT, LONG_TIMEOUT / 2);
        }
    }
    queue_client(&fixture, LONG_TIMEOUT);
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "0 235 7");
}

static void taken_request_at_deadline_waits_for_batch(void **state)
{
    fixture_t fixture;
    client_t *client;

    queue_clients(&fixture, *state, 8, 0);
    queue_client(&fixture, SHORT_TIMEOUT);
    client = queue_client(&fixture, SHORT_TIMEOUT);
    finish_one_batch(&fixture);
    apr_sleep(SHORT_TIMEOUT + apr_time_from_msec(100));
    assert_int_equal(pthread_tryjoin_np(client->thread, NULL), EBUSY);
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "0 12");
}

static void batch_start_by_is_earliest_of_requests(void **state)
{
    apr_time_t start = apr_time_now();
    fixture_t fixture;

    queue_clients(&fixture, *state, 8, 1);
    queue_client(&fixture, apr_time_from_sec(20));
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "0 12");
    assert_interval(fixture.backend.start_by, start + apr_time_from_sec(20),
                    start + apr_time_from_sec(25));
}

/* Neither the leader's nor a follower's time. */
static void batch_never_takes_half_of_a_request_s_time(void **state)
{
    const apr_interval_time_t half = apr_time_from_sec(10);
    fixture_t fixture;

    queue_clients(&fixture, *state, 8, 0);
    queue_client(&fixture, half);
    queue_client(&fixture, half);
    for (int i = 0; i < 4; i++) {
        queue_client(&fixture, LONG_TIMEOUT);
    }
    queue_client(&fixture, half);
    finish_all_batches(&fixture);
    assert_text("batches", fixture.backend.order, "0 12 3456 7");
}

/* Leaders and followers of a database that answers no call in time. */
static void requests_of_stalled_backend_leave_at_deadline(void **state)
{
    fixture_t fixture;

    make_fixture(&fixture, *state, 4);
    fixture.backend.mode = STALLS_UNTIL_DEADLINE;
    while (fixture.count < MOST_CLIENTS) {
        start_client(&fixture, apr_time_from_msec(300));
    }
    for (int i = 0; i < MOST_CLIENTS; i++) {
        join_client(&fixture.clients[i]);
        assert_interval(fixture.clients[i].took, 0, LONG_TIMEOUT / 2);
        assert_int_equal(fixture.clients[i].request.runs, fixture.clients[i].was_run);
    }
    assert_int_equal(fixture.backend.most_running, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(leader_preparing_takes_no_request),
        POOL_TEST(leader_failing_to_prepare_passes_lead),
        POOL_TEST(queued_request_at_deadline_leaves),
        POOL_TEST(taken_request_at_deadline_waits_for_batch),
        POOL_TEST(batch_start_by_is_earliest_of_requests),
        POOL_TEST(batch_never_takes_half_of_a_request_s_time),
        POOL_TEST(requests_of_stalled_backend_leave_at_deadline),
    };

    alarm(600); /* A client that is never woken would hang this program. */
    return RUN_TESTS(tests);
}
