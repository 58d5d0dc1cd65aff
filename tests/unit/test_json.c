/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "json.h"

#include <apr_time.h>
#include <jansson.h>

/* What a text of JSON is read as. */
static const struct {
    const char *text;
    int good;
} texts[] = {
    {"{}", 1},
    {" \t\r\n{ \"a\" : [ ] }\n", 1},
    {"{\"a\":\"\",\"\":1,\"b\":[null,true,false,{}]}", 1},

    /* Exactly one object. */
    {"", 0},
    {" ", 0},
    {"null", 0},
    {"[]", 0},
    {"[{}]", 0},
    {"\"a\"", 0},
    {"1", 0},
    {"{}{}", 0},
    {"{} x", 0},
    {"{},", 0},
    {"{", 0},
    {"{\"a\":1", 0},
    {"{\"a\":1,}", 0},
    {"{,}", 0},
    {"{\"a\"}", 0},
    {"{\"a\":}", 0},
    {"{\"a\" 1}", 0},
    {"{a:1}", 0},
    {"{'a':1}", 0},
    {"{1:1}", 0},
    {"{\"a\":[1,]}", 0},
    {"{\"a\":[1 2]}", 0},
    {"{\"a\":{]}}", 0},
    {"{\"a\":1}/**/", 0},
    {"{/**/\"a\":1}", 0},
    {"\xEF\xBB\xBF{}", 0},
    {"{\"a\":True}", 0},
    {"{\"a\":undefined}", 0},

    /* No key twice, however it is written. */
    {"{\"a\":1,\"a\":1}", 0},
    {"{\"a\":1,\"\\u0061\":2}", 0},
    {"{\"a\":{\"b\":1,\"b\":2}}", 0},
    {"{\"a\":1,\"A\":1}", 1},
    {"{\"a\":{\"a\":1}}", 1},

    /* Strings. */
    {"{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"}", 1},
    {"{\"a\":\"\\ud83d\\ude00\"}", 1},
    {"{\"a\":\"\xF0\x9F\x98\x80\"}", 1},
    {"{\"a\":\"\\\\u0000\"}", 1},
    {"{\"a\":\"\\u0000\"}", 0},
    {"{\"\\u0000\":1}", 0},
    {"{\"a\":\"x\\u0000\"}", 0},
    {"{\"a\":\"\\ud83d\"}", 0},
    {"{\"a\":\"\\ude00\\ud83d\"}", 0},
    {"{\"a\":\"\\ud83d\\u0041\"}", 0},
    {"{\"a\":\"\\x41\"}", 0},
    {"{\"a\":\"\\u12g4\"}", 0},
    {"{\"a\":\"\\\"}", 0},
    {"{\"a\":\"\t\"}", 0},
    {"{\"a\":\"\n\"}", 0},
    {"{\"a\":\"\x7F\"}", 1},
    {"{\"a\":\"\xFF\"}", 0},
    {"{\"a\":\"\xC0\x80\"}", 0},
    {"{\"a\":\"\xED\xA0\x80\"}", 0},
    {"{\"a\":\"\xF4\x90\x80\x80\"}", 0},
    {"{\"a\":\"\xE2\x82\"}", 0},
    {"{\"\xFF\":1}", 0},

    /* Numbers: any value, one grammar. */
    {"{\"a\":0}", 1},
    {"{\"a\":-0}", 1},
    {"{\"a\":-0.0e-0}", 1},
    {"{\"a\":0.1}", 1},
    {"{\"a\":12345678901234567890}", 1},
    {"{\"a\":1e999999999999}", 1},
    {"{\"a\":-1E+5}", 1},
    {"{\"a\":[1,2.5,-3]}", 1},
    {"{\"a\":01}", 0},
    {"{\"a\":-01}", 0},
    {"{\"a\":00}", 0},
    {"{\"a\":+1}", 0},
    {"{\"a\":1.}", 0},
    {"{\"a\":.5}", 0},
    {"{\"a\":-}", 0},
    {"{\"a\":-a}", 0},
    {"{\"a\":1e}", 0},
    {"{\"a\":1e+}", 0},
    {"{\"a\":1.e5}", 0},
    {"{\"a\":1.5.5}", 0},
    {"{\"a\":1-2}", 0},
    {"{\"a\":--1}", 0},
    {"{\"a\":1e5e5}", 0},
    {"{\"a\":1 2}", 0},
    {"{\"a\":1a}", 0},
    {"{\"a\":0x10}", 0},
    {"{\"a\":1_000}", 0},
    {"{\"a\":NaN}", 0},
    {"{\"a\":Infinity}", 0},
    {"{\"a\":-Infinity}", 0},
    {"{\"a\":\xD9\xA1}", 0},
    {"{\"a\":nul1}", 0},
    {"{\"a\":tru3}", 0},
};

static void text_other_than_one_object_is_refused(void **state)
{
    for (size_t i = 0; i < LENGTH(texts); i++) {
        const char *text = texts[i].text, *error = NULL;
        const reg_json_t *value = reg_json_parse(*state, text, strlen(text), &error);

        assert_number(text, value != NULL, texts[i].good);
        assert_number(text, error != NULL && *error, !texts[i].good);
    }
}

static void parse_error_names_position(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"{\"a\":1 \"b\":2}", "line 1, column 10"},
        {"{\n\"a\":12345678901234567890,\n\"b\":}", "line 3, column 5"},
        {"[]", "not an object"},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *error = NULL;

        assert_null(reg_json_parse(*state, rows[i].text, strlen(rows[i].text), &error));
        assert_text(rows[i].text, error, rows[i].error);
    }
}

static void text_with_nul_byte_is_refused(void **state)
{
    static const char behind[] = "{}\0";
    static const char inside[] = "{\"a\":\"b\0c\"}";
    static const char number[] = "{\"a\":1\0,\"b\":2}"; /* jansson does not see it */
    const char *error;

    assert_null(reg_json_parse(*state, behind, sizeof(behind) - 1, &error));
    assert_null(reg_json_parse(*state, inside, sizeof(inside) - 1, &error));
    assert_null(reg_json_parse(*state, number, sizeof(number) - 1, &error));
    assert_text("number", error, "a NUL character");
}

static void text_with_length_is_read_to_length(void **state)
{
    const char *error;

    assert_non_null(reg_json_parse(*state, "{}{}", 2, &error));
    assert_null(reg_json_parse(*state, "{}", 1, &error));
}

static void text_over_100_levels_is_refused(void **state)
{
    /* Inside the one object. */
    static const struct {
        const char *open, *close;
        int times, good;
    } rows[] = {
        {"[", "]", 99, 1},         {"[", "]", 100, 0},       {"[", "]", 1000000, 0},
        {"{\"k\":", "}", 99, 1},   {"{\"k\":", "}", 100, 0}, {"[{\"k\":", "}]", 49, 1},
        {"[{\"k\":", "}]", 50, 0}, {"[[],[],", "]", 98, 1},  {"[[],[],", "]", 99, 0},
        {"[\"[[\",", "]", 99, 1},  {"[", "", 1000000, 0},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *text =
            apr_pstrcat(*state, "{\"k\":", repeated(*state, rows[i].open, rows[i].times),
                        "1", repeated(*state, rows[i].close, rows[i].times), "}", NULL);
        const char *error;

        assert_number(apr_psprintf(*state, "%d times %s", rows[i].times, rows[i].open),
                      reg_json_parse(*state, text, strlen(text), &error) != NULL,
                      rows[i].good);
    }
}

/*
 * jansson itself, asked for the same strictness, must agree about texts made at random by
 * changing good ones, except where it cannot hold a number.
 */
static void random_texts_match_jansson(void **state)
{
    static const char *const seeds[] = {
        "{\"a\":[1,-2.5,{\"b\":\"c\\u00e9\\\"\"}],\"d\":null}",
        "{\"\":0,\"x\":{\"y\":[true,false]},\"z\":\"\xC3\xA9\"}",
        "{ \"n\" : 10.25 , \"m\":[ ] }"};
    static const char alphabet[] = "{}[]\",:\\u0019-.eE+ \ntfna\xC3\xA9\x7F";
    unsigned int seed = 1;
    int good = 0;

    for (int i = 0; i < 30000; i++) {
        apr_pool_t *pool;
        char *text;
        json_error_t reason;
        json_t *expected;
        const char *error;
        int read;

        apr_pool_create(&pool, *state);
        text = apr_pstrdup(pool, seeds[(unsigned int)rand_r(&seed) % LENGTH(seeds)]);
        for (int changes = rand_r(&seed) % 3; changes >= 0; changes--) {
            text[(size_t)rand_r(&seed) % strlen(text)] =
                alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
        }
        read = reg_json_parse(pool, text, strlen(text), &error) != NULL;
        expected =
            json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &reason);
        if (expected || json_error_code(&reason) != json_error_numeric_overflow) {
            assert_number(text, read, json_is_object(expected));
            good += read;
        }
        json_decref(expected);
        apr_pool_destroy(pool);
    }
    assert_interval(good, 1000, 29000);
}

/*
 * The text as the client wrote it
 */

static const struct {
    const char *text, *first, *second, *raw;
} raws[] = {
    {"{\"a\":1}", "a", NULL, "1"},
    {"{\"a\":0.1}", "a", NULL, "0.1"},
    {"{\"a\":12345678901234567890}", "a", NULL, "12345678901234567890"},
    {"{\"a\":1.0E+2 }", "a", NULL, "1.0E+2"},
    {"{\"a\":null}", "a", NULL, "null"},
    {"{\"a\":\"x\"}", "a", NULL, "\"x\""},
    {"{\"a\":\"}],\\\"\\\\\"}", "a", NULL, "\"}],\\\"\\\\\""},
    {"{\"a\":{}}", "a", NULL, "{}"},
    {" { \"b\" : [ 1 ] , \"a\" : { \"c\" : [ 1 , { } ] } } ", "a", NULL,
     "{ \"c\" : [ 1 , { } ] }"},
    {"{\"a\":{\"x\":\"\\\"}\"},\"b\":2}", "b", NULL, "2"},
    {"{\"a\":[[\"]\"],[]],\"b\":true\n}", "b", NULL, "true"},
    {"{\"x\":{\"a\":1},\"a\":2}", "a", NULL, "2"},
    {"{\"x\":\"a\",\"a\":2}", "a", NULL, "2"},
    {"{\"\\u0061\":1}", "a", NULL, "1"},
    {"{\"\\\"\":1,\"a\":2}", "a", NULL, "2"},
    {"{\"a\\/\\n\\u0062\":1}", "a/\nb", NULL, "1"},
    {"{\"\\u0061b\":1,\"\\u0061\":2}", "a", NULL, "2"},
    {"{\"\\u0161\":1,\"\\ud83d\\ude00\":2}", "a", NULL, NULL},
    {"{\"\xC3\xA9\":1}", "\xC3\xA9", NULL, "1"},
    {"{\"ab\":1,\"a\":2}", "a", NULL, "2"},
    {"{\"\":1}", "", NULL, "1"},
    {"{\"a\":1}", "b", NULL, NULL},
    {"{}", "a", NULL, NULL},
    {"{\"a\":{\"b\":[1, 2]}}", "a", "b", "[1, 2]"},
    {"{\"b\":0,\"a\":{\"c\":1,\"b\":2}}", "a", "b", "2"},
    {"{\"a\":{\"c\":{\"b\":1}}}", "a", "b", NULL},
    {"{\"a\":\"b\"}", "a", "b", NULL},
    {"{\"a\":[{\"b\":1}]}", "a", "b", NULL},
    {"{\"a\":null,\"b\":1}", "a", "b", NULL},
};

static void raw_value_is_text_of_client(void **state)
{
    for (size_t i = 0; i < LENGTH(raws); i++) {
        const char *error;

        assert_non_null(
            reg_json_parse(*state, raws[i].text, strlen(raws[i].text), &error));
        assert_text(
            raws[i].text,
            reg_json_raw(*state, raws[i].text, raws[i].first, raws[i].second, NULL),
            raws[i].raw);
    }
}

/*
 * Numbers that are stored
 */

static void number_over_1000_digits_does_not_fit(void **state)
{
    const char *nines = repeated(*state, "9", 999);
    const struct {
        const char *text;
        int fit;
    } rows[] = {
        {"{}", 1},
        {"{\"a\":[0,-1,2.5,1e2,1E+2,1e-2,12345678901234567890,0.1]}", 1},
        {"{\"a\":1e400}", 1},
        {"{\"a\":1e-400}", 1},
        {"{\"a\":1e5000}", 0},
        {"{\"a\":1e-5000}", 0},
        {"{\"a\":-1E+131071}", 0},
        {"{\"a\":1e99999999999999999999999999}", 0},
        {"{\"a\":1e-99999999999999999999999999}", 0},
        {"{\"a\":1e000000000000000000000000001}", 1},
        {"{\"a\":[{\"b\":1,\"c\":1e5000}]}", 0},
        {"{\"a\":\"1e5000\",\"1e5000\":1}", 1},
        {"{\"a\":\"\\\"1e5000\"}", 1},
        {apr_pstrcat(*state, "{\"a\":", nines, "}", NULL), 1},
        {apr_pstrcat(*state, "{\"a\":0.", nines, nines, "}", NULL), 0},
        {apr_pstrcat(*state, "{\"a\":", nines, nines, "}", NULL), 0},
        {apr_pstrcat(*state, "{\"a\":\"", nines, nines, "\"}", NULL), 1},
        {apr_pstrcat(*state, "{\"a\":[", repeated(*state, "1e900,", 2000), "1]}", NULL),
         0},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_number(apr_psprintf(*state, "%.40s", rows[i].text),
                      reg_json_numbers_fit(rows[i].text), rows[i].fit);
    }
}

/* A body has a megabyte, and each of these was once, or could be, read again and
 * again. */
static void long_text_takes_linear_time(void **state)
{
    static const char *const pieces[] = {"1,", "\"a\",", "[],", "{\"a\":1},",
                                         "\"\\\\\","};

    for (size_t i = 0; i < LENGTH(pieces); i++) {
        int times = 1000000 / (int)strlen(pieces[i]);
        const char *text =
            apr_pstrcat(*state, "{\"a\":[", repeated(*state, pieces[i], times),
                        "1],\"b\":{\"c\":1}}", NULL);
        apr_time_t start = apr_time_now();
        const char *error;

        reg_json_parse(*state, text, strlen(text), &error); /* too many values, most */
        assert_text(pieces[i], reg_json_raw(*state, text, "b", "c", NULL), "1");
        reg_json_numbers_fit(text);
        assert_number(pieces[i], apr_time_now() - start < apr_time_from_sec(10), 1);
    }
}

/*
 * Values
 */

static const reg_json_t *parsed(apr_pool_t *pool, const char *text)
{
    const char *error;

    return reg_json_parse(pool, text, strlen(text), &error);
}

static void value_has_its_type(void **state)
{
    static const struct {
        const char *text;
        const char *string;
        int null, object, array;
    } rows[] = {
        {"{\"k\":\"\\u00e9\\n\"}", "\xC3\xA9\n", 0, 0, 0},
        {"{\"k\":\"\"}", "", 0, 0, 0},
        {"{\"k\":null}", NULL, 1, 0, 0},
        {"{\"k\":{}}", NULL, 0, 1, 0},
        {"{\"k\":[]}", NULL, 0, 0, 1},
        {"{\"k\":1}", NULL, 0, 0, 0},
        {"{\"k\":true}", NULL, 0, 0, 0},
        {"{}", NULL, 0, 0, 0},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row = rows[i].text;
        const reg_json_t *value = reg_json_get(parsed(*state, row), "k");

        assert_text(row, reg_json_string(value), rows[i].string);
        assert_number(row, reg_json_is_null(value), rows[i].null);
        assert_number(row, reg_json_is_object(value), rows[i].object);
        assert_number(row, reg_json_is_array(value), rows[i].array);
    }
}

static void array_has_its_items(void **state)
{
    const reg_json_t *object = parsed(*state, "{\"a\":[\"x\",\"y\"],\"o\":{\"k\":1}}");
    const reg_json_t *array = reg_json_get(object, "a");

    assert_int_equal(reg_json_length(array), 2);
    assert_text("first", reg_json_string(reg_json_item(array, 0)), "x");
    assert_text("second", reg_json_string(reg_json_item(array, 1)), "y");
    assert_null(reg_json_item(array, 2));
    assert_int_equal(reg_json_length(reg_json_get(object, "o")), 0);
    assert_null(reg_json_item(reg_json_get(object, "o"), 0));
    assert_int_equal(reg_json_length(NULL), 0);
    assert_null(reg_json_item(NULL, 0));
}

static void value_other_than_object_has_no_members(void **state)
{
    assert_null(reg_json_get(NULL, "k"));
    assert_null(reg_json_get(reg_json_get(parsed(*state, "{\"a\":[1]}"), "a"), "k"));
}

static void keys_are_written_in_order_of_setting(void **state)
{
    reg_json_t *object = reg_json_object(*state);
    reg_json_t *array = reg_json_array(*state);

    reg_json_set_string(object, "z", "\"\\\x01/\xC3\xA9");
    reg_json_set_integer(object, "a", -1);
    reg_json_append(array, reg_json_object(*state));
    reg_json_set(object, "m", array);
    assert_text("object", reg_json_text(*state, object),
                "{\"z\":\"\\\"\\\\\\u0001/\xC3\xA9\",\"a\":-1,\"m\":[{}]}");
    assert_text("string",
                reg_json_text(*state, reg_json_get(parsed(*state, "{\"k\":\"x\"}"), "k")),
                "\"x\"");
}

static void parsed_text_is_unchanged_and_may_be_freed(void **state)
{
    const char original[] = "{\"a\":12.5,\"b\":\"x\"}";
    char text[] = "{\"a\":12.5,\"b\":\"x\"}";
    const char *error;
    const reg_json_t *value = reg_json_parse(*state, text, strlen(text), &error);

    assert_text("unchanged", text, original);
    memset(text, '?', strlen(text));
    assert_text("kept", reg_json_string(reg_json_get(value, "b")), "x");
}

static void key_with_variant_in_other_case_is_not_unique(void **state)
{
    static const struct {
        const char *text;
        int is_only;
    } rows[] = {
        {"{\"org\":1}", 1},
        {"{\"organ\":1,\"org\":null,\"or\":2}", 1},
        {"{}", 0},
        {"{\"ORG\":1}", 0},
        {"{\"org\":1,\"ORG\":1}", 0},
        {"{\"oRg\":1,\"org\":1}", 0},
        {"{\"x\":{\"org\":1}}", 0},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_number(rows[i].text,
                      reg_json_has_only(parsed(*state, rows[i].text), "org"),
                      rows[i].is_only);
    }
    assert_int_equal(reg_json_has_only(NULL, "org"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(key_with_variant_in_other_case_is_not_unique),
        POOL_TEST(text_other_than_one_object_is_refused),
        POOL_TEST(parse_error_names_position),
        POOL_TEST(text_with_nul_byte_is_refused),
        POOL_TEST(text_with_length_is_read_to_length),
        POOL_TEST(text_over_100_levels_is_refused),
        POOL_TEST(random_texts_match_jansson),
        POOL_TEST(raw_value_is_text_of_client),
        POOL_TEST(number_over_1000_digits_does_not_fit),
        POOL_TEST(long_text_takes_linear_time),
        POOL_TEST(value_has_its_type),
        POOL_TEST(array_has_its_items),
        POOL_TEST(value_other_than_object_has_no_members),
        POOL_TEST(keys_are_written_in_order_of_setting),
        POOL_TEST(parsed_text_is_unchanged_and_may_be_freed),
    };

    return RUN_TESTS(tests);
}
