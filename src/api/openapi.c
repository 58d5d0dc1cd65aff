/* SPDX-License-Identifier: Apache-2.0 */

/* The description of the APIs (OpenAPI 3.1): GET of openapi.json. */

#include "embed.h"
#include "etag.h"
#include "reply.h"

REG_EMBED(reg_openapi_document, "src/api/openapi.json");

reg_reply_t *reg_openapi_get(reg_request_t *request)
{
    const char *etag = reg_etag(request->pool, "openapi", reg_openapi_document);
    reg_reply_t *reply;

    if (!reg_etag_holds(request->if_match, etag)) {
        return reg_reply_status(request, 412);
    }
    reply = reg_etag_matches(request->if_none_match, etag)
                ? reg_reply(request, 304, NULL)
                : reg_reply(request, 200, reg_openapi_document);
    apr_table_setn(reply->headers, "ETag", etag);
    /* Cached but revalidated each time: another version of the module has another. */
    apr_table_setn(reply->headers, "Cache-Control", "no-cache");
    return reply;
}
