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

/* Whether the request is the one that mod_ssl puts in the place of plain HTTP on a port
 * for TLS, of which it has read nothing. Its path is mod_ssl's own. */
static int is_without_tls(const request_rec *r)
{
    return r->the_request && strcmp(r->the_request, "GET / HTTP/1.0") == 0
           && apr_is_empty_table(r->headers_in) && apr_table_get(r->notes, "error-notes");
}

/* Whether there is anything to find the mount by; there is not when the request line is
 * too long, or only a method: httpd then says "/". */
static int has_path(const request_rec *r)
{
    const char *line = r->the_request ? r->the_request : "";
    const char *uri = line + strcspn(line, " ");

    return r->uri && *r->uri == '/' && uri[strspn(uri, " ")] && !is_without_tls(r);
}

/* What is mounted where a request points to. One that was refused early has not been
 * matched with its <Location> yet, so that is done here. */
static const reg_dir_conf_t *mount_of(request_rec *r)
{
    if (r->per_dir_config == r->server->lookup_defaults && has_path(r)) {
        ap_location_walk(r);
    }
    return reg_dir_conf(r);
}

/* Whoever refused the request may have said it already, in either table. Else it goes to
 * the one that a `Header always set` of the site writes to after this, and so replaces.
 */
static void set_retry_after(request_rec *r)
{
    const char *seconds = reg_reply_retry_after(r->status);

    if (seconds && !apr_table_get(r->headers_out, "Retry-After")
        && !apr_table_get(r->err_headers_out, "Retry-After")) {
        apr_table_setn(r->err_headers_out, "Retry-After", seconds);
    }
}

/* The body that says why a request was refused; r is the one that answers it. */
static const char *make_body(request_rec *r, request_rec *refused)
{
    const reg_dir_conf_t *conf = reg_dir_conf(refused);
    const reg_error_t error = {.status = r->status};
    reg_request_t *request;
    const char *allow;

    if (r->status == HTTP_NOT_IMPLEMENTED) {
        /* httpd takes it for the method's, and adds an empty Allow. */
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

/* Takes back what an ErrorDocument says of its own body. */
static void unset_headers(request_rec *r)
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

/* Puts the body in the place of all data that comes. The filter's context is the request
 * that was refused, until the body has been written. */
static apr_status_t replace_body(ap_filter_t *f, apr_bucket_brigade *bb)
{
    request_rec *r = f->r;

    delete_data(bb);
    if (f->ctx) {
        const char *body = make_body(r, f->ctx);

        f->ctx = NULL;
        unset_headers(r);
        reg_request_protect(r, NULL);
        ap_set_content_type(r, REG_CONTENT_TYPE);
        ap_set_content_length(r, (apr_off_t)strlen(body));
        APR_BRIGADE_INSERT_HEAD(
            bb, apr_bucket_pool_create(body, strlen(body), r->pool, bb->bucket_alloc));
    }
    return APR_BRIGADE_EMPTY(bb) ? APR_SUCCESS : ap_pass_brigade(f->next, bb);
}

/* The status that says more than httpd's 400: for a coding that httpd does not know (RFC
 * 9112, section 6.1) and for header fields over a limit (RFC 6585, section 5), which only
 * its note tells; that of plain HTTP is mod_ssl's. */
static int exact_status(const request_rec *r, const request_rec *refused)
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

/* Has the body replaced when it answers a request under a mount, or one that has no path.
 * An ErrorDocument of the site's own is another request, to a page outside the mount. */
static void insert(request_rec *r)
{
    request_rec *refused = r;

    if (!reg_server_conf(r->server)->mounted) {
        return;
    }
    while (refused->prev) {
        refused = refused->prev;
    }
    if (mount_of(refused)->api < 0 && has_path(refused)) {
        return;
    }
    reg_request_protect(r, NULL);
    if (ap_is_HTTP_ERROR(r->status)) {
        int status = exact_status(r, refused);

        if (status != r->status) {
            r->status = status;
            r->status_line = NULL;
        }
        ap_add_output_filter_handle(filter_handle, refused, r, r->connection);
        reg_scope_challenge(r, refused);
        reg_request_tell_id(r, refused);
    }
}

static void insert_filter(request_rec *r)
{
    if (r->prev) {
        insert(r);
    }
}

void reg_error_filter_register(apr_pool_t *pool)
{
    (void)pool;
    filter_handle = ap_register_output_filter("REGISTRATION_ERROR", replace_body, NULL,
                                              AP_FTYPE_RESOURCE);
    ap_hook_insert_error_filter(insert, NULL, NULL, APR_HOOK_LAST);
    ap_hook_insert_filter(insert_filter, NULL, NULL, APR_HOOK_LAST);
}
