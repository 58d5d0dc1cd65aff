/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_BATCH_QUEUE_H
#define REGISTRATION_DATABASE_BATCH_QUEUE_H

#include <apr_pools.h>
#include <apr_time.h>

/**
 * Combining: requests that arrive while others are being answered are carried together.
 *
 * A thread with a request joins a queue. While the queue has a lane free, the thread
 * leads: it gets ready, which may take a while; takes its own request and others that are
 * queued, up to a batch; and runs them all at once. Else it waits until a leader has run
 * its request, or until a lane is free and it is the first, and so leads the next batch.
 * No thread of the queue's own, no timer: with one client a batch is one request and
 * nothing waits; under load batches grow by themselves, to a part of the clients.
 *
 * Requests leave the queue in the order in which they came. A waiting thread may leave at
 * its deadline as long as no leader has taken the request. A leader takes requests only
 * once it is ready, so that none waits with it for a connection. Once taken, a request's
 * memory is the leader's until it has been run, which is why running has to end by a
 * deadline of its own: the earliest of the batch. Requests are carried together of which
 * none has more than twice as long as another.
 *
 * A queue knows neither what a request is nor how it is run.
 */
typedef struct reg_queue_t reg_queue_t;

/**
 * Gets what running a batch takes, in the leader's thread, without a lock held. Until it
 * returns, requests join the queue and leave it.
 * @param deadline of the leader's own request.
 * @return 0 when it cannot be had; then the leader's request is not run, and the next
 *         waiting thread leads.
 */
typedef int reg_prepare_t(void *leader, apr_time_t deadline);

/**
 * Runs a batch. Called in the leader's thread, without a lock held.
 * @param leader what the leading thread gave to reg_queue_run().
 * @param requests at least one, in the order in which they came.
 * @param deadline the earliest of theirs.
 */
typedef void reg_batch_t(void *leader, void *const *requests, int count,
                         apr_time_t deadline);

/** How a queue makes batches. */
typedef struct reg_queue_settings_t {
    reg_prepare_t *prepare;
    reg_batch_t *run;
    int batch;        /* the most requests carried together, at least 1 */
    apr_size_t bytes; /* the most bytes carried together, but for a single request */
    int parts;        /* into how many the clients are divided: with two, one half is read
                         and answered while the other is run; with one, none waits for a
                         second batch */
    int lanes;        /* how many batches may be run at the same time, at least 1 */
} reg_queue_settings_t;

/** Makes a queue. @return NULL when the system has no mutex left. */
reg_queue_t *reg_queue_make(apr_pool_t *pool, const reg_queue_settings_t *settings);

/**
 * Has a request run, alone or with others.
 * @param pool for the time of the call.
 * @param size bytes that the request adds to a batch.
 * @param leader passed to the batch that this thread leads, if it does.
 * @return 1 when it has been run; 0 when it was not, as its deadline came first, or this
 *         thread was to lead and could not get ready.
 */
int reg_queue_run(reg_queue_t *queue, apr_pool_t *pool, void *request, apr_size_t size,
                  void *leader, apr_time_t deadline);

/** How many requests are waiting that have not been taken. */
int reg_queue_length(reg_queue_t *queue);

#endif
