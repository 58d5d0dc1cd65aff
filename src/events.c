/* SPDX-License-Identifier: Apache-2.0 */

/* Event registrations (ONLIVE.SITE): create, get, update, delete. Search is in
 * events_search.c. */

#include "events.h"

#include "etag.h"
#include "ids.h"
#include "json.h"
#include "query.h"
#include "reply.h"

#include <apr_strings.h>
#include <string.h>

static const reg_operation_t events_create = {"events_create", 10};
static const reg_operation_t events_get = {"events_get", 3};
static const reg_operation_t events_update = {"events_update", 5};
static const reg_operation_t events_delete = {"events_delete", 4};

static const reg_rule_t rules[] = {
    {REG_CREATED, {.status = 201}},
    {REG_FOUND, {.status = 200}},
    {REG_UPDATED, {.status = 200}},
    {REG_DELETED, {.status = 200}},
    {REG_NOT_FOUND, {.status = 404, .message = "Registration not found"}},
    {REG_DUPLICATE,
     {.status = 409, .message = "User is already registered for this occurrence"}},
    {REG_FULL, {.status = 409, .message = "Occurrence is full"}},
    {REG_NO_WAITING_LIST, {.status = 409, .message = "Occurrence has no waiting list"}},
    {REG_CHANGED,
     {.status = 412, .message = "The registration has been changed in the meantime"}},
    {0, {0}}};

static reg_reply_t *refuse(reg_request_t *request, const reg_problems_t *problems)
{
    const reg_error_t error = {
        .status = 400, .message = "The request is not valid", .problems = problems};

    return reg_reply_error(request, &error);
}

const char *reg_events_check_status(const char *value)
{
    static const char *const statuses[] = {"PENDING", "CONFIRMED", "CANCELLED",
                                           "WAITING_LIST", "ATTENDED"};

    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (strcmp(value, statuses[i]) == 0) {
            return NULL;
        }
    }
    return "must be one of PENDING, CONFIRMED, CANCELLED, WAITING_LIST, ATTENDED";
}

/* The id of the path, which must be a UUID here. */
static const char *read_id(const reg_request_t *request, reg_problems_t *problems)
{
    const char *id = request->captures[0];
    const char *wrong = reg_check_uuid(id);

    if (wrong) {
        reg_problems_add(problems, "id", wrong);
    }
    return id;
}

/* The flag withTrashed of the query string. */
static const char *read_with_trashed(const reg_request_t *request,
                                     reg_problems_t *problems)
{
    reg_query_t query;

    reg_query_parse(&query, request, problems);
    return reg_query_flag(&query, "withTrashed");
}

/* The text of `fields` as the client wrote it, NULL when missing. */
static const char *read_fields(const reg_request_t *request, reg_problems_t *problems)
{
    return reg_field_free(problems, request->json, "", "fields",
                          reg_json_raw(request->pool, request->body, "fields", NULL));
}

/* A text among the registrant's own fields, NULL unless it is there and well-formed. What
 * they hold is otherwise their own business. */
static const char *read_own(const reg_request_t *request, const char *key,
                            reg_check_t *check)
{
    reg_problems_t ignored = {.pool = request->pool};

    return reg_field(&ignored, reg_json_get(request->json, "fields"), "", key, check);
}

/* A reply with the registration, its entity tag, and 304 where the client has it. */
static reg_reply_t *reply_registration(reg_request_t *request, const reg_answer_t *answer)
{
    reg_reply_t *reply = reg_reply_answer(request, answer, rules);

    if (reply->status < 300 && answer->body && answer->detail) {
        const char *etag = reg_etag(request->pool, answer->detail, answer->body);

        if (request->method == REG_METHOD_GET
            && reg_etag_matches(request->if_none_match, etag)) {
            reply = reg_reply(request, 304, NULL);
        }
        apr_table_setn(reply->headers, "ETag", etag);
    }
    return reply;
}

reg_reply_t *reg_events_create(reg_request_t *request)
{
    const reg_error_t not_found = {.status = 404, .message = "Occurrence not found"};
    reg_problems_t problems = {.pool = request->pool};
    const char *id = reg_id_uuid(request->pool);
    const char *occurrence =
        reg_field_required(&problems, request->json, "", "occurrenceId", reg_check_uuid);
    const char *user = reg_field_required(&problems, request->json, "", "externalUserId",
                                          reg_check_name);
    const char *values[] = {id,
                            occurrence,
                            user,
                            read_fields(request, &problems),
                            reg_id_uuid(request->pool),
                            read_own(request, "email", reg_check_email),
                            read_own(request, "firstName", reg_check_text),
                            read_own(request, "lastName", reg_check_text),
                            read_own(request, "phone", reg_check_text),
                            request->organization};
    reg_answer_t answer;
    reg_reply_t *reply;

    if (problems.list) {
        return refuse(request, &problems);
    }
    request->host->call(request, &events_create, values, &answer);
    if (answer.outcome == REG_NOT_FOUND) {
        return reg_reply_error(request, &not_found);
    }
    reply = reply_registration(request, &answer);
    if (answer.outcome == REG_CREATED) {
        apr_table_setn(reply->headers, "Location",
                       apr_pstrcat(request->pool, request->mount, "/", id, NULL));
    }
    return reply;
}

reg_reply_t *reg_events_get(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    const char *id = read_id(request, &problems);
    const char *values[] = {id, read_with_trashed(request, &problems),
                            request->organization};
    reg_answer_t answer;

    if (problems.list) {
        return refuse(request, &problems);
    }
    request->host->call(request, &events_get, values, &answer);
    return reply_registration(request, &answer);
}

reg_reply_t *reg_events_update(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    const char *id = read_id(request, &problems);
    const char *status =
        reg_field(&problems, request->json, "", "status", reg_events_check_status);
    const char *values[] = {id, status, read_fields(request, &problems),
                            reg_etag_versions(request->pool, request->if_match),
                            request->organization};
    reg_answer_t answer;

    if (problems.list) {
        return refuse(request, &problems);
    }
    request->host->call(request, &events_update, values, &answer);
    return reply_registration(request, &answer);
}

reg_reply_t *reg_events_delete(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    const char *id = read_id(request, &problems);
    const char *values[] = {id, read_with_trashed(request, &problems),
                            reg_etag_versions(request->pool, request->if_match),
                            request->organization};
    reg_answer_t answer;

    if (problems.list) {
        return refuse(request, &problems);
    }
    request->host->call(request, &events_delete, values, &answer);
    return reply_registration(request, &answer);
}
