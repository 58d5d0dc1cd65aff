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

/* Less than a call at the database takes. */
#define NO_WAIT 500

/* What the call that follows a hash may take. */
#define CALL_RESERVE apr_time_from_sec(1)

/* Of this child process: the processors are the same for all its hosts. */
static reg_semaphore_t *hashing;

/* Half the processors: the others go on with what takes no time. */
static int default_number(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    return (int)MAX(processors / 2, 1);
}

void reg_hashing_init(apr_pool_t *pool, server_rec *main_server)
{
    int most = reg_server_conf(main_server)->most_hashing;

    hashing = reg_semaphore_make(pool, most > 0 ? most : default_number());
    if (!hashing) {
        ap_log_error(
            APLOG_MARK, APLOG_CRIT, 0, main_server,
            "REG0109: no mutex could be made for hashing; families are answered 503");
    }
}

/* Until when the request may wait. Under overload every request that gets a turn has
 * waited for almost as long as it may, so the time for its hash, by what the last one
 * took, and for the call after it is kept back; but at most half the time that is left,
 * so that one slow hash does not refuse all that come after it. */
static apr_time_t latest_begin(reg_request_t *request, const reg_server_conf_t *conf)
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

    if (!hashing || !reg_semaphore_enter(hashing, latest_begin(request, conf))) {
        request->outcome = reg_outcome_name(REG_UNAVAILABLE);
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "REG0315: no password could be hashed in time, all "
                      "RegistrationHashing are at work; returning 503");
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
