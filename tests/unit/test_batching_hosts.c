/* SPDX-License-Identifier: Apache-2.0 */

/* Hosts of one child process, each with its queues, that begin at the same time. No
 * database is to be had. */

#include "unit.h"

#include "batching.h"

#include <pthread.h>

#define HOSTS 4
#define ROUNDS 1000
#define OPERATIONS 20

/* A host whose first requests come at the same time as those of others. */
typedef struct {
    pthread_t thread;
    reg_batching_t *batching;
    pthread_barrier_t *start;
} host_t;

static reg_connection_t *find_none(void *baton, apr_time_t deadline)
{
    (void)baton;
    (void)deadline;
    return NULL;
}

static void *begin_host(void *data)
{
    static const reg_operation_t operations[OPERATIONS];
    static const char *const values[] = {"key"};
    const reg_connections_t connections = {.checkout = find_none};
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

/* They have the pool of their child process in common. Did they make their queues in it,
 * nearly each run of this would end with a fault, or never. */
static void hosts_do_not_meet_in_a_pool(void **state)
{
    pthread_barrier_t start;
    host_t hosts[HOSTS];

    (void)state;
    pthread_barrier_init(&start, NULL, HOSTS);
    for (int round = 0; round < ROUNDS; round++) {
        apr_pool_t *pool;

        apr_pool_create(&pool, NULL);
        for (int i = 0; i < HOSTS; i++) {
            hosts[i] =
                (host_t){.batching = reg_batching_make(pool, 64, NULL), .start = &start};
        }
        for (int i = 0; i < HOSTS; i++) {
            pthread_create(&hosts[i].thread, NULL, begin_host, &hosts[i]);
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
        cmocka_unit_test(hosts_do_not_meet_in_a_pool),
    };

    return RUN_TESTS(tests);
}
