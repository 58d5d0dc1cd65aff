/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "negotiate.h"

static void prefer_minimal_is_recognized_by_exact_name(void **state)
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

static void accept_with_qualities_selects_best_type(void **state)
{
    static const char *const types[] = {"application/json", "text/csv",
                                        "application/x-ndjson", NULL};
    static const struct {
        const char *accept;
        int best;
    } rows[] = {
        {NULL, 0},
        {"", 0},
        {"*/*", 0},
        {"application/*", 0},
        {"application/json", 0},
        {"text/csv", 1},
        {"TEXT/CSV", 1},
        {"text/*", 1},
        {"application/x-ndjson", 2},
        {"text/csv; charset=utf-8", 1},
        {"text/csv;q=0.5", 1},
        {" , text/csv", 1},

        /* More than one: by weight, then by how exactly they are named, then by ours. */
        {"text/csv, application/json", 0},
        {"text/csv, application/json;q=0.9", 1},
        {"text/csv;q=0.9, application/json;q=0.901", 0},
        {"text/csv;q=0.9, application/x-ndjson;q=0.99", 2},
        {"text/csv, */*;q=0.1", 1},
        {"text/csv;q=0.1, */*", 0},
        {"text/csv;q=0, text/*", 0},
        {"application/json;q=0, */*", 1},
        {"application/*;q=0.3, application/x-ndjson;q=0.2, text/csv;q=0.25", 0},
        {"application/x-ndjson;q=1.000, text/csv;q=0.999", 2},
        {"text/csv ; a=1 ; Q=0.2, application/json ; q=0.1", 1},
        {"text/csv;a=\",;q=0\", application/json;q=0.5", 1},
        {"text/csv;a=\"\\\",;q=0\", application/json;q=0.5", 1},
        {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 0},

        /* None of ours, and what cannot be read. */
        {"text/html", 0},
        {"text/csv;q=0", 0},
        {"text/csv;q=0.000, text/html", 0},
        {"text/csv;q=", 0},
        {"text/csv;q=x", 0},
        {"text/csv;q=2", 0},
        {"text/csvs", 0},
        {"text/cs", 0},
        {"text", 0},
        {"text/", 0},
        {"*", 0},
        {"*/csv", 0},
        {"/", 0},
        {"\"text/csv\"", 0},
        {"text/csv;a=\"", 1},
        {"text/csv;a=\"\\", 1},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_number(rows[i].accept ? rows[i].accept : "none",
                      reg_accept_best(rows[i].accept, types), rows[i].best);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(accept_with_qualities_selects_best_type),
        POOL_TEST(prefer_minimal_is_recognized_by_exact_name),
    };

    return RUN_TESTS(tests);
}
