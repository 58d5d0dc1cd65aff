/* SPDX-License-Identifier: Apache-2.0 */

/* Virtual hosts of one child process that make their queues at the same time. There is no
 * database. */

#include "unit.h"

#include "batching.h"

#include <pthread.h>

#define HOSTS 4
#define ROUNDS 1000
#define OPERATIONS 20

/* A virtual host whose first requests come at the same time as the other hosts'
 * requests. */
typedef struct {
    pthread_t thread;
    reg_batching_t *batching;
    pthread_barrier_t *start;
} host_t;

static reg_connection_t *checkout_none(void *baton, apr_time_t deadline)
{
    (void)baton;
    (void)deadline;
    return NULL;
}

static void *run_host(void *data)
{
    static const reg_operation_t operations[OPERATIONS];
    static const char *const values[] = {"key"};
    const reg_connections_t connections = {.checkout = checkout_none};
    host_t *host = data;
    apr_pool_t *pool;

    apr_pool_create(&pool, NULL);
    pthread_barrier_wait(host->start);
    for (int i = 0; i < OPERATIONS; i++) {
        reg_item_t item = {.values = values, .pool = pool};

        reg_batching_run(host->batching, &connections, pool, &operations[i], &item,
                         apr_time_now() + apr_time_from_sec(2));
    }
    apr_pool_destroy(pool);
    return NULL;
}

/* The hosts share the pool of their child process. If they made their queues in it,
 * nearly every run of this test would crash or hang. */
static void hosts_making_queues_at_once_use_separate_pools(void **state)
{
    pthread_barrier_t start;
    host_t hosts[HOSTS];

    (void)state;
    pthread_barrier_init(&start, NULL, HOSTS);
    for (int round = 0; round < ROUNDS; round++) {
        apr_pool_t *pool;

        apr_pool_create(&pool, NULL);
        for (int i = 0; i < HOSTS; i++) {
            hosts[i] = (host_t){.batching = reg_batching_make(pool, 64, NULL, NULL),
                                .start = &start};
        }
        for (int i = 0; i < HOSTS; i++) {
            pthread_create(&hosts[i].thread, NULL, run_host, &hosts[i]);
        }
        for (int i = 0; i < HOSTS; i++) {
            pthread_join(hosts[i].thread, NULL);
        }
        apr_pool_destroy(pool);
    }
    pthread_barrier_destroy(&start);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_making_queues_at_once_use_separate_pools),
    };

    return RUN_TESTS(tests);
}
