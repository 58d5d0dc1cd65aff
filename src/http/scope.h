/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_SCOPE_H
#define REGISTRATION_HTTP_SCOPE_H

#include <apr_pools.h>

/**
 * The scopes of a token (RFC 6749, section 3.3), as the modules that verify tokens write
 * them. Scopes are compared as whole words, case-sensitively.
 */

/** Whether a list has the scope. @param separators each of them separates its items. */
int reg_scope_in_list(const char *list, const char *separators, const char *scope);

/** Whether a JSON array, as text, has the scope among its strings. */
int reg_scope_in_array(apr_pool_t *pool, const char *array, const char *scope);

#endif
