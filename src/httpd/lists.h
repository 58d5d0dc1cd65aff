/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_LISTS_H
#define REGISTRATION_HTTPD_LISTS_H

/**
 * Answers that keep a thread busy for as long as their readers like: whole lists, and
 * large bodies. Each child process sends no more of them at a time than
 * RegistrationListThreads, but for those that answer a write, and a reader that is too
 * slow is cut off.
 */

#include "config.h"
#include "registration.h"

/** A body of more bytes is sent at the pace of its reader, and that is watched. */
#define REG_PACED_SIZE 65536

/** Sets the default of RegistrationListThreads; in a child process. */
void reg_lists_init(apr_pool_t *pool, server_rec *main_server);

/** Whether another whole list, or long answer, may be sent: reg_host_t's `enter_list`. */
int reg_lists_enter(reg_request_t *request);

/** Ends what reg_lists_enter() began, if it did, once the reply has been sent. */
void reg_lists_leave(reg_request_t *request);

/**
 * Sends a body of more than REG_PACED_SIZE bytes or of several parts, each before the
 * next is made. Cuts the connection of a reader that takes nothing for 20 seconds, or
 * less than 10,000 bytes a second in 20 seconds of sending.
 */
void reg_lists_send(reg_request_t *request, reg_reply_t *reply);

#endif
