/* SPDX-License-Identifier: Apache-2.0 */
#include "outcomes.h"

#include <string.h>

/* The SQL uses the names up to "key_reused"; the others are for logs only. */
static const char *const outcome_names[] = {[REG_CREATED] = "created",
                                            [REG_FOUND] = "found",
                                            [REG_MORE] = "more",
                                            [REG_UPDATED] = "updated",
                                            [REG_DELETED] = "deleted",
                                            [REG_NOT_FOUND] = "not_found",
                                            [REG_NOT_JOINABLE] = "not_joinable",
                                            [REG_DUPLICATE] = "duplicate",
                                            [REG_FULL] = "full",
                                            [REG_NO_WAITING_LIST] = "no_waiting_list",
                                            [REG_CHANGED] = "changed",
                                            [REG_TOO_LARGE] = "too_large",
                                            [REG_INVALID] = "invalid",
                                            [REG_CHILDREN_UNKNOWN] = "children_unknown",
                                            [REG_INSTITUTION_UNKNOWN] =
                                                "institution_unknown",
                                            [REG_ACCEPTABLE] = "acceptable",
                                            [REG_KEY_REUSED] = "key_reused",
                                            [REG_KEY_INVALID] = "key_invalid",
                                            [REG_BAD_DATA] = "bad_data",
                                            [REG_LOCKED] = "locked",
                                            [REG_SLOW] = "slow",
                                            [REG_UNAVAILABLE] = "unavailable",
                                            [REG_FAULT] = "fault"};

const char *reg_outcome_name(reg_outcome_t outcome)
{
    return outcome_names[outcome];
}

reg_outcome_t reg_outcome_from_name(const char *name)
{
    for (int i = 0; i <= REG_KEY_REUSED; i++) {
        if (strcmp(outcome_names[i], name) == 0) {
            return (reg_outcome_t)i;
        }
    }
    return REG_FAULT;
}
