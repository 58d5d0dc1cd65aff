/* SPDX-License-Identifier: Apache-2.0 */
#include "claims.h"

#include "json.h"
#include "scope.h"

#include <apr_encode.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_protocol.h>

/* The modules that verify tokens: the prefix of their variables with claims, the variable
 * with the token. */
static const struct {
    const char *prefix;
    const char *token;
    const char *separators; /* of the scopes in a text claim */
} modules[] = {
    {"OAUTH2_CLAIM_", "OAUTH2_CLAIM_access_token", " "},
    {"OIDC_CLAIM_", "OIDC_access_token", " ,"},
};
#define MODULES (sizeof(modules) / sizeof(modules[0]))

/* The payload of a token, cached with the request. */
typedef struct {
    const char *token;
    int is_jwt;
    const reg_json_t *claims; /* NULL: not parsable */
} payload_t;

#define PAYLOAD_KEY "registration-payload"

/* The value of a name, case-sensitive; apr_table_get() ignores case. */
static const char *get_exact(const apr_table_t *table, const char *name)
{
    const apr_array_header_t *array = apr_table_elts(table);
    const apr_table_entry_t *entries = (const apr_table_entry_t *)array->elts;

    for (int i = 0; i < array->nelts; i++) {
        if (entries[i].key && strcmp(entries[i].key, name) == 0) {
            return entries[i].val;
        }
    }
    return NULL;
}

/* The second of three parts separated by dots (RFC 7519); NULL if there are not three
 * parts: an encrypted token has five. */
static const char *find_payload(apr_pool_t *pool, const char *token)
{
    const char *first = strchr(token, '.');
    const char *second = first ? strchr(first + 1, '.') : NULL;

    return second && !strchr(second + 1, '.')
               ? apr_pstrmemdup(pool, first + 1, (apr_size_t)(second - first - 1))
               : NULL;
}

static const payload_t *read_payload(apr_pool_t *pool, const char *token)
{
    payload_t *payload = apr_pcalloc(pool, sizeof(*payload));
    const char *part = find_payload(pool, token);
    const char *error;
    const char *text;
    apr_size_t length;

    payload->token = token;
    payload->is_jwt = part != NULL;
    if (part) {
        text =
            apr_pdecode_base64(pool, part, APR_ENCODE_STRING, APR_ENCODE_NONE, &length);
        payload->claims = text ? reg_json_parse(pool, text, length, &error) : NULL;
    }
    return payload;
}

static const payload_t *get_payload(request_rec *r, const char *token)
{
    void *kept = NULL;

    apr_pool_userdata_get(&kept, PAYLOAD_KEY, r->pool);
    if (!kept || strcmp(((const payload_t *)kept)->token, token) != 0) {
        kept = (void *)read_payload(r->pool, token);
        apr_pool_userdata_setn(kept, PAYLOAD_KEY, NULL, r->pool);
    }
    return kept;
}

/* The index of the module that sets this variable. */
static size_t find_module(const char *variable)
{
    size_t i = 0;

    while (i < MODULES
           && ap_cstr_casecmpn(variable, modules[i].prefix, strlen(modules[i].prefix))
                  != 0) {
        i++;
    }
    return i;
}

/*
 * The value of a variable with a claim.
 * @param claim set to the claim in the token's payload; NULL if the token has no payload.
 * @return NULL if there is no such claim, or another claim has the same name in another
 *         case.
 */
static const char *get_claim(request_rec *r, const char *variable,
                             const reg_json_t **claim)
{
    size_t module = find_module(variable);
    const char *name = variable + strlen(modules[module].prefix);
    const char *value = get_exact(r->subprocess_env, variable);
    const char *token = get_exact(r->subprocess_env, modules[module].token);
    const payload_t *payload;

    *claim = NULL;
    if (!value || !token) {
        return value;
    }
    payload = get_payload(r, token);
    if (payload->is_jwt && !reg_json_has_only(payload->claims, name)) {
        return NULL;
    }
    *claim = reg_json_get(payload->claims, name);
    return value;
}

/* Whether a claim, a text or an array of texts, has the scope. */
static int has_claim_scope(const reg_json_t *claim, const char *scope)
{
    const char *text = reg_json_string(claim);

    for (apr_size_t i = 0; i < reg_json_length(claim); i++) {
        const char *item = reg_json_string(reg_json_item(claim, i));

        if (item && strcmp(item, scope) == 0) {
            return 1;
        }
    }
    return text && reg_scope_in_list(text, " ", scope);
}

/* Whether the claim of a token that is no JWT has the scope. mod_oauth2 writes an array
 * as JSON. */
static int has_introspected_scope(request_rec *r, const char *value,
                                  const char *separators, const char *scope)
{
    return *value == '[' ? reg_scope_in_array(r->pool, value, scope)
                         : *value != '{' && reg_scope_in_list(value, separators, scope);
}

int reg_claims_has_scope(request_rec *r, const char *scope)
{
    for (size_t i = 0; i < MODULES; i++) {
        const reg_json_t *claim;
        const char *value =
            get_claim(r, apr_pstrcat(r->pool, modules[i].prefix, "scope", NULL), &claim);

        if (value
            && (claim ? has_claim_scope(claim, scope)
                      : has_introspected_scope(r, value, modules[i].separators, scope))) {
            return 1;
        }
    }
    return 0;
}

const apr_array_header_t *reg_claims_named(apr_pool_t *pool, const char *expression)
{
    apr_array_header_t *names = apr_array_make(pool, 1, sizeof(const char *));

    while (*expression) {
        apr_size_t length = strcspn(expression, "{}()'\":, \t");

        if (length && find_module(expression) < MODULES) {
            APR_ARRAY_PUSH(names, const char *) =
                apr_pstrmemdup(pool, expression, length);
        }
        expression += length + (expression[length] != '\0');
    }
    return names;
}

int reg_claims_are_texts(request_rec *r, const apr_array_header_t *variables)
{
    for (int i = 0; i < variables->nelts; i++) {
        const reg_json_t *claim;
        const char *value =
            get_claim(r, APR_ARRAY_IDX(variables, i, const char *), &claim);
        const char *text = claim ? reg_json_string(claim) : value;

        if (!value || !text || strcmp(text, value) != 0) {
            return 0;
        }
    }
    return 1;
}

int reg_claims_lack_name(const request_rec *r)
{
    return r->user && !*r->user && ap_auth_type((request_rec *)r);
}
