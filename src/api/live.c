/* SPDX-License-Identifier: Apache-2.0 */

/* Live sessions (Loop Health): POST /v1/sessions/{id}/register. */

#include "check.h"
#include "call.h"
#include "idempotency.h"
#include "ids.h"
#include "json.h"
#include "reply.h"
#include "utf8.h"

#include <string.h>

static const reg_operation_t live_register =
    REG_KEYED_OPERATION("live_register", 5, 1, 1U << 0, 0);

static const reg_error_t live_invalid = {.status = 400};

static const reg_rule_t live_rules[] = {
    {REG_CREATED, {.status = 201}},
    {REG_NOT_FOUND, {.status = 404, .message = "There is no such session."}},
    {REG_NOT_JOINABLE,
     {.status = 412,
      .code = "session_not_joinable",
      .message = "The session has ended or was cancelled."}},
    {REG_DUPLICATE,
     {.status = 409, .message = "This person is already registered for the session."}},
    {REG_FULL,
     {.status = 412, .code = "session_full", .message = "The session is full."}},
    {0, {0}}};

static const char *check_role(const char *value)
{
    return strcmp(value, "host") == 0 || strcmp(value, "participant") == 0
                   || strcmp(value, "guest") == 0
               ? NULL
               : "must be one of host, participant, guest";
}

/* The patient_id for a body without a person: the caller's name, if it is a valid
 * patient_id. A body with an unknown key, like patientId, is refused: it may be meant for
 * another person. */
static const char *read_caller(const reg_request_t *request, reg_problems_t *problems)
{
    static const char *const known[] = {"patient_id", "guest_email", "role", NULL};
    const char *wrong = "or guest_email is required, as the caller is not known";
    const char *other = reg_json_other_key(request->json, known);

    if (other) {
        reg_problems_add(problems, reg_check_name(other) ? "a field" : other,
                         "is not one of patient_id, guest_email and role, and the body "
                         "names no person");
        return NULL;
    }
    if (request->user) {
        wrong = reg_utf8_is_valid(request->user) ? reg_check_name(request->user)
                                                 : "must be UTF-8";
    }

    if (wrong) {
        reg_problems_add(problems, "patient_id", wrong);
    }
    return request->user;
}

reg_reply_t *reg_live_register(reg_request_t *request)
{
    reg_problems_t problems = {.pool = request->pool};
    const char *session = request->captures[0];
    const char *patient =
        reg_field(&problems, request->json, "", "patient_id", reg_check_name);
    const char *guest =
        reg_field(&problems, request->json, "", "guest_email", reg_check_email);
    const char *role = reg_field(&problems, request->json, "", "role", check_role);
    reg_answer_t answer = {.outcome = REG_NOT_FOUND};

    if (!reg_json_get(request->json, "patient_id")
        && !reg_json_get(request->json, "guest_email")) {
        patient = read_caller(request, &problems);
    }
    if (problems.list) {
        return reg_reply_problems(request, &live_invalid, &problems);
    }
    if (!role) {
        role = patient ? "participant" : "guest";
    }
    if (!reg_check_uuid(session)) {
        const char *values[] = {reg_id_uuid(request->pool),
                                reg_id_lower(request->pool, session), patient, guest,
                                role};

        reg_call(request, &live_register, values, &answer);
    }
    return reg_reply_answer(request, &answer, live_rules);
}
