/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_CHECK_FIXTURE_H
#define REGISTRATION_CHECK_FIXTURE_H

#include "unit.h"

#include "check.h"

/** Every value is good, or every value is not; NULL ends the list. */
static inline void assert_all(reg_check_t *check, const char *const *values, int good)
{
    for (; *values; values++) {
        assert_number(*values, check(*values) == NULL, good);
    }
}

#endif
