/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "claims.h"
#include "routes.h"
#include "turn.h"

#include <apr_escape.h>
#include <apr_fnmatch.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(registration);

#define UNSET (-1)

#define DEFAULT_MAX_BODY 131072
#define DEFAULT_MAX_FIELDS 65536
#define DEFAULT_MAX_PAGE_SIZE 1000
#define DEFAULT_PASSWORD_COST 10
#define DEFAULT_GROUPS_PATH "/api/v1/groups"
#define DEFAULT_IDEMPOTENCY_TTL 86400

const reg_dir_conf_t *reg_dir_conf(const request_rec *r)
{
    return ap_get_module_config(r->per_dir_config, &registration_module);
}

reg_server_conf_t *reg_server_conf(const server_rec *server)
{
    return ap_get_module_config(server->module_config, &registration_module);
}

void *reg_dir_conf_create(apr_pool_t *pool, char *dir)
{
    reg_dir_conf_t *conf = apr_pcalloc(pool, sizeof(*conf));

    (void)dir;
    conf->api = UNSET;
    conf->max_body = UNSET;
    conf->max_fields = UNSET;
    conf->max_page_size = UNSET;
    conf->password_cost = UNSET;
    conf->idempotency_ttl = UNSET;
    return conf;
}

void *reg_dir_conf_merge(apr_pool_t *pool, void *base, void *add)
{
    const reg_dir_conf_t *outer = base, *inner = add;
    reg_dir_conf_t *conf = apr_pcalloc(pool, sizeof(*conf));

    conf->api = inner->api != UNSET ? inner->api : outer->api;
    conf->mount = inner->mount ? inner->mount : outer->mount;
    conf->mount_uri = inner->mount_uri ? inner->mount_uri : outer->mount_uri;
    conf->organization = inner->organization ? inner->organization : outer->organization;
    conf->organization_claims =
        inner->organization ? inner->organization_claims : outer->organization_claims;
    conf->max_body = inner->max_body != UNSET ? inner->max_body : outer->max_body;
    conf->max_fields = inner->max_fields != UNSET ? inner->max_fields : outer->max_fields;
    conf->max_page_size =
        inner->max_page_size != UNSET ? inner->max_page_size : outer->max_page_size;
    conf->password_cost =
        inner->password_cost != UNSET ? inner->password_cost : outer->password_cost;
    conf->groups_path = inner->groups_path ? inner->groups_path : outer->groups_path;
    conf->idempotency_ttl =
        inner->idempotency_ttl != UNSET ? inner->idempotency_ttl : outer->idempotency_ttl;
    return conf;
}

void *reg_server_conf_create(apr_pool_t *pool, server_rec *server)
{
    reg_server_conf_t *conf = apr_pcalloc(pool, sizeof(*conf));

    (void)server;
    conf->timeout = UNSET;
    conf->connections = UNSET;
    conf->searches = UNSET;
    conf->list_threads = UNSET;
    conf->batch_size = UNSET;
    conf->turns = UNSET;
    conf->most_hashing = UNSET;
    return conf;
}

void *reg_server_conf_merge(apr_pool_t *pool, void *base, void *add)
{
    const reg_server_conf_t *outer = base, *inner = add;
    reg_server_conf_t *conf = apr_pcalloc(pool, sizeof(*conf));

    conf->mounted = inner->mounted || outer->mounted;
    conf->restricted = inner->restricted || outer->restricted;
    conf->needs_database = inner->needs_database || outer->needs_database;
    conf->timeout = inner->timeout != UNSET ? inner->timeout : outer->timeout;
    conf->connections =
        inner->connections != UNSET ? inner->connections : outer->connections;
    conf->searches = inner->searches != UNSET ? inner->searches : outer->searches;
    conf->list_threads =
        inner->list_threads != UNSET ? inner->list_threads : outer->list_threads;
    conf->batch_size = inner->batch_size != UNSET ? inner->batch_size : outer->batch_size;
    conf->turns = inner->turns != UNSET ? inner->turns : outer->turns;
    conf->log_key = inner->log_key ? inner->log_key : outer->log_key;
    return conf;
}

reg_settings_t *reg_settings(apr_pool_t *pool, const reg_dir_conf_t *conf)
{
    reg_settings_t *settings = apr_palloc(pool, sizeof(*settings));

    settings->max_body =
        (apr_size_t)(conf->max_body != UNSET ? conf->max_body : DEFAULT_MAX_BODY);
    settings->max_fields =
        conf->max_fields != UNSET ? conf->max_fields : DEFAULT_MAX_FIELDS;
    settings->max_page_size =
        conf->max_page_size != UNSET ? conf->max_page_size : DEFAULT_MAX_PAGE_SIZE;
    settings->password_cost =
        conf->password_cost != UNSET ? conf->password_cost : DEFAULT_PASSWORD_COST;
    settings->groups_path = conf->groups_path ? conf->groups_path : DEFAULT_GROUPS_PATH;
    settings->idempotency_ttl =
        conf->idempotency_ttl != UNSET ? conf->idempotency_ttl : DEFAULT_IDEMPOTENCY_TTL;
    return settings;
}

/*
 * Directives
 */

/* Reads a whole number within a range. @return the error, with the directive and its
 * range.
 */
static const char *read_number(const cmd_parms *cmd, const char *value, apr_int64_t least,
                               apr_int64_t most, apr_int64_t *number)
{
    char *end;

    *number = apr_strtoi64(value, &end, 10);
    if (end == value || *end || *number < least || *number > most) {
        return apr_psprintf(cmd->pool,
                            "%s must be a whole number from %" APR_INT64_T_FMT
                            " to %" APR_INT64_T_FMT ", not \"%s\"",
                            cmd->cmd->name, least, most, value);
    }
    return NULL;
}

static const char *strip_slash(apr_pool_t *pool, const char *path)
{
    apr_size_t length = strlen(path);

    while (length && path[length - 1] == '/') {
        length--;
    }
    return apr_pstrmemdup(pool, path, length);
}

/* Escapes a path for a URI, in Location, Link and the hrefs of the groups API. A comma
 * and a semicolon are escaped too, as some clients split Link there. */
static const char *escape_path(apr_pool_t *pool, const char *path)
{
    const char *escaped = apr_pescape_path(pool, path, 1);
    char *uri = apr_palloc(pool, 3 * strlen(escaped) + 1), *end = uri;

    for (; *escaped; escaped++) {
        end += apr_snprintf(end, 4, strchr(",;", *escaped) ? "%%%02X" : "%c", *escaped);
    }
    *end = '\0';
    return uri;
}

/* Whether the directive is in a <Location> with one plain path: no <LocationMatch>, no
 * `~`, no wildcard. The path below the mount is what follows it. */
static int is_in_location(const cmd_parms *cmd)
{
    const ap_directive_t *parent = cmd->directive->parent;

    return parent && ap_cstr_casecmp(parent->directive, "<Location") == 0
           && *parent->args != '~' && *cmd->path == '/' && !apr_fnmatch_test(cmd->path)
           && cmd->path[strlen(cmd->path) - 1] != '/';
}

static const char *set_api(cmd_parms *cmd, void *config, const char *value)
{
    reg_dir_conf_t *conf = config;
    int api = 0;

    if (!is_in_location(cmd)) {
        return "RegistrationAPI belongs in a <Location> with one plain path that does "
               "not end in a slash, like <Location \"/v1/sessions\">";
    }
    while (api < REG_API_COUNT && ap_cstr_casecmp(value, reg_api_names[api]) != 0) {
        api++;
    }
    if (api == REG_API_COUNT) {
        return apr_psprintf(
            cmd->pool,
            "RegistrationAPI must be one of live, groups, users, "
            "families, events, openapi, metrics, health, status, not \"%s\"",
            value);
    }
    if (conf->api != UNSET) {
        return apr_psprintf(
            cmd->pool,
            "RegistrationAPI %s and RegistrationAPI %s cannot be mounted by "
            "one <Location>; write a <Location> for each",
            reg_api_names[conf->api], value);
    }
    conf->api = api;
    conf->mount = cmd->path;
    conf->mount_uri = escape_path(cmd->pool, cmd->path);
    reg_server_conf(cmd->server)->mounted = 1;
    if (api != REG_API_OPENAPI) {
        reg_server_conf(cmd->server)->restricted = 1;
    }
    if (reg_api_needs_database((reg_api_t)api)) {
        reg_server_conf(cmd->server)->needs_database = 1;
    }
    return NULL;
}

static const char *set_organization(cmd_parms *cmd, void *config, const char *value)
{
    reg_dir_conf_t *conf = config;
    const char *error = NULL;

    if (ap_strcasestr(value, "%{env:")) {
        return "RegistrationOrganization must not use %{env:...}, which looks into "
               "request "
               "notes and httpd's own environment too; write %{reqenv:...}";
    }
    conf->organization =
        ap_expr_parse_cmd(cmd, value, AP_EXPR_FLAG_STRING_RESULT, &error, NULL);
    conf->organization_claims = reg_claims_named(cmd->pool, value);
    return error ? apr_psprintf(cmd->pool,
                                "RegistrationOrganization cannot be read as an "
                                "expression: %s",
                                error)
                 : NULL;
}

static const char *set_max_body(cmd_parms *cmd, void *config, const char *value)
{
    reg_dir_conf_t *conf = config;

    return read_number(cmd, value, 1, 1073741824, &conf->max_body);
}

/* From the size of "{}" to the limit of the constraints of the tables. */
static const char *set_max_fields(cmd_parms *cmd, void *config, const char *value)
{
    reg_dir_conf_t *conf = config;
    apr_int64_t number;
    const char *error = read_number(cmd, value, 2, 1048576, &number);

    conf->max_fields = (int)number;
    return error;
}

static const char *set_max_page_size(cmd_parms *cmd, void *config, const char *value)
{
    reg_dir_conf_t *conf = config;
    apr_int64_t number;
    const char *error = read_number(cmd, value, 1, 10000, &number);

    conf->max_page_size = (int)number;
    return error;
}

static const char *set_password_cost(cmd_parms *cmd, void *config, const char *value)
{
    reg_dir_conf_t *conf = config;
    apr_int64_t number;
    const char *error = read_number(cmd, value, 4, 17, &number);

    conf->password_cost = (int)number;
    return error;
}

static const char *set_groups_path(cmd_parms *cmd, void *config, const char *value)
{
    reg_dir_conf_t *conf = config;

    if (*value != '/') {
        return apr_psprintf(cmd->pool,
                            "RegistrationGroupsPath must begin with a slash, not \"%s\"",
                            value);
    }
    conf->groups_path = escape_path(cmd->pool, strip_slash(cmd->pool, value));
    return NULL;
}

static const char *set_idempotency_ttl(cmd_parms *cmd, void *config, const char *value)
{
    reg_dir_conf_t *conf = config;
    apr_int64_t seconds;
    const char *error = read_number(cmd, value, 1, 31536000, &seconds);

    conf->idempotency_ttl = (int)seconds;
    return error;
}

/* It must be longer than connect_timeout, and libpq's minimum of that is 2. */
static const char *set_timeout(cmd_parms *cmd, void *config, const char *value)
{
    apr_int64_t seconds;
    const char *error = read_number(cmd, value, 3, 60, &seconds);

    (void)config;
    reg_server_conf(cmd->server)->timeout = apr_time_from_sec(seconds);
    return error;
}

static const char *set_connections(cmd_parms *cmd, void *config, const char *value)
{
    apr_int64_t number;
    const char *error = read_number(cmd, value, 1, 10000, &number);

    (void)config;
    reg_server_conf(cmd->server)->connections = (int)number;
    return error;
}

static const char *set_searches(cmd_parms *cmd, void *config, const char *value)
{
    apr_int64_t number;
    const char *error = read_number(cmd, value, 1, 10000, &number);

    (void)config;
    reg_server_conf(cmd->server)->searches = (int)number;
    return error;
}

static const char *set_list_threads(cmd_parms *cmd, void *config, const char *value)
{
    apr_int64_t number;
    const char *error = read_number(cmd, value, 1, 10000, &number);

    (void)config;
    reg_server_conf(cmd->server)->list_threads = (int)number;
    return error;
}

static const char *set_batch_size(cmd_parms *cmd, void *config, const char *value)
{
    apr_int64_t number;
    const char *error = read_number(cmd, value, 1, 1000, &number);

    (void)config;
    reg_server_conf(cmd->server)->batch_size = (int)number;
    return error;
}

static const char *set_turns(cmd_parms *cmd, void *config, const char *value)
{
    apr_int64_t number;
    const char *error = read_number(cmd, value, 0, REG_MOST_TURNS, &number);

    (void)config;
    reg_server_conf(cmd->server)->turns = (int)number;
    return error;
}

/* The error does not repeat the value: it is a secret. */
static const char *set_log_key(cmd_parms *cmd, void *config, const char *value)
{
    unsigned char *key = apr_palloc(cmd->pool, REG_LOG_KEY_SIZE);
    apr_size_t length;

    (void)config;
    if (strlen(value) != (size_t)2 * REG_LOG_KEY_SIZE
        || apr_unescape_hex(key, value, APR_ESCAPE_STRING, 0, &length) != APR_SUCCESS) {
        return "RegistrationLogKey must be 32 hex digits, as openssl rand -hex 16 prints";
    }
    reg_server_conf(cmd->server)->log_key = key;
    return NULL;
}

static const char *set_hashing(cmd_parms *cmd, void *config, const char *value)
{
    apr_int64_t number;
    const char *error = ap_check_cmd_context(cmd, GLOBAL_ONLY);

    (void)config;
    if (!error) {
        error = read_number(cmd, value, 1, 1000, &number);
        reg_server_conf(cmd->server)->most_hashing = (int)number;
    }
    return error;
}

const command_rec reg_directives[] = {
    AP_INIT_TAKE1(
        "RegistrationAPI", set_api, NULL, ACCESS_CONF,
        "the API to mount: live, groups, users, families, events, openapi, metrics, "
        "health or status"),
    AP_INIT_TAKE1("RegistrationOrganization", set_organization, NULL, ACCESS_CONF,
                  "expression for the organization that the events API is limited to"),
    AP_INIT_TAKE1("RegistrationMaxBody", set_max_body, NULL, RSRC_CONF | ACCESS_CONF,
                  "largest request body, in bytes"),
    AP_INIT_TAKE1("RegistrationMaxFields", set_max_fields, NULL, RSRC_CONF | ACCESS_CONF,
                  "most bytes of `fields`, `attributes` or `tags` that are stored"),
    AP_INIT_TAKE1("RegistrationMaxPageSize", set_max_page_size, NULL,
                  RSRC_CONF | ACCESS_CONF, "largest `limit` of a search"),
    AP_INIT_TAKE1("RegistrationPasswordCost", set_password_cost, NULL,
                  RSRC_CONF | ACCESS_CONF, "cost of bcrypt"),
    AP_INIT_TAKE1("RegistrationGroupsPath", set_groups_path, NULL,
                  RSRC_CONF | ACCESS_CONF, "path of the mount of the groups API"),
    AP_INIT_TAKE1("RegistrationIdempotencyTTL", set_idempotency_ttl, NULL,
                  RSRC_CONF | ACCESS_CONF,
                  "seconds for which an Idempotency-Key is stored"),
    AP_INIT_TAKE1("RegistrationTimeout", set_timeout, NULL, RSRC_CONF,
                  "seconds until the deadline of a request"),
    AP_INIT_TAKE1("RegistrationConnections", set_connections, NULL, RSRC_CONF,
                  "database connections of a child process"),
    AP_INIT_TAKE1(
        "RegistrationSearches", set_searches, NULL, RSRC_CONF,
        "database connections of a child process for requests that are not batched"),
    AP_INIT_TAKE1("RegistrationListThreads", set_list_threads, NULL, RSRC_CONF,
                  "threads of a child process that send long answers"),
    AP_INIT_TAKE1("RegistrationBatchSize", set_batch_size, NULL, RSRC_CONF,
                  "most requests in a batch; 1: no batching"),
    AP_INIT_TAKE1(
        "RegistrationTurns", set_turns, NULL, RSRC_CONF,
        "turns in which child processes send the batches of an operation; 0: none"),
    AP_INIT_TAKE1("RegistrationLogKey", set_log_key, NULL, RSRC_CONF,
                  "32 hex digits, the key of the hash of callers in logs"),
    AP_INIT_TAKE1("RegistrationHashing", set_hashing, NULL, RSRC_CONF,
                  "passwords hashed at the same time per child process"),
    {NULL, {NULL}, NULL, 0, RAW_ARGS, NULL}};
