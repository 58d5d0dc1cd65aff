/* SPDX-License-Identifier: Apache-2.0 */
#include "limiter.h"

#include "wait_queue.h"

#include <apr_thread_cond.h>
#include <apr_thread_proc.h>
#include <signal.h>

/* A request that waits; on the stack of its thread. */
typedef struct {
    reg_waiter_t waiter; /* first; its verdict is not used */
    void *connection;    /* NULL: it was refused */
} waiting_request_t;

/* A stack: the connection used last is used first. */
typedef struct {
    void **list;
    int count;
} connection_stack_t;

struct reg_limiter_t {
    apr_pool_t *pool;
    apr_thread_mutex_t *mutex;   /* of all members below */
    apr_thread_cond_t *demanded; /* the thread has to look at has_to_connect() */
    reg_connector_t connector;
    apr_thread_t *thread; /* NULL until a connection is needed */
    int most;
    connection_stack_t all, idle, broken;
    int connecting;                /* the thread connects, without the mutex */
    int has_new_broken;            /* one was returned after the last failed attempt */
    int stopping;                  /* the thread is to end */
    apr_time_t breaker_open_until; /* no attempt to connect before */
    reg_wait_queue_t waiters;      /* requests; none while a connection is idle */
};

static void push_connection(connection_stack_t *stack, void *connection)
{
    stack->list[stack->count++] = connection;
}

static void *pop_connection(connection_stack_t *stack)
{
    return stack->count > 0 ? stack->list[--stack->count] : NULL;
}

reg_limiter_t *reg_limiter_make(apr_pool_t *pool, int most,
                                const reg_connector_t *connector)
{
    reg_limiter_t *limiter = apr_pcalloc(pool, sizeof(*limiter));
    connection_stack_t *const stacks[] = {&limiter->all, &limiter->idle,
                                          &limiter->broken};

    apr_pool_create(&limiter->pool, pool);
    if (apr_thread_mutex_create(&limiter->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
            != APR_SUCCESS
        || apr_thread_cond_create(&limiter->demanded, pool) != APR_SUCCESS) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(stacks) / sizeof(stacks[0]); i++) {
        stacks[i]->list = apr_pcalloc(pool, sizeof(void *) * (apr_size_t)most);
    }
    limiter->connector = *connector;
    limiter->most = most;
    reg_wait_queue_init(&limiter->waiters);
    return limiter;
}

void reg_limiter_limit(reg_limiter_t *limiter, int most)
{
    if (most < limiter->most) {
        limiter->most = most;
    }
}

/* Whether the circuit breaker is open. A clock that is set back does not keep it open. */
static int is_breaker_open(const reg_limiter_t *limiter)
{
    apr_time_t now = apr_time_now();

    return now < limiter->breaker_open_until
           && now >= limiter->breaker_open_until - REG_BREAKER_OPEN_TIME;
}

/* Gives the first waiting request a connection, or refuses it. The mutex is held. */
static void answer_first_waiter(reg_limiter_t *limiter, void *connection)
{
    reg_waiter_t *waiter = reg_wait_queue_pop(&limiter->waiters);

    ((waiting_request_t *)waiter)->connection = connection;
    reg_waiter_wake(waiter, 0);
}

/* Gives a usable connection to the first waiting request, or makes it idle. The mutex is
 * held. */
static void hand_on_connection(reg_limiter_t *limiter, void *connection)
{
    if (limiter->waiters.first) {
        answer_first_waiter(limiter, connection);
    }
    else {
        push_connection(&limiter->idle, connection);
    }
}

/*
 * The thread that connects
 */

/* Whether to connect now: a request waits, or a connection was returned broken. */
static int has_to_connect(const reg_limiter_t *limiter)
{
    int can = limiter->broken.count > 0 || limiter->all.count < limiter->most;

    return can && (limiter->waiters.first || limiter->has_new_broken)
           && !is_breaker_open(limiter);
}

/* Makes one connection. The mutex is held, except during the attempt. */
static void connect_one(reg_limiter_t *limiter)
{
    void *broken = pop_connection(&limiter->broken);
    void *connection;

    limiter->has_new_broken = limiter->broken.count > 0 && limiter->has_new_broken;
    limiter->connecting = 1;
    apr_thread_mutex_unlock(limiter->mutex);
    connection = limiter->connector.connect(limiter->connector.baton, broken);
    apr_thread_mutex_lock(limiter->mutex);
    limiter->connecting = 0;
    if (connection) {
        if (!broken) {
            push_connection(&limiter->all, connection);
        }
        hand_on_connection(limiter, connection);
        return;
    }
    if (broken) {
        push_connection(&limiter->broken, broken);
    }
    limiter->has_new_broken = 0;
    limiter->breaker_open_until = apr_time_now() + REG_BREAKER_OPEN_TIME;
    while (limiter->waiters.first) {
        answer_first_waiter(limiter, NULL);
    }
}

static void *APR_THREAD_FUNC connect_on_demand(apr_thread_t *thread, void *data)
{
    reg_limiter_t *limiter = data;

    (void)thread;
    apr_thread_mutex_lock(limiter->mutex);
    while (!limiter->stopping) {
        if (has_to_connect(limiter)) {
            connect_one(limiter);
        }
        else if (limiter->has_new_broken) { /* it is connected when the breaker closes */
            apr_thread_cond_timedwait(limiter->demanded, limiter->mutex,
                                      REG_BREAKER_OPEN_TIME);
        }
        else {
            apr_thread_cond_wait(limiter->demanded, limiter->mutex);
        }
    }
    apr_thread_mutex_unlock(limiter->mutex);
    return NULL;
}

/* Wakes the thread, or starts it. It blocks all signals: httpd's signal handlers may end
 * the process, which waits for this thread. The mutex is held. @return 0 when no thread
 * can be started. */
static int demand_connection(reg_limiter_t *limiter)
{
    sigset_t all, before;

    if (!limiter->thread) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        if (apr_thread_create(&limiter->thread, NULL, connect_on_demand, limiter,
                              limiter->pool)
            != APR_SUCCESS) {
            limiter->thread = NULL;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    apr_thread_cond_signal(limiter->demanded);
    return limiter->thread != NULL;
}

/*
 * Requests
 */

static int is_connecting(reg_limiter_t *limiter)
{
    int connecting;

    apr_thread_mutex_lock(limiter->mutex);
    connecting = limiter->connecting;
    apr_thread_mutex_unlock(limiter->mutex);
    return connecting;
}

void *reg_limiter_enter(reg_limiter_t *limiter, apr_time_t deadline,
                        reg_limiter_refusal_t *refusal)
{
    waiting_request_t own = {.connection = NULL};

    *refusal = REG_LIMITER_OPEN_BREAKER;
    apr_thread_mutex_lock(limiter->mutex);
    own.connection = pop_connection(&limiter->idle);
    if (own.connection || is_breaker_open(limiter)) {
        apr_thread_mutex_unlock(limiter->mutex);
        return own.connection;
    }
    reg_wait_queue_append(&limiter->waiters, &own.waiter);
    if (!demand_connection(limiter)) {
        answer_first_waiter(limiter, NULL);
    }
    apr_thread_mutex_unlock(limiter->mutex);
    *refusal = REG_LIMITER_FAILED;
    if (!reg_wait_queue_wait(&limiter->waiters, limiter->mutex, &own.waiter, deadline)) {
        *refusal = is_connecting(limiter) ? REG_LIMITER_CONNECTING : REG_LIMITER_BUSY;
    }
    return own.connection;
}

void reg_limiter_leave(reg_limiter_t *limiter, void *connection, int usable)
{
    apr_thread_mutex_lock(limiter->mutex);
    if (usable) {
        hand_on_connection(limiter, connection);
    }
    else {
        push_connection(&limiter->broken, connection);
        limiter->has_new_broken = 1;
        demand_connection(limiter);
    }
    apr_thread_mutex_unlock(limiter->mutex);
}

void reg_limiter_stop(reg_limiter_t *limiter)
{
    apr_status_t rv;

    apr_thread_mutex_lock(limiter->mutex);
    limiter->stopping = 1;
    apr_thread_cond_signal(limiter->demanded);
    apr_thread_mutex_unlock(limiter->mutex);
    if (limiter->thread) {
        apr_thread_join(&rv, limiter->thread);
    }
    for (int i = 0; i < limiter->all.count; i++) {
        limiter->connector.close(limiter->connector.baton, limiter->all.list[i]);
    }
}
