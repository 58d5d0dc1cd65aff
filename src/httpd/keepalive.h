/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_KEEPALIVE_H
#define REGISTRATION_HTTPD_KEEPALIVE_H

/**
 * Which connections are kept alive while a child process is short of threads.
 *
 * The event MPM needs a thread for each request that waits for its batch. When all
 * threads of a child process are busy, it closes kept-alive connections, also one to
 * which a client has just sent a request. The client gets no answer, and must not repeat
 * a POST by itself.
 *
 * So an answer has "Connection: close" before it comes to that: where a child process has
 * almost as many connections as threads, and where it would have more if it accepted
 * those that wait. The client connects again, to any child process with an idle thread. A
 * process that has been far from busy for a second keeps all connections.
 */

#include <httpd.h>

/** Registers the hooks that count connections. */
void reg_keepalive_register(apr_pool_t *pool);

/** Counts a request that occupies a thread of the MPM, until reg_keepalive_leave(). */
void reg_keepalive_enter(const request_rec *r);
void reg_keepalive_leave(const request_rec *r);

/** Decides whether the connection is closed after the answer, which has not been sent. */
void reg_keepalive_decide(const request_rec *r);

#endif
