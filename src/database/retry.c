/* SPDX-License-Identifier: Apache-2.0 */
#include "retry.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <string.h>
#include <sys/param.h>

/* The shortest lock timeout, of the calls that find out which of many keys is locked:
 * they are made one after the other, and others wait for them. */
#define SHORT_LOCK_TIMEOUT 10

/* The shortest limit: longer than a wait for a lock, which has a verdict of its own. */
#define SHORT_LIMIT apr_time_from_msec(500)

/* How often a call is made again that lost against another transaction. */
#define MOST_CONFLICTS 3

/* The pauses before it is made again; each is twice the one before. */
#define FIRST_PAUSE apr_time_from_msec(20)
#define LONGEST_PAUSE apr_time_from_msec(200)

static int is_in_doubt(const reg_call_t *call)
{
    for (int i = 0; i < call->count; i++) {
        if (call->items[i]->in_doubt) {
            return 1;
        }
    }
    return 0;
}

/* Gives the held connection back, for the next attempt to choose another. */
static void give_back(const reg_call_t *call)
{
    call->connections->checkin(call->connections->baton, *call->held);
    *call->held = NULL;
}

/* Whether a connection on which a call has failed is as good as before. One that is not
 * is looked after when it is checked out again. */
static int is_usable_after(reg_verdict_t verdict)
{
    return verdict == REG_CALL_DONE || verdict == REG_CALL_CONFLICT
           || verdict == REG_CALL_REFUSED || verdict == REG_CALL_LOCKED
           || verdict == REG_CALL_SLOW || verdict == REG_CALL_CANCELLED;
}

/* Makes the call once, unless there is hardly any time left for it: it would be cut off,
 * which costs the connection. Where no connection is to be had, only a call that was sent
 * before is worth waiting for one. */
static reg_verdict_t attempt(const reg_call_t *call)
{
    const reg_connections_t *from = call->connections;
    int is_late = apr_time_now() + REG_CALL_TIME / 2 > call->deadline;
    reg_verdict_t verdict;

    if (!*call->held && !is_late) {
        *call->held = from->checkout(from->baton, call->deadline - REG_CALL_TIME);
    }
    if (!*call->held || is_late) {
        return is_in_doubt(call) ? REG_CALL_BROKEN : REG_CALL_UNAVAILABLE;
    }
    verdict = reg_connection_call(*call->held, call);
    if (!is_usable_after(verdict)) {
        give_back(call);
    }
    return verdict;
}

/*
 * Makes the call, and while its connections break makes it again on others, with the same
 * ids, by which the operations recognize what an earlier one wrote.
 */
static reg_verdict_t persist(const reg_call_t *call)
{
    apr_interval_time_t pause = FIRST_PAUSE;
    reg_verdict_t verdict = attempt(call);

    while (verdict == REG_CALL_BROKEN
           && apr_time_now() + pause + REG_CALL_TIME < call->deadline) {
        apr_sleep(pause);
        pause = 2 * pause < LONGEST_PAUSE ? 2 * pause : LONGEST_PAUSE;
        verdict = attempt(call);
    }
    return verdict;
}

/* A pause of 1 to 8 ms, random, so that two that collided do not do so again. */
static void pause_a_moment(void)
{
    unsigned char random = 0;

    apr_generate_random_bytes(&random, 1);
    apr_sleep(apr_time_from_msec(1 + random % 8));
}

static void make(const reg_call_t *call);

/* Calls again for some of the requests. */
static void make_part(const reg_call_t *whole, reg_item_t *const *items, int count,
                      int lock_timeout)
{
    reg_call_t part = *whole;

    part.items = items;
    part.count = count;
    part.lock_timeout = lock_timeout;
    make(&part);
}

/* Calls again for each request by itself, so that only the culprit fails. One that was
 * the reason why all took too long has half of the time for itself. */
static void call_one_by_one(const reg_call_t *call)
{
    reg_call_t part = *call;

    part.limit = call->limit ? MAX(call->limit / 2, SHORT_LIMIT) : 0;
    for (int i = 0; i < call->count; i++) {
        make_part(&part, call->items + i, 1, call->lock_timeout);
    }
}

/* Tries again for each of several requests; answers a single one. */
static void call_apart(const reg_call_t *call, reg_outcome_t outcome)
{
    if (call->count > 1) {
        call_one_by_one(call);
    }
    else {
        reg_call_answer(call, outcome);
    }
}

static int has_same_key(const reg_call_t *call, int a, int b)
{
    const char *one = call->items[a]->values[call->operation->key];
    const char *other = call->items[b]->values[call->operation->key];

    return one && other && strcmp(one, other) == 0;
}

/* How many different things the requests compete for. */
static int count_keys(const reg_call_t *call)
{
    int keys = 1;

    for (int i = 1; i < call->count; i++) {
        int first = 0;

        while (first < i && !has_same_key(call, first, i)) {
            first++;
        }
        keys += first == i;
    }
    return keys;
}

/* Collects a request that was not taken yet and the others with its key. @return how many
 * these are. */
static int take_key(const reg_call_t *call, int first, char *taken, reg_item_t **group)
{
    int size = 0;

    for (int i = first; i < call->count; i++) {
        if (!taken[i] && (i == first || has_same_key(call, first, i))) {
            taken[i] = 1;
            group[size++] = call->items[i];
        }
    }
    return size;
}

/* Calls for requests with the same key, at most so many in a transaction. Those behind
 * one that finds the key locked need not try. */
static void call_key(const reg_call_t *call, reg_item_t *const *items, int count,
                     int lock_timeout, int most)
{
    int is_locked = 0;

    for (int i = 0; i < count && !is_locked; i += most) {
        make_part(call, items + i, MIN(most, count - i), lock_timeout);
        is_locked = items[i]->answer.outcome == REG_LOCKED;
        for (int rest = i + most; rest < count && is_locked; rest++) {
            items[rest]->answer = (reg_answer_t){.outcome = REG_LOCKED};
        }
    }
}

/* Calls for each key by itself, so that only those whose key is locked fail. */
static void call_by_key(const reg_call_t *call, int lock_timeout, int most)
{
    reg_item_t **group = apr_palloc(call->pool, sizeof(void *) * (apr_size_t)call->count);
    char *taken = apr_pcalloc(call->pool, (apr_size_t)call->count);

    for (int i = 0; i < call->count; i++) {
        if (!taken[i]) {
            call_key(call, group, take_key(call, i, taken, group), lock_timeout, most);
        }
    }
}

/* Makes the call, and again what has to be made again. */
static void make(const reg_call_t *call)
{
    reg_verdict_t verdict = persist(call);

    for (int i = 0; i < MOST_CONFLICTS && verdict == REG_CALL_CONFLICT; i++) {
        pause_a_moment();
        verdict = persist(call);
    }
    switch (verdict) {
    case REG_CALL_DONE:
        break;
    case REG_CALL_REFUSED:
        call_apart(call, REG_BAD_DATA);
        break;
    case REG_CALL_SLOW:
        call_apart(call, REG_SLOW);
        break;
    case REG_CALL_CANCELLED:
        call_apart(call, REG_UNAVAILABLE);
        break;
    case REG_CALL_LOCKED:
        if (count_keys(call) > 1) {
            call_by_key(call, SHORT_LOCK_TIMEOUT, call->count);
        }
        else {
            reg_call_answer(call, REG_LOCKED);
        }
        break;
    case REG_CALL_CONFLICT:
        reg_call_report(call,
                        apr_psprintf(call->pool,
                                     "REG0308: operation %s lost against others %d times",
                                     call->operation->name, MOST_CONFLICTS + 1));
        reg_call_answer(call, REG_UNAVAILABLE);
        break;
    case REG_CALL_BROKEN:
    case REG_CALL_UNAVAILABLE:
        reg_call_answer(call, REG_UNAVAILABLE);
        break;
    case REG_CALL_UNPREPARED:
        reg_call_report(call, apr_psprintf(call->pool,
                                           "REG0309: operation %s cannot be prepared",
                                           call->operation->name));
        reg_call_answer(call, REG_FAULT);
        break;
    case REG_CALL_FAULT:
        reg_call_answer(call, REG_FAULT);
        break;
    }
}

void reg_retry_call(const reg_call_t *call)
{
    make_part(call, call->items, call->count, REG_LOCK_TIMEOUT);
}

void reg_retry_call_locked(const reg_call_t *call, int most)
{
    call_by_key(call, MAX(REG_LOCK_TIMEOUT / count_keys(call), SHORT_LOCK_TIMEOUT), most);
}
