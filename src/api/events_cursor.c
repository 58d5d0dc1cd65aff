/* SPDX-License-Identifier: Apache-2.0 */
#include "events_cursor.h"

#include "check.h"
#include "events.h"
#include "json.h"
#include "utf8.h"

#include <apr_encode.h>
#include <apr_strings.h>
#include <string.h>

/* Whether a text is a point in time in the format of the answers. */
static const char *check_moment(const char *value)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    char date[] = "yyyy-MM-dd";
    size_t i = 0;

    while (
        form[i]
        && (form[i] == 'd' ? value[i] >= '0' && value[i] <= '9' : value[i] == form[i])) {
        i++;
    }
    if (form[i] || value[i]) {
        return "must be a moment";
    }
    memcpy(date, value, sizeof(date) - 1);
    return strncmp(value + strlen("yyyy-MM-ddT"), "24", 2) < 0
                   && value[strlen("yyyy-MM-ddThh:")] < '6'
                   && value[strlen("yyyy-MM-ddThh:mm:")] < '6'
               ? reg_check_date(date)
               : "must be a time of day";
}

static const char *check_nothing(const char *value)
{
    (void)value;
    return NULL;
}

/* The orders of a list, and the place of their value in an item: a key, or a key of an
 * object in it. A personal value is not taken into the cursor. */
static const struct order_t {
    const char *sort;
    const char *object, *key;
    reg_check_t *check;
} orders[] = {
    {"createdAt", NULL, "createdAt", check_moment},
    {"updatedAt", NULL, "updatedAt", check_moment},
    {"status", NULL, "status", reg_events_check_status},
    {"startDate", "occurrence", "startDate", check_moment},
    {"eventName", "event", "name", check_nothing},
    {"firstName", NULL, NULL, NULL},
    {"lastName", NULL, NULL, NULL},
    {"email", NULL, NULL, NULL},
};

#define ORDERS (sizeof(orders) / sizeof(orders[0]))

/* The order of a field that reg_events_check_sort() accepts. */
static const struct order_t *find_order(const char *sort)
{
    size_t i = 0;

    while (i < ORDERS - 1 && strcmp(orders[i].sort, sort) != 0) {
        i++;
    }
    return &orders[i];
}

const char *reg_events_check_sort(const char *value)
{
    for (size_t i = 0; i < ORDERS; i++) {
        apr_size_t length = strlen(orders[i].sort);
        const char *direction = value + length;

        if (strncmp(value, orders[i].sort, length) == 0
            && (!*direction || strcmp(direction, " ASC") == 0
                || strcmp(direction, " DESC") == 0)) {
            return NULL;
        }
    }
    return "must be a field, perhaps with a space and ASC or DESC behind it: createdAt, "
           "updatedAt, status, startDate, eventName, firstName, lastName, email";
}

/* A position with this id and value. */
static reg_position_t make_position(const struct order_t *order, const char *id,
                                    const char *value)
{
    int is_time = order->check == check_moment;

    return (reg_position_t){
        .id = id, .time = is_time ? value : NULL, .text = is_time ? NULL : value};
}

reg_position_t reg_events_position(apr_pool_t *pool, const char *sort, const char *item)
{
    const struct order_t *order = find_order(sort);
    const char *id = reg_json_plain(pool, reg_json_raw(pool, item, "id", NULL));
    const char *value = NULL;

    if (order->object) {
        value = reg_json_raw(pool, item, order->object, order->key, NULL);
    }
    else if (order->key) {
        value = reg_json_raw(pool, item, order->key, NULL);
    }
    return make_position(order, id ? id : "", reg_json_plain(pool, value));
}

const char *reg_events_cursor(apr_pool_t *pool, const char *sort, const char *descending,
                              const reg_position_t *position)
{
    const char *value = position->time ? position->time : position->text;
    const char *text = apr_pstrcat(pool, sort, "\n", descending, "\n", position->id,
                                   value ? "\n" : NULL, value, NULL);

    return apr_pencode_base64(pool, text, APR_ENCODE_STRING, APR_ENCODE_BASE64URL, NULL);
}

/* The text after its first line; NULL if that is another line. */
static const char *skip_line(const char *text, const char *line)
{
    apr_size_t length = strlen(line);

    return text && strncmp(text, line, length) == 0 && text[length] == '\n'
               ? text + length + 1
               : NULL;
}

int reg_events_cursor_read(apr_pool_t *pool, const char *cursor, const char *sort,
                           const char *descending, reg_position_t *position)
{
    const struct order_t *order = find_order(sort);
    apr_size_t length = 0;
    const char *text = apr_pdecode_base64(pool, cursor, APR_ENCODE_STRING,
                                          APR_ENCODE_BASE64URL, &length);
    const char *id = text && strlen(text) == length && reg_utf8_is_valid(text)
                         ? skip_line(skip_line(text, sort), descending)
                         : NULL;
    const char *value = id ? strchr(id, '\n') : NULL;

    if (value) {
        id = apr_pstrmemdup(pool, id, (apr_size_t)(value - id));
        value++;
    }
    if (!id || reg_check_uuid(id) || (value && (!order->check || order->check(value)))) {
        return 0;
    }
    *position = make_position(order, id, value);
    return 1;
}
