/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_UNIT_H
#define REGISTRATION_UNIT_H

/**
 * What the unit tests share: cmocka, a pool a test, and assertions that name the row of
 * the table that failed, since a line number would only name the loop.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_pools.h>
#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/** A test whose *state is a pool of its own. */
#define POOL_TEST(function)                                                              \
    cmocka_unit_test_setup_teardown(function, unit_make_pool, unit_destroy_pool)

/** Runs an array of tests; what main() returns. */
#define RUN_TESTS(tests) cmocka_run_group_tests(tests, unit_start, unit_stop)

static inline int unit_start(void **state)
{
    (void)state;
    return apr_initialize();
}

static inline int unit_stop(void **state)
{
    (void)state;
    apr_terminate();
    return 0;
}

static inline int unit_make_pool(void **state)
{
    return apr_pool_create((apr_pool_t **)state, NULL);
}

static inline int unit_destroy_pool(void **state)
{
    apr_pool_destroy(*state);
    return 0;
}

/** The text as often as that. */
static inline const char *repeated(apr_pool_t *pool, const char *text, int times)
{
    apr_size_t length = strlen(text);
    char *all = apr_palloc(pool, length * (apr_size_t)times + 1);
    char *end = all;

    while (times-- > 0) {
        memcpy(end, text, length);
        end += length;
    }
    *end = '\0';
    return all;
}

/** A text is the one expected, or both are NULL. */
#define assert_text(row, actual, expected)                                               \
    unit_assert_text(row, actual, expected, __FILE__, __LINE__)

static inline void unit_assert_text(const char *row, const char *actual,
                                    const char *expected, const char *file, int line)
{
    if (actual && expected ? strcmp(actual, expected) != 0 : actual != expected) {
        print_error("%s\n  gave     %s\n  and not  %s\n", row, actual ? actual : "NULL",
                    expected ? expected : "NULL");
        _fail(file, line);
    }
}

/** A number is the one expected. */
#define assert_number(row, actual, expected)                                             \
    unit_assert_number(row, actual, expected, __FILE__, __LINE__)

static inline void unit_assert_number(const char *row, intmax_t actual, intmax_t expected,
                                      const char *file, int line)
{
    if (actual != expected) {
        print_error("%s\n  gave %jd and not %jd\n", row, actual, expected);
        _fail(file, line);
    }
}

/** A number is from low to high. cmocka 2 deprecates assert_in_range(), and cmocka 1 has
 * no other. */
#define assert_interval(actual, low, high)                                               \
    unit_assert_interval(#actual, (intmax_t)(actual), (intmax_t)(low), (intmax_t)(high), \
                         __FILE__, __LINE__)

static inline void unit_assert_interval(const char *text, intmax_t actual, intmax_t low,
                                        intmax_t high, const char *file, int line)
{
    if (actual < low || actual > high) {
        print_error("%s\n  is %jd and not from %jd to %jd\n", text, actual, low, high);
        _fail(file, line);
    }
}

#endif
