/* SPDX-License-Identifier: Apache-2.0 */
#include "scope.h"

#include "json.h"

#include <apr_strings.h>
#include <string.h>

int reg_scope_in_list(const char *list, const char *separators, const char *scope)
{
    apr_size_t length = strlen(scope);

    while (*list) {
        apr_size_t item = strcspn(list, separators);

        if (item == length && strncmp(list, scope, length) == 0) {
            return 1;
        }
        list += item + (list[item] != '\0');
    }
    return 0;
}

int reg_scope_in_array(apr_pool_t *pool, const char *array, const char *scope)
{
    const char *error;
    const char *text = apr_pstrcat(pool, "{\"scope\":", array, "}", NULL);
    const reg_json_t *object = reg_json_parse(pool, text, strlen(text), &error);
    const reg_json_t *list = reg_json_get(object, "scope");

    if (!object || strcmp(reg_json_raw(pool, text, "scope", NULL), array) != 0) {
        return 0; /* not an array, or text after the array that adds a key to the object
                   */
    }
    for (apr_size_t i = 0; i < reg_json_length(list); i++) {
        const char *item = reg_json_string(reg_json_item(list, i));

        if (item && strcmp(item, scope) == 0) {
            return 1;
        }
    }
    return 0;
}
