/* SPDX-License-Identifier: Apache-2.0 */
#include "hashing.h"

#include "config.h"
#include "fifo_semaphore.h"
#include "outcomes.h"
#include "pool.h"

#include <http_log.h>
#include <sys/param.h>
#include <unistd.h>

APLOG_USE_MODULE(registration);

/* Microseconds: a shorter wait is no wait, as it is shorter than a call. */
#define NO_WAIT 500

/* The time reserved for the call after a hash. */
#define CALL_RESERVE apr_time_from_sec(1)

/* One for each child process: all virtual hosts share the processors. */
static reg_semaphore_t *hashing;

/* Half the processors, so that short requests have the other half. */
static int count_default_slots(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    return (int)MAX(processors / 2, 1);
}

void reg_hashing_init(apr_pool_t *pool, server_rec *main_server)
{
    int most = reg_server_conf(main_server)->most_hashing;

    hashing = reg_semaphore_make(pool, most > 0 ? most : count_default_slots());
    if (!hashing) {
        ap_log_error(
            APLOG_MARK, APLOG_CRIT, 0, main_server,
            "REG0109: cannot create a mutex for hashing; families are answered 503 until "
            "httpd is restarted");
    }
}

/* The deadline of the wait for a slot. It reserves the time for the hash, estimated by
 * the last one, and for the call after it, because under overload each request waits
 * almost until its deadline. It reserves at most half of the remaining time, so that one
 * slow hash does not refuse all later requests. */
static apr_time_t find_wait_deadline(reg_request_t *request,
                                     const reg_server_conf_t *conf)
{
    apr_time_t now = apr_time_now();
    apr_interval_time_t left = MAX(reg_pool_deadline(request) - now, 0);
    apr_interval_time_t took = __atomic_load_n(&conf->hash_took, __ATOMIC_RELAXED);

    return now + left - MIN(2 * took + CALL_RESERVE, left / 2);
}

int reg_hashing_begin(reg_request_t *request)
{
    request_rec *r = request->host_data;
    const reg_server_conf_t *conf = reg_server_conf(r->server);
    apr_time_t asked = apr_time_now();

    if (!hashing || !reg_semaphore_enter(hashing, find_wait_deadline(request, conf))) {
        request->outcome = reg_outcome_name(REG_UNAVAILABLE);
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "REG0315: all RegistrationHashing are in use until the deadline; "
                      "returning 503");
        return 0;
    }
    return apr_time_now() - asked > NO_WAIT ? 2 : 1;
}

void reg_hashing_end(reg_request_t *request, apr_interval_time_t took)
{
    request_rec *r = request->host_data;

    if (took > 0) {
        __atomic_store_n(&reg_server_conf(r->server)->hash_took, took, __ATOMIC_RELAXED);
    }
    reg_semaphore_leave(hashing);
}
