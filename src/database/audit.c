/* SPDX-License-Identifier: Apache-2.0 */
#include "audit.h"

#include "utf8.h"

#include <apr_escape.h>
#include <string.h>

/* A text that does not come from the body: what is no UTF-8 is escaped, or the database
 * would refuse the registration for it. */
static const char *noted(const reg_request_t *request, const char *text)
{
    return text && !reg_utf8_is_valid(text) ? apr_pescape_urlencoded(request->pool, text)
                                            : text;
}

int reg_audit_given(const reg_operation_t *operation)
{
    return operation->parameters - operation->later
           - (operation->audited ? REG_AUDIT_PARAMETERS : 0);
}

void reg_audit_call(reg_request_t *request, const reg_operation_t *operation,
                    const char *const *values, reg_answer_t *answer)
{
    const char *audited[REG_MAX_PARAMETERS];
    int given = reg_audit_given(operation);

    if (operation->audited) {
        memcpy(audited, values, (size_t)given * sizeof(*values));
        audited[given] = noted(request, request->user);
        audited[given + 1] = noted(request, request->request_id);
        memcpy(audited + given + REG_AUDIT_PARAMETERS, values + given,
               (size_t)operation->later * sizeof(*values));
        values = audited;
    }
    request->host->call(request, operation, values, answer);
}
