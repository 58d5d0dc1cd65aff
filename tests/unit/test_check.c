/* SPDX-License-Identifier: Apache-2.0 */

/* Texts, and the fields of a body. Formats are in test_check_formats.c. */

#include "check_fixture.h"

#include "json.h"
#include "utf8.h"

#include <stdio.h>

/*
 * Text
 */

static void text_over_255_code_points_is_invalid(void **state)
{
    const char *const good[] = {"", "a", repeated(*state, "a", 255),
                                repeated(*state, "\xF0\x9F\x98\x80", 255), NULL};
    const char *const bad[] = {repeated(*state, "a", 256), repeated(*state, "é", 256),
                               NULL};

    assert_all(reg_check_text, good, 1);
    assert_all(reg_check_text, bad, 0);
}

static void text_with_control_characters_is_invalid(void **state)
{
    /* U+0080 to U+009F are not refused. */
    static const char *const good[] = {" ",        "a b",          "\xC2\x80",
                                       "\xC2\x9F", "\xE2\x80\x8B", NULL};

    (void)state;
    assert_all(reg_check_text, good, 1);
    for (char c = 1; c < 0x20; c++) {
        const char text[] = {'a', c, '\0'};

        assert_number(text, reg_check_text(text) == NULL, 0);
        assert_number(text, reg_check_has_control(text), 1);
    }
    assert_non_null(reg_check_text("\x7F"));
}

static void name_without_characters_is_invalid(void **state)
{
    const char *const good[] = {"a", " ", repeated(*state, "é", 255), NULL};
    const char *const bad[] = {"", "a\tb", repeated(*state, "é", 256), NULL};

    assert_all(reg_check_name, good, 1);
    assert_all(reg_check_name, bad, 0);
}

static void white_space_matches_javascript_trim(void **state)
{
    static const char *const blank[] = {
        "",
        "\t\n\v\f\r ",
        "\xC2\xA0",                                         /* U+00A0 */
        "\xE1\x9A\x80",                                     /* U+1680 */
        "\xE2\x80\x80\xE2\x80\x85\xE2\x80\x8A",             /* U+2000 … 200A */
        "\xE2\x80\xA8\xE2\x80\xA9\xE2\x80\xAF\xE2\x81\x9F", /* U+2028, 2029, 202F, 205F */
        "\xE3\x80\x80\xEF\xBB\xBF",                         /* U+3000, FEFF */
    };
    static const char *const kept[] = {
        "a",
        "a  b",
        "\xC2\x85",     /* U+0085 */
        "\xE1\xA0\x8E", /* U+180E */
        "\xE2\x80\x8B", /* U+200B */
        "\x1C",
    };

    for (size_t i = 0; i < LENGTH(blank); i++) {
        const char *b = blank[i];

        assert_text(b, reg_check_trimmed(*state, b), "");
        for (size_t j = 0; j < LENGTH(kept); j++) {
            const char *k = kept[j];

            assert_text(b, reg_check_trimmed(*state, k), k);
            assert_text(b, reg_check_trimmed(*state, apr_pstrcat(*state, b, k, NULL)), k);
            assert_text(b, reg_check_trimmed(*state, apr_pstrcat(*state, k, b, NULL)), k);
            assert_text(b, reg_check_trimmed(*state, apr_pstrcat(*state, b, k, b, NULL)),
                        k);
            k = apr_pstrcat(*state, k, b, k, NULL);
            assert_text(b, reg_check_trimmed(*state, k), k);
        }
    }
}

/*
 * UTF-8
 */

/* Whether a string of bytes is well-formed by table 3-7 of the Unicode Standard. */
static int is_well_formed(const unsigned char *p)
{
    static const struct {
        unsigned char first, last, least, most; /* of the first and second byte */
        int more;
    } rows[] = {{0x01, 0x7F, 0x00, 0x00, 0}, {0xC2, 0xDF, 0x80, 0xBF, 1},
                {0xE0, 0xE0, 0xA0, 0xBF, 2}, {0xE1, 0xEC, 0x80, 0xBF, 2},
                {0xED, 0xED, 0x80, 0x9F, 2}, {0xEE, 0xEF, 0x80, 0xBF, 2},
                {0xF0, 0xF0, 0x90, 0xBF, 3}, {0xF1, 0xF3, 0x80, 0xBF, 3},
                {0xF4, 0xF4, 0x80, 0x8F, 3}};

    while (*p) {
        size_t i = 0;

        while (i < LENGTH(rows) && (*p < rows[i].first || *p > rows[i].last)) {
            i++;
        }
        if (i == LENGTH(rows)) {
            return 0;
        }
        for (int n = 1; n <= rows[i].more; n++) {
            if (p[n] < (n == 1 ? rows[i].least : 0x80)
                || p[n] > (n == 1 ? rows[i].most : 0xBF)) {
                return 0;
            }
        }
        p += 1 + rows[i].more;
    }
    return 1;
}

static void utf8_validity_matches_unicode_standard(void **state)
{
    /* Both sides of every border of the table. */
    static const unsigned char bytes[] = {
        0x00, 0x01, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
        0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
    const size_t n = LENGTH(bytes);

    (void)state;
    for (size_t i = 0; i < n * n * n * n; i++) {
        const unsigned char text[] = {bytes[i % n], bytes[i / n % n],
                                      bytes[i / n / n % n], bytes[i / n / n / n], 0};
        char row[32];

        snprintf(row, sizeof(row), "%02X %02X %02X %02X", text[0], text[1], text[2],
                 text[3]);
        assert_number(row, reg_utf8_is_valid((const char *)text), is_well_formed(text));
    }
}

/*
 * Fields
 */

/* The problems as text: "a must be …; b is required". */
static const char *problems_text(const reg_problems_t *problems)
{
    const char *text = "";

    for (int i = 0; problems->list && i < problems->list->nelts; i++) {
        const reg_problem_t *problem = &APR_ARRAY_IDX(problems->list, i, reg_problem_t);

        text = apr_pstrcat(problems->pool, text, *text ? "; " : "", problem->field, " ",
                           problem->message, NULL);
    }
    return text;
}

static const char *check_is_x(const char *value)
{
    return strcmp(value, "x") == 0 ? NULL : "must be x";
}

/* A field "k" of an object, read by each check, and the result. */
static const struct {
    const char *json;
    int null_is_absent;
    const char *value;    /* as an optional or a required field */
    const char *optional; /* the problem */
    const char *required;
} fields[] = {
    {"{\"k\":\"x\"}", 0, "x", "", ""},
    {"{\"k\":\"y\"}", 0, NULL, "p.k must be x", "p.k must be x"},
    {"{\"k\":\"\"}", 0, NULL, "p.k must be x", "p.k must be x"},
    {"{}", 0, NULL, "", "p.k is required"},
    {"{\"K\":\"x\"}", 0, NULL, "", "p.k is required"},
    {"{\"k\":null}", 0, NULL, "p.k must be a string", "p.k must be a string"},
    {"{\"k\":null}", 1, NULL, "", "p.k is required"},
    {"{\"k\":1}", 0, NULL, "p.k must be a string", "p.k must be a string"},
    {"{\"k\":1}", 1, NULL, "p.k must be a string", "p.k must be a string"},
    {"{\"k\":true}", 0, NULL, "p.k must be a string", "p.k must be a string"},
    {"{\"k\":[\"x\"]}", 0, NULL, "p.k must be a string", "p.k must be a string"},
    {"{\"k\":{}}", 0, NULL, "p.k must be a string", "p.k must be a string"},
};

static void invalid_field_becomes_problem(void **state)
{
    for (size_t i = 0; i < LENGTH(fields); i++) {
        const char *row = fields[i].json, *error;
        reg_problems_t optional = {NULL, *state, fields[i].null_is_absent};
        reg_problems_t required = optional;
        const reg_json_t *object = reg_json_parse(*state, row, strlen(row), &error);

        assert_text(row, reg_field(&optional, object, "p.", "k", check_is_x),
                    fields[i].value);
        assert_text(row, problems_text(&optional), fields[i].optional);
        assert_text(row, reg_field_required(&required, object, "p.", "k", check_is_x),
                    fields[i].value);
        assert_text(row, problems_text(&required), fields[i].required);
    }
}

static void field_of_no_object_is_missing(void **state)
{
    reg_problems_t problems = {.pool = *state};

    assert_null(reg_field(&problems, NULL, "", "k", check_is_x));
    assert_null(reg_field_object(&problems, NULL, "", "k"));
    assert_text("optional", problems_text(&problems), "");
    assert_null(reg_field_required(&problems, NULL, "", "k", check_is_x));
    assert_text("required", problems_text(&problems), "k is required");
}

static void object_field_of_other_type_is_invalid(void **state)
{
    static const struct {
        const char *json;
        int null_is_absent, found;
        const char *problems;
    } rows[] = {
        {"{\"k\":{\"a\":1}}", 0, 1, ""},
        {"{}", 0, 0, ""},
        {"{\"k\":null}", 1, 0, ""},
        {"{\"k\":null}", 0, 0, "p.k must be an object"},
        {"{\"k\":[]}", 0, 0, "p.k must be an object"},
        {"{\"k\":\"{}\"}", 1, 0, "p.k must be an object"},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row = rows[i].json, *error;
        reg_problems_t problems = {NULL, *state, rows[i].null_is_absent};
        const reg_json_t *object = reg_json_parse(*state, row, strlen(row), &error);

        assert_number(row, reg_field_object(&problems, object, "p.", "k") != NULL,
                      rows[i].found);
        assert_text(row, problems_text(&problems), rows[i].problems);
    }
}

static void problems_have_order_of_checks(void **state)
{
    reg_problems_t problems = {.pool = *state};
    const char *error;
    const reg_json_t *object = reg_json_parse(*state, "{\"b\":1,\"a\":2}", 13, &error);

    reg_field(&problems, object, "", "a", check_is_x);
    reg_field(&problems, object, "q.", "b", check_is_x);
    reg_problems_add(&problems, "c", "is last");
    assert_text("order", problems_text(&problems),
                "a must be a string; q.b must be a string; c is last");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(text_over_255_code_points_is_invalid),
        POOL_TEST(text_with_control_characters_is_invalid),
        POOL_TEST(name_without_characters_is_invalid),
        POOL_TEST(white_space_matches_javascript_trim),
        POOL_TEST(utf8_validity_matches_unicode_standard),
        POOL_TEST(invalid_field_becomes_problem),
        POOL_TEST(field_of_no_object_is_missing),
        POOL_TEST(object_field_of_other_type_is_invalid),
        POOL_TEST(problems_have_order_of_checks),
    };

    return RUN_TESTS(tests);
}
