/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "query.h"

/* A query string about to be read. */
static reg_query_t parsed(apr_pool_t *pool, const char *text, reg_problems_t *problems)
{
    const reg_request_t request = {.pool = pool, .query = text};
    reg_query_t query;

    *problems = (reg_problems_t){.pool = pool};
    reg_query_parse(&query, &request, problems);
    return query;
}

/* The parameters at fault, with blanks between. */
static const char *faults(const reg_problems_t *problems)
{
    const char *text = "";

    for (int i = 0; problems->list && i < problems->list->nelts; i++) {
        text = apr_pstrcat(problems->pool, text, *text ? " " : "",
                           APR_ARRAY_IDX(problems->list, i, reg_problem_t).field, NULL);
    }
    return text;
}

static const char *check_not_bad(const char *value)
{
    return strcmp(value, "bad") == 0 ? "must not be bad" : NULL;
}

static void parameter_is_decoded_and_checked(void **state)
{
    static const struct {
        const char *query, *value, *faults;
    } rows[] = {
        {NULL, NULL, ""},
        {"", NULL, ""},
        {"&&", NULL, ""},
        {"a=1", "1", ""},
        {"b=0&a=1", "1", ""},
        {"&a=1&", "1", ""},
        {"a=", "", ""},
        {"a", "", ""},
        {"a=b=c", "b=c", ""},
        {"A=1", NULL, ""},
        {"aa=1", NULL, ""},
        {"a%5B%5D=1", NULL, ""},
        {"%61=1", "1", ""},
        {"a=x+y", "x y", ""},
        {"a=x%2By", "x+y", ""},
        {"a=%26%3d%25", "&=%", ""},
        {"a=%2F%2f", "//", ""},
        {"a=%C3%A9", "\xC3\xA9", ""},
        {"a=\xC3\xA9", "\xC3\xA9", ""},
        {"a=;b=1", ";b=1", ""},

        /* The last one counts. */
        {"a=1&a=2", "2", ""},
        {"a=bad&a=2", "2", ""},
        {"a=1&a=bad", NULL, "a"},

        {"a=bad", NULL, "a"},
        {"a=%zz", NULL, "a"},
        {"a=%", NULL, "a"},
        {"a=%4", NULL, "a"},
        {"a=x%00y", NULL, "a"},
        {"a=%C3", NULL, "a"},
        {"a=%ED%A0%80", NULL, "a"},
        {"a=%FF", NULL, "a"},

        /* Unknown parameters are ignored, whatever their values. */
        {"b=%zz&a=1", "1", ""},
        {"%zz=1&a=1", "1", ""},
        {"%00=1&%FF=1&a=1", "1", ""},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row = rows[i].query ? rows[i].query : "none";
        reg_problems_t problems;
        reg_query_t query = parsed(*state, rows[i].query, &problems);

        assert_text(row, reg_query_get(&query, "a", check_not_bad), rows[i].value);
        assert_text(row, faults(&problems), rows[i].faults);
    }
}

static void list_parameter_is_read_in_each_form(void **state)
{
    static const struct {
        const char *query, *values, *faults;
    } rows[] = {
        {NULL, "", ""},
        {"b=1", "", ""},
        {"a=1", "1", ""},
        {"a=1,2,3", "1 2 3", ""},
        {"a=1%2C2", "1 2", ""},
        {"a=1&a=2", "1 2", ""},
        {"a[]=1&a[]=2", "1 2", ""},
        {"a%5B%5D=1&a%5b%5d=2", "1 2", ""},
        {"a=1&b=x&a[]=2,3&a=4", "1 2 3 4", ""},
        {"a[0]=1&a[17]=2,3", "1 2 3", ""},
        {"a%5B0%5D=1", "1", ""},
        {"a[x]=1&a[0=2&a0]=3&a[]x=4", "", ""},
        {"a=,1,", "1", ""},
        {"a=&a=1", "1", ""},
        {"a=", NULL, "a"},
        {"a[]=", NULL, "a"},
        {"a[3]=,", NULL, "a"},
        {"a", NULL, "a"},
        {"a=bad", NULL, "a"},
        {"a=1&a[]=2,bad", NULL, "a"},
        {"a=bad&a=bad", NULL, "a"},
        {"a=%FF", NULL, "a"},
        {"a[]=%zz", NULL, "a"},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row = rows[i].query ? rows[i].query : "none";
        reg_problems_t problems;
        reg_query_t query = parsed(*state, rows[i].query, &problems);
        const apr_array_header_t *list = reg_query_list(&query, "a", check_not_bad);

        assert_text(row, faults(&problems), rows[i].faults);
        if (rows[i].values) {
            assert_text(row, apr_array_pstrcat(*state, list, ' '), rows[i].values);
        }
    }
}

static void flag_other_than_true_false_1_0_is_invalid(void **state)
{
    static const struct {
        const char *query, *value, *faults;
    } rows[] = {
        {NULL, "false", ""},      {"a=true", "true", ""},   {"a=1", "true", ""},
        {"a=false", "false", ""}, {"a=0", "false", ""},     {"a=", "false", "a"},
        {"a", "false", "a"},      {"a=TRUE", "false", "a"}, {"a=yes", "false", "a"},
        {"a=10", "false", "a"},   {"a=2", "false", "a"},    {"a=true+", "false", "a"},
        {"a=0&a=1", "true", ""},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row = rows[i].query ? rows[i].query : "none";
        reg_problems_t problems;
        reg_query_t query = parsed(*state, rows[i].query, &problems);

        assert_text(row, reg_query_flag(&query, "a"), rows[i].value);
        assert_text(row, faults(&problems), rows[i].faults);
    }
}

static void number_out_of_range_is_invalid(void **state)
{
    static const struct {
        const char *query;
        int value;
        const char *faults;
    } rows[] = {
        {NULL, 10, ""},
        {"a=1", 1, ""},
        {"a=50", 50, ""},
        {"a=007", 7, ""},
        {"a=51", 10, "a"},
        {"a=0", 10, "a"},
        {"a=-1", 10, "a"},
        {"a=%2B1", 10, "a"},
        {"a=+1", 10, "a"},
        {"a=1.5", 10, "a"},
        {"a=1e1", 10, "a"},
        {"a=0x1", 10, "a"},
        {"a=", 10, "a"},
        {"a=1x", 10, "a"},
        {"a=4294967297", 10, "a"},
        {"a=18446744073709551617", 10, "a"},
        {"a=99999999999999999999999999999999", 10, "a"},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *row = rows[i].query ? rows[i].query : "none";
        reg_problems_t problems;
        reg_query_t query = parsed(*state, rows[i].query, &problems);

        assert_number(row, reg_query_number(&query, "a", 50, 10), rows[i].value);
        assert_text(row, faults(&problems), rows[i].faults);
    }
}

static void invalid_parameters_are_all_named(void **state)
{
    reg_problems_t problems;
    reg_query_t query = parsed(*state, "b=x&c=bad&a=0&d=bad", &problems);

    reg_query_number(&query, "a", 50, 10);
    reg_query_flag(&query, "b");
    reg_query_get(&query, "c", check_not_bad);
    reg_query_list(&query, "d", check_not_bad);
    assert_text("all", faults(&problems), "a b c d");
}

static void misspelt_parameter_is_refused(void **state)
{
    static const char *const names[] = {"eventId", "status", "categories[]", NULL};
    static const struct {
        const char *query, *faults;
    } rows[] = {
        {NULL, ""},
        {"eventId=1&status=2&categories=3&categories[]=4&categories[5]=6", ""},
        {"event=1&Id=2&evented=3&ids=4&=5&_&s", ""},
        {"status[]=1&eventId[0]=2&categories[x]=3&%FFeventid=4", "categories"},

        {"eventID=1", "eventId"},
        {"EVENT_ID", "eventId"},
        {"event-id=", "eventId"},
        {"eventIds=1", "eventId"},
        {"event%49d%73=1", "eventId"},
        {"statuss=1", "status"},
        {"statuses=1", "status"},
        {"category=1", "categories"},
        {"Categories[]=1", "categories"},
        {"category=1&eventid=2&Status=3", "categories eventId status"},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        reg_problems_t problems;
        reg_query_t query = parsed(*state, rows[i].query, &problems);

        reg_query_refuse_misspelt(&query, names);
        assert_text(rows[i].query ? rows[i].query : "none", faults(&problems),
                    rows[i].faults);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(parameter_is_decoded_and_checked),
        POOL_TEST(list_parameter_is_read_in_each_form),
        POOL_TEST(misspelt_parameter_is_refused),
        POOL_TEST(flag_other_than_true_false_1_0_is_invalid),
        POOL_TEST(number_out_of_range_is_invalid),
        POOL_TEST(invalid_parameters_are_all_named),
    };

    return RUN_TESTS(tests);
}
