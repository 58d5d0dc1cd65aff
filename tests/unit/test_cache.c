/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "cache.h"

#include <pthread.h>

static const reg_operation_t lasting = {.name = "lasting",
                                        .cache_ttl = apr_time_from_sec(1000)};
static const reg_operation_t brief = {.name = "brief", .cache_ttl = 1};
static const reg_operation_t none = {.name = "none"};

static const reg_answer_t found = {.outcome = REG_FOUND, .body = "[1]"};

/* The body that is kept, NULL when none is. */
static const char *kept_of(reg_cache_t *kept, apr_pool_t *pool,
                           const reg_operation_t *operation)
{
    reg_answer_t answer = {.outcome = REG_FAULT, .detail = "x"};

    if (!reg_cache_get(kept, pool, operation, &answer)) {
        assert_int_equal(answer.outcome, REG_FAULT);
        return NULL;
    }
    assert_int_equal(answer.outcome, REG_FOUND);
    assert_null(answer.detail);
    return answer.body;
}

static void the_last_answer_is_kept(void **state)
{
    reg_cache_t *kept = reg_cache_make(*state);
    const reg_answer_t other = {.outcome = REG_FOUND, .body = "[2]"};
    const char *first;

    assert_null(kept_of(kept, *state, &lasting));
    reg_cache_put(kept, &lasting, &found);
    first = kept_of(kept, *state, &lasting);
    reg_cache_put(kept, &lasting, &other);
    assert_text("the last", kept_of(kept, *state, &lasting), "[2]");
    assert_text("what was given before", first, "[1]");
}

static void it_is_kept_as_long_as_it_cache_ttl(void **state)
{
    reg_cache_t *kept = reg_cache_make(*state);

    reg_cache_put(kept, &brief, &found);
    apr_sleep(2);
    assert_null(kept_of(kept, *state, &brief));
    reg_cache_put(kept, &lasting, &found);
    apr_sleep(2);
    assert_non_null(kept_of(kept, *state, &lasting));
}

static void what_is_no_answer_for_all_is_not_kept(void **state)
{
    static const reg_answer_t others[] = {{.outcome = REG_UNAVAILABLE},
                                          {.outcome = REG_FAULT, .body = "[3]"},
                                          {.outcome = REG_FOUND}};
    reg_cache_t *kept = reg_cache_make(*state);

    reg_cache_put(kept, &none, &found);
    assert_null(kept_of(kept, *state, &none));
    for (size_t i = 0; i < LENGTH(others); i++) {
        reg_cache_put(kept, &lasting, &others[i]);
        assert_null(kept_of(kept, *state, &lasting));
    }
}

static void another_operation_does_not_get_it(void **state)
{
    static const reg_operation_t other = {.name = "other",
                                          .cache_ttl = apr_time_from_sec(1000)};
    reg_cache_t *kept = reg_cache_make(*state);

    reg_cache_put(kept, &lasting, &found);
    assert_null(kept_of(kept, *state, &other));
    reg_cache_put(kept, &other, &found);
    assert_null(kept_of(kept, *state, &lasting));
    assert_non_null(kept_of(kept, *state, &other));
}

static void without_a_mutex_nothing_is_kept(void **state)
{
    reg_cache_put(NULL, &lasting, &found);
    assert_null(kept_of(NULL, *state, &lasting));
}

#define THREADS 8
#define TIMES 2000

static reg_cache_t *shared;

/* Puts a text of one letter, and counts the texts of others that are none. */
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

static void threads_get_whole_answers(void **state)
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
        POOL_TEST(the_last_answer_is_kept),
        POOL_TEST(it_is_kept_as_long_as_it_cache_ttl),
        POOL_TEST(what_is_no_answer_for_all_is_not_kept),
        POOL_TEST(another_operation_does_not_get_it),
        POOL_TEST(without_a_mutex_nothing_is_kept),
        POOL_TEST(threads_get_whole_answers),
    };

    return RUN_TESTS(tests);
}
