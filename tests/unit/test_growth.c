/* SPDX-License-Identifier: Apache-2.0 */

/* The processor time of a request grows linearly with its length, for any contents.
 * Measured for one length and for eight times that length. */

#include "api_fixture.h"

#include <apr_hash.h>
#include <limits.h>
#include <sys/param.h>
#include <time.h>

#define BODY 131072 /* bytes; a request of eight times that is the largest there is */
#define HEADER                                                                           \
    8192 /* httpd takes no line longer than that; here they are up to 64 KB              \
          */

#define SESSION "/11111111-1111-4111-8111-111111111111"
#define MEMBER "{\"inviteCode\":\"x\",\"groupMember\":{\"user\":{\"email\":\"a@b.c\"},"
#define FAMILY "{\"username\":\"u\",\"password\":\"p\",\"children\":["
#define EVENT                                                                            \
    "{\"occurrenceId\":\"11111111-1111-4111-8111-111111111111\",\"externalUserId\":"     \
    "\"u\",\"fields\":{"

/* A body: its beginning, a piece repeated with a number in it that counts, its end. */
static const struct {
    const char *what;
    reg_api_t api;
    const char *path, *begin, *piece, *end;
} bodies[] = {
    {"tags", REG_API_USERS, "", MEMBER "\"tags\":[\"t\"", ",\"tag number %d\"", "]}}"},
    {"bad tags", REG_API_USERS, "", MEMBER "\"tags\":[\"\"", ",\"\\u0007tag %08d\"",
     "]}}"},
    {"attributes", REG_API_USERS, "", MEMBER "\"attributes\":{\"a\":1",
     ",\"attribute %d\":1", "}}}"},
    {"children", REG_API_FAMILIES, "", FAMILY "\"x\"", ",\"%024d\"", "]}"},
    {"the same child", REG_API_FAMILIES, "", FAMILY "\"x\"", ",\"%.0dx0000000000000000\"",
     "]}"},
    {"bad children", REG_API_FAMILIES, "", FAMILY "\"x\"", ",\"x%022d\"", "]}"},
    {"fields", REG_API_EVENTS, "", EVENT "\"a\":1", ",\"field %08d\":\"x\"", "}}"},
    {"numbers", REG_API_EVENTS, "", EVENT "\"a\":[1", ",1000000000%08de-4", "]}}"},
    {"digits", REG_API_EVENTS, "", EVENT "\"a\":1", "0000000000000000000000000%.0d",
     "}}"},
    {"a long text", REG_API_EVENTS, "", EVENT "\"a\":\"", "text of %d words ", "\"}}"},
    {"escapes", REG_API_EVENTS, "", EVENT "\"a\":\"", "\\ud83d\\ude00%.0d", "\"}}"},
    {"backslashes", REG_API_EVENTS, "", EVENT "\"a\":\"", "\\\\%.0d", "\"}}"},
    {"escaped keys", REG_API_EVENTS, "", EVENT "\"a\":1", ",\"\\u0066%010d\":[]", "}}"},
    {"keys before it", REG_API_LIVE, SESSION "/register", "{\"a\":1", ",\"key %012d\":{}",
     ",\"patient_id\":\"p\"}"},
    {"a long key", REG_API_LIVE, SESSION "/register", "{\"a", "aaaaaaaaaaaaaaaa%.0d",
     "\":1,\"patient_id\":\"p\"}"},
    {"a long patient_id", REG_API_LIVE, SESSION "/register", "{\"patient_id\":\"",
     "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9%.0d", "\"}"},
    {"a long e-mail", REG_API_LIVE, SESSION "/register", "{\"guest_email\":\"a@a",
     ".aaaaaaaaaaaaaaa%.0d", "\"}"},
    {"a long locale", REG_API_USERS, "", "{\"groupMember\":{\"user\":{\"locale\":\"en",
     "-a-aaaaaaaa%.0d", "\"}}}"},
    {"spaces", REG_API_FAMILIES, "", "{\"username\":\"", "\xE3\x80\x80 \xC2\xA0%.0d",
     "\"}"},
    {"blanks", REG_API_LIVE, SESSION "/register", "{\"patient_id\":", " \n%.0d",
     "\"p\"}"},
    {"levels", REG_API_LIVE, SESSION "/register", "", "[%.0d", ""},
    {"no end", REG_API_LIVE, SESSION "/register", "{\"a\":\"", "\\\"%.0d", ""},
    {"quotes", REG_API_LIVE, SESSION "/register", "", "\"%.0d", ""},
    {"minuses", REG_API_LIVE, SESSION "/register", "{\"a\":", "-%.0d", "}"},
};

#define IN(member) offsetof(reg_request_t, member)

/* Other parts of a request, made likewise. */
static const struct {
    const char *what;
    reg_method_t method;
    const char *path, *begin, *piece;
    apr_size_t place;
} lines[] = {
    {"parameters", REG_METHOD_GET, "", "limit=1", "&p%d=1", IN(query)},
    {"the same parameter", REG_METHOD_GET, "", "a", "&search=%%41%d", IN(query)},
    {"empty parameters", REG_METHOD_GET, "", "a", "&%.0d", IN(query)},
    {"categories", REG_METHOD_GET, "", "a", "&categories[]=%032d", IN(query)},
    {"commas", REG_METHOD_GET, "", "categories=", ",%.0d", IN(query)},
    {"escaped commas", REG_METHOD_GET, "", "categories=", "%%2C%.0d", IN(query)},
    {"a long search", REG_METHOD_GET, "", "search=", "%%C3%%A9%.0d", IN(query)},
    {"unsafe characters", REG_METHOD_GET, "", "a=", "<%.0d", IN(query)},
    {"tags of If-None-Match", REG_METHOD_GET, SESSION, "\"a\"", ",\"%d-a-gzip\"",
     IN(if_none_match)},
    {"quotes of If-None-Match", REG_METHOD_GET, SESSION, "", "\"%.0d", IN(if_none_match)},
    {"tags of If-Match", REG_METHOD_DELETE, SESSION, "\"a\"", ",\"%d-a\"", IN(if_match)},
    {"digits of If-Match", REG_METHOD_DELETE, SESSION, "\"a\"", ",\"1%.0d", IN(if_match)},
    {"a path", REG_METHOD_GET, "", "", "/%d", IN(path)},
};

/* A piece repeated as often as it fits into a length, with its number in it. */
static const char *made_of(apr_pool_t *pool, const char *begin, const char *piece,
                           const char *end, int length)
{
    char *text = apr_palloc(pool, (apr_size_t)length + strlen(begin) + strlen(end) + 64);
    char *p = apr_cpystrn(text, begin, strlen(begin) + 1);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    for (int i = 1; p - text < length; i++) {
        p += apr_snprintf(p, 64, piece, i);
    }
#pragma GCC diagnostic pop
    strcpy(p, end);
    return text;
}

/* Processor time in microseconds; the minimum of several runs, as other processes use the
 * processor too. */
static int time_to_serve(const reg_request_t *request)
{
    int least = INT_MAX;

    for (int i = 0; i < 3; i++) {
        reg_request_t again = *request;
        clock_t start = clock();

        apr_pool_create(&again.pool, request->pool);
        reg_serve(&again);
        apr_pool_destroy(again.pool);
        least = MIN(least, (int)((clock() - start) * 1000000 / CLOCKS_PER_SEC));
    }
    return least;
}

/* Whether a cost may be linear, with room for a busy machine: the square would be 64. */
static int is_linear(int once, int eight_times)
{
    return eight_times <= 24 * (once + 100);
}

static void assert_linear(const char *what, int once, int eight_times)
{
    if (!is_linear(once, eight_times)) {
        fail_msg("%s: %d us, and %d us for eight times as much", what, once, eight_times);
    }
}

static void body_takes_linear_time(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, "1", "{\"id\":\"x\"}"}};

    for (size_t i = 0; i < LENGTH(bodies); i++) {
        int times[2] = {0, 0};

        for (int k = 0; k < 2; k++) {
            const char *body = made_of(*state, bodies[i].begin, bodies[i].piece,
                                       bodies[i].end, k ? 8 * BODY : BODY);

            times[k] = time_to_serve(
                request_for(&host, bodies[i].api, REG_METHOD_POST, bodies[i].path, body));
        }
        assert_linear(bodies[i].what, times[0], times[1]);
    }
}

static void header_and_query_take_linear_time(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_FOUND, "1", "[]"}};

    for (size_t i = 0; i < LENGTH(lines); i++) {
        int times[2] = {0, 0};

        for (int k = 0; k < 2; k++) {
            reg_request_t *request =
                request_for(&host, REG_API_EVENTS, lines[i].method, lines[i].path, NULL);

            *(const char **)(void *)((char *)request + lines[i].place) = made_of(
                *state, lines[i].begin, lines[i].piece, "", k ? 8 * HEADER : HEADER);
            times[k] = time_to_serve(request);
        }
        assert_linear(lines[i].what, times[0], times[1]);
    }
}

/* The control: keys that collide in a hash table, as ids of children once did. */
static int time_to_collide(apr_pool_t *pool, int count)
{
    apr_hash_t *hash = apr_hash_make(pool);
    clock_t start = clock();

    for (int i = 0; i < count; i++) {
        char *key = apr_pcalloc(pool, 33);

        for (int bit = 0; bit < 16; bit++) {
            memcpy(key + 2 * bit, i >> bit & 1 ? "Ab" : "BA", 2);
        }
        apr_hash_set(hash, key, APR_HASH_KEY_STRING, key);
    }
    return (int)((clock() - start) * 1000000 / CLOCKS_PER_SEC);
}

static void control_quadratic_time_is_noticed(void **state)
{
    assert_false(
        is_linear(time_to_collide(*state, 1 << 11), time_to_collide(*state, 1 << 14)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(body_takes_linear_time),
        POOL_TEST(header_and_query_take_linear_time),
        POOL_TEST(control_quadratic_time_is_noticed),
    };

    return RUN_TESTS(tests);
}
