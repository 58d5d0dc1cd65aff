/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "etag.h"

#include <sys/resource.h>

#include <stdio.h>

static void etag_of_other_version_or_answer_differs(void **state)
{
    const char *tag = reg_etag(*state, "7", "{\"a\":1}");
    char rest[64];

    assert_int_equal(sscanf(tag, "\"7-%63[0-9a-f]\"", rest), 1);
    assert_text("quoted", tag + strlen(tag) - 1, "\"");
    assert_text("same", reg_etag(*state, "7", "{\"a\":1}"), tag);
    assert_string_not_equal(reg_etag(*state, "8", "{\"a\":1}"), tag);
    assert_string_not_equal(reg_etag(*state, "7", "{\"a\":2}"), tag);
    assert_string_not_equal(reg_etag(*state, "7", ""), tag);
}

static void etag_without_version_has_hash_only(void **state)
{
    const char *tag = reg_etag(*state, NULL, "{}");

    assert_text("tag", apr_pstrcat(*state, "\"7", tag + 1, NULL),
                reg_etag(*state, "7", "{}"));
    assert_text("versions", reg_etag_versions(*state, tag), "");
}

/* The hash reads eight bytes at a time, and the rest. */
static void etag_depends_on_each_byte_and_length(void **state)
{
    char body[40] = "";

    for (size_t length = 1; length < sizeof(body); length++) {
        const char *shorter = reg_etag(*state, "1", body), *tag;

        body[length - 1] = 'a';
        tag = reg_etag(*state, "1", body);
        assert_number(body, (intmax_t)strlen(tag), sizeof("\"1-0123456789abcdef\"") - 1);
        assert_string_not_equal(tag, shorter);
        for (size_t i = 0; i < length; i++) {
            for (int bit = 0; bit < 7; bit++) {
                body[i] = (char)('a' ^ 1 << bit);
                assert_string_not_equal(reg_etag(*state, "1", body), tag);
            }
            body[i] = 'a';
        }
    }
}

static void if_none_match_compares_whole_tag_weakly(void **state)
{
    static const char tag[] = "\"3-00ff\"";
    static const struct {
        const char *header;
        int matches;
    } rows[] = {
        {NULL, 0},
        {"", 0},
        {"*", 1},
        {"\"3-00ff\"", 1},
        {"W/\"3-00ff\"", 1},
        {"\"3-00fe\"", 0},
        {"\"4-00ff\"", 0},
        {"\"3-00f\"", 0},
        {"\"3-00ff0\"", 0},
        {"\"3-00FF\"", 0},
        {"\"13-00ff\"", 0},
        {"\"3\"", 0},
        {"\"\"", 0},
        {"\"*\"", 0},
        {"3-00ff", 0},
        {"\"3-00ff", 0},
        {"w/\"3-00ff\"", 0},
        {"\"a\", \"3-00ff\"", 1},
        {"\"a\",\"3-00ff\"", 1},
        {"\"a\" ,\t W/\"3-00ff\" , \"b\"", 1},
        {", ,\"3-00ff\",", 1},
        {"\"a,\", \"b\"", 0},
        {"\"3-00ff, \"", 0},
        {"W/\"a\", W/\"b\"", 0},
        {"\"3-00ff-gzip\"", 1},
        {"\"3-00ff-br\"", 1},
        {"W/\"3-00ff-gzip\"", 1},
        {"\"3-00ff-deflate\"", 0},
        {"\"3-00ff-gzip-gzip\"", 0},
        {"\"3-00ffgzip\"", 0},
        {"\"-gzip\"", 0},
    };

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_number(rows[i].header ? rows[i].header : "none",
                      reg_etag_matches(rows[i].header, tag), rows[i].matches);
    }
}

static void if_match_compares_tag_strongly(void **state)
{
    static const char tag[] = "\"3-00ff\"";
    static const struct {
        const char *header;
        int holds;
    } rows[] = {{NULL, 1},
                {"*", 1},
                {"\"3-00ff\"", 1},
                {"\"3-00ff-gzip\"", 1},
                {"\"a\", \"3-00ff\"", 1},
                {"W/\"3-00ff\"", 0},
                {"\"a\", W/\"3-00ff\"", 0},
                {"\"3-00fe\"", 0},
                {"3-00ff", 0},
                {"", 0}};

    (void)state;
    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_number(rows[i].header ? rows[i].header : "none",
                      reg_etag_holds(rows[i].header, tag), rows[i].holds);
    }
}

static void if_none_match_of_write_lists_excluded_versions(void **state)
{
    static const struct {
        const char *header, *versions;
    } rows[] = {{NULL, NULL},
                {"*", "*"},
                {"", ""},
                {"\"3-00ff\"", "3"},
                {"W/\"3-00ff\", \"4-0-gzip\"", "3 4"},
                {"\"*\"", ""},
                {"\"x\"", ""}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_text(rows[i].header ? rows[i].header : "none",
                    reg_etag_excluded(*state, rows[i].header), rows[i].versions);
    }
}

static void if_match_of_write_lists_versions_of_any_answer(void **state)
{
    static const struct {
        const char *header, *versions;
    } rows[] = {
        {NULL, NULL},
        {"*", NULL},
        {"", ""},
        {"\"3-00ff\"", "3"},
        {"\"3-0\"", "3"},
        {"\"3-00ff-gzip\"", "3"},
        {"\"3-00ff-br\"", "3"},
        {"\"12-00ff\", \"13-00ff\"", "12 13"},
        {"\"12-00ff\",\"x\",\"13-00ff\"", "12 13"},
        {"W/\"3-00ff\"", ""},
        {"W/\"3-00ff\", \"4-00ff\"", "4"},
        {"\"x\"", ""},
        {"\"x-00ff\"", ""},
        {"\"-00ff\"", ""},
        {"\"3\"", ""},
        {"\"\"", ""},
        {"\"*\"", ""},
        {"3-00ff", ""},
        {"\"3-00ff", ""},
        {"\"-3-00ff\"", ""},
        {"\"+3-00ff\"", ""},
        {"\"3 4-00ff\"", ""},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_text(rows[i].header ? rows[i].header : "none",
                    reg_etag_versions(*state, rows[i].header), rows[i].versions);
    }
}

static long most_memory(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* httpd makes one header of up to a hundred fields of 8 KB. */
static void list_of_many_tags_takes_linear_memory(void **state)
{
    const char *header = repeated(*state, "\"1-0\",", 20000);
    long before = most_memory();

    assert_int_equal(strlen(reg_etag_versions(*state, header)), 2 * 20000 - 1);
    assert_interval(most_memory() - before, 0, 50 * 1024);
}

static void generated_etag_matches_itself(void **state)
{
    const char *tag = reg_etag(*state, "41", "{}");

    assert_true(reg_etag_matches(tag, tag));
    assert_text(tag, reg_etag_versions(*state, tag), "41");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(etag_of_other_version_or_answer_differs),
        POOL_TEST(etag_without_version_has_hash_only),
        POOL_TEST(etag_depends_on_each_byte_and_length),
        POOL_TEST(if_none_match_compares_whole_tag_weakly),
        POOL_TEST(if_match_compares_tag_strongly),
        POOL_TEST(if_none_match_of_write_lists_excluded_versions),
        POOL_TEST(if_match_of_write_lists_versions_of_any_answer),
        POOL_TEST(list_of_many_tags_takes_linear_memory),
        POOL_TEST(generated_etag_matches_itself),
    };

    return RUN_TESTS(tests);
}
