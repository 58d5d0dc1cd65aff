/* SPDX-License-Identifier: Apache-2.0 */

/* An allocator that fails at the Nth call, for every N: a request is read unchanged or
 * refused. Each N has a process of its own, as some of them abort it. */

#include "api_fixture.h"

#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG "a value of such a length that jansson's buffer has to grow for it, twice"

static const struct {
    reg_api_t api;
    reg_method_t method;
    const char *path, *body;
} requests[] = {
    {REG_API_LIVE, REG_METHOD_POST, "/11111111-1111-4111-8111-111111111111/register",
     "{\"patient_id\":\"" LONG "\",\"guest_email\":\"guest@example.org\"}"},
    {REG_API_GROUPS, REG_METHOD_POST, "/5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10/members",
     "{\"inviteCode\":\"" LONG "\",\"groupMember\":{\"user\":{\"email\":\"a@b.c\","
     "\"firstName\":\"" LONG "\"},\"tags\":[\"" LONG "\",\"t\"],\"\\u0061ttributes\":"
     "{\"a long key, longer than others\":[1.50]}}}"},
    {REG_API_USERS, REG_METHOD_POST, "",
     "{\"inviteCode\":\"x\",\"groupMember\":{\"user\":{\"email\":\"a@b.c\"}}}"},
    {REG_API_FAMILIES, REG_METHOD_POST, "",
     "{\"username\":\"" LONG "\",\"password\":\"a password of some length\","
     "\"institution_id\":\"5a62be07de34500146d9c624\",\"children\":["
     "\"5a62be07de34500146d9c544\",\"5a70be07de34500146d9c380\"]}"},
    {REG_API_EVENTS, REG_METHOD_POST, "",
     "{\"occurrenceId\":\"123e4567-e89b-12d3-a456-426614174001\",\"externalUserId\":"
     "\"" LONG "\",\"\\u0066ields\":{\"email\":\"a@b.c\",\"n\":\"" LONG "\\n\"}}"},
    {REG_API_EVENTS, REG_METHOD_PUT, "/123e4567-e89b-12d3-a456-426614174000",
     "{\"status\":\"ATTENDED\",\"fields\":{\"notes\":\"" LONG "\"}}"},

    /* Refused: here, writing the answer takes memory as well. */
    {REG_API_LIVE, REG_METHOD_POST, "/x/register", "{\"role\":1,\"guest_email\":\"x\"}"},
    {REG_API_GROUPS, REG_METHOD_POST, "/x/members", "{\"groupMember\":{\"tags\":1}}"},
    {REG_API_FAMILIES, REG_METHOD_POST, "", "{\"children\":[\"x\",\"" LONG "\"]}"},
    {REG_API_EVENTS, REG_METHOD_POST, "", "{\"occurrenceId\":\"" LONG "\"}"},
    {REG_API_EVENTS, REG_METHOD_POST, "", "{\"a\":\"" LONG "\""},
};

/* Which allocations fail: the Nth, all from the Nth on, or all of more than N bytes. */
enum { ONE, ALL, LARGE, MODES };
static const char *const modes[] = {"allocation N fails", "all from the Nth on fail",
                                    "all of more than N bytes fail"};
static int mode, limit = INT_MAX;
static int allocations; /* so far */

static void *allocate(size_t size)
{
    allocations++;

    const int fails[] = {
        [ONE] = allocations == limit,
        [ALL] = allocations >= limit,
        [LARGE] = size > (size_t)limit,
    };

    return fails[mode] ? NULL : malloc(size);
}

static void fail_at(int which, int n)
{
    mode = which;
    limit = n;
    allocations = 0;
}

/* The result of a request: operation called, status and body. */
static const char *served(apr_pool_t *pool, size_t i, int *status)
{
    fake_host_t host = {.pool = pool, .answer = {REG_CREATED, "1", "{\"id\":\"x\"}"}};
    const reg_reply_t *reply = reg_serve(request_for(
        &host, requests[i].api, requests[i].method, requests[i].path, requests[i].body));

    *status = reply->status;
    return apr_psprintf(pool, "%s %d %s", host.called ? host.called : "nothing",
                        reply->status, reply->body);
}

/* Exit statuses that a process cannot have for another reason. */
enum { SAME = 100, REFUSED, OTHER, ENDED };

/* Runs a function in a process of its own. @return its exit status, or ENDED. */
static int apart(int (*run)(apr_pool_t *, size_t, const char *), apr_pool_t *pool,
                 size_t i, const char *expected)
{
    const struct rlimit no_core = {0, 0};
    pid_t child = fork();
    int status;

    if (!child) {
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr)) { /* jansson's own assertions */
            _exit(OTHER);
        }
        _exit(run(pool, i, expected));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status)                                    ? WEXITSTATUS(status)
           : WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? ENDED
                                                                : OTHER;
}

static int serve(apr_pool_t *pool, size_t i, const char *expected)
{
    int status;
    const char *got = served(pool, i, &status);

    return strcmp(got, expected) == 0                                ? SAME
           : status == 503 && strncmp(got, "nothing 503 {", 13) == 0 ? REFUSED
                                                                     : OTHER;
}

static void request_failing_allocation_is_served_unchanged_or_refused(void **state)
{
    for (size_t i = 0; i < LENGTH(requests); i++) {
        const char *expected;
        int status, most, refused = 0;

        fail_at(ONE, 0);
        expected = served(*state, i, &status);
        most = MAX(allocations, 100); /* allocations, or bytes of one */
        for (int n = 0; n < MODES * most; n++) {
            int result;

            fail_at(n % MODES, n / MODES + 1);
            result = apart(serve, *state, i, expected);
            refused += result == REFUSED;
            if (result != SAME && result != REFUSED && result != ENDED) {
                fail_msg("%s\n  when %s, N = %d", requests[i].body, modes[mode], limit);
            }
        }
        assert_true(refused > 0);
    }
}

/* The control: jansson by itself reads another text than was sent. */
static int parse(apr_pool_t *pool, size_t i, const char *text)
{
    const char *read;
    json_t *array = json_loads(text, 0, NULL);

    (void)pool;
    (void)i;
    if (!array) {
        return REFUSED;
    }
    read = json_string_value(json_array_get(array, 0));
    return read && strcmp(read, LONG) == 0 ? SAME : OTHER;
}

static void control_jansson_failing_allocation_reads_other_text(void **state)
{
    int others = 0;

    for (int n = 1; n < 10; n++) {
        fail_at(ONE, n);
        others += apart(parse, *state, 0, "[\"" LONG "\"]") == OTHER;
    }
    assert_true(others > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(request_failing_allocation_is_served_unchanged_or_refused),
        POOL_TEST(control_jansson_failing_allocation_reads_other_text),
    };

    json_set_alloc_funcs(allocate, free);
    return RUN_TESTS(tests);
}
