/* SPDX-License-Identifier: Apache-2.0 */
#include "api_fixture.h"

#define GROUP "5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10"
#define OTHER "7c1d2e3f-4a5b-4c6d-8e7f-901234567890"
#define PATH "/" GROUP "/members"

/* A body whose user is this, and one that has this besides. */
#define USER(user) "{\"inviteCode\":\"C\",\"groupMember\":{\"user\":{" user "}}}"
#define MEMBER(rest)                                                                     \
    "{\"inviteCode\":\"C\",\"groupMember\":{\"user\":{\"email\":\"a@b\"}," rest "}}"
#define SEVEN_NULLS "NULL, NULL, NULL, NULL, NULL, NULL, NULL"

/* A body, and what the operation is given: id, group, path, code, email, birth date,
 * first name, gender, last name, locale, mobile number, time zone, tags, attributes,
 * start and end date. */
static const struct {
    const char *body, *called;
} good[] = {
    {"{\"inviteCode\":\"EXAMPLE123\",\"groupMember\":{\"user\":{"
     "\"birthDate\":\"2000-01-01\",\"email\":\"example_user@example.org\","
     "\"firstName\":\"John\",\"gender\":\"male\",\"lastName\":\"Doe\",\"locale\":\"en-"
     "US\","
     "\"mobileNumber\":\"+19195551212\",\"timeZone\":\"America/New_York\"},"
     "\"tags\":[\"ExampleTag\"],\"attributes\":{\"ExampleAttribute\":\"example value\"},"
     "\"planSettings\":{\"startDate\":\"2022-06-14\",\"endDate\":\"2023-06-14\"}}}",
     "groups_register(<id>, " GROUP ", /mount, EXAMPLE123, example_user@example.org, "
     "2000-01-01, John, male, Doe, en-US, +19195551212, America/New_York, "
     "[\"ExampleTag\"], "
     "{\"ExampleAttribute\":\"example value\"}, 2022-06-14, 2023-06-14)"},
    {USER("\"email\":\"a@b\""),
     "groups_register(<id>, " GROUP ", /mount, C, a@b, " SEVEN_NULLS
     ", NULL, NULL, NULL, NULL)"},

    /* A null is an absent key. */
    {"{\"inviteCode\":\"C\",\"groupMember\":{\"user\":{\"email\":\"a@b\",\"birthDate\":"
     "null,"
     "\"firstName\":null,\"gender\":null,\"lastName\":null,\"locale\":null,"
     "\"mobileNumber\":null,\"timeZone\":null,\"timezone\":null},\"tags\":null,"
     "\"attributes\":null,\"planSettings\":null}}",
     "groups_register(<id>, " GROUP ", /mount, C, a@b, " SEVEN_NULLS
     ", NULL, NULL, NULL, NULL)"},
    {MEMBER("\"planSettings\":{\"startDate\":null,\"endDate\":null}"),
     "groups_register(<id>, " GROUP ", /mount, C, a@b, " SEVEN_NULLS
     ", NULL, NULL, NULL, NULL)"},

    /* Texts may be empty, and keep what they are; unknown keys are ignored. */
    {"{\"inviteCode\":\"C\",\"x\":1,\"groupMember\":{\"uuid\":1,\"user\":{\"email\":\"a@"
     "b\","
     "\"firstName\":\"\",\"lastName\":\" \xC3\x89 \",\"type\":\"api\"}}}",
     "groups_register(<id>, " GROUP
     ", /mount, C, a@b, NULL, , NULL,  \xC3\x89 , NULL, NULL, "
     "NULL, NULL, NULL, NULL, NULL)"},
    {USER("\"email\":\"a@b\",\"timezone\":\"Europe/Paris\""),
     "groups_register(<id>, " GROUP
     ", /mount, C, a@b, NULL, NULL, NULL, NULL, NULL, NULL, "
     "Europe/Paris, NULL, NULL, NULL, NULL)"},
    {USER("\"email\":\"a@b\",\"gender\":\"preferNotToSay\",\"locale\":\"zh-Hant-TW\""),
     "groups_register(<id>, " GROUP ", /mount, C, a@b, NULL, NULL, preferNotToSay, NULL, "
     "zh-Hant-TW, NULL, NULL, NULL, NULL, NULL, NULL)"},
    {MEMBER("\"tags\":[],\"attributes\":{}"),
     "groups_register(<id>, " GROUP ", /mount, C, a@b, " SEVEN_NULLS
     ", [], {}, NULL, NULL)"},

    /* Attributes go on as the client wrote them. */
    {MEMBER("\"attributes\":{ \"n\" : 0.10, "
            "\"big\":12345678901234567890,\"s\":\"\\u00e9\"}"),
     "groups_register(<id>, " GROUP ", /mount, C, a@b, " SEVEN_NULLS ", NULL, "
     "{ \"n\" : 0.10, \"big\":12345678901234567890,\"s\":\"\\u00e9\"}, NULL, NULL)"},
    {MEMBER("\"planSettings\":{\"startDate\":\"2024-02-29\",\"endDate\":\"2024-02-29\"}"),
     "groups_register(<id>, " GROUP ", /mount, C, a@b, " SEVEN_NULLS
     ", NULL, NULL, 2024-02-29, "
     "2024-02-29)"},
    {MEMBER("\"planSettings\":{\"endDate\":\"2024-02-29\"}"),
     "groups_register(<id>, " GROUP ", /mount, C, a@b, " SEVEN_NULLS
     ", NULL, NULL, NULL, "
     "2024-02-29)"},
};

static void valid_group_member_is_registered(void **state)
{
    static const char location[] = "/mount/" GROUP "/users/" OTHER;
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, location, "{\"a\":1}"}};

    for (size_t i = 0; i < LENGTH(good); i++) {
        const char *row = good[i].body;
        const reg_reply_t *reply =
            reg_serve(request_for(&host, REG_API_GROUPS, REG_METHOD_POST, PATH, row));

        assert_number(row, reply->status, 201);
        assert_text(row, reply->body, "{\"a\":1}");
        assert_text(row, header(reply, "Location"), location);
        assert_text(row, host.called, good[i].called);
    }
}

/* A body with something wrong in it, and the fields named for it. */
static const struct {
    const char *body, *fields;
} bad[] = {
    {"{}", "groupMember.user inviteCode"},
    {"{\"inviteCode\":\"C\"}", "groupMember.user"},
    {"{\"inviteCode\":\"C\",\"groupMember\":null}", "groupMember.user"},
    {"{\"inviteCode\":\"C\",\"groupMember\":{}}", "groupMember.user"},
    {"{\"inviteCode\":\"C\",\"groupMember\":{\"user\":null}}", "groupMember.user"},
    {"{\"inviteCode\":\"C\",\"groupMember\":{\"user\":[]}}", "groupMember.user"},
    {"{\"groupMember\":{\"user\":{\"email\":\"a@b\"}}}", "inviteCode"},
    {"{\"inviteCode\":null,\"groupMember\":{\"user\":{\"email\":\"a@b\"}}}",
     "inviteCode"},
    {"{\"inviteCode\":\"\",\"groupMember\":{\"user\":{\"email\":\"a@b\"}}}",
     "inviteCode"},
    {"{\"inviteCode\":1,\"groupMember\":{\"user\":{\"email\":\"a@b\"}}}", "inviteCode"},

    {USER(""), "groupMember.user.email"},
    {USER("\"email\":null"), "groupMember.user.email"},
    {USER("\"email\":\"\""), "groupMember.user.email"},
    {USER("\"email\":\"a\""), "groupMember.user.email"},
    {USER("\"email\":1"), "groupMember.user.email"},
    {USER("\"email\":\"a@b\",\"birthDate\":\"2000-02-30\""),
     "groupMember.user.birthDate"},
    {USER("\"email\":\"a@b\",\"birthDate\":\"\""), "groupMember.user.birthDate"},
    {USER("\"email\":\"a@b\",\"birthDate\":\"9999-12-31\""),
     "groupMember.user.birthDate"},
    {USER("\"email\":\"a@b\",\"birthDate\":20000101"), "groupMember.user.birthDate"},
    {USER("\"email\":\"a@b\",\"firstName\":\"a\\u0000\""), NULL}, /* no valid JSON here */
    {USER("\"email\":\"a@b\",\"firstName\":\"a\\tb\""), "groupMember.user.firstName"},
    {USER("\"email\":\"a@b\",\"firstName\":1"), "groupMember.user.firstName"},
    {USER("\"email\":\"a@b\",\"lastName\":{}"), "groupMember.user.lastName"},
    {USER("\"email\":\"a@b\",\"gender\":\"Male\""), "groupMember.user.gender"},
    {USER("\"email\":\"a@b\",\"gender\":\"\""), "groupMember.user.gender"},
    {USER("\"email\":\"a@b\",\"gender\":0"), "groupMember.user.gender"},
    {USER("\"email\":\"a@b\",\"locale\":\"en_US\""), "groupMember.user.locale"},
    {USER("\"email\":\"a@b\",\"locale\":\"\""), "groupMember.user.locale"},
    {USER("\"email\":\"a@b\",\"mobileNumber\":\"919 555 1212\""),
     "groupMember.user.mobileNumber"},
    {USER("\"email\":\"a@b\",\"mobileNumber\":19195551212"),
     "groupMember.user.mobileNumber"},
    {USER("\"email\":\"a@b\",\"timeZone\":\"\""), "groupMember.user.timeZone"},
    {USER("\"email\":\"a@b\",\"timeZone\":1"), "groupMember.user.timeZone"},

    {MEMBER("\"tags\":\"x\""), "groupMember.tags"},
    {MEMBER("\"tags\":{}"), "groupMember.tags"},
    {MEMBER("\"tags\":[\"\"]"), "groupMember.tags"},
    {MEMBER("\"tags\":[\"a\",1]"), "groupMember.tags"},
    {MEMBER("\"tags\":[null]"), "groupMember.tags"},
    {MEMBER("\"tags\":[\"a\\nb\"]"), "groupMember.tags"},
    {MEMBER("\"attributes\":[]"), "groupMember.attributes"},
    {MEMBER("\"attributes\":\"{}\""), "groupMember.attributes"},
    {MEMBER("\"planSettings\":[]"), "groupMember.planSettings"},
    {MEMBER("\"planSettings\":{\"startDate\":\"14.6.2022\"}"),
     "groupMember.planSettings.startDate"},
    {MEMBER("\"planSettings\":{\"endDate\":\"2022-06-31\"}"),
     "groupMember.planSettings.endDate"},
    {MEMBER("\"planSettings\":{\"startDate\":\"2022-06-14\",\"endDate\":\"2022-06-13\"}"),
     "groupMember.planSettings.endDate"},

    /* All at once. */
    {"{\"inviteCode\":2,\"groupMember\":{\"user\":{\"birthDate\":\"x\",\"email\":\"x\","
     "\"firstName\":1,\"gender\":\"x\",\"lastName\":1,\"locale\":\"-\","
     "\"mobileNumber\":\"x\",\"timeZone\":\"\"},\"tags\":1,\"attributes\":1,"
     "\"planSettings\":{\"startDate\":\"x\",\"endDate\":\"y\"}}}",
     "groupMember.attributes groupMember.planSettings.endDate "
     "groupMember.planSettings.startDate groupMember.tags groupMember.user.birthDate "
     "groupMember.user.email groupMember.user.firstName groupMember.user.gender "
     "groupMember.user.lastName groupMember.user.locale groupMember.user.mobileNumber "
     "groupMember.user.timeZone inviteCode"},
};

static void invalid_member_fields_are_all_named(void **state)
{
    fake_host_t host = {.pool = *state};

    for (size_t i = 0; i < LENGTH(bad); i++) {
        const char *row = bad[i].body;
        const reg_reply_t *reply =
            reg_serve(request_for(&host, REG_API_GROUPS, REG_METHOD_POST, PATH, row));

        assert_number(row, reply->status, bad[i].fields ? 422 : 400);
        assert_text(row, fields_at_fault(*state, reply),
                    bad[i].fields ? bad[i].fields : "");
        assert_number(row, host.calls, 0);
    }
}

static void birthday_today_is_valid(void **state)
{
    fake_host_t host = {.pool = *state, .answer = {REG_CREATED, "/x", "{}"}};

    for (int days = 0; days <= 2; days += 2) {
        apr_time_exp_t day;
        const char *body;

        apr_time_exp_gmt(&day, apr_time_now() + days * apr_time_from_sec(86400));
        body = apr_psprintf(*state,
                            USER("\"email\":\"a@b\",\"birthDate\":\"%04d-%02d-%02d\""),
                            day.tm_year + 1900, day.tm_mon + 1, day.tm_mday);
        assert_number(
            body,
            reg_serve(request_for(&host, REG_API_GROUPS, REG_METHOD_POST, PATH, body))
                ->status,
            days ? 422 : 201);
    }
}

static void member_without_group_path_joins_group_of_code(void **state)
{
    fake_host_t host = {.pool = *state,
                        .answer = {REG_CREATED, "/groups/x/users/y", "{}"}};
    const reg_reply_t *reply = reg_serve(request_for(
        &host, REG_API_USERS, REG_METHOD_POST, "", USER("\"email\":\"a@b\"")));

    assert_int_equal(reply->status, 201);
    assert_text("Location", header(reply, "Location"), "/groups/x/users/y");
    assert_text("call", host.called,
                "groups_register(<id>, NULL, /groups, C, a@b, " SEVEN_NULLS
                ", NULL, NULL, NULL, NULL)");
}

/* What only the database knows, and the fields named for it. */
static void fault_found_by_database_names_field(void **state)
{
    static const struct {
        const char *detail, *fields;
    } rows[] = {
        {"code_unknown", "inviteCode"},
        {"code_of_another_group", "inviteCode"},
        {"code_expired", "inviteCode"},
        {"code_used_up", "inviteCode"},
        {"email_taken", "groupMember.user.email"},
        {"time_zone_unknown", "groupMember.user.timeZone"},
        {"end_before_start", "groupMember.planSettings.endDate"},
        {"code_expired email_taken time_zone_unknown end_before_start",
         "groupMember.planSettings.endDate groupMember.user.email "
         "groupMember.user.timeZone "
         "inviteCode"},
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state,
                            .answer = {REG_INVALID, rows[i].detail, NULL}};
        const reg_reply_t *reply = reg_serve(request_for(
            &host, REG_API_GROUPS, REG_METHOD_POST, PATH, USER("\"email\":\"a@b\"")));

        assert_number(rows[i].detail, reply->status, 422);
        assert_text(rows[i].detail, fields_at_fault(*state, reply), rows[i].fields);
        assert_text(rows[i].detail, header(reply, "Location"), NULL);
    }
}

static void group_outcome_has_status(void **state)
{
    static const struct {
        reg_outcome_t outcome;
        int status;
    } rows[] = {{REG_NOT_FOUND, 404},
                {REG_BAD_DATA, 422},
                {REG_UNAVAILABLE, 503},
                {REG_FAULT, 500}};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        fake_host_t host = {.pool = *state, .answer = {rows[i].outcome, NULL, NULL}};
        const reg_reply_t *reply = reg_serve(request_for(
            &host, REG_API_GROUPS, REG_METHOD_POST, PATH, USER("\"email\":\"a@b\"")));

        assert_number("status", reply->status, rows[i].status);
        assert_number("body", strncmp(reply->body, "{\"status\":", 10), 0);
        assert_text("Location", header(reply, "Location"), NULL);
    }
}

static void group_of_invalid_id_is_404_without_call(void **state)
{
    static const struct {
        const char *body;
        int status;
    } rows[] = {{USER("\"email\":\"a@b\""), 404}, {USER("\"email\":\"x\""), 422}};
    fake_host_t host = {.pool = *state};

    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_number(rows[i].body,
                      reg_serve(request_for(&host, REG_API_GROUPS, REG_METHOD_POST,
                                            "/GROUP_UUID/members", rows[i].body))
                          ->status,
                      rows[i].status);
        assert_int_equal(host.calls, 0);
    }
}

static void href_of_reply_leads_to_route(void **state)
{
    static const struct {
        const char *path, *called; /* NULL: it cannot be, so it is not looked for */
    } rows[] = {
        {"/" GROUP, "groups_get_group(" GROUP ", /mount)"},
        {"/" GROUP "/plans/" OTHER, "groups_get_plan(" OTHER ", " GROUP ", /mount)"},
        {"/" GROUP "/users/" OTHER, "groups_get_member(" OTHER ", " GROUP ", /mount)"},
        {"/" GROUP "/members/" OTHER, "groups_get_member(" OTHER ", " GROUP ", /mount)"},
        {"/x", NULL},
        {"/x/plans/" OTHER, NULL},
        {"/" GROUP "/plans/x", NULL},
        {"/" GROUP "/users/x", NULL},
        {"/x/members/" OTHER, NULL},
    };
    static const reg_outcome_t outcomes[] = {REG_FOUND, REG_NOT_FOUND};

    for (size_t i = 0; i < 2 * LENGTH(rows); i++) {
        reg_outcome_t outcome = outcomes[i % 2];
        const char *path = rows[i / 2].path, *called = rows[i / 2].called;
        fake_host_t host = {.pool = *state,
                            .answer = {outcome, NULL, "{\"href\":\"/\"}"}};
        const reg_reply_t *reply =
            reg_serve(request_for(&host, REG_API_GROUPS, REG_METHOD_GET, path, NULL));
        int found = outcome == REG_FOUND && called;

        assert_text(path, host.called, called);
        assert_number(path, reply->status, found ? 200 : 404);
        assert_number(path, strcmp(reply->body, "{\"href\":\"/\"}") == 0, found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(valid_group_member_is_registered),
        POOL_TEST(invalid_member_fields_are_all_named),
        POOL_TEST(birthday_today_is_valid),
        POOL_TEST(member_without_group_path_joins_group_of_code),
        POOL_TEST(fault_found_by_database_names_field),
        POOL_TEST(group_outcome_has_status),
        POOL_TEST(group_of_invalid_id_is_404_without_call),
        POOL_TEST(href_of_reply_leads_to_route),
    };

    return RUN_TESTS(tests);
}
