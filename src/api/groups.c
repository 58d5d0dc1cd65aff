/* SPDX-License-Identifier: Apache-2.0 */

/* Group members (Pattern Health): POST /api/v1/groups/{group}/members, POST
 * /api/v1/users, and GET of every href in an answer. In this API a null is a missing key.
 */

#include "check.h"
#include "call.h"
#include "idempotency.h"
#include "ids.h"
#include "json.h"
#include "metrics.h"
#include "reply.h"

#include <apr_strings.h>
#include <apr_time.h>
#include <string.h>

static const reg_operation_t groups_register = REG_KEYED_OPERATION(
    "groups_register", 16, 3, 1U << 0 | 1U << 2 | 1U << 12 | 1U << 13 | 1U << 16, 1);
static const reg_operation_t groups_get_group = {.name = "groups_get_group",
                                                 .parameters = 2};
static const reg_operation_t groups_get_plan = {.name = "groups_get_plan",
                                                .parameters = 3};
static const reg_operation_t groups_get_member = {.name = "groups_get_member",
                                                  .parameters = 3};

#define INVALID_MEMBER "The group member is not valid."

static const reg_error_t group_invalid = {.status = 422, .message = INVALID_MEMBER};

static const reg_rule_t group_rules[] = {
    {REG_CREATED, {.status = 201}},
    {REG_FOUND, {.status = 200}},
    {REG_NOT_FOUND, {.status = 404, .message = "There is no such group, plan or user."}},
    {REG_BAD_DATA, {.status = 422, .message = INVALID_MEMBER}},
    {0, {0}}};

/* One message for all refused codes, so that a guess does not tell which codes exist. */
static const char code_message[] =
    "is not a valid invite code: unknown, of another group, expired or used up";

/* Reasons of a refused code, named by groups_register's detail; for the metrics. */
static const struct {
    const char *name;
    reg_code_refusal_t reason;
} code_refusals[] = {
    {"code_unknown", REG_CODE_UNKNOWN},
    {"code_of_another_group", REG_CODE_OF_ANOTHER_GROUP},
    {"code_expired", REG_CODE_EXPIRED},
    {"code_used_up", REG_CODE_USED_UP},
};

/* Problems that only the database can find, named by groups_register's detail. A NULL
 * message is reg_check_size_message(). */
static const struct {
    const char *name, *field, *message;
} detail_problems[] = {
    {"code_", "inviteCode", code_message},
    {"email_taken", "groupMember.user.email", "is already registered"},
    {"time_zone_unknown", "groupMember.user.timeZone", "must be an IANA time zone"},
    {"end_before_start", "groupMember.planSettings.endDate",
     "must not be before the start date"},
    {"tags_too_large", "groupMember.tags", NULL},
    {"attributes_too_large", "groupMember.attributes", NULL},
};

/* A new member, as the request has it; a missing value is NULL. */
typedef struct {
    const char *code;
    const char *birth_date, *email, *first_name, *gender, *last_name, *locale, *mobile,
        *time_zone;
    const char *tags, *attributes; /* JSON */
    const char *start_date, *end_date;
} member_t;

static const char *check_gender(const char *value)
{
    return strcmp(value, "male") == 0 || strcmp(value, "female") == 0
                   || strcmp(value, "other") == 0 || strcmp(value, "preferNotToSay") == 0
               ? NULL
               : "must be one of male, female, other, preferNotToSay";
}

static const char *check_birth_date(const char *value)
{
    const char *wrong = reg_check_date(value);
    apr_time_exp_t now;
    char today[32];

    if (wrong) {
        return wrong;
    }
    apr_time_exp_gmt(&now, apr_time_now());
    apr_snprintf(today, sizeof(today), "%04d-%02d-%02d", now.tm_year + 1900,
                 now.tm_mon + 1, now.tm_mday);
    return strcmp(value, today) <= 0 ? NULL : "must not be in the future";
}

static void read_user(const reg_json_t *user, member_t *member, reg_problems_t *problems)
{
    static const char prefix[] = "groupMember.user.";

    member->birth_date = reg_field(problems, user, prefix, "birthDate", check_birth_date);
    member->email = reg_field_required(problems, user, prefix, "email", reg_check_email);
    member->first_name = reg_field(problems, user, prefix, "firstName", reg_check_text);
    member->gender = reg_field(problems, user, prefix, "gender", check_gender);
    member->last_name = reg_field(problems, user, prefix, "lastName", reg_check_text);
    member->locale = reg_field(problems, user, prefix, "locale", reg_check_locale);
    member->mobile = reg_field(problems, user, prefix, "mobileNumber", reg_check_phone);
    member->time_zone = reg_field(problems, user, prefix, "timeZone", reg_check_name);
    if (!member->time_zone) {
        /* The spelling of the API page's list of result attributes. */
        member->time_zone = reg_field(problems, user, prefix, "timezone", reg_check_name);
    }
}

/* The tags as a JSON array of non-empty strings. */
static const char *read_tags(reg_request_t *request, const reg_json_t *tags,
                             reg_problems_t *problems)
{
    int good = reg_json_is_array(tags);

    if (!tags || reg_json_is_null(tags)) {
        return NULL;
    }
    for (apr_size_t i = 0; i < reg_json_length(tags); i++) {
        const char *tag = reg_json_string(reg_json_item(tags, i));

        good = good && tag && !reg_check_name(tag);
    }
    if (!good) {
        reg_problems_add(problems, "groupMember.tags",
                         "must be an array of strings of 1 to 255 characters");
        return NULL;
    }
    return reg_json_text(request->pool, tags);
}

static void read_plan_settings(const reg_json_t *settings, member_t *member,
                               reg_problems_t *problems)
{
    static const char prefix[] = "groupMember.planSettings.";

    member->start_date =
        reg_field(problems, settings, prefix, "startDate", reg_check_date);
    member->end_date = reg_field(problems, settings, prefix, "endDate", reg_check_date);
    if (member->start_date && member->end_date
        && strcmp(member->end_date, member->start_date) < 0) {
        reg_problems_add(problems, "groupMember.planSettings.endDate",
                         "must not be before the start date");
    }
}

/* Reads and checks the body. */
static void read_member(reg_request_t *request, member_t *member,
                        reg_problems_t *problems)
{
    const reg_json_t *root, *user;

    member->code =
        reg_field_required(problems, request->json, "", "inviteCode", reg_check_name);
    root = reg_field_object(problems, request->json, "", "groupMember");
    user = reg_field_object(problems, root, "groupMember.", "user");
    if (user) {
        read_user(user, member, problems);
    }
    else if (!reg_json_get(root, "user")
             || reg_json_is_null(reg_json_get(root, "user"))) {
        reg_problems_add(problems, "groupMember.user", "is required");
    }
    member->tags = read_tags(request, reg_json_get(root, "tags"), problems);
    member->attributes = reg_field_free(
        problems, root, "groupMember.", "attributes",
        reg_json_raw(request->pool, request->body, "groupMember", "attributes", NULL));
    read_plan_settings(reg_field_object(problems, root, "groupMember.", "planSettings"),
                       member, problems);
}

/* The path that the hrefs of an answer begin with. */
static const char *find_groups_path(const reg_request_t *request)
{
    return request->api == REG_API_GROUPS ? request->mount
                                          : request->settings->groups_path;
}

/* Adds the problems that the database found. */
static void add_detail_problems(const reg_request_t *request, reg_problems_t *problems,
                                const char *detail)
{
    for (size_t i = 0; i < sizeof(detail_problems) / sizeof(detail_problems[0]); i++) {
        if (detail && strstr(detail, detail_problems[i].name)) {
            reg_problems_add(problems, detail_problems[i].field,
                             detail_problems[i].message
                                 ? detail_problems[i].message
                                 : reg_check_size_message(request));
        }
    }
}

/* Counts refused codes, so that an administrator notices guessing. */
static void count_code_refusal(const reg_request_t *request, const char *detail)
{
    for (size_t i = 0; i < sizeof(code_refusals) / sizeof(code_refusals[0]); i++) {
        if (detail && strstr(detail, code_refusals[i].name)) {
            reg_metrics_code_refused(request->metrics, code_refusals[i].reason);
        }
    }
}

reg_reply_t *reg_groups_register(reg_request_t *request)
{
    member_t m = {0};
    reg_problems_t problems = {.pool = request->pool, .null_is_absent = 1};
    const char *group = request->captures[0]; /* NULL: the code's */
    reg_answer_t answer = {.outcome = REG_NOT_FOUND};
    reg_reply_t *reply;

    read_member(request, &m, &problems);
    if (problems.list) {
        return reg_reply_problems(request, &group_invalid, &problems);
    }
    if (!group || !reg_check_uuid(group)) {
        const char *values[] = {reg_id_uuid(request->pool),
                                reg_id_lower(request->pool, group),
                                find_groups_path(request),
                                m.code,
                                m.email,
                                m.birth_date,
                                m.first_name,
                                m.gender,
                                m.last_name,
                                m.locale,
                                m.mobile,
                                m.time_zone,
                                m.tags,
                                m.attributes,
                                m.start_date,
                                m.end_date,
                                apr_itoa(request->pool, request->settings->max_fields)};

        reg_call(request, &groups_register, values, &answer);
    }
    if (answer.outcome == REG_INVALID) {
        count_code_refusal(request, answer.detail);
        add_detail_problems(request, &problems, answer.detail);
        return reg_reply_problems(request, &group_invalid, &problems);
    }
    reply = reg_reply_answer(request, &answer, group_rules);
    if (reply->status == 201 && answer.detail) {
        apr_table_setn(reply->headers, "Location", answer.detail);
    }
    return reply;
}

/* GET of a group, or of a plan or a member. The captures are the group's id and the id of
 * the plan or the member. */
static reg_reply_t *get_by_id(reg_request_t *request, const reg_operation_t *operation)
{
    const char *group = request->captures[0];
    const char *id = request->captures[1];
    const char *path = find_groups_path(request);
    const char *inside[] = {id, group, path};
    const char *alone[] = {group, path};
    reg_answer_t answer = {.outcome = REG_NOT_FOUND};

    if (!reg_check_uuid(group) && (!id || !reg_check_uuid(id))) {
        reg_call(request, operation, id ? inside : alone, &answer);
    }
    return reg_reply_answer(request, &answer, group_rules);
}

reg_reply_t *reg_groups_get_group(reg_request_t *request)
{
    return get_by_id(request, &groups_get_group);
}

reg_reply_t *reg_groups_get_plan(reg_request_t *request)
{
    return get_by_id(request, &groups_get_plan);
}

reg_reply_t *reg_groups_get_member(reg_request_t *request)
{
    return get_by_id(request, &groups_get_member);
}
