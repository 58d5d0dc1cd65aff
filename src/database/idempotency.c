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

/* The end of the characters at p that are in the set; NULL if there are none. */
static const char *find_end_of_set(const char *p, const char *set)
{
    const char *end = p + strspn(p, set);

    return end > p ? end : NULL;
}

/* Reads the string (section 3.3.3) whose opening quote is at *p and moves *p to its end.
 * NULL if it is invalid. */
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

/* The end of the item (section 3.3) at p; NULL if it is invalid. */
static const char *find_item_end(apr_pool_t *pool, const char *p)
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
        return find_end_of_set(p + 1, DIGITS ".");
    default:
        return *p && strchr(DIGITS, *p)
                   ? find_end_of_set(p, DIGITS ".")
                   : find_end_of_set(p, LOWER UPPER DIGITS "!#$%&'*+-.^_`|~:/");
    }
}

/* The end of the parameters (section 3.1.2) at p, of which there may be none; NULL if one
 * is invalid. */
static const char *find_parameters_end(apr_pool_t *pool, const char *p)
{
    while (p && *p == ';') {
        p += 1 + strspn(p + 1, " ");
        p = strchr(DIGITS "_-.", *p) ? NULL : find_end_of_set(p, LOWER DIGITS "_-.*");
        if (p && *p == '=') {
            p = find_item_end(pool, p + 1);
        }
    }
    return p;
}

/* The value of a quoted key, without its parameters; NULL if the header is not one valid
 * string. */
static const char *unquote_key(apr_pool_t *pool, const char *string)
{
    const char *text = read_string(pool, &string);
    const char *end = text ? find_parameters_end(pool, string) : NULL;

    return end && !*end ? text : NULL;
}

/*
 * The key
 */

/* The key, quoted or bare; NULL if it is not valid. */
static const char *read_key(const reg_request_t *request)
{
    const char *key = request->idempotency_key;

    if (*key == '"') {
        key = unquote_key(request->pool, key);
    }
    return key && *key && strlen(key) <= MAX_KEY && is_visible(key) ? key : NULL;
}

static const char *escape_or_empty(const reg_request_t *request, const char *text)
{
    return text ? apr_pescape_urlencoded(request->pool, text) : "";
}

/* The scope of the key: caller, organization, path, key. In the path only ids can contain
 * letters of either case. Each part is percent-encoded, so that different scopes have
 * different texts, and because a caller's name may be invalid UTF-8. */
static const char *format_scope(const reg_request_t *request, const char *key)
{
    const char *path = reg_id_lower(request->pool, request->path);

    return apr_pstrcat(request->pool, escape_or_empty(request, request->user), "&",
                       escape_or_empty(request, request->organization), "&",
                       escape_or_empty(request, request->mount),
                       escape_or_empty(request, path), "&", escape_or_empty(request, key),
                       NULL);
}

/* The fingerprint of the request: each value preceded by its length. A value of a later
 * version's parameter has its number too, and is left out if it is NULL: the fingerprint
 * is then the one that the version without the parameter made. */
static const char *format_fingerprint(const reg_request_t *request,
                                      const reg_operation_t *operation,
                                      const char *const *values)
{
    int given = reg_audit_own_parameters(operation);
    apr_array_header_t *parts =
        apr_array_make(request->pool, 2 * given + 1, sizeof(const char *));

    APR_ARRAY_PUSH(parts, const char *) = operation->name;
    for (int i = 0; i < given + operation->later; i++) {
        const char *value = operation->skipped & 1U << i ? NULL : values[i];

        if (i < given) {
            APR_ARRAY_PUSH(parts, const char *) = ",";
        }
        else if (value) {
            APR_ARRAY_PUSH(parts, const char *) = apr_psprintf(request->pool, ";%d,", i);
        }
        if (value) {
            APR_ARRAY_PUSH(parts, const char *) = apr_psprintf(
                request->pool, "%" APR_SIZE_T_FMT ":%s", strlen(value), value);
        }
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
    keyed[0] = format_scope(request, key);
    keyed[1] = format_fingerprint(request, operation, values);
    keyed[2] = apr_itoa(request->pool, request->settings->idempotency_ttl);
    memcpy(keyed + REG_KEY_PARAMETERS, values,
           (size_t)(reg_audit_own_parameters(operation) + operation->later)
               * sizeof(*values));
    return 1;
}
