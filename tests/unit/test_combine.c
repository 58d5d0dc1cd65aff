/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "combine.h"

#include <errno.h>
#include <pthread.h>

#define A_MOMENT apr_time_from_msec(1)

/* So long that whoever takes it has been forgotten. */
#define FOR_EVER apr_time_from_sec(30)

#define MOST_REQUESTS 100

/* What stands in for a database: notes what it is given, and stalls while it is told to.
 */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int stalled;
    int passes;                /* stalling batches that may end all the same */
    int running, most_running; /* batches, now and at any time */
    int batches;
    int largest;
    int order[MOST_REQUESTS]; /* numbers of the requests, as they were run */
    int count;
    apr_time_t deadline; /* of the last batch */
} backend_t;

/* A request, and what became of it. */
typedef struct {
    int number;
    int fails;
    int runs;
    int outcome; /* 1 success, -1 failure */
} request_t;

/* A thread with a request. */
typedef struct {
    pthread_t thread;
    reg_queue_t *queue;
    backend_t *backend;
    apr_interval_time_t patience;
    request_t request;
    int was_run;
    apr_interval_time_t took;
} client_t;

static void run(void *leader, void *const *requests, int count, apr_time_t deadline)
{
    backend_t *backend = leader;

    pthread_mutex_lock(&backend->mutex);
    backend->running++;
    if (backend->running > backend->most_running) {
        backend->most_running = backend->running;
    }
    if (count > backend->largest) {
        backend->largest = count;
    }
    backend->batches++;
    backend->deadline = deadline;
    for (int i = 0; i < count; i++) {
        request_t *request = requests[i];

        if (backend->count < MOST_REQUESTS) {
            backend->order[backend->count++] = request->number;
        }
        request->runs++;
        request->outcome = request->fails ? -1 : 1;
    }
    pthread_cond_broadcast(&backend->changed);
    while (backend->stalled && !backend->passes) {
        pthread_cond_wait(&backend->changed, &backend->mutex);
    }
    backend->passes -= backend->stalled;
    backend->running--;
    pthread_mutex_unlock(&backend->mutex);
}

static void *join(void *data)
{
    client_t *client = data;
    apr_pool_t *pool;
    apr_time_t start = apr_time_now();

    apr_pool_create(&pool, NULL);
    client->was_run = reg_queue_run(client->queue, pool, &client->request,
                                    client->backend, start + client->patience);
    client->took = apr_time_now() - start;
    apr_pool_destroy(pool);
    return NULL;
}

static void begin(client_t *client, reg_queue_t *queue, backend_t *backend, int number,
                  apr_interval_time_t patience)
{
    *client = (client_t){.queue = queue,
                         .backend = backend,
                         .patience = patience,
                         .request.number = number};
    assert_int_equal(0, pthread_create(&client->thread, NULL, join, client));
}

static void await(client_t *clients, int count)
{
    for (int i = 0; i < count; i++) {
        pthread_join(clients[i].thread, NULL);
    }
}

static void make(backend_t *backend, int stalled)
{
    *backend = (backend_t){.mutex = PTHREAD_MUTEX_INITIALIZER,
                           .changed = PTHREAD_COND_INITIALIZER,
                           .stalled = stalled};
}

static void go_on(backend_t *backend)
{
    pthread_mutex_lock(&backend->mutex);
    backend->stalled = 0;
    backend->passes = 0;
    pthread_cond_broadcast(&backend->changed);
    pthread_mutex_unlock(&backend->mutex);
}

/* Lets the batch that stalls end; the next one stalls again. */
static void let_one_go_on(backend_t *backend)
{
    pthread_mutex_lock(&backend->mutex);
    backend->passes++;
    pthread_cond_broadcast(&backend->changed);
    pthread_mutex_unlock(&backend->mutex);
}

/* Waits until that many batches have begun. */
static void await_batches(backend_t *backend, int batches)
{
    pthread_mutex_lock(&backend->mutex);
    while (backend->batches < batches) {
        pthread_cond_wait(&backend->changed, &backend->mutex);
    }
    pthread_mutex_unlock(&backend->mutex);
}

/* Waits until that many requests wait to be taken. */
static void await_length(reg_queue_t *queue, int length)
{
    while (reg_queue_length(queue) != length) {
        apr_sleep(A_MOMENT);
    }
}

/* Clients 1 to `count` in this order, behind client 0, whose batch stalls. */
static void line_up(client_t *clients, int count, reg_queue_t *queue, backend_t *backend)
{
    begin(&clients[0], queue, backend, 0, FOR_EVER);
    await_batches(backend, 1);
    for (int i = 1; i <= count; i++) {
        begin(&clients[i], queue, backend, i, FOR_EVER);
        await_length(queue, i);
    }
}

static void one_request_is_run_at_once_and_alone(void **state)
{
    reg_queue_t *queue = reg_queue_make(*state, run, 8, 1);
    request_t request = {.number = 7};
    backend_t backend;

    make(&backend, 0);
    assert_true(
        reg_queue_run(queue, *state, &request, &backend, apr_time_now() + FOR_EVER));
    assert_int_equal(request.outcome, 1);
    assert_int_equal(backend.batches, 1);
    assert_int_equal(backend.largest, 1);
}

static void what_arrives_meanwhile_is_carried_together_and_in_order(void **state)
{
    reg_queue_t *queue = reg_queue_make(*state, run, 8, 1);
    client_t clients[7];
    backend_t backend;

    make(&backend, 1);
    line_up(clients, 6, queue, &backend);
    go_on(&backend);
    await(clients, 7);
    assert_int_equal(backend.batches, 3); /* 0; half of all, 1 2 3 4; 5 6 */
    assert_int_equal(backend.largest, 4);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(backend.order[i], i);
        assert_true(clients[i].was_run);
    }
}

static void a_batch_is_no_larger_than_it_may_be(void **state)
{
    reg_queue_t *queue = reg_queue_make(*state, run, 2, 1);
    client_t clients[8];
    backend_t backend;

    make(&backend, 1);
    line_up(clients, 7, queue, &backend);
    go_on(&backend);
    await(clients, 8);
    assert_int_equal(backend.largest, 2);
    assert_int_equal(backend.batches, 5); /* 0; 1 2; 3 4; 5 6; 7 */
    for (int i = 0; i < 8; i++) {
        assert_int_equal(backend.order[i], i);
    }
}

static void a_failure_is_one_request_s_own(void **state)
{
    reg_queue_t *queue = reg_queue_make(*state, run, 8, 1);
    client_t clients[4];
    backend_t backend;

    make(&backend, 1);
    line_up(clients, 3, queue, &backend);
    clients[0].request.fails = 1; /* its leader has run it, and has not been told yet */
    clients[2].request.fails = 1;
    go_on(&backend);
    await(clients, 4);
    assert_int_equal(clients[1].request.outcome, 1);
    assert_int_equal(clients[2].request.outcome, -1);
    assert_int_equal(clients[3].request.outcome, 1);
}

static void a_leader_that_fails_fails_alone(void **state)
{
    reg_queue_t *queue = reg_queue_make(*state, run, 8, 1);
    client_t clients[3];
    backend_t backend;

    make(&backend, 1);
    line_up(clients, 2, queue, &backend);
    clients[1].request.fails = 1; /* the first in line leads the second batch */
    go_on(&backend);
    await(clients, 3);
    assert_int_equal(clients[1].request.outcome, -1);
    assert_int_equal(clients[2].request.outcome, 1);
}

static void who_has_not_been_taken_leaves_at_the_deadline(void **state)
{
    reg_queue_t *queue = reg_queue_make(*state, run, 8, 1);
    client_t clients[4];
    backend_t backend;

    make(&backend, 1);
    line_up(clients, 1, queue, &backend);
    begin(&clients[2], queue, &backend, 2, apr_time_from_msec(100));
    begin(&clients[3], queue, &backend, 3, FOR_EVER);
    pthread_join(clients[2].thread, NULL); /* while the backend stalls */
    assert_false(clients[2].was_run);
    assert_int_equal(clients[2].request.runs, 0);
    assert_in_range(clients[2].took, apr_time_from_msec(100), FOR_EVER / 2);

    go_on(&backend);
    await(clients, 2);
    await(clients + 3, 1);
    assert_true(clients[1].was_run && clients[3].was_run);
    assert_int_equal(backend.count, 3); /* the one that left was never run */
}

static void who_has_been_taken_stays_until_it_was_run(void **state)
{
    reg_queue_t *queue = reg_queue_make(*state, run, 8, 1);
    client_t clients[3];
    backend_t backend;

    make(&backend, 1);
    line_up(clients, 1, queue, &backend);
    begin(&clients[2], queue, &backend, 2, apr_time_from_msec(500));
    await_length(queue, 2);
    let_one_go_on(&backend);
    await_batches(&backend, 2); /* and stalls, with 1 and 2 in it */
    apr_sleep(apr_time_from_msec(600));
    assert_int_equal(pthread_tryjoin_np(clients[2].thread, NULL), EBUSY);
    go_on(&backend);
    await(clients, 3);
    assert_true(clients[2].was_run);
}

static void a_batch_s_deadline_is_its_earliest(void **state)
{
    reg_queue_t *queue = reg_queue_make(*state, run, 8, 1);
    client_t clients[3];
    backend_t backend;
    apr_time_t start = apr_time_now();

    make(&backend, 1);
    line_up(clients, 1, queue, &backend);
    begin(&clients[2], queue, &backend, 2, apr_time_from_sec(10));
    await_length(queue, 2);
    go_on(&backend);
    await(clients, 3);
    assert_in_range(backend.deadline, start + apr_time_from_sec(10),
                    start + apr_time_from_sec(20));
}

static void no_more_batches_are_run_at_a_time_than_there_are_lanes(void **state)
{
    reg_queue_t *queue = reg_queue_make(*state, run, 2, 3);
    client_t clients[20];
    backend_t backend;

    make(&backend, 1);
    for (int i = 0; i < 20; i++) {
        begin(&clients[i], queue, &backend, i, FOR_EVER);
    }
    await_batches(&backend, 3);
    await_length(queue, 17);
    assert_int_equal(backend.batches, 3);
    go_on(&backend);
    await(clients, 20);
    assert_int_equal(backend.most_running, 3);
    assert_int_equal(backend.count, 20);
}

static void one_queue_does_not_hold_up_another(void **state)
{
    reg_queue_t *stalled = reg_queue_make(*state, run, 8, 1);
    reg_queue_t *other = reg_queue_make(*state, run, 8, 1);
    client_t clients[2];
    backend_t backend, healthy;

    make(&backend, 1);
    make(&healthy, 0);
    line_up(clients, 0, stalled, &backend);
    begin(&clients[1], other, &healthy, 1, FOR_EVER);
    pthread_join(clients[1].thread, NULL);
    assert_true(clients[1].was_run);
    go_on(&backend);
    await(clients, 1);
}

#define THREADS 32
#define ROUNDS 500

/* A thread that has many requests run, some of which cannot wait. */
typedef struct {
    pthread_t thread;
    reg_queue_t *queue;
    backend_t *backend;
    int wrong;
} busy_t;

static void *keep_busy(void *data)
{
    busy_t *busy = data;

    for (int i = 0; i < ROUNDS; i++) {
        request_t request = {.number = i, .fails = i % 3 == 0};
        apr_interval_time_t patience = i % 7 == 0 ? 50 : FOR_EVER;
        apr_pool_t *pool;
        int was_run;

        apr_pool_create(&pool, NULL);
        was_run = reg_queue_run(busy->queue, pool, &request, busy->backend,
                                apr_time_now() + patience);
        busy->wrong += request.runs != was_run || (!was_run && i % 7 != 0)
                       || (was_run && request.outcome != (request.fails ? -1 : 1));
        apr_pool_destroy(pool);
    }
    return NULL;
}

static void everything_is_run_once_whatever_the_interleaving(void **state)
{
    static const struct {
        int batch, lanes;
    } shapes[] = {{1, 1}, {2, 1}, {8, 1}, {64, 1}, {3, 2}, {8, 4}};

    for (size_t s = 0; s < LENGTH(shapes); s++) {
        reg_queue_t *queue =
            reg_queue_make(*state, run, shapes[s].batch, shapes[s].lanes);
        busy_t busy[THREADS];
        backend_t backend;

        make(&backend, 0);
        for (int i = 0; i < THREADS; i++) {
            busy[i] = (busy_t){.queue = queue, .backend = &backend};
            assert_int_equal(0,
                             pthread_create(&busy[i].thread, NULL, keep_busy, &busy[i]));
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(busy[i].thread, NULL);
            assert_int_equal(busy[i].wrong, 0);
        }
        assert_in_range(backend.largest, 1, shapes[s].batch);
        assert_in_range(backend.most_running, 1, shapes[s].lanes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(one_request_is_run_at_once_and_alone),
        POOL_TEST(what_arrives_meanwhile_is_carried_together_and_in_order),
        POOL_TEST(a_batch_is_no_larger_than_it_may_be),
        POOL_TEST(a_failure_is_one_request_s_own),
        POOL_TEST(a_leader_that_fails_fails_alone),
        POOL_TEST(who_has_not_been_taken_leaves_at_the_deadline),
        POOL_TEST(who_has_been_taken_stays_until_it_was_run),
        POOL_TEST(a_batch_s_deadline_is_its_earliest),
        POOL_TEST(no_more_batches_are_run_at_a_time_than_there_are_lanes),
        POOL_TEST(one_queue_does_not_hold_up_another),
        POOL_TEST(everything_is_run_once_whatever_the_interleaving),
    };

    return RUN_TESTS(tests);
}
