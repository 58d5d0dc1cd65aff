/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_SERVE_H
#define REGISTRATION_HTTP_SERVE_H

#include "registration.h"

/**
 * Serves a request under a mount, from the route to the reply. The checks are, in this
 * order: 404, 405, 415, 413, JSON, fields, operation. httpd has authenticated and
 * authorized the request before.
 * @return the reply. A negative status means that an answer has already been sent.
 */
reg_reply_t *reg_serve(reg_request_t *request);

#endif
