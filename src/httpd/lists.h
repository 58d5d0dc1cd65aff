/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_LISTS_H
#define REGISTRATION_HTTPD_LISTS_H

/**
 * Long answers: whole lists, and bodies larger than REG_PACED_SIZE. Each keeps a thread
 * busy for as long as its reader takes. A child process sends at most
 * RegistrationListThreads of them at the same time, not counting answers to writes, and
 * closes the connection of a reader that is too slow.
 */

#include "config.h"
#include "registration.h"

/** The size in bytes above which a body is a long answer. */
#define REG_PACED_SIZE 65536

/** Sets the default of RegistrationListThreads in a child process. */
void reg_lists_init(apr_pool_t *pool, server_rec *main_server);

/** Takes a slot for a long answer: reg_host_t's enter_list. */
int reg_lists_enter(reg_request_t *request);

/** Frees the slot of a request, if it has one, after its reply has been sent. */
void reg_lists_leave(reg_request_t *request);

/**
 * Sends a long answer, each chunk before the next one is read. Closes the connection of a
 * reader that receives nothing for 20 seconds, or less than 10,000 bytes a second over 20
 * seconds of sending.
 */
void reg_lists_send(reg_request_t *request, reg_reply_t *reply);

#endif
