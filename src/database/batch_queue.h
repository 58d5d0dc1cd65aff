/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_BATCH_QUEUE_H
#define REGISTRATION_DATABASE_BATCH_QUEUE_H

#include <apr_pools.h>
#include <apr_time.h>

/**
 * A queue that makes batches: requests that arrive while a batch runs are run together.
 *
 * A thread with a request joins the queue. If the queue has no leader, the thread leads:
 * it prepares, which may take a while, takes its own request and queued ones, up to a
 * batch, and runs them. Otherwise it follows: it waits until a leader has run its
 * request, or until it is the first and leads the next batch. The queue has no thread and
 * no timer: with one client a batch is one request, which does not wait; under load a
 * batch grows to a part of the clients.
 *
 * Requests leave the queue in FIFO order. A follower leaves at its `start_by`, the latest
 * time at which a batch with its request may start, unless a leader has taken the
 * request. A leader takes requests only after it has prepared, so no other request waits
 * with it for a connection. A taken request's memory is the leader's until the batch has
 * been run; so a batch must start by the earliest start_by of its requests and end soon
 * after. No request of a batch has more than twice the time of another.
 *
 * A queue knows neither what a request is nor how a batch is run.
 */
typedef struct reg_batch_queue_t reg_batch_queue_t;

/**
 * Prepares a batch (checks a connection out, takes a turn), in the leader's thread,
 * without a lock of the queue held. Until it returns, requests join the queue and leave
 * it.
 * @param start_by of the leader's own request.
 * @return the parts into which the clients are divided; the batch takes one of them. 0 on
 *         failure; then the leader's request is not run, and the next follower leads.
 */
typedef int reg_batch_queue_prepare_t(void *leader, apr_time_t start_by);

/**
 * Runs a batch. Called in the leader's thread, without a lock held.
 * @param leader as the leading thread gave it to reg_batch_queue_run().
 * @param requests at least one, in the order in which they came.
 * @param start_by the earliest of the requests.
 */
typedef void reg_batch_queue_run_t(void *leader, void *const *requests, int count,
                                   apr_time_t start_by);

/** How a queue makes batches. */
typedef struct reg_batch_queue_settings_t {
    reg_batch_queue_prepare_t *prepare;
    reg_batch_queue_run_t *run;
    int most;         /* requests of a batch, at least 1 */
    apr_size_t bytes; /* the most bytes of a batch, unless one request alone has more */
} reg_batch_queue_settings_t;

/** Makes a queue. @return NULL when the system has no mutex left. */
reg_batch_queue_t *reg_batch_queue_make(apr_pool_t *pool,
                                        const reg_batch_queue_settings_t *settings);

/**
 * Runs a request, alone or in a batch.
 * @param pool of the leader's arrays.
 * @param size bytes that the request adds to a batch.
 * @param leader passed to `prepare` and `run` if this thread leads.
 * @return 1 if the request has been run; 0 if not: its start_by has passed, or this
 *         thread led and could not prepare.
 */
int reg_batch_queue_run(reg_batch_queue_t *queue, apr_pool_t *pool, void *request,
                        apr_size_t size, void *leader, apr_time_t start_by);

/** The number of requests that have not been taken. */
int reg_batch_queue_length(reg_batch_queue_t *queue);

#endif
