/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "prefer.h"

static void minimal_is_preferred_by_its_name_alone(void **state)
{
    static const struct {
        const char *prefer;
        int minimal;
    } rows[] = {
        {NULL, 0},
        {"", 0},
        {"return=minimal", 1},
        {"Return=Minimal", 1},
        {"return=\"minimal\"", 1},
        {"return = minimal", 1},
        {" \treturn=minimal ", 1},
        {"return=minimal; foo=bar", 1},
        {"respond-async, return=minimal", 1},
        {"respond-async,return=minimal,wait=10", 1},
        {", ,return=minimal", 1},
        {"a=\"return=representation, return=x\", return=minimal", 1},
        {"a=\"\\\", return=representation\", return=minimal", 1},
        {"return=minimal, return=representation", 1},
        {"return=representation, return=minimal", 0},
        {"return=representation", 0},
        {"return", 0},
        {"return, return=minimal", 0},
        {"return=", 0},
        {"return=\"\"", 0},
        {"return=minima", 0},
        {"return=minimally", 0},
        {"return=\"minimal", 0},
        {"return=minimal x", 0},
        {"returns=minimal", 0},
        {"x-return=minimal", 0},
        {"a=\"return=minimal\"", 0},
        {"a=\"x, return=minimal\"", 0},
        {"a=\"x, return=minimal", 0},
        {"a=\"\\", 0},
        {"a; return=minimal", 0},
        {"minimal", 0},
        {"=minimal", 0},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_number(rows[i].prefer ? rows[i].prefer : "none",
                      reg_prefer_minimal(rows[i].prefer), rows[i].minimal);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(minimal_is_preferred_by_its_name_alone),
    };

    return RUN_TESTS(tests);
}
