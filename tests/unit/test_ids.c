/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "check.h"
#include "ids.h"

#include <apr_hash.h>
#include <apr_time.h>

/* The number that the hex digits of an id spell, hyphens left out. */
static apr_int64_t number_of(const char *id, int digits)
{
    char text[17];
    int length = 0;

    for (; length < digits; id++) {
        if (*id != '-') {
            text[length++] = *id;
        }
    }
    text[length] = '\0';
    return apr_strtoi64(text, NULL, 16);
}

static void generated_uuid_has_version_7(void **state)
{
    for (int i = 0; i < 1000; i++) {
        apr_time_t before = apr_time_as_msec(apr_time_now());
        const char *id = reg_id_uuid(*state);
        apr_time_t made = number_of(id, 12);

        assert_text(id, reg_check_uuid(id), NULL);
        assert_number(id, id[14], '7');
        assert_non_null(strchr("89ab", id[19]));
        assert_interval(made, before, apr_time_as_msec(apr_time_now()));
        assert_number(id, (intmax_t)strcspn(id, "ABCDEF"), 36);
    }
}

static void generated_object_id_starts_with_unix_time(void **state)
{
    for (int i = 0; i < 1000; i++) {
        apr_time_t before = apr_time_sec(apr_time_now());
        const char *id = reg_id_object_id(*state);

        assert_text(id, reg_check_object_id(id), NULL);
        assert_interval(number_of(id, 8), before, apr_time_sec(apr_time_now()));
        assert_number(id, (intmax_t)strcspn(id, "ABCDEF"), 24);
    }
}

static void generated_ids_are_unique(void **state)
{
    static const char *(*const makers[])(apr_pool_t *) = {reg_id_uuid, reg_id_object_id};

    for (size_t m = 0; m < LENGTH(makers); m++) {
        apr_hash_t *seen = apr_hash_make(*state);

        for (int i = 0; i < 20000; i++) {
            apr_hash_set(seen, makers[m](*state), APR_HASH_KEY_STRING, "");
        }
        assert_int_equal(apr_hash_count(seen), 20000);
    }
}

/* Every bit that is not fixed is seen both set and clear. */
static void generated_id_has_random_bits(void **state)
{
    static const struct {
        const char *(*make)(apr_pool_t *);
        int first;        /* digit after the time */
        const char *ones; /* a digit each: the bits that are to change */
    } rows[] = {{reg_id_uuid, 15, "fff-3fff-ffffffffffff"},
                {reg_id_object_id, 8, "ffffffffffffffff"}};

    for (size_t r = 0; r < LENGTH(rows); r++) {
        for (size_t d = 0; rows[r].ones[d]; d++) {
            apr_int64_t wanted = number_of(&rows[r].ones[d], 1);
            apr_int64_t set = 0, clear = 0;

            for (int i = 0; i < 64 && rows[r].ones[d] != '-'; i++) {
                apr_int64_t digit =
                    number_of(rows[r].make(*state) + rows[r].first + d, 1);

                set |= digit & wanted;
                clear |= ~digit & wanted;
            }
            if (rows[r].ones[d] != '-') {
                assert_number(rows[r].ones + d, set, wanted);
                assert_number(rows[r].ones + d, clear, wanted);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(generated_uuid_has_version_7),
        POOL_TEST(generated_object_id_starts_with_unix_time),
        POOL_TEST(generated_ids_are_unique),
        POOL_TEST(generated_id_has_random_bits),
    };

    return RUN_TESTS(tests);
}
