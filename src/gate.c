/* SPDX-License-Identifier: Apache-2.0 */
#include "gate.h"

#include "waiters.h"

/* What a waiter is woken with. */
enum { TURNED_AWAY, LET_IN };

struct reg_gate_t {
    apr_thread_mutex_t *mutex; /* of all that follows */
    reg_waiters_t waiters;
    int most;
    int inside;
    int opening;             /* somebody has the turn */
    apr_time_t closed_until; /* nobody is let in before */
};

reg_gate_t *reg_gate_make(apr_pool_t *pool, int most)
{
    reg_gate_t *gate = apr_pcalloc(pool, sizeof(*gate));

    if (apr_thread_mutex_create(&gate->mutex, APR_THREAD_MUTEX_DEFAULT, pool)
        != APR_SUCCESS) {
        return NULL;
    }
    reg_waiters_init(&gate->waiters);
    gate->most = most;
    return gate;
}

void reg_gate_limit(reg_gate_t *gate, int most)
{
    if (most < gate->most) {
        gate->most = most;
    }
}

/* Whether nobody is let in. A clock that was set back does not keep the gate closed. */
static int is_closed(const reg_gate_t *gate, apr_time_t now)
{
    return now < gate->closed_until && now >= gate->closed_until - REG_GATE_CLOSED_TIME;
}

/* Gives the turn of opening to a thread that enters, if there is a place and the turn is
 * free. The mutex is held. */
static int admit(reg_gate_t *gate)
{
    int has_room = gate->inside < gate->most && !gate->opening;

    if (has_room) {
        gate->inside++;
        gate->opening = 1;
    }
    return has_room;
}

/* Lets in the thread that has waited longest, if that can be now. The mutex is held. */
static void admit_first(reg_gate_t *gate)
{
    if (gate->waiters.first && admit(gate)) {
        reg_waiter_wake(reg_waiters_pop(&gate->waiters), LET_IN);
    }
}

static void turn_all_away(reg_gate_t *gate)
{
    while (gate->waiters.first) {
        reg_waiter_wake(reg_waiters_pop(&gate->waiters), TURNED_AWAY);
    }
}

int reg_gate_enter(reg_gate_t *gate, apr_time_t deadline)
{
    apr_time_t now = apr_time_now();
    reg_waiter_t own = {.verdict = TURNED_AWAY};
    int must_wait = 0;

    apr_thread_mutex_lock(gate->mutex);
    if (!is_closed(gate, now) && now < deadline) {
        must_wait = gate->waiters.first || !admit(gate);
        own.verdict = LET_IN;
    }
    if (must_wait) {
        reg_waiters_append(&gate->waiters, &own);
    }
    apr_thread_mutex_unlock(gate->mutex);
    return (!must_wait || reg_waiters_wait(&gate->waiters, gate->mutex, &own, deadline))
           && own.verdict == LET_IN;
}

void reg_gate_opened(reg_gate_t *gate, int success)
{
    apr_thread_mutex_lock(gate->mutex);
    gate->opening = 0;
    if (success) {
        admit_first(gate);
    }
    else {
        gate->inside--;
        gate->closed_until = apr_time_now() + REG_GATE_CLOSED_TIME;
        turn_all_away(gate);
    }
    apr_thread_mutex_unlock(gate->mutex);
}

void reg_gate_leave(reg_gate_t *gate)
{
    apr_thread_mutex_lock(gate->mutex);
    gate->inside--;
    admit_first(gate);
    apr_thread_mutex_unlock(gate->mutex);
}
