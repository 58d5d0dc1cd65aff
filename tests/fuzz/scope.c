/* SPDX-License-Identifier: Apache-2.0 */

/* The scopes of a token: the required scope, then the claim. */

#include "fuzz.h"

#include "scope.h"

static int list_has(apr_pool_t *pool, const char *claim, const char *separators,
                    const char *scope)
{
    char *rest, *copy = apr_pstrdup(pool, claim);
    int found = 0;

    for (char *item = strtok_r(copy, separators, &rest); item;
         item = strtok_r(NULL, separators, &rest)) {
        found |= strcmp(item, scope) == 0;
    }
    return found;
}

/* True also if the claim has a number that jansson cannot read. */
static int array_has(const char *claim, const char *scope)
{
    json_error_t reason;
    json_t *array =
        json_loads(claim, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &reason);
    json_t *item;
    size_t i;
    int found = !array && json_error_code(&reason) == json_error_numeric_overflow;

    json_array_foreach(array, i, item)
    {
        found |= json_is_string(item) && strcmp(json_string_value(item), scope) == 0;
    }
    json_decref(array);
    return found;
}

static void fuzz_one(apr_pool_t *pool, fuzz_input_t *input)
{
    const char *scope = fuzz_line(pool, input);
    const char *claim = fuzz_rest(pool, input);

    if (!*scope || strpbrk(scope, " ,")) {
        return; /* Require refuses these */
    }
    HOLDS(reg_scope_in_list(claim, " ", scope) == list_has(pool, claim, " ", scope));
    HOLDS(reg_scope_in_list(claim, " ,", scope) == list_has(pool, claim, " ,", scope));
    HOLDS(!reg_scope_in_array(pool, claim, scope) || array_has(claim, scope));
}
