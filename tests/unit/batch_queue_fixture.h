/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_BATCH_QUEUE_FIXTURE_H
#define REGISTRATION_BATCH_QUEUE_FIXTURE_H

/**
 * A queue, clients in threads that put requests into it, and a backend in place of a
 * database that records its batches and can stall.
 */

#include "unit.h"

#include "batch_queue.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define POLL_INTERVAL apr_time_from_msec(1)

/* A client that waits for so long was never woken. */
#define LONG_TIMEOUT apr_time_from_sec(30)

#define MOST_CLIENTS 20

/* The most bytes of a batch. */
#define BYTES 100

/* The backend: records its batches, and stalls if a test wants that. */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum { RUNS, STALLS, STALLS_UNTIL_DEADLINE } mode;
    int passes;                /* stalling batches that may end all the same */
    int running, most_running; /* batches, now and at any time */
    int batches;
    int largest;
    int misplaced;  /* requests that were meant for another database */
    char order[64]; /* the requests' numbers, a blank between two batches */
    size_t length;
    apr_time_t start_by; /* of the last batch */
    int preparing;       /* leaders that have begun to prepare */
    int is_unready;      /* they wait */
    int parts;           /* returned by prepare() */
} backend_t;

/* A request and its result. */
typedef struct {
    const backend_t *backend; /* where it is to be run */
    int number;
    int fails;
    int runs;
    int outcome; /* 1 success, -1 failure */
} request_t;

/* A thread with a request. */
typedef struct {
    pthread_t thread;
    struct fixture_t *fixture;
    apr_interval_time_t timeout;
    apr_size_t size;
    request_t request;
    int was_run;
    int has_left;
    apr_interval_time_t took;
} client_t;

/* A queue, the backend behind it and the clients in front of it. */
typedef struct fixture_t {
    reg_batch_queue_t *queue;
    backend_t backend;
    client_t clients[MOST_CLIENTS];
    int count;
} fixture_t;

static inline void append_to_order(backend_t *backend, char c)
{
    if (backend->length < sizeof(backend->order) - 1) {
        backend->order[backend->length++] = c;
    }
}

static inline void stall(backend_t *backend, apr_time_t start_by)
{
    if (backend->mode == STALLS_UNTIL_DEADLINE) {
        pthread_mutex_unlock(&backend->mutex);
        while (apr_time_now() < start_by) {
            apr_sleep(POLL_INTERVAL);
        }
        pthread_mutex_lock(&backend->mutex);
        return;
    }
    while (backend->mode == STALLS && !backend->passes) {
        pthread_cond_wait(&backend->changed, &backend->mutex);
    }
    backend->passes -= backend->mode == STALLS;
}

static inline void run(void *leader, void *const *requests, int count,
                       apr_time_t start_by)
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
    if (backend->batches++ > 0) {
        append_to_order(backend, ' ');
    }
    backend->start_by = start_by;
    for (int i = 0; i < count; i++) {
        request_t *request = requests[i];

        append_to_order(backend, (char)('0' + request->number));
        backend->misplaced += request->backend != backend;
        request->runs++;
        request->outcome = request->fails ? -1 : 1;
    }
    pthread_cond_broadcast(&backend->changed);
    stall(backend, start_by);
    backend->running--;
    pthread_mutex_unlock(&backend->mutex);
}

/* Prepares a batch: counts it, and waits while the backend is unready. */
static inline int prepare(void *leader, apr_time_t start_by)
{
    backend_t *backend = leader;
    int is_ready;

    pthread_mutex_lock(&backend->mutex);
    backend->preparing++;
    pthread_cond_broadcast(&backend->changed);
    while (backend->is_unready && apr_time_now() < start_by) {
        pthread_mutex_unlock(&backend->mutex);
        apr_sleep(POLL_INTERVAL);
        pthread_mutex_lock(&backend->mutex);
    }
    is_ready = !backend->is_unready;
    pthread_mutex_unlock(&backend->mutex);
    return is_ready ? backend->parts : 0;
}

static inline reg_batch_queue_t *make_queue(apr_pool_t *pool, int batch)
{
    const reg_batch_queue_settings_t settings = {prepare, run, batch, BYTES};

    return reg_batch_queue_make(pool, &settings);
}

static inline void make_fixture(fixture_t *fixture, apr_pool_t *pool, int batch)
{
    *fixture = (fixture_t){.queue = make_queue(pool, batch)};
    fixture->backend.parts = 2;
    pthread_mutex_init(&fixture->backend.mutex, NULL);
    pthread_cond_init(&fixture->backend.changed, NULL);
    fixture->backend.mode = STALLS;
}

static inline void *run_client(void *data)
{
    client_t *client = data;
    apr_pool_t *pool;
    apr_time_t start = apr_time_now();

    apr_pool_create(&pool, NULL);
    client->was_run =
        reg_batch_queue_run(client->fixture->queue, pool, &client->request, client->size,
                            &client->fixture->backend, start + client->timeout);
    client->took = apr_time_now() - start;
    apr_pool_destroy(pool);
    return NULL;
}

/* Starts the next client; its number is its index. */
static inline client_t *start_client_of_size(fixture_t *fixture,
                                             apr_interval_time_t timeout, apr_size_t size)
{
    client_t *client = &fixture->clients[fixture->count];

    *client =
        (client_t){.fixture = fixture,
                   .timeout = timeout,
                   .size = size,
                   .request = {.backend = &fixture->backend, .number = fixture->count}};
    assert_int_equal(0, pthread_create(&client->thread, NULL, run_client, client));
    fixture->count++;
    return client;
}

static inline client_t *start_client(fixture_t *fixture, apr_interval_time_t timeout)
{
    return start_client_of_size(fixture, timeout, 1);
}

/* Waits until a client has returned. */
static inline void join_client(client_t *client)
{
    pthread_join(client->thread, NULL);
    client->has_left = 1;
}

/* Waits until that many batches have begun. */
static inline void await_batch_count(backend_t *backend, int batches)
{
    pthread_mutex_lock(&backend->mutex);
    while (backend->batches < batches) {
        pthread_cond_wait(&backend->changed, &backend->mutex);
    }
    pthread_mutex_unlock(&backend->mutex);
}

/* Waits until that many requests are queued. */
static inline void await_length(reg_batch_queue_t *queue, int length)
{
    while (reg_batch_queue_length(queue) != length) {
        apr_sleep(POLL_INTERVAL);
    }
}

/* Starts one more client and waits until it is queued. */
static inline client_t *queue_client(fixture_t *fixture, apr_interval_time_t timeout)
{
    int length = reg_batch_queue_length(fixture->queue);
    client_t *client = start_client(fixture, timeout);

    await_length(fixture->queue, length + 1);
    return client;
}

/* Queues clients 1 to `count` in this order; the batch of client 0 stalls. */
static inline void queue_clients(fixture_t *fixture, apr_pool_t *pool, int batch,
                                 int count)
{
    make_fixture(fixture, pool, batch);
    start_client(fixture, LONG_TIMEOUT);
    await_batch_count(&fixture->backend, 1);
    for (int i = 0; i < count; i++) {
        queue_client(fixture, LONG_TIMEOUT);
    }
}

/* Ends the batch that stalls; the next one stalls again. */
static inline void finish_one_batch(fixture_t *fixture)
{
    int batches;

    pthread_mutex_lock(&fixture->backend.mutex);
    batches = fixture->backend.batches;
    fixture->backend.passes++;
    pthread_cond_broadcast(&fixture->backend.changed);
    pthread_mutex_unlock(&fixture->backend.mutex);
    await_batch_count(&fixture->backend, batches + 1);
}

/* Ends all stalling; all requests that are still queued are run. */
static inline void finish_all_batches(fixture_t *fixture)
{
    pthread_mutex_lock(&fixture->backend.mutex);
    fixture->backend.mode = RUNS;
    pthread_cond_broadcast(&fixture->backend.changed);
    pthread_mutex_unlock(&fixture->backend.mutex);
    for (int i = 0; i < fixture->count; i++) {
        if (!fixture->clients[i].has_left) {
            join_client(&fixture->clients[i]);
            assert_true(fixture->clients[i].was_run);
            assert_int_equal(fixture->clients[i].request.runs, 1);
        }
    }
}

#endif
