/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_REQUEST_H
#define REGISTRATION_HTTPD_REQUEST_H

/** Between httpd's request_rec and the module's own request and reply. */

#include "config.h"
#include "registration.h"

/** What of a request's path follows the mount: "" or "/…"; NULL when it is not below it,
 *  because a rule has rewritten it. */
const char *reg_request_path(const request_rec *r, const reg_dir_conf_t *conf);

/** Describes a request under a mount. The organization is left to the handler. */
reg_request_t *reg_request_make(request_rec *r, const reg_dir_conf_t *conf);

/** Keeps the request that is served, for those hooks that come after; NULL when it was
 *  refused before. */
void reg_request_attach(request_rec *r, reg_request_t *request);
reg_request_t *reg_request_attached(const request_rec *r);

/**
 * Evaluates RegistrationOrganization where it is set.
 * @return whether the caller may go on: not when it is set but gives no UUID.
 */
int reg_request_set_organization(request_rec *r, const reg_dir_conf_t *conf,
                                 reg_request_t *request);

/** httpd's id for a request: mod_unique_id's where it is loaded, else the one that httpd
 *  itself makes; then its logs show the same for %L. */
const char *reg_request_id(request_rec *r);

/** Has an answer that is an error carry the id of the request that is refused: who
 * reports the error can name it, and the logs have it. */
void reg_request_tell_id(request_rec *r, request_rec *refused);

/** Sends a reply. @return what the handler returns to httpd. */
int reg_request_send(request_rec *r, reg_reply_t *reply);

/**
 * Makes an id of a request's own where mod_unique_id is not loaded: httpd's id of a
 * request gives away addresses of memory. A hook of httpd's, generate_log_id.
 */
int reg_request_make_id(const conn_rec *c, const request_rec *r, const char **id);

/** Whether the body has a transfer coding that is not, or not only, chunked. */
int reg_request_has_other_coding(const request_rec *r);

/**
 * Sets the headers that every answer of a mount has: X-Content-Type-Options, and
 * Cache-Control.
 * @param cache_control NULL: nothing of it is to be kept.
 */
void reg_request_protect(request_rec *r, const char *cache_control);

#endif
