/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "combine.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define A_MOMENT apr_time_from_msec(1)

/* So long that whoever takes it has been forgotten. */
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

/* A queue, what is behind it and who is in front of it. */
typedef struct line_t {
    reg_queue_t *queue;
    backend_t backend;
    client_t clients[MOST_CLIENTS];
    int count;
} line_t;

static void note(backend_t *backend, char c)
{
    if (backend->length < sizeof(backend->order) - 1) {
        backend->order[backend->length++] = c;
    }
}

static void stall(backend_t *backend, apr_time_t deadline)
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
static int prepare(void *leader, apr_time_t deadline)
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

static reg_queue_t *make_queue(apr_pool_t *pool, int batch, int parts, int lanes)
{
    const reg_queue_settings_t settings = {prepare, run, batch, BYTES, parts, lanes};

    return reg_queue_make(pool, &settings);
}

static void make_line(line_t *line, apr_pool_t *pool, int batch, int lanes)
{
    *line = (line_t){.queue = make_queue(pool, batch, 2, lanes)};
    pthread_mutex_init(&line->backend.mutex, NULL);
    pthread_cond_init(&line->backend.changed, NULL);
    line->backend.mode = STALLS;
}

static void *join(void *data)
{
    client_t *client = data;
    apr_pool_t *pool;
    apr_time_t start = apr_time_now();

    apr_pool_create(&pool, NULL);
    client->was_run =
        reg_queue_run(client->line->queue, pool, &client->request, client->size,
                      &client->line->backend, start + client->patience);
    client->took = apr_time_now() - start;
    apr_pool_destroy(pool);
    return NULL;
}

/* Begins the next client, whose number is how many were before it. */
static client_t *begin_sized(line_t *line, apr_interval_time_t patience, apr_size_t size)
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

static client_t *begin(line_t *line, apr_interval_time_t patience)
{
    return begin_sized(line, patience, 1);
}

/* Waits until a client has got what it came for, or has given up. */
static void await(client_t *client)
{
    pthread_join(client->thread, NULL);
    client->has_left = 1;
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

/* One more client, in its place in the queue. */
static client_t *line_up_one(line_t *line, apr_interval_time_t patience)
{
    int length = reg_queue_length(line->queue);
    client_t *client = begin(line, patience);

    await_length(line->queue, length + 1);
    return client;
}

/* Clients 1 to `count` in this order, behind client 0, whose batch stalls. */
static void line_up(line_t *line, apr_pool_t *pool, int batch, int count)
{
    make_line(line, pool, batch, 1);
    begin(line, FOR_EVER);
    await_batches(&line->backend, 1);
    for (int i = 0; i < count; i++) {
        line_up_one(line, FOR_EVER);
    }
}

/* Lets the batch that stalls end; the next one stalls again. */
static void let_one_go_on(line_t *line)
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
static void go_on(line_t *line)
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

static void one_request_is_run_at_once_and_alone(void **state)
{
    line_t line;

    make_line(&line, *state, 8, 1);
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

    make_line(&line, *state, 8, 1);
    line.queue = make_queue(*state, 8, 1, 1);
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

    make_line(&line, *state, 8, 1);
    line.queue = make_queue(*state, 8, 1, 1);
    begin(&line, FOR_EVER);
    await_batches(&line.backend, 1);
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        begin_sized(&line, FOR_EVER, sizes[i]);
        await_length(line.queue, (int)i + 1);
    }
    go_on(&line);
    assert_text("batches", line.backend.order, "0 12 3 4 5 6");
}

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

/* What a leader waits for, others need not: they leave at their deadline, and those that
 * come meanwhile are in its batch. */
static void nobody_is_taken_before_the_leader_is_ready(void **state)
{
    const apr_interval_time_t patience = apr_time_from_msec(300);
    line_t line;

    make_line(&line, *state, 8, 1);
    line.queue = make_queue(*state, 8, 1, 1);
    line.backend.mode = RUNS;
    set_unready(&line, 1);
    begin(&line, FOR_EVER);
    await_preparing(&line.backend, 1);
    line_up_one(&line, FOR_EVER);
    line_up_one(&line, patience);
    line_up_one(&line, FOR_EVER);
    await(&line.clients[2]);
    assert_false(line.clients[2].was_run);
    assert_in_range(line.clients[2].took, patience, FOR_EVER / 2);
    line_up_one(&line, FOR_EVER);
    set_unready(&line, 0);
    go_on(&line);
    assert_text("batches", line.backend.order, "0134");
}

static void who_cannot_get_ready_passes_the_turn_on(void **state)
{
    const apr_interval_time_t patience = apr_time_from_msec(300);
    line_t line;

    make_line(&line, *state, 8, 1);
    line.queue = make_queue(*state, 8, 1, 1);
    line.backend.mode = RUNS;
    set_unready(&line, 1);
    begin(&line, patience);
    await_preparing(&line.backend, 1);
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
static void who_was_run_leaves_while_others_wait(void **state)
{
    line_t line;

    line_up(&line, *state, 2, 5);
    let_one_go_on(&line);
    await(&line.clients[0]);
    let_one_go_on(&line);
    await(&line.clients[1]);
    await(&line.clients[2]);
    assert_int_equal(reg_queue_length(line.queue), 1);
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

/* From the head of the queue, from its middle and from its end. */
static void who_has_not_been_taken_leaves_at_the_deadline(void **state)
{
    const apr_interval_time_t patience = apr_time_from_sec(1);
    line_t line;
    client_t *impatient;

    line_up(&line, *state, 8, 0);
    for (int i = 1; i <= 6; i++) {
        line_up_one(&line, i == 1 || i == 4 || i == 6 ? patience : FOR_EVER);
    }
    for (int i = 1; i <= 6; i++) {
        impatient = &line.clients[i];
        if (impatient->patience == patience) {
            await(impatient); /* while the backend stalls */
            assert_false(impatient->was_run);
            assert_int_equal(impatient->request.runs, 0);
            assert_in_range(impatient->took, patience, FOR_EVER / 2);
        }
    }
    line_up_one(&line, FOR_EVER);
    go_on(&line);
    assert_text("batches", line.backend.order, "0 235 7");
}

static void who_has_been_taken_stays_until_it_was_run(void **state)
{
    const apr_interval_time_t patience = apr_time_from_msec(500);
    line_t line;
    client_t *client;

    line_up(&line, *state, 8, 0);
    line_up_one(&line, patience);
    client = line_up_one(&line, patience);
    let_one_go_on(&line);
    apr_sleep(patience + apr_time_from_msec(100));
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
static void nobody_s_time_is_cut_to_less_than_half(void **state)
{
    const apr_interval_time_t half = apr_time_from_sec(14);
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

/* Whoever leads, is led or waits when a database answers no call before its deadline. */
static void nobody_stays_longer_than_a_stalling_batch(void **state)
{
    line_t line;

    make_line(&line, *state, 4, 1);
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

static void no_more_batches_are_run_at_a_time_than_there_are_lanes(void **state)
{
    line_t line;

    make_line(&line, *state, 2, 3);
    while (line.count < 3) {
        begin(&line, FOR_EVER);
    }
    await_batches(&line.backend, 3); /* No other request is there for them to take. */
    while (line.count < MOST_CLIENTS) {
        begin(&line, FOR_EVER);
    }
    await_length(line.queue, MOST_CLIENTS - 3);
    assert_int_equal(line.backend.batches, 3);
    go_on(&line);
    assert_int_equal(line.backend.most_running, 3);
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
        was_run = reg_queue_run(line->queue, pool, &request, 1 + (apr_size_t)i % BYTES,
                                &line->backend, apr_time_now() + patience);
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
        busy_t busy[THREADS];
        line_t lines[2];

        for (int i = 0; i < 2; i++) {
            make_line(&lines[i], *state, shapes[s].batch, shapes[s].lanes);
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
            assert_in_range(lines[i].backend.largest, 1, shapes[s].batch);
            assert_in_range(lines[i].backend.most_running, 1, shapes[s].lanes);
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
        POOL_TEST(nobody_is_taken_before_the_leader_is_ready),
        POOL_TEST(who_cannot_get_ready_passes_the_turn_on),
        POOL_TEST(who_was_run_leaves_while_others_wait),
        POOL_TEST(a_failure_is_one_request_s_own),
        POOL_TEST(who_has_not_been_taken_leaves_at_the_deadline),
        POOL_TEST(who_has_been_taken_stays_until_it_was_run),
        POOL_TEST(a_batch_s_deadline_is_its_earliest),
        POOL_TEST(nobody_s_time_is_cut_to_less_than_half),
        POOL_TEST(nobody_stays_longer_than_a_stalling_batch),
        POOL_TEST(no_more_batches_are_run_at_a_time_than_there_are_lanes),
        POOL_TEST(one_queue_does_not_hold_up_another),
        POOL_TEST(everything_is_run_once_whatever_the_interleaving),
    };

    alarm(120); /* Who is forgotten would wait for ever, and this program with it. */
    return RUN_TESTS(tests);
}
