/* SPDX-License-Identifier: Apache-2.0 */

/* Families (OCARIoT): POST /v1/families. The texts are those of OCARIoT's own service.
 * The first check that fails answers the request. */

#include "check.h"
#include "call.h"
#include "idempotency.h"
#include "ids.h"
#include "json.h"
#include "reply.h"

#include <apr_general.h>
#include <apr_md5.h>
#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

/* bcrypt ignores further bytes of a password. */
#define MAX_PASSWORD_BYTES 72

/* The index of the hash among the operation's values. */
#define HASH 2

static const reg_operation_t families_register =
    REG_KEYED_OPERATION("families_register", 5, 1, 1U << 0 | 1U << HASH, 0);

/* A family, as the request has it. */
typedef struct {
    const char *username, *password, *institution;
    const reg_json_t *children;       /* as sent; NULL when missing */
    apr_array_header_t *children_ids; /* in lower case, without duplicates */
} family_t;

typedef enum {
    USERNAME_TYPE,
    USERNAME_EMPTY,
    USERNAME_LONG,
    USERNAME_CONTROL,
    PASSWORD_TYPE,
    PASSWORD_EMPTY,
    PASSWORD_LONG,
    INSTITUTION_FORMAT,
    CHILDREN_TYPE,
    CHILD_TYPE,
    CHILDREN_FORMAT,
    FIELDS_MISSING
} family_error_t;

#define INVALID_FIELDS "One or more request fields are invalid..."

/* What each check answers with 400. The details stand between the two texts. */
static const struct {
    const char *message, *description, *end_of_description;
} family_errors[] = {
    [USERNAME_TYPE] = {INVALID_FIELDS, "username must be a string!", ""},
    [USERNAME_EMPTY] = {INVALID_FIELDS, "Username must have at least one character!", ""},
    [USERNAME_LONG] = {INVALID_FIELDS, "Username must have at most 255 characters!", ""},
    [USERNAME_CONTROL] = {INVALID_FIELDS, "Username must not contain control characters!",
                          ""},
    [PASSWORD_TYPE] = {INVALID_FIELDS, "password must be a string!", ""},
    [PASSWORD_EMPTY] = {INVALID_FIELDS, "password must have at least one character!", ""},
    [PASSWORD_LONG] = {INVALID_FIELDS, "password must have at most 72 bytes!", ""},
    [INSTITUTION_FORMAT] =
        {"Parameter {institution_id} is not in valid format!",
         "A 24-byte hex ID similar to this: 507f191e810c19729de860ea is expected.", ""},
    [CHILDREN_TYPE] = {INVALID_FIELDS, "children must be an array!", ""},
    [CHILD_TYPE] = {INVALID_FIELDS,
                    "Children field contains invalid IDs. It is expected that each item "
                    "in the array is a 24-byte hex string like this: "
                    "507f191e810c19729de860ea",
                    ""},
    [CHILDREN_FORMAT] =
        {INVALID_FIELDS,
         "The following IDs from children attribute are not in valid format: ", ""},
    [FIELDS_MISSING] = {"Required fields were not provided...", "", " are required!"},
};

static reg_reply_t *refuse_family(reg_request_t *request, family_error_t which,
                                  const char *details)
{
    const reg_error_t error = {
        .status = 400,
        .message = family_errors[which].message,
        .description =
            apr_pstrcat(request->pool, family_errors[which].description, details,
                        family_errors[which].end_of_description, NULL)};

    return reg_reply_error(request, &error);
}

static reg_reply_t *check_username(reg_request_t *request, family_t *family)
{
    const reg_json_t *value = reg_json_get(request->json, "username");

    if (!value) {
        return NULL;
    }
    if (!reg_json_string(value)) {
        return refuse_family(request, USERNAME_TYPE, "");
    }
    family->username = reg_check_trimmed(request->pool, reg_json_string(value));
    if (!*family->username) {
        return refuse_family(request, USERNAME_EMPTY, "");
    }
    if (reg_check_code_points(family->username) > REG_MAX_TEXT) {
        return refuse_family(request, USERNAME_LONG, "");
    }
    if (reg_check_has_control(family->username)) {
        return refuse_family(request, USERNAME_CONTROL, "");
    }
    return NULL;
}

static reg_reply_t *check_password(reg_request_t *request, family_t *family)
{
    const reg_json_t *value = reg_json_get(request->json, "password");

    family->password = reg_json_string(value);
    if (!value) {
        return NULL;
    }
    if (!family->password) {
        return refuse_family(request, PASSWORD_TYPE, "");
    }
    if (!*family->password) {
        return refuse_family(request, PASSWORD_EMPTY, "");
    }
    if (strlen(family->password) > MAX_PASSWORD_BYTES) {
        return refuse_family(request, PASSWORD_LONG, "");
    }
    return NULL;
}

/* Converts a valid id to lower case. */
static const char *normalize_id(reg_request_t *request, const char *id)
{
    return reg_check_object_id(id) ? id : reg_id_lower(request->pool, id);
}

static reg_reply_t *check_institution(reg_request_t *request, family_t *family)
{
    const reg_json_t *value = reg_json_get(request->json, "institution_id");
    const char *id = reg_json_string(value);

    if (value && (!id || reg_check_object_id(id))) {
        return refuse_family(request, INSTITUTION_FORMAT, "");
    }
    family->institution = id ? normalize_id(request, id) : NULL;
    return NULL;
}

/* Compares ids; equal ids keep the order of the array that the pointers point into. */
static int compare_children(const void *a, const void *b)
{
    const char **first = *(const char ***)a, **second = *(const char ***)b;
    int order = strcmp(*first, *second);

    return order ? order : (first > second) - (first < second);
}

/* Removes duplicate ids and keeps the first of them. It sorts, as a client can generate
 * ids that collide in an apr_hash_t, which would keep a processor busy for seconds. */
static void remove_duplicates(reg_request_t *request, apr_array_header_t *ids)
{
    apr_size_t count = (apr_size_t)ids->nelts;
    const char **id = (const char **)ids->elts;
    const char ***sorted = apr_palloc(request->pool, (count + 1) * sizeof(*sorted));
    const char *last = NULL;

    for (apr_size_t i = 0; i < count; i++) {
        sorted[i] = &id[i];
    }
    qsort(sorted, count, sizeof(*sorted), compare_children);
    for (apr_size_t i = 0; i < count; i++) {
        if (last && strcmp(*sorted[i], last) == 0) {
            *sorted[i] = NULL;
        }
        else {
            last = *sorted[i];
        }
    }
    ids->nelts = 0;
    for (apr_size_t i = 0; i < count; i++) {
        if (id[i]) {
            APR_ARRAY_PUSH(ids, const char *) = id[i];
        }
    }
}

/* Collects the children's ids without duplicates. */
static reg_reply_t *collect_children(reg_request_t *request, family_t *family)
{
    apr_size_t count = reg_json_length(family->children);

    for (apr_size_t i = 0; i < count; i++) {
        const char *id = reg_json_string(reg_json_item(family->children, i));

        if (!id || !*id) {
            return refuse_family(request, CHILD_TYPE, "");
        }
        APR_ARRAY_PUSH(family->children_ids, const char *) = normalize_id(request, id);
    }
    remove_duplicates(request, family->children_ids);
    return NULL;
}

static reg_reply_t *check_children(reg_request_t *request, family_t *family)
{
    apr_array_header_t *invalid = apr_array_make(request->pool, 1, sizeof(const char *));
    reg_reply_t *refusal;

    family->children = reg_json_get(request->json, "children");
    family->children_ids = apr_array_make(request->pool, 4, sizeof(const char *));
    if (family->children && !reg_json_is_array(family->children)) {
        return refuse_family(request, CHILDREN_TYPE, "");
    }
    refusal = collect_children(request, family);
    if (refusal) {
        return refusal;
    }
    for (int i = 0; i < family->children_ids->nelts; i++) {
        const char *id = APR_ARRAY_IDX(family->children_ids, i, const char *);

        if (reg_check_object_id(id)) {
            APR_ARRAY_PUSH(invalid, const char *) = id;
            APR_ARRAY_PUSH(invalid, const char *) = ", ";
        }
    }
    if (!invalid->nelts) {
        return NULL;
    }
    apr_array_pop(invalid);
    return refuse_family(request, CHILDREN_FORMAT,
                         apr_array_pstrcat(request->pool, invalid, '\0'));
}

static reg_reply_t *check_missing(reg_request_t *request, family_t *family)
{
    const struct {
        const char *name;
        int present;
    } fields[] = {{"username", family->username != NULL},
                  {"password", family->password != NULL},
                  {"institution", family->institution != NULL},
                  {"Collection with children IDs", family->children_ids->nelts > 0}};
    const char *missing = NULL;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (!fields[i].present) {
            missing =
                missing ? apr_pstrcat(request->pool, missing, ", ", fields[i].name, NULL)
                        : fields[i].name;
        }
    }
    return missing ? refuse_family(request, FIELDS_MISSING, missing) : NULL;
}

/* In the order of OCARIoT's own service. */
static reg_reply_t *(*const family_checks[])(reg_request_t *, family_t *) = {
    check_username, check_password, check_institution, check_children, check_missing};

/* The bcrypt hash of the password; NULL if the library fails, which is a bug. */
static const char *hash_password(reg_request_t *request, const char *password)
{
    unsigned char salt[16];
    char hash[64];

    if (apr_generate_random_bytes(salt, sizeof(salt)) != APR_SUCCESS
        || apr_bcrypt_encode(password, (unsigned)request->settings->password_cost, salt,
                             sizeof(salt), hash, sizeof(hash))
               != APR_SUCCESS) {
        return NULL;
    }
    return apr_pstrdup(request->pool, hash);
}

/* Adds the password's hash to the values, when the host permits this request to hash. A
 * request that has waited for that family_checks the family again first: of many requests
 * for the same family only one is hashed. */
static void add_hash(reg_request_t *request, const char *password, const char **values,
                     reg_answer_t *answer)
{
    int turn = request->host->begin_hashing(request);
    apr_interval_time_t took = 0;

    if (!turn) {
        answer->outcome = REG_UNAVAILABLE;
        return;
    }
    if (turn == 2) {
        reg_call(request, &families_register, values, answer);
    }
    if (answer->outcome == REG_ACCEPTABLE) {
        apr_time_t began = apr_time_now();

        values[HASH] = hash_password(request, password);
        took = apr_time_now() - began;
        if (!values[HASH]) {
            answer->outcome = REG_FAULT;
        }
    }
    request->host->end_hashing(request, took);
}

static reg_reply_t *reply_to_family(reg_request_t *request, const reg_answer_t *answer)
{
    const reg_rule_t rules[] = {
        {REG_CREATED, {.status = 201}},
        {REG_DUPLICATE, {.status = 409, .message = "Family is already registered..."}},
        {REG_CHILDREN_UNKNOWN,
         {.status = 400,
          .message = "It is necessary for children to be registered before proceeding.",
          .description = apr_pstrcat(
              request->pool, "The following IDs were verified without registration: ",
              answer->detail, NULL)}},
        {REG_INSTITUTION_UNKNOWN,
         {.status = 400,
          .message = "The institution provided does not have a registration.",
          .description = "It is necessary that the institution be registered before "
                         "trying again."}},
        {0, {0}}};

    return reg_reply_answer(request, answer, rules);
}

reg_reply_t *reg_families_register(reg_request_t *request)
{
    family_t family = {0};
    reg_answer_t answer;

    for (size_t i = 0; i < sizeof(family_checks) / sizeof(family_checks[0]); i++) {
        reg_reply_t *refusal = family_checks[i](request, &family);

        if (refusal) {
            return refusal;
        }
    }

    /* Without a hash the operation only family_checks the family: a hash takes long. */
    const char *values[] = {reg_id_object_id(request->pool), family.username, NULL,
                            family.institution,
                            apr_array_pstrcat(request->pool, family.children_ids, ',')};

    reg_call(request, &families_register, values, &answer);
    if (answer.outcome == REG_ACCEPTABLE) {
        add_hash(request, family.password, values, &answer);
    }
    if (answer.outcome == REG_ACCEPTABLE) {
        reg_call(request, &families_register, values, &answer);
    }
    return reply_to_family(request, &answer);
}
