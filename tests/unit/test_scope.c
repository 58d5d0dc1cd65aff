/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "scope.h"

static void scope_in_list_is_compared_whole(void **state)
{
    static const struct {
        const char *list, *separators;
        int has;
    } rows[] = {
        {"a:b", " ", 1},    {"x a:b y", " ", 1}, {"  a:b  ", " ", 1},
        {"x,a:b", " ,", 1}, {"x,a:b", " ", 0},   {"", " ", 0},
        {"a:bc", " ", 0},   {"a:", " ", 0},      {"xa:b a:b2", " ", 0},
        {"A:B", " ", 0},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_number(rows[i].list,
                      reg_scope_in_list(rows[i].list, rows[i].separators, "a:b"),
                      rows[i].has);
    }
}

static void scope_in_array_is_one_of_its_strings(void **state)
{
    static const struct {
        const char *array;
        int has;
    } rows[] = {
        {"[\"a:b\"]", 1},
        {"[\"x\",\"a:b\"]", 1},
        {"[1,null,\"\\u0061:b\"]", 1},
        {"[]", 0},
        {"[\"a:bc\",\"a:\"]", 0},
        {"[[\"a:b\"]]", 0},
        {"[{\"a:b\":\"a:b\"}]", 0},
        {"[\"a:b\"", 0},
        {"[\"a:b\"] x", 0},
        /* No array, though it would be one beside another key. */
        {"[\"a:b\"],\"y\":1", 0},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_number(rows[i].array, reg_scope_in_array(*state, rows[i].array, "a:b"),
                      rows[i].has);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(scope_in_list_is_compared_whole),
        POOL_TEST(scope_in_array_is_one_of_its_strings),
    };

    return RUN_TESTS(tests);
}
