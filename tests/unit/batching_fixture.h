/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_BATCHING_FIXTURE_H
#define REGISTRATION_BATCHING_FIXTURE_H

/**
 * The batching of one database as in a child process of httpd, and clients in threads.
 * The database is a real PostgreSQL with real locks.
 */

#include "retry_fixture.h"

#include "batching.h"

#include <errno.h>
#include <pthread.h>

#define MOST_CLIENTS 20
#define MOST_CONNECTIONS 8

/* Time for some calls to find a row locked. */
#define SEVERAL_LOCK_TIMEOUTS apr_time_from_msec(3 * REG_LOCK_TIMEOUT)

/* A request for a row. Its text is its key as well: what it competes for. */
#define ROW(id)                                                                          \
    "UPDATE marks SET value = value + 1 WHERE id = " #id                                 \
    " RETURNING $1, 'updated', NULL, NULL"

/* A request that runs until a test deletes the row of `stalled`. */
#define STALLED "SELECT $1, 'created', NULL, stall()"

/* A thread with a request. */
typedef struct {
    pthread_t thread;
    struct service_t *service;
    const reg_operation_t *operation;
    const char *values[2];
    apr_interval_time_t timeout;
    reg_item_t item;
    int created;
} client_t;

/* The batching of one database as in a child process of httpd, and its clients. */
typedef struct service_t {
    database_t *database;
    PGconn *observer; /* an administrator's connection without a transaction */
    reg_batching_t *batching;
    reg_connections_t connections;
    pthread_mutex_t mutex; /* of is_used and used */
    reg_connection_t list[MOST_CONNECTIONS];
    int is_used[MOST_CONNECTIONS];
    int used;
    int is_exhausted; /* no connection is free until it is reset */
    client_t clients[MOST_CLIENTS];
    int count;
} service_t;

static inline void check_in(void *baton, reg_connection_t *connection)
{
    service_t *service = baton;

    pthread_mutex_lock(&service->mutex);
    service->is_used[connection - service->list] = 0;
    service->used--;
    pthread_mutex_unlock(&service->mutex);
}

static inline reg_connection_t *check_out(void *baton, apr_time_t deadline)
{
    service_t *service = baton;
    int i = 0;

    while (__atomic_load_n(&service->is_exhausted, __ATOMIC_SEQ_CST)) {
        if (apr_time_now() >= deadline) {
            return NULL;
        }
        apr_sleep(apr_time_from_msec(1));
    }
    pthread_mutex_lock(&service->mutex);
    while (i < MOST_CONNECTIONS && service->is_used[i]) {
        i++;
    }
    if (i < MOST_CONNECTIONS) {
        service->is_used[i] = 1;
        service->used++;
    }
    pthread_mutex_unlock(&service->mutex);
    if (i < MOST_CONNECTIONS && !reg_connection_refresh(&service->list[i])) {
        check_in(service, &service->list[i]);
        return NULL;
    }
    return i < MOST_CONNECTIONS ? &service->list[i] : NULL;
}

static inline void ignore_report(void *baton, const char *message)
{
    (void)baton;
    (void)message;
}

static inline int make_service(void **state)
{
    service_t *service;
    database_t *database;

    make_retry_fixture(state);
    database = *state;
    service = *state = apr_pcalloc(database->pool, sizeof(*service));
    service->database = database;
    service->observer =
        connect_administrator(database->pool, database_name(database->pool));
    service->batching = reg_batching_make(database->pool, 64, NULL, NULL);
    service->connections =
        (reg_connections_t){check_out, check_in, ignore_report, service, NULL, NULL};
    pthread_mutex_init(&service->mutex, NULL);
    for (int i = 0; i < MOST_CONNECTIONS; i++) {
        service->list[i].pg = connect_service(database->pool);
    }
    sql(database->administrator,
        "INSERT INTO marks SELECT id, 0 FROM generate_series(1, 3) AS id");
    return 0;
}

static inline int destroy_service(void **state)
{
    service_t *service = *state;
    int used = service->used;

    for (int i = 0; i < MOST_CONNECTIONS; i++) {
        PQfinish(service->list[i].pg);
    }
    PQfinish(service->observer);
    pthread_mutex_destroy(&service->mutex);
    *state = service->database;
    return destroy_retry_fixture(state) || used;
}

#define BATCHING_TEST(function)                                                          \
    cmocka_unit_test_setup_teardown(function, make_service, destroy_service)

static inline void *run_client(void *data)
{
    client_t *client = data;
    service_t *service = client->service;

    apr_pool_create(&client->item.pool, NULL);
    reg_batching_run(service->batching, &service->connections, client->item.pool,
                     client->operation, &client->item, apr_time_now() + client->timeout);
    apr_pool_destroy(client->item.pool);
    return NULL;
}

static inline client_t *start_client(service_t *service, const reg_operation_t *operation,
                                     const char *value, apr_interval_time_t timeout)
{
    client_t *client = &service->clients[service->count++];

    assert_interval(service->count, 1, MOST_CLIENTS);
    *client = (client_t){.service = service,
                         .operation = operation,
                         .values = {value, NULL},
                         .timeout = timeout};
    client->item.values = client->values;
    assert_int_equal(0, pthread_create(&client->thread, NULL, run_client, client));
    return client;
}

static inline client_t *start_clients(service_t *service, int count, const char *script)
{
    client_t *first = &service->clients[service->count];

    for (int i = 0; i < count; i++) {
        start_client(service, &run_operation, script, SOON);
    }
    return first;
}

static inline void await_outcomes(client_t *clients, int count, reg_outcome_t outcome)
{
    for (int i = 0; i < count; i++) {
        pthread_join(clients[i].thread, NULL);
        assert_text(clients[i].values[0], outcome_name(clients[i].item.answer.outcome),
                    outcome_name(outcome));
    }
}

static inline void assert_waiting(const client_t *clients, int count)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(pthread_tryjoin_np(clients[i].thread, NULL), EBUSY);
    }
}

#define WAIT_FOR(condition)                                                              \
    for (apr_time_t end = apr_time_now() + SOON; !(condition);                           \
         apr_sleep(apr_time_from_msec(1))) {                                             \
        assert_true(apr_time_now() < end);                                               \
    }

/* The number of connections that wait for a lock. */
static inline int count_lock_waits(const service_t *service)
{
    return sql_number(service->observer,
                      "SELECT count(*) FROM pg_stat_activity"
                      " WHERE usename = 'registration' AND wait_event_type = 'Lock'"
                      "   AND datname = current_database()");
}

/* The maximum number of connections that wait for a lock at the same time, observed for
 * some lock timeouts and until one waits. */
static inline int max_lock_waits(const service_t *service)
{
    apr_time_t end = apr_time_now() + SEVERAL_LOCK_TIMEOUTS;
    int most = 0;

    while (apr_time_now() < (most > 0 ? end : end + SOON)) {
        int now = count_lock_waits(service);

        most = now > most ? now : most;
        apr_sleep(apr_time_from_msec(2));
    }
    return most;
}

static inline int value_of(const service_t *service, int id)
{
    return sql_number(service->observer,
                      apr_psprintf(service->database->pool,
                                   "SELECT value FROM marks WHERE id = %d", id));
}

#endif
