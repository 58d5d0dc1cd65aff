/* SPDX-License-Identifier: Apache-2.0 */
#include "idempotency.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <string.h>

#define MAX_KEY 255

static int is_visible(const char *text)
{
    for (; *text; text++) {
        if (*text < '!' || *text > '~') {
            return 0;
        }
    }
    return 1;
}

/* What a string of RFC 8941 (section 3.3.3) stands for; NULL when it is none, or
 * something follows. */
static const char *unquoted(apr_pool_t *pool, const char *string)
{
    char *text = apr_palloc(pool, strlen(string));
    char *end = text;

    for (string++; *string && *string != '"'; string++) {
        if (*string == '\\') {
            string++;
            if (*string != '"' && *string != '\\') {
                return NULL;
            }
        }
        *end++ = *string;
    }
    *end = '\0';
    return strcmp(string, "\"") == 0 ? text : NULL;
}

/* The key, which a client may send bare as well; NULL when it cannot be one. */
static const char *read_key(const reg_request_t *request)
{
    const char *key = request->idempotency_key;

    if (*key == '"') {
        key = unquoted(request->pool, key);
    }
    return key && *key && strlen(key) <= MAX_KEY && is_visible(key) ? key : NULL;
}

static const char *escaped(const reg_request_t *request, const char *text)
{
    return text ? apr_pescape_urlencoded(request->pool, text) : "";
}

/* Whose key it is, and for which path. Escaped, so that no two can be mistaken for each
 * other, and because the name of a caller may be no UTF-8. */
static const char *scoped(const reg_request_t *request, const char *key)
{
    return apr_pstrcat(request->pool, escaped(request, request->user), "&",
                       escaped(request, request->organization), "&",
                       escaped(request, request->mount), escaped(request, request->path),
                       "&", escaped(request, key), NULL);
}

/* What the client asks for: each value with its length before it. */
static const char *fingerprint(const reg_request_t *request,
                               const reg_operation_t *operation,
                               const char *const *values)
{
    int given = reg_audit_given(operation);
    apr_array_header_t *parts =
        apr_array_make(request->pool, given + 1, sizeof(const char *));

    APR_ARRAY_PUSH(parts, const char *) = operation->name;
    for (int i = 0; i < given; i++) {
        const char *value = operation->made & 1U << i ? NULL : values[i];

        APR_ARRAY_PUSH(parts, const char *) =
            value ? apr_psprintf(request->pool, ",%" APR_SIZE_T_FMT ":%s", strlen(value),
                                 value)
                  : ",";
    }
    return apr_array_pstrcat(request->pool, parts, '\0');
}

void reg_idempotency_call(reg_request_t *request, const reg_operation_t *operation,
                          const char *const *values, reg_answer_t *answer)
{
    const char *keyed_values[REG_MAX_PARAMETERS];
    const char *key;

    if (!request->idempotency_key || !operation->keyed) {
        reg_audit_call(request, operation, values, answer);
        return;
    }
    key = read_key(request);
    if (!key) {
        *answer = (reg_answer_t){.outcome = REG_KEY_INVALID};
        return;
    }
    keyed_values[0] = scoped(request, key);
    keyed_values[1] = fingerprint(request, operation, values);
    keyed_values[2] = apr_itoa(request->pool, request->settings->idempotency_ttl);
    memcpy(keyed_values + REG_KEY_PARAMETERS, values,
           (size_t)reg_audit_given(operation) * sizeof(*values));
    reg_audit_call(request, operation->keyed, keyed_values, answer);
}
