/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A whole request, of any API:
 *
 *   41J/11111111-1111-4111-8111-111111111111?withTrashed=1     API, method, outcome, path
 *   M"1-0123456789abcdef"                                      headers, one letter each
 *                                                              an empty line
 *   {"status":"ATTENDED"}                                      body
 */

#include "fuzz.h"

#include "audit.h"

#include <apr_lib.h>
#include <limits.h>

#define FUZZ_ID "11111111-1111-4111-8111-111111111111"

/* The type of each value of an operation, a letter each; a capital letter: required. */
static const struct {
    const char *operation, *values;
} operations[] = {
    {"live_register", "UUneA"},
    {"groups_register", "UuANEdtatapnyjdd"},
    {"groups_get_group", "UA"},
    {"groups_get_plan", "UUA"},
    {"groups_get_member", "UUA"},
    {"families_register", "OTaOC"}, /* without a hash it is only checked */
    {"events_create", "UUNjUetttu"},
    {"events_get", "UAu"},
    {"events_update", "UajauU"},
    {"events_delete", "UAauU"},
    {"events_search", "AAAAuuanlAuaatA"},
    {"health", "A"},
    {"status", "A"},
};

static int is_ascii(const char *text)
{
    return text[strspn(text, " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWX"
                             "YZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~")]
           == '\0';
}

/* JSON of a type, unless it holds a number that jansson cannot read. */
static int is_json(const char *text, json_type type)
{
    json_error_t reason;
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &reason);
    int good = value ? json_typeof(value) == type
                     : json_error_code(&reason) == json_error_numeric_overflow;

    json_decref(value);
    return good;
}

static int is_list(apr_pool_t *pool, const char *text, const char *separators,
                   fuzz_pattern_t *pattern)
{
    char *rest, *copy = apr_pstrdup(pool, text);
    int items = 0;

    for (char *item = strtok_r(copy, separators, &rest); item;
         item = strtok_r(NULL, separators, &rest), items++) {
        if (!fuzz_fits(pattern, item)
            || (*separators == ',' && strstr(text + (item - copy) + 1, item))) {
            return 0; /* each child is sent once */
        }
    }
    return items > 0;
}

static int is(apr_pool_t *pool, char letter, const char *value)
{
    switch (apr_tolower(letter)) {
    case 'u':
        return fuzz_fits(&fuzz_uuid, value);
    case 'o':
        return fuzz_fits(&fuzz_object_id, value);
    case 'e':
        return fuzz_is_email(value);
    case 'p':
        return fuzz_fits(&fuzz_phone, value);
    case 'd':
        return fuzz_is_date(value);
    case 't':
        return fuzz_is_text(pool, value);
    case 'n':
        return *value && fuzz_is_text(pool, value);
    case 'j':
        return is_json(value, JSON_OBJECT);
    case 'y':
        return is_json(value, JSON_ARRAY);
    case 'c':
        return is_list(pool, value, ",", &fuzz_object_id);
    case 'l':
        return is_list(pool, value, " ", &fuzz_uuid);
    default:
        return is_ascii(value);
    }
}

/* Every value of the client is valid for its type when it reaches the database. */
static void check_call(const reg_request_t *request, const fuzz_host_t *host)
{
    apr_pool_t *pool = request->pool;
    const reg_operation_t *operation = host->operation;
    const char *const *value = host->values;
    const char *name = operation->wrapped ? operation->wrapped : operation->name;
    size_t i = 0;

    if (operation->wrapped) {
        HOLDS(is_ascii(request->idempotency_key));
        HOLDS(is_ascii(value[0]) && fuzz_code_points(pool, value[1]) > 0);
        value += 3;
    }
    while (strcmp(name, operations[i].operation) != 0) {
        HOLDS(++i < sizeof(operations) / sizeof(operations[0]));
    }
    for (const char *letter = operations[i].values; *letter; letter++, value++) {
        HOLDS(*value ? is(pool, *letter, *value) : *letter >= 'a');
    }
    HOLDS(value == host->values + reg_audit_own_parameters(operation));
    for (; value < host->values + operation->parameters; value++) {
        HOLDS(!*value
              || fuzz_code_points(pool, *value) >= 0); /* caller, request id, a setting */
    }
}

/* Reads a header from a line, or a property of the host. */
static void read_header(reg_request_t *request, fuzz_host_t *host, const char *line)
{
    switch (*line) {
    case 'M':
        request->if_match = line + 1;
        break;
    case 'N':
        request->if_none_match = line + 1;
        break;
    case 'K':
        request->idempotency_key = line + 1;
        break;
    case 'P':
        request->prefer = line + 1;
        break;
    case 'A':
        request->accept = line + 1;
        break;
    case 'T':
        request->content_type = line + 1;
        break;
    case 'U':
        request->user = line + 1;
        break;
    case 'R':
        request->request_id = line + 1;
        break;
    case 'O':
        request->organization = "987e6543-e21a-34b5-c678-426614174000";
        break;
    case 'D': /* the database's is ids, words, or a number of rows */
        host->answer.detail =
            is_ascii(line + 1) && apr_atoi64(line + 1) <= INT_MAX ? line + 1 : NULL;
        break;
    case 'B':
        host->answer.body = line[1] ? "{}" : NULL; /* of another version's operation */
        break;
    case 'L':
        host->answer.body = "[{\"id\":\"" FUZZ_ID "\",\"createdAt\":\"now\"},\n"
                            "{\"id\":\"" FUZZ_ID "\",\"user\":{\"email\":\"=\\\"\\n\"}}]";
        break;
    case 'S':
        host->body_status = 413;
        break;
    default:
        break;
    }
}

static void fuzz_one(apr_pool_t *pool, fuzz_input_t *input)
{
    fuzz_host_t host = {.answer.body = "{\"id\":\"" FUZZ_ID "\",\"x\":[1]}"};
    reg_api_t api = fuzz_choice(input, REG_API_COUNT);
    reg_request_t *request =
        fuzz_request(pool, &host, api, fuzz_choice(input, REG_METHOD_OTHER + 1));
    char *path, *query, *line;
    reg_reply_t *reply;

    host.answer.outcome = fuzz_choice(input, REG_FAULT + 1);
    path = fuzz_line(pool, input);
    query = strchr(path, '?');
    if (query) {
        *query = '\0';
        request->query = apr_pstrdup(pool, query + 1);
    }
    request->path = *path == '/' ? apr_pstrdup(pool, path) : "";
    while (*(line = fuzz_line(pool, input))) {
        read_header(request, &host, line);
    }
    request->has_body = input->length > 0;
    host.body = apr_pstrmemdup(pool, input->data, input->length);
    host.body_length = input->length;

    reply = reg_serve(request);
    fuzz_check_reply(request, reply);
    if (reply->more) {
        check_call(request, &host);
        host.operation = NULL;
        HOLDS(reply->more(reply, pool));
    }
    for (int i = 0; i < REG_MAX_CAPTURES; i++) {
        HOLDS(!request->captures[i] || !strchr(request->captures[i], '/'));
    }
    if (host.operation) {
        check_call(request, &host);
    }
}
