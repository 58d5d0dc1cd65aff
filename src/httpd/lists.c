/* SPDX-License-Identifier: Apache-2.0 */
#include "lists.h"

#include <ap_mpm.h>
#include <apr_atomic.h>
#include <apr_portable.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <util_filter.h>

APLOG_USE_MODULE(registration);

/* The default of RegistrationListThreads is this part of the threads. */
#define LIST_PART 4

/* The minimum rate of a reader, measured over this time of sending. */
#define WINDOW apr_time_from_sec(20)
#define MIN_RATE 10000 /* bytes a second */

/* The number of long answers that this process is sending. */
static apr_uint32_t sending;

void reg_lists_init(apr_pool_t *pool, server_rec *main_server)
{
    int threads = 1;

    (void)pool;
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    for (server_rec *s = main_server; s; s = s->next) {
        reg_server_conf_t *conf = reg_server_conf(s);

        if (conf->list_threads < 0) {
            conf->list_threads = MAX(threads / LIST_PART, 1);
        }
    }
}

int reg_lists_enter(reg_request_t *request)
{
    request_rec *r = request->host_data;
    int most = reg_server_conf(r->server)->list_threads;

    request->is_list = apr_atomic_inc32(&sending) < (apr_uint32_t)most;
    if (!request->is_list) {
        apr_atomic_dec32(&sending);
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "REG0204: %d long answers are being sent, the limit of "
                      "RegistrationListThreads; returning 503",
                      most);
    }
    return request->is_list;
}

void reg_lists_leave(reg_request_t *request)
{
    if (request->is_list) {
        apr_atomic_dec32(&sending);
        request->is_list = 0;
    }
}

/* Resets the connection, as in HTTP/1.0 a normal close is the end of the body; of HTTP/2
 * only the stream. */
static void reset_connection(request_rec *r)
{
    const struct linger at_once = {.l_onoff = 1};
    apr_os_sock_t fd;

    if (!r->connection->master
        && apr_os_sock_get(&fd, ap_get_conn_socket(r->connection)) == APR_SUCCESS) {
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    }
    r->connection->aborted = 1;
}

/* Truncates a body so that the client notices: without the last chunk of the chunked
 * coding, as mod_proxy does when its backend fails. */
static void truncate_body(request_rec *r)
{
    apr_bucket_alloc_t *allocator = r->connection->bucket_alloc;
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, allocator);

    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                  "REG0203: list truncated: the database did not return the next chunk; "
                  "closing the connection");
    if (r->proto_num < HTTP_VERSION(1, 1)) {
        reset_connection(r);
    }
    APR_BRIGADE_INSERT_TAIL(
        bb, ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, r->pool, allocator));
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(allocator));
    ap_pass_brigade(r->output_filters, bb);
}

/* What a reader has received in the current window. */
typedef struct {
    apr_time_t spent; /* time of sending, without the database */
    apr_size_t bytes;
} pace_t;

/* Sends a piece of a body. @return 0 if the connection is closed or the reader too slow.
 */
static int send_piece(request_rec *r, pace_t *pace, const char *piece, apr_size_t size)
{
    apr_time_t start = apr_time_now();
    int is_taken = ap_rwrite(piece, (int)size, r) >= 0 && ap_rflush(r) >= 0;
    apr_interval_time_t spent = apr_time_now() - start;
    int is_slow = spent >= WINDOW;

    pace->spent += spent;
    pace->bytes += size;
    if (pace->spent >= WINDOW) {
        is_slow |= (apr_time_t)pace->bytes < apr_time_sec(pace->spent) * MIN_RATE;
        *pace = (pace_t){0, 0};
    }
    if (is_slow) {
        ap_log_rerror(
            APLOG_MARK, APLOG_INFO, 0, r,
            "REG0205: slow reader, less than %d bytes a second; closing the connection",
            MIN_RATE);
        reset_connection(r);
    }
    return is_taken && !is_slow;
}

static int send_chunk(request_rec *r, pace_t *pace, const char *chunk)
{
    apr_size_t left = strlen(chunk);
    int goes_on = 1;

    while (left && goes_on) {
        apr_size_t size = MIN(left, REG_PACED_SIZE);

        goes_on = send_piece(r, pace, chunk, size);
        chunk += size;
        left -= size;
    }
    return goes_on;
}

/* Sends all chunks. Each chunk is sent before the next one is read, so that one is in
 * memory, and no database connection waits for a slow reader. For HEAD only the headers
 * are sent: httpd would take the first chunk for the whole body. */
static void send_chunks(reg_request_t *request, reg_reply_t *reply)
{
    request_rec *r = request->host_data;
    pace_t pace = {0, 0};
    apr_pool_t *pool;

    apr_pool_create(&pool, r->pool);
    apr_pool_tag(pool, "registration_chunk");
    while (send_chunk(r, &pace, reply->body) && reply->more && !r->header_only) {
        apr_pool_clear(pool);
        request->deadline = 0; /* Each chunk has its own. */
        if (!reply->more(reply, pool)) {
            truncate_body(r);
            break;
        }
    }
    apr_pool_destroy(pool);
}

/* Limits the unsent bytes that the kernel buffers for a reader; 0: no limit. Without a
 * limit a slow but steady reader seems to receive nothing for long. */
static void limit_unsent(apr_socket_t *socket, int bytes)
{
#ifdef TCP_NOTSENT_LOWAT
    apr_os_sock_t fd;

    if (apr_os_sock_get(&fd, socket) == APR_SUCCESS) {
        setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
    }
#endif
}

/* An HTTP/2 connection is shared with other requests, and has its own timeouts. */
void reg_lists_send(reg_request_t *request, reg_reply_t *reply)
{
    const request_rec *r = request->host_data;
    apr_socket_t *socket =
        r->connection->master ? NULL : ap_get_conn_socket(r->connection);
    apr_interval_time_t before = -1;

    if (socket) {
        apr_socket_timeout_get(socket, &before);
        apr_socket_timeout_set(socket, before < 0 ? WINDOW : MIN(before, WINDOW));
        limit_unsent(socket, REG_PACED_SIZE);
    }
    send_chunks(request, reply);
    if (socket) {
        limit_unsent(socket, 0);
        apr_socket_timeout_set(socket, before);
    }
}
