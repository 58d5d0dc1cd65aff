/* SPDX-License-Identifier: Apache-2.0 */

/* Event registrations (ONLIVE.SITE): create, get, update, delete. Search is in
 * events_list.c. */

#include "events.h"

#include "etag.h"
#include "call.h"
#include "idempotency.h"
#include "ids.h"
#include "json.h"
#include "query.h"
#include "reply.h"

#include <apr_strings.h>
#include <string.h>

static const reg_operation_t events_create = REG_KEYED_OPERATION(
    "events_create", 10, 1, 1U << 0 | 1U << 3 | 1U << 4 | 1U << 10, 1);
static const reg_operation_t events_get = {.name = "events_get", .parameters = 3};
static const reg_operation_t events_update = {.name = "events_update",
                                              .parameters = 6 + REG_AUDIT_PARAMETERS + 2,
                                              .audited = 1,
                                              .later = 2};
static const reg_operation_t events_delete = {.name = "events_delete",
                                              .parameters = 5 + REG_AUDIT_PARAMETERS + 1,
                                              .audited = 1,
                                              .later = 1};

const reg_error_t reg_events_invalid = {.status = 400,
                                        .message = "The request is not valid"};

/* A request whose If-Match or If-None-Match does not hold. */
static const reg_error_t new_has_no_tag = {
    .status = 412,
    .message = "If-Match cannot hold for a registration that does not exist yet"};
static const reg_error_t has_changed = {
    .status = 412, .message = "The registration has been changed in the meantime"};
static const reg_error_t fails_either = {
    .status = 412,
    .message = "Nothing was changed: the registration does not match If-Match, or it "
               "matches If-None-Match"};
static const reg_error_t matches_excluded = {
    .status = 412,
    .message = "Nothing was changed: the registration matches If-None-Match"};

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

/* The id in the path, which must be a UUID. */
static const char *read_id(const reg_request_t *request, reg_problems_t *problems)
{
    const char *id = request->captures[0];
    const char *error = reg_check_uuid(id);

    if (error) {
        reg_problems_add(problems, "id", error);
    }
    return id;
}

/* The flag withTrashed, the only query parameter of these routes. */
static const char *read_with_trashed(const reg_request_t *request,
                                     reg_problems_t *problems)
{
    static const char *const names[] = {"withTrashed", NULL};
    reg_query_t query;

    reg_query_parse(&query, request, problems);
    reg_query_refuse_misspelt(&query, names);
    return reg_query_flag(&query, "withTrashed");
}

/* The text of `fields` as the client wrote it; NULL if it is missing. */
static const char *read_fields(const reg_request_t *request, reg_problems_t *problems)
{
    return reg_field_free(problems, request->json, "", "fields",
                          reg_json_raw(request->pool, request->body, "fields", NULL));
}

/* A text of `fields`; NULL if it is missing or invalid. `fields` is free JSON, so an
 * invalid value in it is no problem. */
static const char *read_fields_text(const reg_request_t *request, const char *key,
                                    reg_check_t *check)
{
    reg_problems_t ignored = {.pool = request->pool};

    return reg_field(&ignored, reg_json_get(request->json, "fields"), "", key, check);
}

/* The most bytes of `fields`, as a parameter. */
static const char *max_fields_value(const reg_request_t *request)
{
    return apr_itoa(request->pool, request->settings->max_fields);
}

/* The reply to a request whose condition does not hold. A POST has no target with an
 * entity tag. A GET with If-None-Match alone is answered 304. A write does not tell which
 * of the two headers failed. */
static reg_reply_t *refuse_condition(reg_request_t *request)
{
    const reg_error_t *error = &has_changed;

    if (request->method == REG_METHOD_POST) {
        error = &new_has_no_tag;
    }
    else if (request->method != REG_METHOD_GET && request->if_none_match) {
        error = request->if_match ? &fails_either : &matches_excluded;
    }
    return reg_reply_error(request, error);
}

static reg_reply_t *reply_to_answer(reg_request_t *request, const reg_answer_t *answer)
{
    const char *not_found = request->method == REG_METHOD_POST ? "Occurrence not found"
                                                               : "Registration not found";
    const reg_rule_t rules[] = {
        {REG_CREATED, {.status = 201}},
        {REG_FOUND, {.status = 200}},
        {REG_UPDATED, {.status = 200}},
        {REG_DELETED, {.status = 200}},
        {REG_NOT_FOUND, {.status = 404, .message = not_found}},
        {REG_DUPLICATE,
         {.status = 409, .message = "User is already registered for this occurrence"}},
        {REG_FULL, {.status = 409, .message = "Occurrence is full"}},
        {REG_NO_WAITING_LIST,
         {.status = 409, .message = "Occurrence has no waiting list"}},
        {0, {0}}};

    if (answer->outcome == REG_CHANGED) {
        return refuse_condition(request);
    }
    if (answer->outcome == REG_TOO_LARGE) {
        reg_problems_t problems = {.pool = request->pool};

        reg_problems_add(&problems, answer->detail, reg_check_size_message(request));
        return reg_reply_problems(request, &reg_events_invalid, &problems);
    }
    return reg_reply_answer(request, answer, rules);
}

/* Sets Location to the registration in the body. Its id may differ from the id generated
 * for this request: a repeated request has the answer of the first one. */
static void set_location(reg_request_t *request, reg_reply_t *reply)
{
    const char *id = reg_json_plain(request->pool,
                                    reg_json_raw(request->pool, reply->body, "id", NULL));

    if (id) {
        apr_table_setn(reply->headers, "Location",
                       apr_pstrcat(request->pool, request->mount, "/", id, NULL));
    }
}

/* The reply to a read: 412 or 304 depending on its conditions, else the given reply. */
static reg_reply_t *apply_conditions(reg_request_t *request, reg_reply_t *reply,
                                     const char *etag)
{
    if (!reg_etag_holds(request->if_match, etag)) {
        return refuse_condition(request);
    }
    return reg_etag_matches(request->if_none_match, etag) ? reg_reply(request, 304, NULL)
                                                          : reply;
}

/* Calls an operation, unless the request is invalid. A success has the entity tag, or is
 * 304. The operation itself checks the conditions of a write, under its lock. */
static reg_reply_t *serve_registration(reg_request_t *request,
                                       const reg_problems_t *problems,
                                       const reg_operation_t *operation,
                                       const char *const *values)
{
    reg_answer_t answer;
    reg_reply_t *reply;
    const char *etag;

    if (problems->list) {
        return reg_reply_problems(request, &reg_events_invalid, problems);
    }
    if (request->method == REG_METHOD_POST && request->if_match) {
        return refuse_condition(request);
    }
    reg_call(request, operation, values, &answer);
    reply = reply_to_answer(request, &answer);
    if (reply->status >= 300) {
        return reply;
    }
    etag = reg_etag(request->pool, answer.detail, answer.body);
    if (request->method == REG_METHOD_GET) {
        reply = apply_conditions(request, reply, etag);
    }
    if (reply->status == 412) {
        return reply;
    }
    apr_table_setn(reply->headers, "ETag", etag);
    if (reply->status == 201) {
        set_location(request, reply);
    }
    return reply;
}

reg_reply_t *reg_events_create(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    const char *occurrence =
        reg_field_required(&problems, request->json, "", "occurrenceId", reg_check_uuid);
    const char *user = reg_field_required(&problems, request->json, "", "externalUserId",
                                          reg_check_name);
    const char *values[] = {reg_id_uuid(request->pool),
                            reg_id_lower(request->pool, occurrence),
                            user,
                            read_fields(request, &problems),
                            reg_id_uuid(request->pool), /* of a new user */
                            read_fields_text(request, "email", reg_check_email),
                            read_fields_text(request, "firstName", reg_check_text),
                            read_fields_text(request, "lastName", reg_check_text),
                            read_fields_text(request, "phone", reg_check_text),
                            request->organization,
                            max_fields_value(request)};

    return serve_registration(request, &problems, &events_create, values);
}

reg_reply_t *reg_events_get(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    const char *id = read_id(request, &problems);
    const char *values[] = {id, read_with_trashed(request, &problems),
                            request->organization};

    return serve_registration(request, &problems, &events_get, values);
}

reg_reply_t *reg_events_update(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    const char *id = read_id(request, &problems);
    const char *status =
        reg_field(&problems, request->json, "", "status", reg_events_check_status);
    const char *values[] = {id,
                            status,
                            read_fields(request, &problems),
                            reg_etag_versions(request->pool, request->if_match),
                            request->organization,
                            reg_id_uuid(request->pool),
                            reg_etag_excluded(request->pool, request->if_none_match),
                            max_fields_value(request)};

    return serve_registration(request, &problems, &events_update, values);
}

reg_reply_t *reg_events_delete(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    const char *id = read_id(request, &problems);
    const char *values[] = {id,
                            read_with_trashed(request, &problems),
                            reg_etag_versions(request->pool, request->if_match),
                            request->organization,
                            reg_id_uuid(request->pool),
                            reg_etag_excluded(request->pool, request->if_none_match)};

    return serve_registration(request, &problems, &events_delete, values);
}
