/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_API_EVENTS_H
#define REGISTRATION_API_EVENTS_H

#include "reply.h"

/** The error of this API for a request with invalid fields. */
extern const reg_error_t reg_events_invalid;

/** PENDING, CONFIRMED, CANCELLED, WAITING_LIST or ATTENDED. */
reg_check_t reg_events_check_status;

#endif
