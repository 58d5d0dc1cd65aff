/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTPD_CONFIG_H
#define REGISTRATION_HTTPD_CONFIG_H

/** The directives, their defaults, and how they are merged. */

#include "registration.h"

#include <ap_expr.h>
#include <http_config.h>
#include <httpd.h>

/** Octets of RegistrationLogKey. */
#define REG_LOG_KEY_SIZE 16

/** The directives of a <Location>; -1 or NULL for an unset one. Without an `api` nothing
 * is mounted. */
typedef struct reg_dir_conf_t {
    int api;               /* reg_api_t */
    const char *mount;     /* path of the <Location>, without a slash at its end */
    const char *mount_uri; /* the same, escaped for a URI */
    ap_expr_info_t *organization;
    const apr_array_header_t
        *organization_claims; /* the variables with claims that it names */
    apr_int64_t max_body;     /* bytes */
    int max_fields;           /* bytes */
    int max_page_size;
    int password_cost;
    const char *groups_path; /* escaped for a URI */
    int idempotency_ttl;     /* seconds */
} reg_dir_conf_t;

struct reg_limiter_t;

/** The directives of a server, and its state. */
typedef struct reg_server_conf_t {
    int mounted;                  /* the server or the main server mounts an API */
    int restricted;               /* one besides openapi; implies mounted */
    int needs_database;           /* one with a database; implies mounted */
    apr_interval_time_t timeout;  /* -1: unset, until check_config; as are those below */
    int connections;              /* of a child process */
    int list_threads;             /* long answers at the same time */
    int searches;                 /* connections for requests that are not batched */
    apr_interval_time_t expires;  /* DBDExptime; 0: never */
    const char *pool_key;         /* see reg_dbd_key() */
    const unsigned char *log_key; /* see caller.h; NULL: unset */
    int batch_size;               /* most requests of a call */
    int turns;                    /* of each operation; 0: none; see turn.h */
    struct reg_cache_t *cache;    /* in a child process, or NULL; see cache.h */
    struct reg_batching_t *batching; /* in a child process; see batching.h */
    struct reg_limiter_t *limiter;   /* in a child process; see pool.h */
    int most_hashing;                /* the main server's; -1: unset */
    apr_interval_time_t hash_took;   /* the last hash in the child process; 0: none yet */
    struct reg_metrics_t *metrics;   /* in a child process, or NULL; see metrics.h */
} reg_server_conf_t;

extern const command_rec reg_directives[];

void *reg_dir_conf_create(apr_pool_t *pool, char *dir);
void *reg_dir_conf_merge(apr_pool_t *pool, void *base, void *add);
void *reg_server_conf_create(apr_pool_t *pool, server_rec *server);
void *reg_server_conf_merge(apr_pool_t *pool, void *base, void *add);

const reg_dir_conf_t *reg_dir_conf(const request_rec *r);
reg_server_conf_t *reg_server_conf(const server_rec *server);

/** The settings of a mount: its directives, or their defaults. */
reg_settings_t *reg_settings(apr_pool_t *pool, const reg_dir_conf_t *conf);

#endif
