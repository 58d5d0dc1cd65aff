/* SPDX-License-Identifier: Apache-2.0 */
#include "retry.h"

#include "trace.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <string.h>
#include <sys/param.h>

/* Milliseconds: the shortest lock timeout, for the calls that find out which of several
 * keys is locked. They are made one after the other while other requests wait. */
#define MIN_LOCK_TIMEOUT 10

/* The shortest limit: longer than a lock timeout, which has its own verdict. */
#define MIN_LIMIT apr_time_from_msec(500)

/* How often a call is retried after a deadlock or serialization failure. */
#define MAX_CONFLICT_RETRIES 3

/* The backoff after a broken connection; each pause is twice the one before. */
#define MIN_BACKOFF apr_time_from_msec(20)
#define MAX_BACKOFF apr_time_from_msec(200)

static int is_in_doubt(const reg_call_t *call)
{
    for (int i = 0; i < call->count; i++) {
        if (call->items[i]->in_doubt) {
            return 1;
        }
    }
    return 0;
}

/* Checks the held connection in; the next attempt checks another one out. */
static void check_in_held(const reg_call_t *call)
{
    call->connections->checkin(call->connections->baton, *call->held);
    *call->held = NULL;
}

/* Whether the connection can be used after a call with this verdict. Any other connection
 * is checked in, which has it checked and reconnected. */
static int is_usable_after(reg_verdict_t verdict)
{
    return verdict == REG_CALL_DONE || verdict == REG_CALL_CONFLICT
           || verdict == REG_CALL_REFUSED || verdict == REG_CALL_LOCKED
           || verdict == REG_CALL_SLOW || verdict == REG_CALL_CANCELLED;
}

static void check_out_held(const reg_call_t *call)
{
    apr_interval_time_t waited = 0;

    *call->held =
        reg_trace_checkout(call->connections, call->operation, call->start_by, &waited);
    for (int i = 0; i < call->count; i++) {
        call->items[i]->stats.connecting += waited;
    }
}

static void count_call_retry(const reg_call_t *call, reg_verdict_t reason)
{
    reg_trace_retry(call->connections, call->operation, call->items, call->count, reason);
}

/* Makes the call once. A call that would start more than half of REG_CALL_TIME late, as
 * the checkout of its connection took until start_by, is not made. Without a connection
 * the verdict is REG_CALL_BROKEN, which is retried, only for a call in doubt. */
static reg_verdict_t attempt_call(const reg_call_t *call)
{
    int is_late = apr_time_now() > call->start_by + REG_CALL_TIME / 2;
    reg_verdict_t verdict;

    if (!*call->held && !is_late) {
        check_out_held(call);
    }
    if (!*call->held || is_late) {
        return is_in_doubt(call) ? REG_CALL_BROKEN : REG_CALL_UNAVAILABLE;
    }
    verdict = reg_trace_call(*call->held, call);
    if (!is_usable_after(verdict)) {
        check_in_held(call);
    }
    return verdict;
}

/* Makes the call, and retries it on other connections while connections break. */
static reg_verdict_t retry_broken(const reg_call_t *call)
{
    apr_interval_time_t pause = MIN_BACKOFF;
    reg_verdict_t verdict = attempt_call(call);

    if (call->turn) {
        reg_turn_give(call->turn);
    }
    while (verdict == REG_CALL_BROKEN && apr_time_now() + pause < call->start_by) {
        count_call_retry(call, verdict);
        apr_sleep(pause);
        pause = MIN(2 * pause, MAX_BACKOFF);
        verdict = attempt_call(call);
    }
    return verdict;
}

/* Sleeps for a random time of 1 to 8 ms, so that two transactions in conflict do not
 * retry at the same time. */
static void sleep_randomly(void)
{
    unsigned char random = 0;

    apr_generate_random_bytes(&random, 1);
    apr_sleep(apr_time_from_msec(1 + random % 8));
}

static void call_and_retry(const reg_call_t *call);

/* Makes a call for some of the requests. */
static void call_part(const reg_call_t *whole, reg_item_t *const *items, int count,
                      int lock_timeout)
{
    reg_call_t part = *whole;

    part.items = items;
    part.count = count;
    part.lock_timeout = lock_timeout;
    call_and_retry(&part);
}

/* Makes a call for each request, so that only the request at fault fails. Each call has
 * half of the shared call's limit. */
static void call_one_by_one(const reg_call_t *call)
{
    reg_call_t part = *call;

    part.limit = call->limit ? MAX(call->limit / 2, MIN_LIMIT) : 0;
    for (int i = 0; i < call->count; i++) {
        call_part(&part, call->items + i, 1, call->lock_timeout);
    }
}

/* Retries several requests one by one; answers a single request. */
static void retry_apart_or_answer(const reg_call_t *call, reg_verdict_t reason,
                                  reg_outcome_t outcome)
{
    if (call->count > 1) {
        count_call_retry(call, reason);
        call_one_by_one(call);
    }
    else {
        reg_execute_answer(call, outcome);
    }
}

static int has_same_key(const reg_call_t *call, int a, int b)
{
    const char *one = call->items[a]->values[call->operation->key];
    const char *other = call->items[b]->values[call->operation->key];

    return one && other && strcmp(one, other) == 0;
}

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

/* Takes request `first` and all later requests with its key. @return their number. */
static int take_same_key(const reg_call_t *call, int first, char *taken,
                         reg_item_t **group)
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

/* Makes calls for requests with the same key, at most `most` requests each. After a lock
 * timeout the remaining requests are answered REG_LOCKED without a call. */
static void call_same_key(const reg_call_t *call, reg_item_t *const *items, int count,
                          int lock_timeout, int most)
{
    int is_locked = 0;

    for (int i = 0; i < count && !is_locked; i += most) {
        call_part(call, items + i, MIN(most, count - i), lock_timeout);
        is_locked = items[i]->answer.outcome == REG_LOCKED;
        for (int rest = i + most; rest < count && is_locked; rest++) {
            items[rest]->answer = (reg_answer_t){.outcome = REG_LOCKED};
        }
    }
}

/* Makes a call for each key, so that only requests whose key is locked fail. */
static void call_by_key(const reg_call_t *call, int lock_timeout, int most)
{
    reg_item_t **group = apr_palloc(call->pool, sizeof(void *) * (apr_size_t)call->count);
    char *taken = apr_pcalloc(call->pool, (apr_size_t)call->count);

    for (int i = 0; i < call->count; i++) {
        if (!taken[i]) {
            call_same_key(call, group, take_same_key(call, i, taken, group), lock_timeout,
                          most);
        }
    }
}

/* Makes the call and, depending on the verdict, retries it or answers its requests. */
static void call_and_retry(const reg_call_t *call)
{
    reg_verdict_t verdict = retry_broken(call);

    for (int i = 0; i < MAX_CONFLICT_RETRIES && verdict == REG_CALL_CONFLICT; i++) {
        count_call_retry(call, verdict);
        sleep_randomly();
        verdict = retry_broken(call);
    }
    switch (verdict) {
    case REG_CALL_DONE:
        break;
    case REG_CALL_REFUSED:
        retry_apart_or_answer(call, verdict, REG_BAD_DATA);
        break;
    case REG_CALL_SLOW:
        retry_apart_or_answer(call, verdict, REG_SLOW);
        break;
    case REG_CALL_CANCELLED:
        retry_apart_or_answer(call, verdict, REG_UNAVAILABLE);
        break;
    case REG_CALL_LOCKED:
        if (count_keys(call) > 1) {
            count_call_retry(call, verdict);
            call_by_key(call, MIN_LOCK_TIMEOUT, call->count);
        }
        else {
            reg_execute_answer(call, REG_LOCKED);
        }
        break;
    case REG_CALL_CONFLICT:
        reg_execute_report(call,
                           apr_psprintf(call->pool,
                                        "REG0308: operation %s: deadlock or "
                                        "serialization failure %d times in a row; "
                                        "returning 503",
                                        call->operation->name, MAX_CONFLICT_RETRIES + 1));
        reg_execute_answer(call, REG_UNAVAILABLE);
        break;
    case REG_CALL_BROKEN:
    case REG_CALL_UNAVAILABLE:
        reg_execute_answer(call, REG_UNAVAILABLE);
        break;
    case REG_CALL_UNPREPARED:
        reg_execute_report(
            call, apr_psprintf(call->pool,
                               "REG0309: operation %s cannot be prepared; returning 500",
                               call->operation->name));
        reg_execute_answer(call, REG_FAULT);
        break;
    case REG_CALL_FAULT:
        reg_execute_answer(call, REG_FAULT);
        break;
    }
}

void reg_retry_call(const reg_call_t *call)
{
    call_part(call, call->items, call->count, REG_LOCK_TIMEOUT);
}

void reg_retry_call_locked(const reg_call_t *call, int most)
{
    call_by_key(call, MAX(REG_LOCK_TIMEOUT / count_keys(call), MIN_LOCK_TIMEOUT), most);
}
