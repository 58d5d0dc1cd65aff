/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_SCOPE_H
#define REGISTRATION_HTTP_SCOPE_H

#include <apr_pools.h>

/**
 * The scopes of a token (RFC 6749, section 3.3), as the modules that check tokens hand
 * them on. A scope is compared as a whole and with regard to case.
 */

/** Whether a list, its items parted by any of the separators, has the scope. */
int reg_scope_in_list(const char *list, const char *separators, const char *scope);

/** Whether the text of a JSON array has the scope as one of its strings. */
int reg_scope_in_array(apr_pool_t *pool, const char *array, const char *scope);

#endif
