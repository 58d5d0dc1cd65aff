/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "metrics.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define EACH 20000

static const char *const names[] = {"none", "live_register", "groups_register", NULL};

/* A block as the module's processes share it. */
static void *make_block(void)
{
    void *block = mmap(NULL, reg_metrics_size(), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(block != MAP_FAILED);
    reg_metrics_begin(block);
    return block;
}

static void assert_line(apr_pool_t *pool, const reg_metrics_t *metrics, const char *line)
{
    const char *text = reg_metrics_text(pool, metrics, names);

    if (!strstr(text, apr_pstrcat(pool, "\n", line, "\n", NULL))) {
        fail_msg("there is no line %s in:\n%s", line, text);
    }
}

static void *count_many(void *metrics)
{
    for (int i = 0; i < EACH; i++) {
        reg_metrics_request(metrics, 1, 201, 1500);
        reg_metrics_change(metrics, REG_REQUESTS_QUEUED, i % 2 ? -1 : 1);
    }
    return NULL;
}

/* Counts in several threads of a child process, which ends without leaving its slot. */
static void count_in_a_child(void *block)
{
    pid_t pid = fork();

    if (pid == 0) {
        pthread_t threads[THREADS];
        apr_pool_t *pool;
        reg_metrics_t *metrics;

        apr_pool_create(&pool, NULL);
        metrics = reg_metrics_join(pool, block);
        reg_metrics_change(metrics, REG_CONNECTIONS_OPEN, 5);
        for (int i = 0; i < THREADS; i++) {
            pthread_create(&threads[i], NULL, count_many, metrics);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
        }
        _exit(0);
    }
    assert_true(pid > 0);
}

static void requests_of_threads_and_processes_are_all_counted(void **state)
{
    void *block = make_block();
    reg_metrics_t *metrics = reg_metrics_join(*state, block);

    count_in_a_child(block);
    count_in_a_child(block);
    for (int i = 0; i < 2; i++) {
        int status;

        assert_true(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_line(*state, metrics,
                "registration_requests_total{operation=\"live_register\",code=\"201\"} "
                "160000");
    assert_line(*state, metrics,
                "registration_request_duration_seconds_sum{operation=\"live_register\"} "
                "240.000000");
    /* The gauges of ended processes are not counted. */
    assert_line(*state, metrics, "registration_processes 1");
    assert_line(*state, metrics, "registration_connections_open 0");
}

static void process_that_leaves_frees_slot_with_gauges(void **state)
{
    void *block = make_block();
    reg_metrics_t *first = reg_metrics_join(*state, block);
    apr_pool_t *pool;
    reg_metrics_t *second;

    apr_pool_create(&pool, *state);
    second = reg_metrics_join(pool, block);
    reg_metrics_change(first, REG_CONNECTIONS_OPEN, 1);
    reg_metrics_change(second, REG_CONNECTIONS_OPEN, 2);
    reg_metrics_breaker(second, apr_time_now() + apr_time_from_sec(60));
    assert_line(*state, first, "registration_connections_open 3");
    assert_line(*state, first, "registration_breakers_open 1");
    apr_pool_destroy(pool);
    assert_line(*state, first, "registration_connections_open 1");
    assert_line(*state, first, "registration_breakers_open 0");
    /* Another process takes its slot, which starts at zero. */
    assert_non_null(reg_metrics_join(*state, block));
    assert_line(*state, first, "registration_processes 2");
    assert_line(*state, first, "registration_connections_open 1");
}

static void value_is_in_bucket_of_its_upper_bound(void **state)
{
    reg_metrics_t *metrics = reg_metrics_join(*state, make_block());

    reg_metrics_batch(metrics, 1);
    reg_metrics_batch(metrics, 4);
    reg_metrics_batch(metrics, 5);
    reg_metrics_batch(metrics, 1001);
    assert_line(*state, metrics, "registration_batch_requests_bucket{le=\"1.0\"} 1");
    assert_line(*state, metrics, "registration_batch_requests_bucket{le=\"2.0\"} 1");
    assert_line(*state, metrics, "registration_batch_requests_bucket{le=\"4.0\"} 2");
    assert_line(*state, metrics, "registration_batch_requests_bucket{le=\"8.0\"} 3");
    assert_line(*state, metrics, "registration_batch_requests_bucket{le=\"1000.0\"} 3");
    assert_line(*state, metrics, "registration_batch_requests_bucket{le=\"+Inf\"} 4");
    assert_line(*state, metrics, "registration_batch_requests_count 4");
    assert_line(*state, metrics, "registration_batch_requests_sum 1011.000000");
    /* A clock that was set back. */
    reg_metrics_call(metrics, -5);
    assert_line(*state, metrics,
                "registration_database_call_duration_seconds_bucket{le=\"0.001\"} 1");
    assert_line(*state, metrics,
                "registration_database_call_duration_seconds_sum 0.000000");
}

static void errors_are_counted_by_class(void **state)
{
    reg_metrics_t *metrics = reg_metrics_join(*state, make_block());

    reg_metrics_error(metrics, "57014");
    reg_metrics_error(metrics, "57P01");
    reg_metrics_error(metrics, "XX000");
    reg_metrics_error(metrics, NULL);
    reg_metrics_error(metrics, "");
    reg_metrics_error(metrics, "\"}");
    assert_line(*state, metrics, "registration_database_errors_total{class=\"57\"} 2");
    assert_line(*state, metrics, "registration_database_errors_total{class=\"XX\"} 1");
    assert_line(*state, metrics, "registration_database_errors_total{class=\"none\"} 3");
}

static void metrics_without_block_are_empty(void **state)
{
    reg_metrics_request(NULL, 1, 200, 1);
    reg_metrics_batch(NULL, 1);
    reg_metrics_call(NULL, 1);
    reg_metrics_error(NULL, NULL);
    reg_metrics_refused(NULL, REG_REFUSED_BUSY);
    reg_metrics_breaker(NULL, 1);
    reg_metrics_change(NULL, REG_REQUESTS_QUEUED, 1);
    assert_text("text", reg_metrics_text(*state, NULL, names), "");
}

static void status_out_of_range_is_not_counted(void **state)
{
    reg_metrics_t *metrics = reg_metrics_join(*state, make_block());

    reg_metrics_request(metrics, 1, -1, 1);
    reg_metrics_request(metrics, 1, 600, 1);
    assert_null(strstr(reg_metrics_text(*state, metrics, names), "code="));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(requests_of_threads_and_processes_are_all_counted),
        POOL_TEST(process_that_leaves_frees_slot_with_gauges),
        POOL_TEST(value_is_in_bucket_of_its_upper_bound),
        POOL_TEST(errors_are_counted_by_class),
        POOL_TEST(metrics_without_block_are_empty),
        POOL_TEST(status_out_of_range_is_not_counted),
    };

    return RUN_TESTS(tests);
}
