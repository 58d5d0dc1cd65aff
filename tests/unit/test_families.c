/* SPDX-License-Identifier: Apache-2.0 */

/* The strings are the real service's own, letter for letter; the first check that fails
 * answers. */

#include "api_fixture.h"

#include <apr_hash.h>
#include <apr_md5.h>
#include <time.h>

#define INSTITUTION "5a62be07de34500146d9c624"
#define CHILD1 "5a62be07de34500146d9c544"
#define CHILD2 "5a70be07de34500146d9c380"
#define GOOD                                                                             \
    "{\"username\":\"family01\",\"password\":\"mys3cr3tp4ss\",\"institution_id\":"       \
    "\"" INSTITUTION "\",\"children\":[\"" CHILD1 "\",\"" CHILD2 "\"]}"

#define INVALID "One or more request fields are invalid..."
#define MISSING "Required fields were not provided..."
#define CHILD_FORM                                                                       \
    "Children field contains invalid IDs. It is expected that each item in the array "   \
    "is a "                                                                              \
    "24-byte hex string like this: 507f191e810c19729de860ea"
#define CHILDREN_FORMAT                                                                  \
    "The following IDs from children attribute are not in valid format: "
#define INSTITUTION_FORMAT "Parameter {institution_id} is not in valid format!"
#define INSTITUTION_FORM                                                                 \
    "A 24-byte hex ID similar to this: 507f191e810c19729de860ea is expected."

static const struct {
    const char *body, *message, *description;
} bad[] = {
    /* Each of them alone. */
    {"{\"username\":1}", INVALID, "username must be a string!"},
    {"{\"username\":null}", INVALID, "username must be a string!"},
    {"{\"username\":\"\"}", INVALID, "Username must have at least one character!"},
    {"{\"username\":\" \\t\\u00a0\\u3000\"}", INVALID,
     "Username must have at least one character!"},
    {"{\"username\":\"a\\u0007\"}", INVALID,
     "Username must not contain control characters!"},
    {"{\"username\":\"a\\u007f\"}", INVALID,
     "Username must not contain control characters!"},
    {"{\"password\":1}", INVALID, "password must be a string!"},
    {"{\"password\":null}", INVALID, "password must be a string!"},
    {"{\"password\":\"\"}", INVALID, "password must have at least one character!"},
    {"{\"institution_id\":1}", INSTITUTION_FORMAT, INSTITUTION_FORM},
    {"{\"institution_id\":null}", INSTITUTION_FORMAT, INSTITUTION_FORM},
    {"{\"institution_id\":\"\"}", INSTITUTION_FORMAT, INSTITUTION_FORM},
    {"{\"institution_id\":\"5a62be07de34500146d9c62\"}", INSTITUTION_FORMAT,
     INSTITUTION_FORM},
    {"{\"institution_id\":\"5a62be07de34500146d9c62g\"}", INSTITUTION_FORMAT,
     INSTITUTION_FORM},
    {"{\"children\":\"" CHILD1 "\"}", INVALID, "children must be an array!"},
    {"{\"children\":null}", INVALID, "children must be an array!"},
    {"{\"children\":{}}", INVALID, "children must be an array!"},
    {"{\"children\":[\"\"]}", INVALID, CHILD_FORM},
    {"{\"children\":[1]}", INVALID, CHILD_FORM},
    {"{\"children\":[\"" CHILD1 "\",null]}", INVALID, CHILD_FORM},
    {"{\"children\":[\"x\",\"\"]}", INVALID, CHILD_FORM},
    {"{\"children\":[\"x\"]}", INVALID, CHILDREN_FORMAT "x"},
    {"{\"children\":[\"5a62be07de34500146d9c5434\",\"" CHILD1
     "\",\"5db05279fcfefe5c3de204971\"]}",
     INVALID, CHILDREN_FORMAT "5a62be07de34500146d9c5434, 5db05279fcfefe5c3de204971"},
    {"{\"children\":[\"x\",\"y\",\"x\",\"Y\"]}", INVALID, CHILDREN_FORMAT "x, y, Y"},
    {"{}", MISSING,
     "username, password, institution, Collection with children IDs are required!"},
    {"{\"children\":[]}", MISSING,
     "username, password, institution, Collection with children IDs are required!"},
    {"{\"username\":\"u\",\"children\":[\"" CHILD1 "\"]}", MISSING,
     "password, institution are required!"},
    {"{\"password\":\"p\",\"institution_id\":\"" INSTITUTION "\",\"children\":[\"" CHILD1
     "\"]}",
     MISSING, "username are required!"},
    {"{\"username\":\"u\",\"password\":\"p\",\"institution_id\":\"" INSTITUTION "\"}",
     MISSING, "Collection with children IDs are required!"},

    /* The order: each row mends what the one before was refused for. */
    {"{\"username\":1,\"password\":1,\"institution_id\":1,\"children\":1}", INVALID,
     "username must be a string!"},
    {"{\"username\":\" \",\"password\":1,\"institution_id\":1,\"children\":1}", INVALID,
     "Username must have at least one character!"},
    {"{\"username\":\"u\",\"password\":1,\"institution_id\":1,\"children\":1}", INVALID,
     "password must be a string!"},
    {"{\"username\":\"u\",\"password\":\"\",\"institution_id\":1,\"children\":1}",
     INVALID, "password must have at least one character!"},
    {"{\"username\":\"u\",\"password\":\" \",\"institution_id\":1,\"children\":1}",
     INSTITUTION_FORMAT, INSTITUTION_FORM},
    {"{\"username\":\"u\",\"institution_id\":\"" INSTITUTION "\",\"children\":1}",
     INVALID, "children must be an array!"},
    {"{\"username\":\"u\",\"institution_id\":\"" INSTITUTION "\",\"children\":[\"x\",1]}",
     INVALID, CHILD_FORM},
    {"{\"username\":\"u\",\"institution_id\":\"" INSTITUTION "\",\"children\":[\"x\"]}",
     INVALID, CHILDREN_FORMAT "x"},
    {"{\"username\":\"u\",\"institution_id\":\"" INSTITUTION "\",\"children\":[\"" CHILD1
     "\"]}",
     MISSING, "password are required!"},
};

/* The body of an error, its keys in their order. */
static const char *error_body(apr_pool_t *pool, int status, const char *message,
                              const char *description)
{
    return apr_pstrcat(pool, "{\"code\":", apr_itoa(pool, status), ",\"message\":\"",
                       message, description ? "\",\"description\":\"" : "",
                       description ? description : "", "\"}", NULL);
}

static const reg_reply_t *post(fake_host_t *host, const char *body)
{
    return reg_serve(request_for(host, REG_API_FAMILIES, REG_METHOD_POST, "", body));
}

static void first_failed_family_check_is_answered(void **state)
{
    fake_host_t host = {.pool = *state};

    for (size_t i = 0; i < LENGTH(bad); i++) {
        const char *row = bad[i].body;
        const reg_reply_t *reply = post(&host, row);

        assert_number(row, reply->status, 400);
        assert_text(row, reply->body,
                    error_body(*state, 400, bad[i].message, bad[i].description));
        assert_int_equal(host.calls, 0);
    }
}

static void field_over_length_limit_is_invalid(void **state)
{
    const char *const accent = "\xC3\xA9";
    const struct {
        const char *key, *value, *description; /* NULL: it is good */
    } rows[] = {
        {"username", repeated(*state, accent, 255), NULL},
        {"username", repeated(*state, accent, 256),
         "Username must have at most 255 characters!"},
        {"password", repeated(*state, accent, 36), NULL},
        {"password", repeated(*state, "p", 72), NULL},
        {"password", repeated(*state, accent, 37),
         "password must have at most 72 bytes!"},
        {"password", repeated(*state, "p", 73), "password must have at most 72 bytes!"},
        {"password", "\\u0001\\n", NULL},
    };
    fake_host_t host = {.pool = *state};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *body =
            apr_pstrcat(*state, "{\"", rows[i].key, "\":\"", rows[i].value, "\"}", NULL);
        const char *wrong = rows[i].description;

        assert_text(body, told(*state, post(&host, body), "message"),
                    wrong ? INVALID : MISSING);
        if (wrong) {
            assert_text(body, told(*state, post(&host, body), "description"), wrong);
        }
    }
}

/* A good body, and the children that the operation is given. */
static void duplicate_children_are_removed_in_order(void **state)
{
    static const struct {
        const char *children, *given;
    } rows[] = {
        {"\"" CHILD1 "\"", CHILD1},
        {"\"" CHILD2 "\",\"" CHILD1 "\"", CHILD2 "," CHILD1},
        {"\"" CHILD1 "\",\"" CHILD2 "\",\"" CHILD1 "\"", CHILD1 "," CHILD2},
        {"\"5A62BE07DE34500146D9C544\"", CHILD1},
        {"\"" CHILD1 "\",\"5A62BE07DE34500146D9C544\",\"" CHILD2 "\"", CHILD1 "," CHILD2},
    };
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *body = apr_pstrcat(
            *state,
            "{\"username\":\" U \",\"password\":\"p\",\"x\":null,\"institution_id\":"
            "\"5A62BE07DE34500146D9C624\",\"children\":[",
            rows[i].children, "]}", NULL);

        assert_number(body, post(&host, body)->status, 201);
        assert_text(body, host.called,
                    apr_pstrcat(*state,
                                "families_register(<id>, U, <hash>, " INSTITUTION ", ",
                                rows[i].given, ")", NULL));
    }
}

/* A body with so many children, whose ids are numbers in bits written so. */
static const char *children_of(apr_pool_t *pool, const char *zero, const char *one,
                               int count)
{
    apr_array_header_t *all = apr_array_make(pool, count * 16, sizeof(const char *));

    for (int i = 0; i < count; i++) {
        APR_ARRAY_PUSH(all, const char *) = i ? ",\"" : "\"";
        for (int bit = 0; bit < 14; bit++) {
            APR_ARRAY_PUSH(all, const char *) = i >> bit & 1 ? one : zero;
        }
        APR_ARRAY_PUSH(all, const char *) = "\"";
    }
    return apr_pstrcat(pool, "{\"username\":\"u\",\"children\":[",
                       apr_array_pstrcat(pool, all, '\0'), "]}", NULL);
}

/* The processor time that it takes to refuse a body. */
static clock_t time_to_refuse(fake_host_t *host, const char *body)
{
    clock_t start = clock();

    assert_int_equal(post(host, body)->status, 400);
    return clock() - start;
}

/* Made so that they have one hash, a body of them once took a core for seconds. */
static void colliding_child_ids_take_linear_time(void **state)
{
    enum { COUNT = 1 << 14 };
    fake_host_t host = {.pool = *state};
    apr_ssize_t length = 2;

    assert_int_equal(apr_hashfunc_default("Ab", &length),
                     apr_hashfunc_default("BA", &length));
    assert_true(time_to_refuse(&host, children_of(*state, "Ab", "BA", COUNT))
                < 10 * time_to_refuse(&host, children_of(*state, "Ab", "Ac", COUNT))
                      + CLOCKS_PER_SEC / 10);
}

static void valid_family_is_created(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{\"id\":\"x\"}"}};
    const reg_reply_t *reply = post(&host, GOOD);

    assert_int_equal(reply->status, 201);
    assert_text("body", reply->body, "{\"id\":\"x\"}");
    assert_text("Location", header(reply, "Location"), NULL);
}

static void password_reaches_operation_as_bcrypt_hash_only(void **state)
{
    static const struct {
        const char *json, *password, *wrong;
    } rows[] = {
        {"mys3cr3tp4ss", "mys3cr3tp4ss", "mys3cr3tp4s"},
        {" p ", " p ", "p"},
        {"\\u00e9\\n\\u0001", "\xC3\xA9\n\x01", "\xC3\xA9\n"},
        {"p\\\"q", "p\"q", "p"},
    };
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        const char *password = rows[i].password;
        const char *hash;

        post(&host,
             apr_pstrcat(*state, "{\"username\":\"u\",\"password\":\"", rows[i].json,
                         "\",\"institution_id\":\"" INSTITUTION
                         "\",\"children\":[\"" CHILD1 "\"]}",
                         NULL));
        assert_non_null(host.called);
        hash = host.values[2];
        assert_number(hash, strncmp(hash, "$2y$04$", 7),
                      0); /* the cost of the settings */
        assert_number(hash, apr_password_validate(password, hash), APR_SUCCESS);
        assert_number(hash, apr_password_validate(rows[i].wrong, hash) == APR_SUCCESS, 0);
        assert_null(strstr(host.called, password));
    }
}

static void same_password_has_different_hashes(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};
    const char *first;

    post(&host, GOOD);
    first = host.values[2];
    post(&host, GOOD);
    assert_string_not_equal(first, host.values[2]);
}

static void refused_family_is_not_hashed(void **state)
{
    static const reg_answer_t answers[] = {{REG_DUPLICATE, NULL, NULL},
                                           {REG_CHILDREN_UNKNOWN, CHILD1, NULL},
                                           {REG_INSTITUTION_UNKNOWN, NULL, NULL},
                                           {REG_KEY_REUSED, NULL, NULL},
                                           {REG_UNAVAILABLE, NULL, NULL}};

    for (size_t i = 0; i < LENGTH(answers); i++) {
        fake_host_t host = {.pool = *state, .answer = answers[i]};

        post(&host, GOOD);
        assert_int_equal(host.calls, 1);
        assert_int_equal(host.hashed, 0);
        assert_null(host.values[2]);
    }
}

/* The second call has the id of the first, so that a retry is recognized. */
static void acceptable_family_is_hashed_once(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};

    post(&host, GOOD);
    assert_int_equal(host.calls, 2);
    assert_int_equal(host.hashed, 1);
    assert_int_equal(host.hashing, 0);
}

/* Another request may have registered the same family during the wait. */
static void family_after_wait_for_hashing_is_checked_again(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}, .waits = 1};

    assert_int_equal(post(&host, GOOD)->status, 201);
    assert_int_equal(host.calls, 3);
    assert_int_equal(host.hashed, 1);
    assert_int_equal(host.hashing, 0);
    assert_true(host.hash_took > 0);
}

static void family_taken_during_wait_reports_no_hash_time(void **state)
{
    fake_host_t host = {.pool = *state,
                        .answer = {REG_CREATED, NULL, "{}"},
                        .waits = 1,
                        .taken_meanwhile = 1};

    assert_int_equal(post(&host, GOOD)->status, 409);
    assert_int_equal(host.calls, 2);
    assert_int_equal(host.hashed, 1);
    assert_int_equal(host.hash_took, 0);
}

static void family_without_turn_to_hash_is_503(void **state)
{
    fake_host_t host = {
        .pool = *state, .answer = {REG_CREATED, NULL, "{}"}, .no_hashing = 1};

    assert_int_equal(post(&host, GOOD)->status, 503);
    assert_int_equal(host.calls, 1);
    assert_int_equal(host.hashing, 0);
}

/* bcrypt takes no cost over 31. */
static void password_failing_to_hash_is_500(void **state)
{
    static const reg_settings_t settings = {.max_body = 1048576, .password_cost = 32};
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, NULL, "{}"}};
    reg_request_t *request =
        request_for(&host, REG_API_FAMILIES, REG_METHOD_POST, "", GOOD);

    request->settings = &settings;
    assert_int_equal(reg_serve(request)->status, 500);
    assert_int_equal(host.calls, 1);
    assert_int_equal(host.hashing, 0);
}

static void family_outcome_has_status_and_message(void **state)
{
    static const struct {
        reg_answer_t answer;
        int status;
        const char *message, *description;
    } rows[] = {
        {{REG_DUPLICATE, NULL, NULL}, 409, "Family is already registered...", NULL},
        {{REG_CHILDREN_UNKNOWN, "5db05279fcfefe5c3de20497, 5a62be07de34500146d9c544",
          NULL},
         400,
         "It is necessary for children to be registered before proceeding.",
         "The following IDs were verified without registration: "
         "5db05279fcfefe5c3de20497, "
         "5a62be07de34500146d9c544"},
        {{REG_INSTITUTION_UNKNOWN, NULL, NULL},
         400,
         "The institution provided does not have a registration.",
         "It is necessary that the institution be registered before trying again."},
    };
    static const struct {
        reg_outcome_t outcome;
        int status;
        const char *message;
    } failures[] = {{REG_FAULT, 500, "An internal server error has occurred."},
                    {REG_UNAVAILABLE, 503, "Service unavailable."}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state, .answer = rows[i].answer};
        const reg_reply_t *reply = post(&host, GOOD);

        assert_number(rows[i].message, reply->status, rows[i].status);
        assert_text(
            rows[i].message, reply->body,
            error_body(*state, rows[i].status, rows[i].message, rows[i].description));
    }
    for (size_t i = 0; i < LENGTH(failures); i++) {
        fake_host_t host = {.pool = *state, .answer = {failures[i].outcome, NULL, NULL}};
        const reg_reply_t *reply = post(&host, GOOD);

        assert_number(failures[i].message, reply->status, failures[i].status);
        assert_text("message", told(*state, reply, "message"), failures[i].message);
        assert_non_null(told(*state, reply, "description"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(first_failed_family_check_is_answered),
        POOL_TEST(field_over_length_limit_is_invalid),
        POOL_TEST(duplicate_children_are_removed_in_order),
        POOL_TEST(colliding_child_ids_take_linear_time),
        POOL_TEST(valid_family_is_created),
        POOL_TEST(password_reaches_operation_as_bcrypt_hash_only),
        POOL_TEST(same_password_has_different_hashes),
        POOL_TEST(refused_family_is_not_hashed),
        POOL_TEST(acceptable_family_is_hashed_once),
        POOL_TEST(family_after_wait_for_hashing_is_checked_again),
        POOL_TEST(family_taken_during_wait_reports_no_hash_time),
        POOL_TEST(family_without_turn_to_hash_is_503),
        POOL_TEST(password_failing_to_hash_is_500),
        POOL_TEST(family_outcome_has_status_and_message),
    };

    return RUN_TESTS(tests);
}
