/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_FUZZ_H
#define REGISTRATION_FUZZ_H

/**
 * Functions for the fuzz targets. A target is a file with a fuzz_one(), which checks the
 * rules for any input. libFuzzer makes the inputs and keeps those that reach new code in
 * tests/fuzz/corpus. A target is built with the sanitizers, from the module's own
 * objects.
 */

/* timegm() takes every year on 32 bit too. */
#define _FILE_OFFSET_BITS 64
#define _TIME_BITS 64

#include "audit.h"
#include "check.h"
#include "csv.h"
#include "json.h"
#include "reply.h"
#include "serve.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <iconv.h>
#include <jansson.h>
#include <regex.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/** Ends the run with a failure, for which libFuzzer keeps the input, unless a condition
 * holds. */
#define HOLDS(condition)                                                                 \
    ((condition) ? (void)0 : fuzz_broken(#condition, __FILE__, __LINE__))

static inline void fuzz_broken(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

/** The rest of an input. */
typedef struct {
    const char *data;
    apr_size_t length;
} fuzz_input_t;

/** Of each target. */
static void fuzz_one(apr_pool_t *pool, fuzz_input_t *input);

/*
 * Memory. A pool returns parts of its blocks, and no sanitizer would notice an access
 * beyond one. So while an input runs, each part is a block of its own.
 */

typedef struct fuzz_block_t {
    struct fuzz_block_t *next;
    max_align_t data[];
} fuzz_block_t;

static fuzz_block_t *fuzz_blocks;

void *apr_palloc(apr_pool_t *pool, apr_size_t size)
{
    fuzz_block_t *block = malloc(sizeof(*block) + size);

    (void)pool;
    HOLDS(block);
    block->next = fuzz_blocks;
    fuzz_blocks = block;
    return block->data;
}

static inline void fuzz_free_blocks(void)
{
    while (fuzz_blocks) {
        fuzz_block_t *block = fuzz_blocks;

        fuzz_blocks = block->next;
        free(block);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static fuzz_block_t *kept; /* until APR terminates */
    fuzz_input_t input = {length ? (const char *)data : "", length};
    apr_pool_t *pool;

    if (!kept) {
        apr_initialize();
        kept = fuzz_blocks;
        fuzz_blocks = NULL;
    }
    apr_pool_create(&pool, NULL);
    fuzz_one(pool, &input);
    apr_pool_destroy(pool);
    fuzz_free_blocks();
    return 0;
}

/** The next byte as one of `choices`, '0' is the first; 0 at the end. */
static inline unsigned fuzz_choice(fuzz_input_t *input, unsigned choices)
{
    unsigned char byte = '0';

    if (input->length) {
        byte = (unsigned char)*input->data++;
        input->length--;
    }
    return (unsigned char)(byte - '0') % choices;
}

/** The next line, without its end and up to a NUL; "" at the end. */
static inline char *fuzz_line(apr_pool_t *pool, fuzz_input_t *input)
{
    const char *end = memchr(input->data, '\n', input->length);
    apr_size_t length = end ? (apr_size_t)(end - input->data) : input->length;
    apr_size_t text = strnlen(input->data, length);
    char *line = apr_pstrmemdup(pool, input->data, text);

    length += end != NULL;
    input->data += length;
    input->length -= length;
    return line;
}

/** The rest, up to a NUL. */
static inline char *fuzz_rest(apr_pool_t *pool, const fuzz_input_t *input)
{
    return apr_pstrmemdup(pool, input->data, strnlen(input->data, input->length));
}

/*
 * Checks that are independent of those of the module
 */

/** Code points of a text, counted by the C library; -1 if it is not UTF-8. */
static inline long fuzz_code_points(apr_pool_t *pool, const char *text)
{
    static iconv_t converter;
    size_t in = strlen(text), out = in * 4 + 1, room = out;
    char *from = (char *)text, *to = apr_palloc(pool, out);

    if (!converter) {
        converter = iconv_open("UTF-32LE", "UTF-8");
    }
    iconv(converter, NULL, NULL, NULL, NULL);
    return iconv(converter, &from, &in, &to, &out) == (size_t)-1 ? -1
                                                                 : (long)(room - out) / 4;
}

static inline int fuzz_has_control(const char *text)
{
    static const char controls[] = "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24"
                                   "\25\26\27\30\31\32\33\34\35\36\37\177";

    return text[strcspn(text, controls)] != '\0';
}

/** A text by the rule of all four APIs. */
static inline int fuzz_is_text(apr_pool_t *pool, const char *text)
{
    long length = fuzz_code_points(pool, text);

    return length >= 0 && length <= 255 && !fuzz_has_control(text);
}

/** A pattern, compiled when first used. */
typedef struct {
    const char *pattern;
    int flags;
    regex_t compiled;
    int ready;
} fuzz_pattern_t;

static inline int fuzz_fits(fuzz_pattern_t *pattern, const char *text)
{
    if (!pattern->ready) {
        HOLDS(!regcomp(&pattern->compiled, pattern->pattern,
                       REG_EXTENDED | REG_NOSUB | pattern->flags));
        pattern->ready = 1;
    }
    return regexec(&pattern->compiled, text, 0, NULL, 0) == 0;
}

/* From the HTML standard's section on input type=email. */
#define FUZZ_LABEL "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
static fuzz_pattern_t fuzz_email = {
    .pattern = "^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@" FUZZ_LABEL "(\\." FUZZ_LABEL ")*$"};
static fuzz_pattern_t fuzz_phone = {.pattern = "^\\+[1-9][0-9]{1,14}$"};
static fuzz_pattern_t fuzz_uuid = {
    .pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", .flags = REG_ICASE};
static fuzz_pattern_t fuzz_object_id = {.pattern = "^[0-9a-f]{24}$", .flags = REG_ICASE};

static inline int fuzz_is_email(const char *text)
{
    return strlen(text) <= 254 && fuzz_fits(&fuzz_email, text);
}

/** yyyy-MM-dd, and a date of the C library's calendar. */
static inline int fuzz_is_date(const char *text)
{
    static fuzz_pattern_t form = {.pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"};
    struct tm date = {0}, same;

    if (!fuzz_fits(&form, text) || strncmp(text, "0000", 4) == 0) {
        return 0;
    }
    date.tm_year = atoi(text) - 1900;
    date.tm_mon = atoi(text + 5) - 1;
    date.tm_mday = atoi(text + 8);
    same = date;
    timegm(&same);
    return same.tm_mday == date.tm_mday && same.tm_mon == date.tm_mon
           && same.tm_year == date.tm_year;
}

/*
 * A request, served with a host of the target instead of httpd
 */

typedef struct {
    const char *body; /* that the client sends */
    apr_size_t body_length;
    int body_status;                  /* result of reading it */
    reg_answer_t answer;              /* that the operation gives */
    const reg_operation_t *operation; /* the last call, or NULL */
    int hashed;                       /* a password was hashed between two calls */
    const char *values[REG_MAX_PARAMETERS];
} fuzz_host_t;

static inline int fuzz_read_body(reg_request_t *request)
{
    fuzz_host_t *host = request->host_data;

    request->body = host->body ? host->body : "";
    request->body_length = host->body_length;
    return host->body_status;
}

/* Whether a family is checked only: its third value, the hash, is missing. */
static inline int fuzz_is_check(const reg_operation_t *operation,
                                const char *const *values)
{
    return strncmp(operation->name, "families_register", 17) == 0
           && !values[reg_audit_own_parameters(operation) - 3];
}

static inline void fuzz_call(reg_request_t *request, const reg_operation_t *operation,
                             const char *const *values, reg_answer_t *answer)
{
    fuzz_host_t *host = request->host_data;

    HOLDS(!host->operation || (operation == host->operation && host->hashed));
    host->operation = operation;
    memcpy(host->values, values, (size_t)operation->parameters * sizeof(*values));
    *answer = host->answer;
    if (answer->outcome == REG_CREATED && !host->hashed
        && fuzz_is_check(operation, values)) {
        *answer = (reg_answer_t){.outcome = REG_ACCEPTABLE};
    }
}

static inline int fuzz_begin_hashing(reg_request_t *request)
{
    fuzz_host_t *host = request->host_data;

    host->hashed = 1;
    return 1;
}

static inline void fuzz_end_hashing(reg_request_t *request, apr_interval_time_t took)
{
    (void)request;
    (void)took;
}

static inline int fuzz_enter_list(reg_request_t *request)
{
    (void)request;
    return 1;
}

static inline reg_request_t *fuzz_request(apr_pool_t *pool, fuzz_host_t *host,
                                          reg_api_t api, reg_method_t method)
{
    static const reg_host_t functions = {fuzz_read_body, fuzz_call, fuzz_enter_list,
                                         fuzz_begin_hashing, fuzz_end_hashing};
    static const reg_settings_t settings = {.max_body = 1048576,
                                            .max_fields = 65536,
                                            .max_page_size = 1000,
                                            .password_cost = 4,
                                            .groups_path = "/groups",
                                            .idempotency_ttl = 3600};
    reg_request_t *request = apr_palloc(pool, sizeof(*request));

    *request = (reg_request_t){.pool = pool,
                               .host = &functions,
                               .host_data = host,
                               .settings = &settings,
                               .api = api,
                               .method = method,
                               .mount = "/mount",
                               .path = ""};
    return request;
}

/* A header's value contains no end of a header. */
static inline int fuzz_check_header(void *data, const char *name, const char *value)
{
    (void)data;
    (void)name;
    HOLDS(!fuzz_has_control(value));
    return 1;
}

/* The keys of every error of an API, in the order of the seeds, with the type of each. */
static inline void fuzz_check_error(const reg_request_t *request, int status,
                                    const json_t *body)
{
    static const char *const keys[REG_API_COUNT][3] = {
        [REG_API_LIVE] = {NULL, "error", "message"},
        [REG_API_GROUPS] = {"status", "message", NULL},
        [REG_API_USERS] = {"status", "message", NULL},
        [REG_API_FAMILIES] = {"code", "message", NULL},
        [REG_API_EVENTS] = {"statusCode", "message", "error"},
        [REG_API_OPENAPI] = {NULL, "error", "message"},
        [REG_API_METRICS] = {NULL, "error", "message"},
        [REG_API_HEALTH] = {NULL, "error", "message"},
        [REG_API_STATUS] = {NULL, "error", "message"}};
    const char *const *key = keys[request->api];

    HOLDS(!key[0] || json_integer_value(json_object_get(body, key[0])) == status);
    HOLDS(*json_string_value(json_object_get(body, key[1])));
    HOLDS(!key[2] || *json_string_value(json_object_get(body, key[2])));
}

/* No field of a table is a formula, and each is complete. */
static inline void fuzz_check_table(const char *table)
{
    int quoted = 0, begins = 1;

    for (const char *p = table; *p; p++) {
        HOLDS(!begins || !strchr("=+-@", *p));
        begins =
            *p == '"' ? !quoted && p[1] != '"' : !quoted && (*p == ',' || *p == '\n');
        quoted ^= *p == '"';
    }
    HOLDS(!quoted && begins);
}

/** Checks the rules for every reply. */
static inline void fuzz_check_reply(const reg_request_t *request,
                                    const reg_reply_t *reply)
{
    static const int statuses[] = {200, 201, 204, 304, 400, 404, 405,
                                   409, 412, 413, 415, 422, 500, 503};
    size_t i = 0;
    json_t *body;

    while (i < sizeof(statuses) / sizeof(statuses[0]) && statuses[i] != reply->status) {
        i++;
    }
    HOLDS(i < sizeof(statuses) / sizeof(statuses[0]));
    apr_table_do(fuzz_check_header, NULL, reply->headers, NULL);
    if (reply->status == 204 || reply->status == 304
        || apr_table_get(reply->headers, "Preference-Applied")) {
        HOLDS(!reply->body && reply->status < 400);
        return;
    }
    if (strcmp(reply->content_type, REG_CONTENT_TYPE) != 0) { /* a page, the metrics */
        HOLDS(reply->status == 200);
        if (strcmp(reply->content_type, REG_CSV_CONTENT_TYPE) == 0) {
            fuzz_check_table(reply->body);
        }
        return;
    }
    body = json_loads(reply->body, JSON_REJECT_DUPLICATES, NULL);
    HOLDS(body);
    if (reply->status >= 400) {
        fuzz_check_error(request, reply->status, body);
    }
    json_decref(body);
}

#endif
