/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include "check.h"
#include "claims.h"
#include "hashing.h"
#include "lists.h"
#include "metrics_memory.h"
#include "pool.h"
#include "ids.h"
#include "reply.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <sys/param.h>

APLOG_USE_MODULE(registration);

static reg_method_t method_of(const request_rec *r)
{
    switch (r->method_number) {
    case M_GET:
        return REG_METHOD_GET;
    case M_POST:
        return REG_METHOD_POST;
    case M_PUT:
        return REG_METHOD_PUT;
    case M_DELETE:
        return REG_METHOD_DELETE;
    case M_OPTIONS:
        return REG_METHOD_OPTIONS;
    default:
        return REG_METHOD_OTHER;
    }
}

/* A buffer for a body, with one more byte for the NUL. */
typedef struct {
    char *data;
    apr_size_t length;
    apr_size_t capacity; /* before `data` is allocated: the expected size */
} buffer_t;

static void append_data(apr_pool_t *pool, buffer_t *body, const char *data,
                        apr_size_t length)
{
    if (!body->data || length >= body->capacity - body->length) {
        char *grown;

        body->capacity = MAX(body->capacity, 2 * body->length + length + 1);
        grown = apr_palloc(pool, body->capacity);
        if (body->data) {
            memcpy(grown, body->data, body->length);
        }
        body->data = grown;
    }
    memcpy(body->data + body->length, data, length);
    body->length += length;
}

/* Appends the data of a brigade to the body. @return 0, or the status of the answer. */
static int append_brigade(request_rec *r, apr_bucket_brigade *bb, apr_size_t most,
                          buffer_t *body)
{
    for (apr_bucket *b = APR_BRIGADE_FIRST(bb); b != APR_BRIGADE_SENTINEL(bb);
         b = APR_BUCKET_NEXT(b)) {
        const char *data;
        apr_size_t length;
        apr_status_t rv;

        if (APR_BUCKET_IS_METADATA(b)) {
            continue;
        }
        rv = apr_bucket_read(b, &data, &length, APR_BLOCK_READ);
        if (rv != APR_SUCCESS) {
            return ap_map_http_request_error(rv, HTTP_BAD_REQUEST);
        }
        if (length > most - body->length) {
            r->connection->keepalive = AP_CONN_CLOSE; /* the rest will not be read */
            return HTTP_REQUEST_ENTITY_TOO_LARGE;
        }
        append_data(r->pool, body, data, length);
    }
    return 0;
}

/* The Content-Length, which httpd has checked; 0 if there is none. */
static apr_int64_t read_content_length(const request_rec *r)
{
    const char *length = apr_table_get(r->headers_in, "Content-Length");

    return length ? apr_atoi64(length) : 0;
}

/* Whether the body has a content coding that no input filter has decoded. */
static int is_encoded(const request_rec *r)
{
    const char *coding = apr_table_get(r->headers_in, "Content-Encoding");

    return coding && *coding && ap_cstr_casecmp(coding, "identity") != 0;
}

static int read_body(reg_request_t *request)
{
    request_rec *r = request->host_data;
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    apr_int64_t announced = read_content_length(r);
    buffer_t body = {NULL, 0, (apr_size_t)announced + 1};
    int status = 0, last = 0;

    if (announced > (apr_int64_t)request->settings->max_body) {
        return HTTP_REQUEST_ENTITY_TOO_LARGE;
    }
    while (!status && !last) {
        apr_status_t rv = ap_get_brigade(r->input_filters, bb, AP_MODE_READBYTES,
                                         APR_BLOCK_READ, HUGE_STRING_LEN);

        if (rv != APR_SUCCESS) {
            /* Negative if the filter has sent an answer: LimitRequestBody. */
            status = ap_map_http_request_error(rv, HTTP_BAD_REQUEST);
        }
        else {
            last = !APR_BRIGADE_EMPTY(bb) && APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(bb));
            status = append_brigade(r, bb, request->settings->max_body, &body);
        }
        apr_brigade_cleanup(bb);
    }
    append_data(r->pool, &body, "", 1);
    request->body = body.data;
    request->body_length = body.length - 1;
    return !status && is_encoded(r) ? HTTP_UNSUPPORTED_MEDIA_TYPE : status;
}

static const reg_host_t host = {.read_body = read_body,
                                .run_operation = reg_pool_run_operation,
                                .enter_list = reg_lists_enter,
                                .begin_hashing = reg_hashing_begin,
                                .end_hashing = reg_hashing_end};

const char *reg_request_path(const request_rec *r, const reg_dir_conf_t *conf)
{
    apr_size_t length = strlen(conf->mount);
    const char *path = r->uri + length;

    return strncmp(r->uri, conf->mount, length) == 0 && (!*path || *path == '/') ? path
                                                                                 : NULL;
}

int reg_request_make_id(const conn_rec *c, const request_rec *r, const char **id)
{
    (void)c;
    if (!r || !reg_server_conf(r->server)->mounted) {
        return DECLINED;
    }
    *id = reg_id_uuid(r->pool);
    return OK;
}

const char *reg_request_id(request_rec *r)
{
    const char *unique_id = apr_table_get(r->subprocess_env, "UNIQUE_ID");

    if (!r->log_id) {
        /* Otherwise httpd generates another id for the logs. */
        r->log_id = unique_id;
    }
    if (!r->log_id) {
        ap_run_generate_log_id(r->connection, r, &r->log_id);
    }
    return unique_id ? unique_id : r->log_id;
}

reg_request_t *reg_request_make(request_rec *r, const reg_dir_conf_t *conf)
{
    reg_request_t *request = apr_pcalloc(r->pool, sizeof(*request));
    const char *authorization = apr_table_get(r->headers_in, "Authorization");
    const char *path = reg_request_path(r, conf);

    request->pool = r->pool;
    request->host = &host;
    request->host_data = r;
    request->settings = reg_settings(r->pool, conf);
    request->metrics = reg_metrics(r->server);
    request->api = (reg_api_t)conf->api;
    request->method = method_of(r);
    request->mount = conf->mount_uri;
    request->path = path ? path : r->uri;
    request->query = r->args;
    request->content_type = apr_table_get(r->headers_in, "Content-Type");
    request->has_body = ap_request_has_body(r);
    request->has_bearer_token =
        authorization && ap_cstr_casecmpn(authorization, "Bearer ", 7) == 0;
    request->user = r->user && *r->user ? r->user : NULL;
    request->request_id = reg_request_id(r);
    request->if_match = apr_table_get(r->headers_in, "If-Match");
    request->if_none_match = apr_table_get(r->headers_in, "If-None-Match");
    request->idempotency_key = apr_table_get(r->headers_in, "Idempotency-Key");
    request->prefer = apr_table_get(r->headers_in, "Prefer");
    request->accept = apr_table_get(r->headers_in, "Accept");
    return request;
}

void reg_request_attach(request_rec *r, reg_request_t *request)
{
    ap_set_module_config(r->request_config, &registration_module, request);
}

reg_request_t *reg_request_attached(const request_rec *r)
{
    return ap_get_module_config(r->request_config, &registration_module);
}

/* Whether this process has not logged such a warning in the last minute: a wrong claim
 * name in the configuration is noticed, and a client cannot fill the log. */
static int is_first_in_a_minute(void)
{
    static apr_time_t last;
    apr_time_t now = apr_time_now(), before = __atomic_load_n(&last, __ATOMIC_RELAXED);

    return now - before >= apr_time_from_sec(60)
           && __atomic_compare_exchange_n(&last, &before, now, 0, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED);
}

int reg_request_set_organization(request_rec *r, const reg_dir_conf_t *conf,
                                 reg_request_t *request)
{
    const char *error = NULL;
    const char *value;

    if (!conf->organization || request->api != REG_API_EVENTS
        || request->method == REG_METHOD_OPTIONS) { /* a preflight request has no token */
        return 1;
    }
    value = ap_expr_str_exec(r, conf->organization, &error);
    if (error) {
        ap_log_rerror(
            APLOG_MARK, APLOG_ERR, 0, r,
            "REG0201: RegistrationOrganization cannot be evaluated: %s; returning 403",
            error);
        return 0;
    }
    if (!reg_claims_are_texts(r, conf->organization_claims)) {
        value = NULL;
    }
    request->organization = reg_id_lower(request->pool, value);
    if (!value || reg_check_uuid(value)) {
        int level = is_first_in_a_minute() ? APLOG_WARNING : APLOG_INFO;

        ap_log_rerror(APLOG_MARK, level, 0, r,
                      "REG0202: RegistrationOrganization gives no UUID; returning 403");
        return 0;
    }
    return 1;
}

void reg_request_set_id_header(request_rec *r, request_rec *refused)
{
    apr_table_setn(r->err_headers_out, "X-Request-Id", reg_request_id(refused));
}

int reg_request_has_other_coding(const request_rec *r)
{
    const char *coding = apr_table_get(r->headers_in, "Transfer-Encoding");

    return coding && ap_cstr_casecmp(coding, "chunked") != 0;
}

/* Sets them in err_headers_out, which an ErrorDocument keeps, and in which a `Header
 * always set` of the site replaces them. */
void reg_request_protect(request_rec *r, const char *cache_control)
{
    apr_table_setn(r->err_headers_out, "X-Content-Type-Options", "nosniff");
    apr_table_setn(r->err_headers_out, "Cache-Control",
                   cache_control ? cache_control : "no-store");
}

/* Sets these headers of a reply. A reply with an entity tag may be cached and
 * revalidated. */
static void protect_reply(request_rec *r, reg_reply_t *reply)
{
    const char *own = apr_table_get(reply->headers, "Cache-Control");

    if (!own && apr_table_get(reply->headers, "ETag")) {
        own = "private, no-cache";
    }
    reg_request_protect(r, own);
    apr_table_unset(reply->headers, "Cache-Control");
    apr_table_unset(reply->headers, "X-Content-Type-Options");
}

/* Adds to the Vary of other modules. */
static void add_vary(request_rec *r, const reg_reply_t *reply)
{
    const char *vary = apr_table_get(reply->headers, "Vary");

    if (vary) {
        apr_table_mergen(r->headers_out, "Vary", vary);
        apr_table_unset(reply->headers, "Vary");
    }
}

/* Sends a body, which outlives the request, without copying it. */
static void send_body(request_rec *r, const char *body, apr_size_t length)
{
    apr_bucket_alloc_t *allocator = r->connection->bucket_alloc;
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, allocator);

    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_pool_create(body, length, r->pool, allocator));
    ap_pass_brigade(r->output_filters, bb);
}

int reg_request_send(request_rec *r, reg_reply_t *reply)
{
    reg_request_t *request = reg_request_attached(r);
    apr_size_t length = reply->body ? strlen(reply->body) : 0;
    int is_paced = reply->more || length > REG_PACED_SIZE; /* a long answer */

    if (reply->status < 0) {
        return reply->status;
    }
    /* A large page may keep a thread busy as long as a whole list. The answer to a write
     * is always sent: it is short, and tells that the write was done. */
    if (is_paced && request->method == REG_METHOD_GET && !request->is_list
        && !reg_lists_enter(request)) {
        reply = reg_reply_status(request, HTTP_SERVICE_UNAVAILABLE);
        length = strlen(reply->body);
        is_paced = 0;
    }
    /* httpd must not answer a PUT that was done with a part of the body, or with 416. */
    apr_table_unset(r->headers_in, "Range");
    apr_table_unset(r->headers_in, "Request-Range");
    r->status = reply->status;
    add_vary(r, reply);
    protect_reply(r, reply);
    apr_table_overlap(r->headers_out, reply->headers, APR_OVERLAP_TABLES_SET);
    if (ap_is_HTTP_ERROR(reply->status)) {
        reg_request_set_id_header(r, r);
    }
    if (!reply->body) {
        return OK;
    }
    ap_set_content_type(r, reply->content_type);
    if (!reply->more) {
        ap_set_content_length(r, (apr_off_t)length);
    }
    if (is_paced) {
        reg_lists_send(request, reply);
    }
    else {
        send_body(r, reply->body, length);
    }
    return OK;
}
