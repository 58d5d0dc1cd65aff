/* SPDX-License-Identifier: Apache-2.0 */
#include "idempotency.h"

#include "ids.h"

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

/*
 * Structured field values: RFC 8941
 */

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

/* The characters from p on that are in the set; NULL when there are none. */
static const char *skip_some(const char *p, const char *set)
{
    const char *end = p + strspn(p, set);

    return end > p ? end : NULL;
}

/* Reads the string (section 3.3.3) whose opening quote is at *p, and steps over it. NULL
 * when it is none. */
static const char *read_string(apr_pool_t *pool, const char **p)
{
    char *text = apr_palloc(pool, strlen(*p));
    char *end = text;
    const char *c = *p + 1;

    for (; *c && *c != '"'; c++) {
        if (*c == '\\') {
            c++;
            if (*c != '"' && *c != '\\') {
                return NULL;
            }
        }
        *end++ = *c;
    }
    *end = '\0';
    *p = c + 1;
    return *c ? text : NULL;
}

/* The end of the item (section 3.3) that begins at p; NULL where there is none. */
static const char *item_end(apr_pool_t *pool, const char *p)
{
    switch (*p) {
    case '"':
        return read_string(pool, &p) ? p : NULL;
    case ':':
        p += 1 + strspn(p + 1, LOWER UPPER DIGITS "+/=");
        return *p == ':' ? p + 1 : NULL;
    case '?':
        return p[1] == '0' || p[1] == '1' ? p + 2 : NULL;
    case '-':
        return skip_some(p + 1, DIGITS ".");
    default:
        return *p && strchr(DIGITS, *p)
                   ? skip_some(p, DIGITS ".")
                   : skip_some(p, LOWER UPPER DIGITS "!#$%&'*+-.^_`|~:/");
    }
}

/* The end of the parameters (section 3.1.2) that begin at p, of which there may be none;
 * NULL where something else follows a semicolon. */
static const char *parameters_end(apr_pool_t *pool, const char *p)
{
    while (p && *p == ';') {
        p += 1 + strspn(p + 1, " ");
        p = strchr(DIGITS "_-.", *p) ? NULL : skip_some(p, LOWER DIGITS "_-.*");
        if (p && *p == '=') {
            p = item_end(pool, p + 1);
        }
    }
    return p;
}

/* What a quoted key stands for, its parameters ignored; NULL when it is none, or
 * something else follows. */
static const char *unquoted(apr_pool_t *pool, const char *string)
{
    const char *text = read_string(pool, &string);
    const char *end = text ? parameters_end(pool, string) : NULL;

    return end && !*end ? text : NULL;
}

/*
 * The key
 */

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

/* Whose key it is, and for which path, where only an id may be in either case. Escaped,
 * so that no two can be mistaken for each other, and because the name of a caller may be
 * no UTF-8. */
static const char *scoped(const reg_request_t *request, const char *key)
{
    const char *path = reg_id_lower(request->pool, request->path);

    return apr_pstrcat(request->pool, escaped(request, request->user), "&",
                       escaped(request, request->organization), "&",
                       escaped(request, request->mount), escaped(request, path), "&",
                       escaped(request, key), NULL);
}

/* What the client asks for: each value with its length before it. */
static const char *fingerprint(const reg_request_t *request,
                               const reg_operation_t *operation,
                               const char *const *values)
{
    int given = reg_audit_own_parameters(operation);
    apr_array_header_t *parts =
        apr_array_make(request->pool, given + 1, sizeof(const char *));

    APR_ARRAY_PUSH(parts, const char *) = operation->name;
    for (int i = 0; i < given; i++) {
        const char *value = operation->skipped & 1U << i ? NULL : values[i];

        APR_ARRAY_PUSH(parts, const char *) =
            value ? apr_psprintf(request->pool, ",%" APR_SIZE_T_FMT ":%s", strlen(value),
                                 value)
                  : ",";
    }
    return apr_array_pstrcat(request->pool, parts, '\0');
}

int reg_idempotency_values(const reg_request_t *request, const reg_operation_t *operation,
                           const char *const *values, const char **keyed)
{
    const char *key = read_key(request);

    if (!key) {
        return 0;
    }
    keyed[0] = scoped(request, key);
    keyed[1] = fingerprint(request, operation, values);
    keyed[2] = apr_itoa(request->pool, request->settings->idempotency_ttl);
    memcpy(keyed + REG_KEY_PARAMETERS, values,
           (size_t)(reg_audit_own_parameters(operation) + operation->later)
               * sizeof(*values));
    return 1;
}
