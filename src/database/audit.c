/* SPDX-License-Identifier: Apache-2.0 */
#include "audit.h"

#include "utf8.h"

#include <apr_escape.h>
#include <string.h>

/* Percent-encodes a text from outside the body that is not valid UTF-8, which PostgreSQL
 * would reject. */
static const char *escape_invalid_utf8(const reg_request_t *request, const char *text)
{
    return text && !reg_utf8_is_valid(text) ? apr_pescape_urlencoded(request->pool, text)
                                            : text;
}

int reg_audit_own_parameters(const reg_operation_t *operation)
{
    return operation->parameters - operation->later
           - (operation->audited ? REG_AUDIT_PARAMETERS : 0);
}

void reg_audit_values(const reg_request_t *request, const reg_operation_t *operation,
                      const char *const *values, const char **audited)
{
    int own = reg_audit_own_parameters(operation);

    memcpy(audited, values, (size_t)own * sizeof(*values));
    audited[own] = escape_invalid_utf8(request, request->user);
    audited[own + 1] = escape_invalid_utf8(request, request->request_id);
    memcpy(audited + own + REG_AUDIT_PARAMETERS, values + own,
           (size_t)operation->later * sizeof(*values));
}
