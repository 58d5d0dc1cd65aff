/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_SERVE_H
#define REGISTRATION_HTTP_SERVE_H

#include "registration.h"

/**
 * Serves a request under a mount, from the route to the reply: 404, 405, 415, 413, JSON,
 * fields, operation, in this order. Authentication, authorization and the organization
 * come before, in httpd.
 * @return the reply. A negative status means that an answer is already on its way.
 */
reg_reply_t *reg_serve(reg_request_t *request);

#endif
