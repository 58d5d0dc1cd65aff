/* SPDX-License-Identifier: Apache-2.0 */
#include "keepalive.h"

#include "config.h"

#include <ap_listen.h>
#include <ap_mpm.h>
#include <apr_atomic.h>
#include <apr_portable.h>
#include <http_config.h>
#include <http_connection.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/param.h>
#include <sys/socket.h>

extern module AP_MODULE_DECLARE_DATA registration_module;

/* For this time after most threads were busy, the process counts as short of threads. */
#define SHORT_OF_THREADS apr_time_from_sec(1)

/* For this time after more connections than threads were there, accepted or waiting, new
 * ones are expected. */
#define CROWDED apr_time_from_msec(100)

/* The most threads left to new connections otherwise. */
#define FOR_NEW 8

/* Of this child process. */
static apr_uint32_t threads;  /* 0: the MPM closes no kept-alive connections */
static apr_uint32_t running;  /* requests */
static apr_uint32_t kept;     /* connections that their next answer may keep alive */
static apr_time_t busy_at;    /* when most threads were last busy */
static apr_time_t crowded_at; /* when more connections than threads were last there */

static void set_now(apr_time_t *time)
{
    __atomic_store_n(time, apr_time_now(), __ATOMIC_RELAXED);
}

/* Whether the time is at most so long ago. If the clock was set back, it is not. */
static int is_recent(const apr_time_t *time, apr_interval_time_t age)
{
    apr_interval_time_t passed = apr_time_now() - __atomic_load_n(time, __ATOMIC_RELAXED);

    return passed >= 0 && passed < age;
}

static void init_threads(apr_pool_t *pool, server_rec *main_server)
{
    int most = 0, is_async = 0;

    (void)pool;
    (void)main_server;
    ap_mpm_query(AP_MPMQ_IS_ASYNC, &is_async);
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &most);
    threads = is_async ? (apr_uint32_t)most : 0;
}

/* Whether a connection is counted in `kept`. */
typedef struct {
    int is_kept;
} connection_t;

static apr_status_t uncount(void *data)
{
    connection_t *connection = data;

    if (connection->is_kept) {
        connection->is_kept = 0;
        apr_atomic_dec32(&kept);
    }
    return APR_SUCCESS;
}

/* Called whenever the MPM reads from a client's connection. Not in pre_connection, which
 * mod_proxy runs for its connections to backends. */
static int count_connection(conn_rec *c)
{
    if (!c->master /* no stream of HTTP/2 */
        && !ap_get_module_config(c->conn_config, &registration_module)) {
        connection_t *connection = apr_palloc(c->pool, sizeof(*connection));

        connection->is_kept = 1;
        apr_atomic_inc32(&kept);
        ap_set_module_config(c->conn_config, &registration_module, connection);
        apr_pool_cleanup_register(c->pool, connection, uncount, apr_pool_cleanup_null);
    }
    return DECLINED;
}

/* A stream of HTTP/2 has a thread of mod_http2, not of the MPM. */
static int is_stream(const request_rec *r)
{
    return r->connection->master != NULL;
}

void reg_keepalive_enter(const request_rec *r)
{
    if (!is_stream(r) && 4 * (apr_atomic_inc32(&running) + 1) >= 3 * threads) {
        set_now(&busy_at);
    }
}

void reg_keepalive_leave(const request_rec *r)
{
    if (!is_stream(r)) {
        apr_atomic_dec32(&running);
    }
}

/* The number of connections that wait to be accepted, which Linux gives as tcpi_unacked
 * of a listening socket. */
static apr_uint32_t count_waiting(void)
{
    apr_uint32_t count = 0;

#ifdef __linux__
    for (const ap_listen_rec *l = ap_listeners; l; l = l->next) {
        struct tcp_info info = {0};
        socklen_t size = sizeof(info);
        apr_os_sock_t fd;

        if (apr_os_sock_get(&fd, l->sd) == APR_SUCCESS
            && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) {
            count += info.tcpi_unacked;
        }
    }
#endif
    return count;
}

void reg_keepalive_decide(const request_rec *r)
{
    connection_t *connection =
        ap_get_module_config(r->connection->conn_config, &registration_module);
    apr_uint32_t room = threads - MIN(threads / 4, FOR_NEW);

    if (threads == 0 || !connection || !connection->is_kept
        || !is_recent(&busy_at, SHORT_OF_THREADS)) {
        return;
    }
    if (!is_recent(&crowded_at, CROWDED)) {
        apr_uint32_t waiting = count_waiting();

        if (waiting > 0 && apr_atomic_read32(&kept) + waiting > threads) {
            set_now(&crowded_at);
        }
    }
    if (apr_atomic_read32(&kept) > room || is_recent(&crowded_at, CROWDED)) {
        r->connection->keepalive = AP_CONN_CLOSE;
        uncount(connection);
    }
}

void reg_keepalive_register(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_child_init(init_threads, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_process_connection(count_connection, NULL, NULL, APR_HOOK_REALLY_FIRST);
}
