/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_REQUEST_H
#define REGISTRATION_HTTPD_REQUEST_H

/** Converts httpd's request_rec to a request, and sends a reply. */

#include "config.h"
#include "registration.h"

/** The part of a request's path after the mount: "" or "/…"; NULL if the path is not
 * below the mount, as a rule has rewritten it. */
const char *reg_request_path(const request_rec *r, const reg_dir_conf_t *conf);

/** Makes the request of a request_rec under a mount, without its organization. */
reg_request_t *reg_request_make(request_rec *r, const reg_dir_conf_t *conf);

/** Attaches the request to the request_rec, for later hooks. It is NULL if httpd refused
 * the request before the handler. */
void reg_request_attach(request_rec *r, reg_request_t *request);
reg_request_t *reg_request_attached(const request_rec *r);

/**
 * Evaluates RegistrationOrganization, if it is set.
 * @return 0 if it is set but gives no UUID.
 */
int reg_request_set_organization(request_rec *r, const reg_dir_conf_t *conf,
                                 reg_request_t *request);

/** The id of a request, which logs have as %L: that of mod_unique_id if it is loaded,
 * else one from reg_request_make_id(). */
const char *reg_request_id(request_rec *r);

/** Sets X-Request-Id of an error to the id of the refused request, by which its log lines
 * can be found. */
void reg_request_set_id_header(request_rec *r, request_rec *refused);

/** Sends a reply. @return what the handler returns to httpd. */
int reg_request_send(request_rec *r, reg_reply_t *reply);

/** The hook generate_log_id: generates a random id, as httpd's own discloses addresses of
 *  memory. */
int reg_request_make_id(const conn_rec *c, const request_rec *r, const char **id);

/** Whether the body has another transfer coding than chunked alone. */
int reg_request_has_other_coding(const request_rec *r);

/** Sets the headers of every answer under a mount, X-Content-Type-Options and
 * Cache-Control.
 *  @param cache_control NULL: no-store. */
void reg_request_protect(request_rec *r, const char *cache_control);

#endif
