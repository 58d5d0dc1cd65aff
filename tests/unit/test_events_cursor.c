/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "events_cursor.h"

#include <apr_encode.h>
#include <string.h>

#define A "4c4f93e6-38bb-4a1e-8286-e89f9853cf52"

/* An item, its order, and the place behind it. */
static void cursor_encodes_position(void **state)
{
#define ITEM                                                                             \
    "{\"id\":\"" A "\",\"createdAt\":\"2025-01-01T00:00:00.000Z\","                      \
    "\"updatedAt\":\"2025-01-02T00:00:00.000Z\",\"status\":\"PENDING\","                 \
    "\"user\":{\"email\":\"a@example.org\",\"firstName\":\"F\",\"lastName\":\"L\"},"     \
    "\"occurrence\":{\"startDate\":\"2025-01-03T00:00:00.000Z\"},"                       \
    "\"event\":{\"name\":\"a\\nb \xC3\xA9\"}}"
    static const struct {
        const char *sort, *item, *time, *text;
    } rows[] = {
        {"createdAt", ITEM, "2025-01-01T00:00:00.000Z", NULL},
        {"updatedAt", ITEM, "2025-01-02T00:00:00.000Z", NULL},
        {"status", ITEM, NULL, "PENDING"},
        {"startDate", ITEM, "2025-01-03T00:00:00.000Z", NULL},
        {"startDate", "{\"id\":\"" A "\",\"occurrence\":{\"startDate\":null}}", NULL,
         NULL},
        {"eventName", ITEM, NULL, "a\nb \xC3\xA9"},
        {"eventName", "{\"id\":\"" A "\",\"event\":{\"name\":\"\"}}", NULL, ""},
        {"firstName", ITEM, NULL, NULL}, /* nothing personal */
        {"lastName", ITEM, NULL, NULL},
        {"email", ITEM, NULL, NULL},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *sort = rows[i].sort;
        reg_position_t place = reg_events_position(*state, sort, rows[i].item), read;
        const char *cursor = reg_events_cursor(*state, sort, "true", &place);

        assert_true(cursor[strspn(cursor, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrst"
                                          "uvwxyz0123456789-_")]
                    == '\0');
        assert_true(reg_events_cursor_read(*state, cursor, sort, "true", &read));
        assert_text(sort, read.id, A);
        assert_text(sort, read.time, rows[i].time);
        assert_text(sort, read.text, rows[i].text);
        assert_false(reg_events_cursor_read(*state, cursor, sort, "false", &read));
        assert_false(reg_events_cursor_read(
            *state, cursor, strcmp(sort, "email") == 0 ? "status" : "email", "true",
            &read));
    }
}

static void cursor_of_other_text_is_invalid(void **state)
{
    static const struct {
        const char *sort, *text;
    } rows[] = {
        {"createdAt", ""},
        {"createdAt", "createdAt"},
        {"createdAt", "createdAt\ntrue\n"},
        {"createdAt", "createdAt\ntrue\nx"},
        {"createdAt", "createdAt\ntrue\n" A "\n"},
        {"createdAt", "createdAt\ntrue\n" A "\nx"},
        {"createdAt", "createdAt\ntrue\n" A "\n2025-01-01T00:00:00.000Z "},
        {"createdAt", "createdAt\ntrue\n" A "\n2025-01-01T00:00:00.000"},
        {"createdAt", "createdAt\ntrue\n" A "\n2025-02-29T00:00:00.000Z"},
        {"createdAt", "createdAt\ntrue\n" A "\n2025-01-01T24:00:00.000Z"},
        {"createdAt", "createdAt\ntrue\n" A "\n2025-01-01T00:60:00.000Z"},
        {"createdAt", "createdAt\ntrue\n" A "\n2025-01-01T00:00:60.000Z"},
        {"status", "status\ntrue\n" A "\nGONE"},
        {"email", "email\ntrue\n" A "\na@example.org"},
        {"eventName", "eventName\ntrue\n" A "\n\xFF"},
    };
    reg_position_t read;

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *cursor = apr_pencode_base64(*state, rows[i].text, APR_ENCODE_STRING,
                                                APR_ENCODE_BASE64URL, NULL);

        assert_number(rows[i].text,
                      reg_events_cursor_read(*state, cursor, rows[i].sort, "true", &read),
                      0);
    }
    assert_false(reg_events_cursor_read(*state, "a b", "createdAt", "true", &read));
    assert_false(reg_events_cursor_read(*state, "AAAA", "createdAt", "true", &read));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(cursor_encodes_position),
        POOL_TEST(cursor_of_other_text_is_invalid),
    };

    return RUN_TESTS(tests);
}
