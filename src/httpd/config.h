/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_CONFIG_H
#define REGISTRATION_HTTPD_CONFIG_H

/** The directives: what they set, their defaults, how they merge. */

#include "registration.h"

#include <ap_expr.h>
#include <http_config.h>
#include <httpd.h>

/** Octets of RegistrationLogKey. */
#define REG_LOG_KEY_SIZE 16

/** What a <Location> says; -1 or NULL where it says nothing. Without an `api`, nothing is
 *  mounted. */
typedef struct reg_dir_conf_t {
    int api;               /* reg_api_t */
    const char *mount;     /* path of the <Location>, without a slash at its end */
    const char *mount_uri; /* the same, escaped for a URI */
    ap_expr_info_t *organization;
    const apr_array_header_t *organization_claims; /* variables that it names */
    apr_int64_t max_body;                          /* bytes */
    int max_fields;                                /* bytes */
    int max_page_size;
    int password_cost;
    const char *groups_path; /* escaped for a URI */
    int idempotency_ttl;     /* seconds */
} reg_dir_conf_t;

struct reg_limiter_t;

/** What a server says. */
typedef struct reg_server_conf_t {
    int mounted;                  /* an API is mounted here or in the main server */
    int restricted;               /* one that is not for everybody; implies mounted */
    int needs_database;           /* one that calls operations; implies mounted */
    apr_interval_time_t timeout;  /* of an operation; -1 when unset, until check_config */
    int connections;              /* calls in flight per child; likewise */
    int list_threads;             /* whole lists sent at a time; -1 when unset */
    int searches;                 /* of those, by requests that are not combined */
    apr_interval_time_t expires;  /* DBDExptime; 0: never */
    const char *pool_key;         /* see reg_dbd_key() */
    const unsigned char *log_key; /* see caller.h; NULL when unset */
    int batch_size;               /* most requests of a call; likewise */
    struct reg_cache_t *cache;    /* in a child process, or NULL; see cache.h */
    struct reg_batching_t *batching; /* in a child process; see batching.h */
    struct reg_limiter_t *limiter;   /* in a child process; see pool.h */
    int most_hashing;                /* the main server's; -1 when unset */
    apr_interval_time_t hash_took;   /* the last one in a child process; 0: none yet */
    struct reg_metrics_t *metrics;   /* in a child process, or NULL; see metrics.h */
} reg_server_conf_t;

extern const command_rec reg_directives[];

void *reg_dir_conf_create(apr_pool_t *pool, char *dir);
void *reg_dir_conf_merge(apr_pool_t *pool, void *base, void *add);
void *reg_server_conf_create(apr_pool_t *pool, server_rec *server);
void *reg_server_conf_merge(apr_pool_t *pool, void *base, void *add);

const reg_dir_conf_t *reg_dir_conf(const request_rec *r);
reg_server_conf_t *reg_server_conf(const server_rec *server);

/** The settings of a mount, defaults filled in. */
reg_settings_t *reg_settings(apr_pool_t *pool, const reg_dir_conf_t *conf);

#endif
