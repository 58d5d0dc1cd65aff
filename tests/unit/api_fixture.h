/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_API_FIXTURE_H
#define REGISTRATION_API_FIXTURE_H

/**
 * A host of the tests' own in httpd's place: it hands out the body and the answer that a
 * test gives it, and remembers which operation was called with which values.
 */

#include "unit.h"

#include "audit.h"
#include "check.h"
#include "json.h"
#include "serve.h"

#include <apr_time.h>

typedef struct {
    apr_pool_t *pool;
    const char *body;    /* that the client sends */
    int body_status;     /* what reading it comes to: 0, a status, or less than 0 */
    reg_answer_t answer; /* that the operation gives */
    int reads;
    int calls;
    int no_hashing;                /* the host lets no password be hashed */
    int waits;                     /* or only after a wait */
    int hashing, hashed;           /* how many are being and have been */
    apr_interval_time_t hash_took; /* the last one */
    int taken_meanwhile;           /* the second call finds it registered */
    int parameters;                /* of the last call */
    const char *called; /* "live_register(<id>, …, NULL)", or NULL; without the audit
                           parameters */
    const char *const *values; /* of that call, followed by the audit parameters */
    int has_no_thread;         /* for a whole list */
} fake_host_t;

/* A generated id is shown as <id> and a hash as <hash>, as they are not predictable. */
static inline const char *shown(const char *value)
{
    char seconds[9] = "";

    if (!value) {
        return "NULL";
    }
    if (!reg_check_uuid(value) && value[14] == '7') {
        return "<id>";
    }
    if (!reg_check_object_id(value)) {
        memcpy(seconds, value, 8);
        if (llabs(apr_strtoi64(seconds, NULL, 16) - apr_time_sec(apr_time_now())) < 600) {
            return "<id>";
        }
    }
    return strncmp(value, "$2y$", 4) == 0 ? "<hash>" : value;
}

static inline int fake_read_body(reg_request_t *request)
{
    fake_host_t *host = request->host_data;

    host->reads++;
    request->body = host->body ? host->body : "";
    request->body_length = strlen(request->body);
    return host->body_status;
}

/* As the operation does: a family without a hash, the third of its five values, is only
 * checked. */
static inline int fake_is_check(const reg_operation_t *operation,
                                const char *const *values)
{
    return strncmp(operation->name, "families_register", 17) == 0
           && !values[reg_audit_own_parameters(operation) - 3];
}

static inline int fake_begin_hashing(reg_request_t *request)
{
    fake_host_t *host = request->host_data;

    host->hashing += !host->no_hashing;
    return host->no_hashing ? 0 : host->waits ? 2 : 1;
}

static inline void fake_end_hashing(reg_request_t *request, apr_interval_time_t took)
{
    fake_host_t *host = request->host_data;

    host->hashing--;
    host->hashed++;
    host->hash_took = took;
}

static inline void fake_call(reg_request_t *request, const reg_operation_t *operation,
                             const char *const *values, reg_answer_t *answer)
{
    fake_host_t *host = request->host_data;
    const char **copy =
        apr_pcalloc(host->pool, (size_t)operation->parameters * sizeof(*copy));

    host->calls++;
    host->parameters = operation->parameters;
    host->called = apr_pstrcat(host->pool, operation->name, "(", NULL);
    memcpy(copy, values, (size_t)operation->parameters * sizeof(*copy));
    for (int i = 0; i < reg_audit_own_parameters(operation); i++) {
        host->called =
            apr_pstrcat(host->pool, host->called, i ? ", " : "", shown(values[i]), NULL);
    }
    host->called = apr_pstrcat(host->pool, host->called, ")", NULL);
    host->values = copy;
    *answer = host->answer;
    if (answer->outcome == REG_CREATED && fake_is_check(operation, values)) {
        *answer = (reg_answer_t){.outcome = REG_ACCEPTABLE};
    }
    if (host->taken_meanwhile && host->calls == 2) {
        *answer = (reg_answer_t){.outcome = REG_DUPLICATE};
    }
}

static inline int fake_enter_list(reg_request_t *request)
{
    const fake_host_t *host = request->host_data;

    return !host->has_no_thread;
}

/** A request that the host hands over, with what most of them have. */
static inline reg_request_t *request_for(fake_host_t *host, reg_api_t api,
                                         reg_method_t method, const char *path,
                                         const char *body)
{
    static const reg_host_t fake = {fake_read_body, fake_call, fake_enter_list,
                                    fake_begin_hashing, fake_end_hashing};
    static const reg_settings_t settings = {.max_body = 1048576,
                                            .max_fields = 65536,
                                            .max_page_size = 50,
                                            .password_cost = 4,
                                            .groups_path = "/groups",
                                            .idempotency_ttl = 3600};
    reg_request_t *request = apr_pcalloc(host->pool, sizeof(*request));

    host->body = body;
    host->calls = host->reads = host->hashing = host->hashed = 0;
    host->called = NULL;
    *request = (reg_request_t){.pool = host->pool,
                               .host = &fake,
                               .host_data = host,
                               .settings = &settings,
                               .api = api,
                               .method = method,
                               .mount = "/mount",
                               .path = path,
                               .content_type = body ? "application/json" : NULL,
                               .has_body = body != NULL};
    return request;
}

static inline const char *header(const reg_reply_t *reply, const char *name)
{
    return apr_table_get(reply->headers, name);
}

/** The text at a key of a reply's body, NULL when it is missing. */
static inline const char *told(apr_pool_t *pool, const reg_reply_t *reply,
                               const char *key)
{
    const char *error;
    const reg_json_t *json =
        reg_json_parse(pool, reply->body, strlen(reply->body), &error);

    assert_non_null(json);
    return reg_json_string(reg_json_get(json, key));
}

static inline int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/** The fields that a reply names in its errors, in alphabetical order, blanks between. */
static inline const char *fields_at_fault(apr_pool_t *pool, const reg_reply_t *reply)
{
    const char *error;
    const reg_json_t *errors = reg_json_get(
        reg_json_parse(pool, reply->body, strlen(reply->body), &error), "errors");
    apr_array_header_t *fields = apr_array_make(pool, 8, sizeof(const char *));

    for (apr_size_t i = 0; i < reg_json_length(errors); i++) {
        const reg_json_t *item = reg_json_item(errors, i);

        APR_ARRAY_PUSH(fields, const char *) =
            reg_json_string(reg_json_get(item, "field"));
        assert_true(*reg_json_string(reg_json_get(item, "message")) != '\0');
    }
    qsort(fields->elts, (size_t)fields->nelts, sizeof(const char *), compare_texts);
    return apr_array_pstrcat(pool, fields, ' ');
}

#endif
