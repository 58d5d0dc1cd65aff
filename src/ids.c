/* SPDX-License-Identifier: Apache-2.0 */
#include "ids.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_time.h>
#include <stdlib.h>

/* Writes `length` bytes of a big-endian number. */
static void put_number(unsigned char *bytes, int length, apr_int64_t number)
{
    while (length-- > 0) {
        bytes[length] = (unsigned char)number;
        number >>= 8;
    }
}

/* The bytes in lower-case hex, with a hyphen before each byte whose bit is set in
 * `hyphens`. */
static const char *format_hex(apr_pool_t *pool, const unsigned char *bytes, int length,
                              unsigned int hyphens)
{
    static const char digits[] = "0123456789abcdef";
    char *text = apr_palloc(pool, (apr_size_t)length * 3 + 1);
    char *p = text;

    for (int i = 0; i < length; i++) {
        if (hyphens & (1U << i)) {
            *p++ = '-';
        }
        *p++ = digits[bytes[i] >> 4];
        *p++ = digits[bytes[i] & 15];
    }
    *p = '\0';
    return text;
}

/* Writes random bytes. The kernel's generator does not fail once it is seeded. Without it
 * the process must not continue: its ids could be guessed or occur twice. */
static void put_random(unsigned char *bytes, apr_size_t length)
{
    if (apr_generate_random_bytes(bytes, length) != APR_SUCCESS) {
        abort();
    }
}

const char *reg_id_uuid(apr_pool_t *pool)
{
    unsigned char bytes[16];

    put_number(bytes, 6, apr_time_as_msec(apr_time_now()));
    put_random(bytes + 6, 10);
    bytes[6] = (unsigned char)(0x70 | (bytes[6] & 0x0F)); /* version */
    bytes[8] = (unsigned char)(0x80 | (bytes[8] & 0x3F)); /* variant */
    return format_hex(pool, bytes, 16, 1U << 4 | 1U << 6 | 1U << 8 | 1U << 10);
}

const char *reg_id_object_id(apr_pool_t *pool)
{
    unsigned char bytes[12];

    put_number(bytes, 4, apr_time_sec(apr_time_now()));
    put_random(bytes + 4, 8);
    return format_hex(pool, bytes, 12, 0);
}

/* tolower() would depend on the process's locale. */
const char *reg_id_lower(apr_pool_t *pool, const char *id)
{
    char *lower = apr_pstrdup(pool, id);

    for (char *p = lower; p && *p; p++) {
        if (*p >= 'A' && *p <= 'Z') {
            *p = (char)(*p - 'A' + 'a');
        }
    }
    return lower;
}
