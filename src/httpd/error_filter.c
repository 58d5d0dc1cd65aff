/* SPDX-License-Identifier: Apache-2.0 */
#include "error_filter.h"

#include "request.h"
#include "authz.h"
#include "reply.h"
#include "routes.h"

#include <http_protocol.h>
#include <http_request.h>
#include <string.h>
#include <util_filter.h>

static ap_filter_rec_t *filter_handle;

/* Whether the request is the one that mod_ssl makes for plain HTTP on a port for TLS. Its
 * path is not the client's. */
static int is_without_tls(const request_rec *r)
{
    return r->the_request && strcmp(r->the_request, "GET / HTTP/1.0") == 0
           && apr_is_empty_table(r->headers_in) && apr_table_get(r->notes, "error-notes");
}

/* Whether the request has a path, by which its mount is found. It has none if the request
 * line is too long or only a method; httpd then sets "/". */
static int has_path(const request_rec *r)
{
    const char *line = r->the_request ? r->the_request : "";
    const char *uri = line + strcspn(line, " ");

    return r->uri && *r->uri == '/' && uri[strspn(uri, " ")] && !is_without_tls(r);
}

/* The mount of a request. A request that was refused early has not been matched with its
 * <Location>, so that is done here. */
static const reg_dir_conf_t *find_mount(request_rec *r)
{
    if (r->per_dir_config == r->server->lookup_defaults && has_path(r)) {
        ap_location_walk(r);
    }
    return reg_dir_conf(r);
}

/* Sets Retry-After, unless the module that refused the request has set it, in either
 * table. A `Header always set` of the site replaces it in err_headers_out. */
static void set_retry_after(request_rec *r)
{
    const char *seconds = reg_reply_retry_after(r->status);

    if (seconds && !apr_table_get(r->headers_out, "Retry-After")
        && !apr_table_get(r->err_headers_out, "Retry-After")) {
        apr_table_setn(r->err_headers_out, "Retry-After", seconds);
    }
}

/* The body of the error. @param r the request that is answered. */
static const char *make_error_body(request_rec *r, request_rec *refused)
{
    const reg_dir_conf_t *conf = reg_dir_conf(refused);
    const reg_error_t error = {.status = r->status};
    reg_request_t *request;
    const char *allow;

    if (r->status == HTTP_NOT_IMPLEMENTED) {
        /* For httpd this is a status of the method, so it adds an empty Allow. */
        apr_table_unset(r->headers_out, "Allow");
    }
    if (is_without_tls(refused)) {
        return reg_reply_tls_only_body();
    }
    if (conf->api < 0) {
        return reg_reply_plain_body(r->pool, r->status);
    }
    request = reg_request_make(refused, conf);
    allow = reg_route_allow(request);
    if (r->status == HTTP_METHOD_NOT_ALLOWED && allow) {
        apr_table_setn(r->headers_out, "Allow", allow);
    }
    set_retry_after(r);
    return reg_reply_error_body(request, &error);
}

/* Removes the headers that an ErrorDocument has set for its own body. */
static void unset_document_headers(request_rec *r)
{
    static const char *const names[] = {"ETag",
                                        "Last-Modified",
                                        "Accept-Ranges",
                                        "Content-Encoding",
                                        "Content-Language",
                                        "Cache-Control",
                                        "Expires",
                                        "X-Content-Type-Options"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        apr_table_unset(r->headers_out, names[i]);
    }
    r->content_encoding = NULL;
    r->content_languages = NULL;
}

static void delete_data(apr_bucket_brigade *bb)
{
    apr_bucket *next;

    for (apr_bucket *b = APR_BRIGADE_FIRST(bb); b != APR_BRIGADE_SENTINEL(bb); b = next) {
        next = APR_BUCKET_NEXT(b);
        if (!APR_BUCKET_IS_METADATA(b)) {
            apr_bucket_delete(b);
        }
    }
}

/* The output filter: replaces all data by the error's body. Its context is the refused
 * request, and NULL once the body has been written. */
static apr_status_t replace_body(ap_filter_t *f, apr_bucket_brigade *bb)
{
    request_rec *r = f->r;

    delete_data(bb);
    if (f->ctx) {
        const char *body = make_error_body(r, f->ctx);

        f->ctx = NULL;
        unset_document_headers(r);
        reg_request_protect(r, NULL);
        ap_set_content_type(r, REG_CONTENT_TYPE);
        ap_set_content_length(r, (apr_off_t)strlen(body));
        APR_BRIGADE_INSERT_HEAD(
            bb, apr_bucket_pool_create(body, strlen(body), r->pool, bb->bucket_alloc));
    }
    return APR_BRIGADE_EMPTY(bb) ? APR_SUCCESS : ap_pass_brigade(f->next, bb);
}

/* A more precise status than httpd's 400: 501 for a transfer coding that httpd does not
 * know (RFC 9112, section 6.1), and 431 for header fields over a limit (RFC 6585, section
 * 5), which only httpd's note tells. */
static int refine_status(const request_rec *r, const request_rec *refused)
{
    const char *note = apr_table_get(refused->notes, "error-notes");

    if (r->status != HTTP_BAD_REQUEST) {
        return r->status;
    }
    if (reg_request_has_other_coding(refused)) {
        return HTTP_NOT_IMPLEMENTED;
    }
    return note && strstr(note, "request header field") && strstr(note, "exceed")
               ? HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE
               : r->status;
}

/* Inserts the filter for a request under a mount, or without a path. An ErrorDocument of
 * the site is another request, for a page outside of the mount. */
static void insert_if_mounted(request_rec *r)
{
    request_rec *refused = r;

    if (!reg_server_conf(r->server)->mounted) {
        return;
    }
    while (refused->prev) {
        refused = refused->prev;
    }
    if (find_mount(refused)->api < 0 && has_path(refused)) {
        return;
    }
    reg_request_protect(r, NULL);
    if (ap_is_HTTP_ERROR(r->status)) {
        int status = refine_status(r, refused);

        if (status != r->status) {
            r->status = status;
            r->status_line = NULL;
        }
        ap_add_output_filter_handle(filter_handle, refused, r, r->connection);
        reg_scope_challenge(r, refused);
        reg_request_set_id_header(r, refused);
    }
}

static void insert_for_document(request_rec *r)
{
    if (r->prev) {
        insert_if_mounted(r);
    }
}

void reg_error_filter_register(apr_pool_t *pool)
{
    (void)pool;
    filter_handle = ap_register_output_filter("REGISTRATION_ERROR", replace_body, NULL,
                                              AP_FTYPE_RESOURCE);
    ap_hook_insert_error_filter(insert_if_mounted, NULL, NULL, APR_HOOK_LAST);
    ap_hook_insert_filter(insert_for_document, NULL, NULL, APR_HOOK_LAST);
}
