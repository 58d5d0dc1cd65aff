/* SPDX-License-Identifier: Apache-2.0 */
#include "call.h"

#include "audit.h"
#include "idempotency.h"

void reg_call(reg_request_t *request, const reg_operation_t *operation,
              const char *const *values, reg_answer_t *answer)
{
    const char *keyed[REG_MAX_PARAMETERS], *audited[REG_MAX_PARAMETERS];

    if (request->idempotency_key && operation->keyed) {
        if (!reg_idempotency_values(request, operation, values, keyed)) {
            *answer = (reg_answer_t){.outcome = REG_KEY_INVALID};
            return;
        }
        operation = operation->keyed;
        values = keyed;
    }
    if (operation->audited) {
        reg_audit_values(request, operation, values, audited);
        values = audited;
    }
    request->host->run_operation(request, operation, values, answer);
}
