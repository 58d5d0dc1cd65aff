/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_BATCH_QUEUE_FIXTURE_H
#define REGISTRATION_BATCH_QUEUE_FIXTURE_H

/**
 * A queue, requests in threads of their own in front of it, and behind it a backend that
 * notes the batches it is given and stalls while it is told to.
 */

#include "unit.h"

#include "batch_queue.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define A_MOMENT apr_time_from_msec(1)

/* So long that a client that waits for it has been forgotten. */
#define FOR_EVER apr_time_from_sec(30)

#define MOST_CLIENTS 20

/* The most bytes of a batch. */
#define BYTES 100

/* What stands in for a database: notes what it is given, and stalls while it is told to.
 */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum { RUNS, STALLS, STALLS_TO_THE_DEADLINE } mode;
    int passes;                /* stalling batches that may end all the same */
    int running, most_running; /* batches, now and at any time */
    int batches;
    int largest;
    int strays;     /* requests that were meant for another database */
    char order[64]; /* the requests' numbers, a blank between two batches */
    size_t length;
    apr_time_t deadline; /* of the last batch */
    int preparing;       /* leaders that began to get ready */
    int is_unready;      /* they cannot yet */
} backend_t;

/* A request, and what became of it. */
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
    struct line_t *line;
    apr_interval_time_t patience;
    apr_size_t size;
    request_t request;
    int was_run;
    int has_left;
    apr_interval_time_t took;
} client_t;

/* A queue, the backend behind it and the clients in front of it. */
typedef struct line_t {
    reg_batch_queue_t *queue;
    backend_t backend;
    client_t clients[MOST_CLIENTS];
    int count;
} line_t;

static inline void note(backend_t *backend, char c)
{
    if (backend->length < sizeof(backend->order) - 1) {
        backend->order[backend->length++] = c;
    }
}

static inline void stall(backend_t *backend, apr_time_t deadline)
{
    if (backend->mode == STALLS_TO_THE_DEADLINE) {
        pthread_mutex_unlock(&backend->mutex);
        while (apr_time_now() < deadline) {
            apr_sleep(A_MOMENT);
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
                       apr_time_t deadline)
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
        note(backend, ' ');
    }
    backend->deadline = deadline;
    for (int i = 0; i < count; i++) {
        request_t *request = requests[i];

        note(backend, (char)('0' + request->number));
        backend->strays += request->backend != backend;
        request->runs++;
        request->outcome = request->fails ? -1 : 1;
    }
    pthread_cond_broadcast(&backend->changed);
    stall(backend, deadline);
    backend->running--;
    pthread_mutex_unlock(&backend->mutex);
}

/* Gets ready: notes that it begins to, and stalls while it is told to. */
static inline int prepare(void *leader, apr_time_t deadline)
{
    backend_t *backend = leader;
    int is_ready;

    pthread_mutex_lock(&backend->mutex);
    backend->preparing++;
    pthread_cond_broadcast(&backend->changed);
    while (backend->is_unready && apr_time_now() < deadline) {
        pthread_mutex_unlock(&backend->mutex);
        apr_sleep(A_MOMENT);
        pthread_mutex_lock(&backend->mutex);
    }
    is_ready = !backend->is_unready;
    pthread_mutex_unlock(&backend->mutex);
    return is_ready;
}

static inline reg_batch_queue_t *make_queue(apr_pool_t *pool, int batch, int parts)
{
    const reg_batch_queue_settings_t settings = {prepare, run, batch, BYTES, parts};

    return reg_batch_queue_make(pool, &settings);
}

static inline void make_line(line_t *line, apr_pool_t *pool, int batch)
{
    *line = (line_t){.queue = make_queue(pool, batch, 2)};
    pthread_mutex_init(&line->backend.mutex, NULL);
    pthread_cond_init(&line->backend.changed, NULL);
    line->backend.mode = STALLS;
}

static inline void *join(void *data)
{
    client_t *client = data;
    apr_pool_t *pool;
    apr_time_t start = apr_time_now();

    apr_pool_create(&pool, NULL);
    client->was_run =
        reg_batch_queue_run(client->line->queue, pool, &client->request, client->size,
                            &client->line->backend, start + client->patience);
    client->took = apr_time_now() - start;
    apr_pool_destroy(pool);
    return NULL;
}

/* Begins the next client, whose number is how many were before it. */
static inline client_t *begin_sized(line_t *line, apr_interval_time_t patience,
                                    apr_size_t size)
{
    client_t *client = &line->clients[line->count];

    *client = (client_t){.line = line,
                         .patience = patience,
                         .size = size,
                         .request = {.backend = &line->backend, .number = line->count}};
    assert_int_equal(0, pthread_create(&client->thread, NULL, join, client));
    line->count++;
    return client;
}

static inline client_t *begin(line_t *line, apr_interval_time_t patience)
{
    return begin_sized(line, patience, 1);
}

/* Waits until a client has got what it came for, or has given up. */
static inline void await(client_t *client)
{
    pthread_join(client->thread, NULL);
    client->has_left = 1;
}

/* Waits until that many batches have begun. */
static inline void await_batches(backend_t *backend, int batches)
{
    pthread_mutex_lock(&backend->mutex);
    while (backend->batches < batches) {
        pthread_cond_wait(&backend->changed, &backend->mutex);
    }
    pthread_mutex_unlock(&backend->mutex);
}

/* Waits until that many requests wait to be taken. */
static inline void await_length(reg_batch_queue_t *queue, int length)
{
    while (reg_batch_queue_length(queue) != length) {
        apr_sleep(A_MOMENT);
    }
}

/* One more client, in its place in the queue. */
static inline client_t *line_up_one(line_t *line, apr_interval_time_t patience)
{
    int length = reg_batch_queue_length(line->queue);
    client_t *client = begin(line, patience);

    await_length(line->queue, length + 1);
    return client;
}

/* Clients 1 to `count` in this order, behind client 0, whose batch stalls. */
static inline void line_up(line_t *line, apr_pool_t *pool, int batch, int count)
{
    make_line(line, pool, batch);
    begin(line, FOR_EVER);
    await_batches(&line->backend, 1);
    for (int i = 0; i < count; i++) {
        line_up_one(line, FOR_EVER);
    }
}

/* Lets the batch that stalls end; the next one stalls again. */
static inline void let_one_go_on(line_t *line)
{
    int batches;

    pthread_mutex_lock(&line->backend.mutex);
    batches = line->backend.batches;
    line->backend.passes++;
    pthread_cond_broadcast(&line->backend.changed);
    pthread_mutex_unlock(&line->backend.mutex);
    await_batches(&line->backend, batches + 1);
}

/* Lets nothing stall any more; all who have not left yet are run. */
static inline void go_on(line_t *line)
{
    pthread_mutex_lock(&line->backend.mutex);
    line->backend.mode = RUNS;
    pthread_cond_broadcast(&line->backend.changed);
    pthread_mutex_unlock(&line->backend.mutex);
    for (int i = 0; i < line->count; i++) {
        if (!line->clients[i].has_left) {
            await(&line->clients[i]);
            assert_true(line->clients[i].was_run);
            assert_int_equal(line->clients[i].request.runs, 1);
        }
    }
}

#endif
