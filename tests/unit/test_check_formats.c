/* SPDX-License-Identifier: Apache-2.0 */

/* Addresses, numbers, dates, ids, language tags: a value is of the form or it is not. */

/* timegm() takes every year on 32 bit too. */
#define _FILE_OFFSET_BITS 64
#define _TIME_BITS 64

#include "check_fixture.h"

#include <regex.h>
#include <stdio.h>
#include <time.h>

/*
 * Whether a check agrees with a grammar on random texts made of pieces that the grammar
 * distinguishes. The seed is fixed, so failures are reproducible.
 */
static void assert_follows(reg_check_t *check, const char *grammar,
                           const char *const *pieces, unsigned int piece_count)
{
    regex_t regex;
    unsigned int seed = 1;
    int good = 0;

    assert_int_equal(0, regcomp(&regex, grammar, REG_EXTENDED | REG_NOSUB | REG_ICASE));
    for (int i = 0; i < 20000; i++) {
        char text[128] = "";
        int follows;

        for (int length = rand_r(&seed) % 8; length >= 0; length--) {
            strcat(text, pieces[(unsigned int)rand_r(&seed) % piece_count]);
        }
        follows = regexec(&regex, text, 0, NULL, 0) == 0;
        assert_number(text, check(text) == NULL, follows);
        good += follows;
    }
    regfree(&regex);
    assert_interval(good, 500, 19500); /* or it would have shown nothing */
}

static void email_refused_by_browsers_is_invalid(void **state)
{
    const char *label = repeated(*state, "a", 63);
    const char *long_domain = apr_pstrcat(*state, label, ".", label, ".", label, NULL);
    const char *const good[] = {
        "a@b", "example_user@example.org", ".a..b.@example.org",
        "!#$%&'*+/=?^_`{|}~-.0aZ@example.org", "a@1.2.3.4", "a@xn--caf-dma.example",
        "A@EXAMPLE.ORG", apr_pstrcat(*state, "a@", label, NULL),
        /* 62 + 1 + 191 = 254 */
        apr_pstrcat(*state, label + 1, "@", long_domain, NULL), NULL};
    const char *const bad[] = {"", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b c",
                               " a@b", "a@b ", "a@b\n", "a@-b", "a@b-", "a@b-.c", "a@.b",
                               "a@b.", "a@b..c", "a@b_c", "a@[1.2.3.4]", "a,b@c",
                               "\"a\"@b", "a(b)@c", "<a@b>", "é@example.org",
                               "a@é.example", apr_pstrcat(*state, "a@", label, "a", NULL),
                               /* 63 + 1 + 191 = 255 */
                               apr_pstrcat(*state, label, "@", long_domain, NULL), NULL};

    assert_all(reg_check_email, good, 1);
    assert_all(reg_check_email, bad, 0);
}

static void email_validity_matches_html_standard(void **state)
{
    static const char grammar[] =
        "^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
        "(\\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$";
    static const char *const pieces[] = {"a", "Z", "0",   "a.", "-",
                                         ".", "@", "a@b", "+",  " "};

    (void)state;
    assert_follows(reg_check_email, grammar, pieces, LENGTH(pieces));
}

static void phone_other_than_e164_is_invalid(void **state)
{
    static const char *const good[] = {"+19195551212", "+4930123456", "+123456789012345",
                                       NULL};
    static const char *const bad[] = {"",
                                      "+",
                                      "19195551212",
                                      "+09195551212",
                                      "+1234567890123456",
                                      "+1 919 555 1212",
                                      "+1-919-555-1212",
                                      "+1919555121a",
                                      "++19195551212",
                                      "0019195551212",
                                      " +19195551212",
                                      "+19195551212 ",
                                      "+\xD9\xA1\xD9\xA2\xD9\xA3\xD9\xA4\xD9\xA5",
                                      NULL};

    (void)state;
    assert_all(reg_check_phone, good, 1);
    assert_all(reg_check_phone, bad, 0);
}

static void date_of_other_format_is_invalid(void **state)
{
    static const char *const good[] = {"2000-01-01", "0001-01-01", "9999-12-31",
                                       "2024-02-29", "2000-02-29", NULL};
    static const char *const bad[] = {"",
                                      "2000-1-1",
                                      "2000-01-1",
                                      "20000-01-01",
                                      "2000/01/01",
                                      "01-01-2000",
                                      "2000-01-01T00:00:00Z",
                                      "2000-01-01 ",
                                      " 2000-01-01",
                                      "2000-00-01",
                                      "2000-13-01",
                                      "2000-01-00",
                                      "2000-01-32",
                                      "2023-02-29",
                                      "1900-02-29",
                                      "2100-02-29",
                                      "0000-01-01",
                                      "-200-01-01",
                                      "+200-01-01",
                                      "2000-04-31",
                                      "2000-01-0a",
                                      "2000-01",
                                      "20000101",
                                      "infinity",
                                      "today",
                                      NULL};

    (void)state;
    assert_all(reg_check_date, good, 1);
    assert_all(reg_check_date, bad, 0);
}

/* A date is real when the calendar of the C library gives it back unchanged. */
static void date_outside_calendar_is_invalid(void **state)
{
    static const int years[] = {1,    4,    100,  400,  1582, 1752, 1899, 1900,
                                1969, 1970, 1999, 2000, 2023, 2024, 2100, 9999};

    (void)state;
    for (size_t y = 0; y < LENGTH(years); y++) {
        for (int i = 0; i < 14 * 33; i++) {
            int month = i / 33, day = i % 33;
            struct tm tm = {
                .tm_year = years[y] - 1900, .tm_mon = month - 1, .tm_mday = day};
            char text[48];
            time_t time = timegm(&tm);

            gmtime_r(&time, &tm);
            snprintf(text, sizeof(text), "%04d-%02d-%02d", years[y], month, day);
            assert_number(text, reg_check_date(text) == NULL,
                          tm.tm_mon == month - 1 && tm.tm_mday == day);
        }
    }
}

static void uuid_of_other_form_is_invalid(void **state)
{
    static const char *const good[] = {
        "123e4567-e89b-12d3-a456-426614174000", "987e6543-e21a-34b5-c678-426614174000",
        "123E4567-E89B-12D3-A456-426614174FFF", "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff", NULL};
    static const char *const bad[] = {"",
                                      "123e4567e89b12d3a456426614174000",
                                      "{123e4567-e89b-12d3-a456-426614174000}",
                                      "urn:uuid:123e4567-e89b-12d3-a456-426614174000",
                                      "123e4567-e89b-12d3-a456-42661417400",
                                      "123e4567-e89b-12d3-a456-4266141740000",
                                      "123e4567-e89b-12d3-a456-42661417400g",
                                      "123e4567-e89b-12d3-a456_426614174000",
                                      "123e-4567e89b-12d3-a456-426614174000",
                                      " 123e4567-e89b-12d3-a456-426614174000",
                                      "123e4567-e89b-12d3-a456-426614174000 ",
                                      "GROUP_UUID",
                                      NULL};

    (void)state;
    assert_all(reg_check_uuid, good, 1);
    assert_all(reg_check_uuid, bad, 0);
}

static void object_id_without_24_hex_digits_is_invalid(void **state)
{
    static const char *const good[] = {"507f191e810c19729de860ea",
                                       "507F191E810C19729DE860EA", NULL};
    static const char *const bad[] = {"",
                                      "5a62be07de34500146d9c5434",
                                      "507f191e810c19729de860e",
                                      "507f191e810c19729de860eg",
                                      "507f191e810c19729de860e ",
                                      "0x7f191e810c19729de860ea",
                                      NULL};

    (void)state;
    assert_all(reg_check_object_id, good, 1);
    assert_all(reg_check_object_id, bad, 0);
}

static void locale_other_than_language_tag_is_invalid(void **state)
{
    /* From RFC 5646, appendix A, and its list of grandfathered tags. */
    static const char *const good[] = {"de",
                                       "en-US",
                                       "EN-us",
                                       "i-enochian",
                                       "zh-Hant",
                                       "sr-Cyrl",
                                       "zh-cmn-Hans-CN",
                                       "cmn-Hans-CN",
                                       "zh-yue-HK",
                                       "sr-Latn-RS",
                                       "sl-rozaj-biske",
                                       "de-CH-1901",
                                       "sl-IT-nedis",
                                       "hy-Latn-IT-arevela",
                                       "es-419",
                                       "de-CH-x-phonebk",
                                       "az-Arab-x-AZE-derbend",
                                       "x-whatever",
                                       "qaa-Qaaa-QM-x-southern",
                                       "en-US-u-islamcal",
                                       "zh-CN-a-myext-x-private",
                                       "en-a-myext-b-another",
                                       "sgn-BE-FR",
                                       "en-GB-oed",
                                       "I-DEFAULT",
                                       "art-lojban",
                                       "zh-min-nan",
                                       "zh-aaa-bbb-ccc",
                                       NULL};
    static const char *const bad[] = {"",
                                      "e",
                                      "en_US",
                                      "en-",
                                      "-en",
                                      "en--US",
                                      "de-419-DE",
                                      "zh-aaa-bbb-ccc-ddd",
                                      "a-DE",
                                      "en US",
                                      "en-US ",
                                      " en",
                                      "en-u",
                                      "en-u-x-y",
                                      "x",
                                      "x-",
                                      "123",
                                      "en-x",
                                      "en-a-",
                                      "abcdefghi",
                                      "en-US-x-abcdefghi",
                                      "i-wrong",
                                      "fran\xC3\xA7"
                                      "ais",
                                      "en.UTF-8",
                                      "C",
                                      NULL};

    (void)state;
    assert_all(reg_check_locale, good, 1);
    assert_all(reg_check_locale, bad, 0);
}

static void locale_validity_matches_rfc_5646(void **state)
{
    static const char grammar[] =
        "^(([a-z]{2,3}(-[a-z]{3}){0,3}|[a-z]{4,8})" /* language, extlang */
        "(-[a-z]{4})?"                              /* script */
        "(-([a-z]{2}|[0-9]{3}))?"                   /* region */
        "(-([a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"      /* variants */
        "(-[0-9a-wyz](-[a-z0-9]{2,8})+)*"           /* extensions */
        "(-x(-[a-z0-9]{1,8})+)?"
        "|x(-[a-z0-9]{1,8})+)$";
    static const char *const pieces[] = {
        "en",        "-en", "-zho", "-Latn", "-419",      "-1901",
        "-12345678", "-x",  "-a",   "-1",    "-abcdefgh", "-abcdefghi",
        "abcde",     "x",   "-",    "e",     "-rozaj"};

    (void)state;
    assert_follows(reg_check_locale, grammar, pieces, LENGTH(pieces));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(email_refused_by_browsers_is_invalid),
        POOL_TEST(email_validity_matches_html_standard),
        POOL_TEST(phone_other_than_e164_is_invalid),
        POOL_TEST(date_of_other_format_is_invalid),
        POOL_TEST(date_outside_calendar_is_invalid),
        POOL_TEST(uuid_of_other_form_is_invalid),
        POOL_TEST(object_id_without_24_hex_digits_is_invalid),
        POOL_TEST(locale_other_than_language_tag_is_invalid),
        POOL_TEST(locale_validity_matches_rfc_5646),
    };

    return RUN_TESTS(tests);
}
