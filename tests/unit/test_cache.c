/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "cache.h"

#include <pthread.h>

static const reg_operation_t lasting = {.name = "lasting",
                                        .cache_ttl = apr_time_from_sec(1000)};
static const reg_operation_t brief = {.name = "brief", .cache_ttl = 1};
static const reg_operation_t none = {.name = "none"};

static const reg_answer_t found = {.outcome = REG_FOUND, .body = "[1]"};

/* The cached body, or NULL. */
static const char *get_cached(reg_cache_t *cache, apr_pool_t *pool,
                              const reg_operation_t *operation)
{
    reg_answer_t answer = {.outcome = REG_FAULT, .detail = "x"};

    if (!reg_cache_get(cache, pool, operation, &answer)) {
        assert_int_equal(answer.outcome, REG_FAULT);
        return NULL;
    }
    assert_int_equal(answer.outcome, REG_FOUND);
    assert_null(answer.detail);
    return answer.body;
}

static void answer_put_is_cached(void **state)
{
    reg_cache_t *cache = reg_cache_make(*state);
    const reg_answer_t other = {.outcome = REG_FOUND, .body = "[2]"};
    const char *first;

    assert_null(get_cached(cache, *state, &lasting));
    reg_cache_put(cache, &lasting, &found);
    first = get_cached(cache, *state, &lasting);
    reg_cache_put(cache, &lasting, &other);
    assert_text("the last", get_cached(cache, *state, &lasting), "[2]");
    assert_text("what was given before", first, "[1]");
}

static void answer_after_ttl_is_expired(void **state)
{
    reg_cache_t *cache = reg_cache_make(*state);

    reg_cache_put(cache, &brief, &found);
    apr_sleep(2);
    assert_null(get_cached(cache, *state, &brief));
    reg_cache_put(cache, &lasting, &found);
    apr_sleep(2);
    assert_non_null(get_cached(cache, *state, &lasting));
}

static void answer_without_ttl_or_not_found_is_not_cached(void **state)
{
    static const reg_answer_t others[] = {{.outcome = REG_UNAVAILABLE},
                                          {.outcome = REG_FAULT, .body = "[3]"},
                                          {.outcome = REG_FOUND}};
    reg_cache_t *cache = reg_cache_make(*state);

    reg_cache_put(cache, &none, &found);
    assert_null(get_cached(cache, *state, &none));
    for (size_t i = 0; i < LENGTH(others); i++) {
        reg_cache_put(cache, &lasting, &others[i]);
        assert_null(get_cached(cache, *state, &lasting));
    }
}

static void answer_of_other_operation_is_not_returned(void **state)
{
    static const reg_operation_t other = {.name = "other",
                                          .cache_ttl = apr_time_from_sec(1000)};
    reg_cache_t *cache = reg_cache_make(*state);

    reg_cache_put(cache, &lasting, &found);
    assert_null(get_cached(cache, *state, &other));
    reg_cache_put(cache, &other, &found);
    assert_null(get_cached(cache, *state, &lasting));
    assert_non_null(get_cached(cache, *state, &other));
}

static void cache_without_mutex_stores_nothing(void **state)
{
    reg_cache_put(NULL, &lasting, &found);
    assert_null(get_cached(NULL, *state, &lasting));
}

#define THREADS 8
#define TIMES 2000

static reg_cache_t *shared;

/* Puts a text of one letter again and again; counts texts read that have more than
 * one. */
static void *put_and_get(void *data)
{
    char letters[] = "........";
    const reg_answer_t answer = {.outcome = REG_FOUND, .body = letters};
    apr_size_t broken = 0;
    apr_pool_t *pool;

    apr_pool_create(&pool, NULL);
    memset(letters, 'a' + *(int *)data, sizeof(letters) - 1);
    for (int i = 0; i < TIMES; i++) {
        reg_answer_t got = {.body = ""};

        reg_cache_put(shared, &lasting, &answer);
        reg_cache_get(shared, pool, &lasting, &got);
        broken += strspn(got.body, (char[]){*got.body, '\0'}) != sizeof(letters) - 1;
        apr_pool_clear(pool);
    }
    apr_pool_destroy(pool);
    *(int *)data = (int)broken;
    return NULL;
}

static void answer_read_by_threads_is_whole(void **state)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];

    shared = reg_cache_make(*state);
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(0, pthread_create(&threads[i], NULL, put_and_get, &numbers[i]));
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(numbers[i], 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(answer_put_is_cached),
        POOL_TEST(answer_after_ttl_is_expired),
        POOL_TEST(answer_without_ttl_or_not_found_is_not_cached),
        POOL_TEST(answer_of_other_operation_is_not_returned),
        POOL_TEST(cache_without_mutex_stores_nothing),
        POOL_TEST(answer_read_by_threads_is_whole),
    };

    return RUN_TESTS(tests);
}
