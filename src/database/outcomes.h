/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_OUTCOMES_H
#define REGISTRATION_DATABASE_OUTCOMES_H

/**
 * The names of the outcomes, in the SQL and in logs.
 */

#include "registration.h"

/** The name of an outcome. */
const char *reg_outcome_name(reg_outcome_t outcome);

/** The outcome that the SQL gives that name; REG_FAULT for an unknown name. */
reg_outcome_t reg_outcome_from_name(const char *name);

#endif
