/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_H
#define REGISTRATION_H

/**
 * The types of the whole module: request, operation, answer, reply.
 *
 * docs/architecture.md names the files in the order in which a request passes them.
 * The SQL returns outcomes and knows no HTTP; the C code knows HTTP and no tables. The
 * Makefile restricts the headers that a folder may include: src/httpd includes all
 * folders and httpd's headers, src/api includes src/http and src/database, which include
 * only themselves.
 *
 * Memory: a request, its reply and everything they point to are in the request's pool.
 */

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

/** The most captures of a route, and the most parameters of an operation. */
#define REG_MAX_CAPTURES 2
#define REG_MAX_PARAMETERS 22

/** A parsed JSON value; its members are private to json.c. */
typedef struct json_t reg_json_t;

typedef enum {
    REG_METHOD_GET, /* also HEAD, whose body httpd removes */
    REG_METHOD_POST,
    REG_METHOD_PUT,
    REG_METHOD_DELETE,
    REG_METHOD_OPTIONS,
    REG_METHOD_OTHER
} reg_method_t;

/** The APIs as `RegistrationAPI` names them, in the order of reg_api_names. */
typedef enum {
    REG_API_LIVE,
    REG_API_GROUPS,
    REG_API_USERS, /* the second path of the group API: the invite code has the group */
    REG_API_FAMILIES,
    REG_API_EVENTS,
    REG_API_OPENAPI, /* the description of the registration APIs */
    REG_API_METRICS,
    REG_API_HEALTH,
    REG_API_STATUS, /* a page for people */
    REG_API_COUNT
} reg_api_t;

/** The value of `RegistrationAPI` for each API. */
extern const char *const reg_api_names[REG_API_COUNT];

/** The outcome of an operation for one request. outcomes.c has the names in the SQL. */
typedef enum {
    REG_CREATED,
    REG_FOUND,
    REG_MORE, /* found; another page follows */
    REG_UPDATED,
    REG_DELETED,
    REG_NOT_FOUND,
    REG_NOT_JOINABLE,
    REG_DUPLICATE,
    REG_FULL,
    REG_NO_WAITING_LIST,
    REG_CHANGED,   /* If-Match or If-None-Match does not hold */
    REG_TOO_LARGE, /* detail names the field that exceeds max_fields */
    REG_INVALID,   /* detail names the problems */
    REG_CHILDREN_UNKNOWN,
    REG_INSTITUTION_UNKNOWN,
    REG_ACCEPTABLE,  /* only checked; a call with a hash would register it */
    REG_KEY_REUSED,  /* the Idempotency-Key belongs to another request */
    REG_KEY_INVALID, /* the Idempotency-Key is invalid; no operation was called */
    /* Not from the SQL: */
    REG_BAD_DATA,    /* the database refuses a value of this request */
    REG_LOCKED,      /* lock timeout; rolled back, retry */
    REG_SLOW,        /* it takes too long for a batch; rolled back */
    REG_UNAVAILABLE, /* not done, or in doubt; the client may retry */
    REG_FAULT        /* a bug in the module or the SQL; logged */
} reg_outcome_t;

/**
 * An operation: the function registration.<name>. Its parameters are arrays with one
 * element a request; it returns one row a request: item, outcome, detail, body.
 */
typedef struct reg_operation_t {
    const char *name;
    int parameters; /* the number of all parameters */
    int key;        /* index of the parameter that requests compete for */
    int alone;      /* not batched, as it takes long */
    int audited;    /* it writes, and has the parameters of audit.h */
    int later; /* the number of parameters that later versions have added at the end */
    apr_interval_time_t cache_ttl; /* see cache.h; 0: not cached */
    unsigned skipped; /* bit mask of values outside the fingerprint; see idempotency.h */
    const struct reg_operation_t
        *keyed;          /* the operation with an Idempotency-Key, or NULL */
    const char *wrapped; /* the operation that a keyed operation calls, or NULL */
} reg_operation_t;

/** An operation's answer to one request. */
typedef struct reg_answer_t {
    reg_outcome_t outcome;
    const char *detail; /* described by the operation's file in sql/operations, or NULL */
    const char *body;   /* JSON for the client, sent unchanged, or NULL */
} reg_answer_t;

/** Counts and times of a request's calls of the database, for the logs. */
typedef struct reg_call_stats_t {
    int batch;                  /* number of requests in the last call; 0: no call */
    int backend;                /* process id of the last call's session; 0: no call */
    int retries;                /* calls that were made again */
    unsigned retry_reasons;     /* bit mask of 1 << reg_verdict_t */
    apr_interval_time_t queued; /* waiting in queues */
    apr_interval_time_t connecting; /* waiting for a connection */
    apr_interval_time_t executing;  /* at the database */
    apr_interval_time_t took;       /* from the start of its batches to their end */
} reg_call_stats_t;

/** The directives of a mount, or their defaults. */
typedef struct reg_settings_t {
    apr_size_t max_body;     /* bytes */
    int max_fields;          /* bytes of stored JSON: fields, attributes, tags */
    int max_page_size;       /* registrations */
    int password_cost;       /* bcrypt's, log2 of its rounds */
    const char *groups_path; /* the mount of the groups API, escaped for a URI */
    int idempotency_ttl;     /* seconds */
} reg_settings_t;

typedef struct reg_request_t reg_request_t;

/** The functions that a request needs from its host: httpd, or a test. */
typedef struct reg_host_t {
    /**
     * Reads the body into request->body and request->body_length.
     * @return 0, or the status of the answer: 415 for an encoded body. A negative status
     *         means that an answer has been sent; the handler returns it to httpd.
     */
    int (*read_body)(reg_request_t *request);
    /**
     * Runs an operation for this request within the deadline.
     * @param values as many as the operation has parameters, in PostgreSQL's text form;
     *        NULL is SQL NULL.
     * @param answer always set; a failure is an outcome.
     */
    void (*run_operation)(reg_request_t *request, const reg_operation_t *operation,
                          const char *const *values, reg_answer_t *answer);
    /**
     * Takes one of the host's slots for long answers, until the reply has been sent; for
     * a whole list, which may keep a thread for long. A long reply to a GET takes one
     * itself.
     * @return 0 if no slot is free.
     */
    int (*enter_list)(reg_request_t *request);
    /**
     * Waits for one of the host's slots for hashing a password, which keeps a processor
     * busy. Call end_hashing after it, unless it returns 0, with the time that the hash
     * took; 0 if nothing was hashed.
     * @return 0 if no slot was free in time, which is logged; 2 if the request has
     * waited, so that earlier answers may be out of date; else 1.
     */
    int (*begin_hashing)(reg_request_t *request);
    void (*end_hashing)(reg_request_t *request, apr_interval_time_t took);
} reg_host_t;

struct reg_request_t {
    apr_pool_t *pool;
    const reg_host_t *host;
    void *host_data; /* the host's own */
    const reg_settings_t *settings;

    reg_api_t api;
    reg_method_t method;
    const char
        *mount; /* path of the <Location> without a slash at its end, escaped for a URI */
    const char *path;          /* the path after the mount: "" or "/…", decoded */
    const char *query;         /* undecoded, or NULL */
    const char *content_type;  /* or NULL */
    int has_body;              /* by the request's headers */
    int has_bearer_token;      /* Authorization: Bearer … was sent */
    const char *user;          /* authenticated caller, or NULL */
    const char *request_id;    /* httpd's id of this request, or NULL */
    const char *organization;  /* UUID that limits the events API, in lower case, or NULL
                                */
    const char *if_match;      /* or NULL */
    const char *if_none_match; /* or NULL */
    const char *idempotency_key; /* the header, or NULL */
    const char *prefer;          /* or NULL */
    const char *accept;          /* or NULL */

    const char *captures[REG_MAX_CAPTURES]; /* set by the route: the {…} of its pattern */
    const char *body;                       /* set by read_body; NUL-terminated */
    apr_size_t body_length;
    reg_json_t *json; /* the parsed body; NULL if the method has none */

    const struct reg_route_t *route; /* set by reg_serve; NULL: no route */

    int is_list; /* set by enter_list */

    /* Set by run_operation, for the logs: */
    const char *outcome; /* NULL: no operation was called */
    reg_call_stats_t stats;

    /* Set by the host: */
    apr_time_t deadline; /* of all calls of the request; 0 before the first */

    struct reg_metrics_t *metrics; /* see metrics.h; or NULL */
};

typedef struct reg_reply_t reg_reply_t;

/**
 * Reads the next chunk of a body: replaces reply->body, and sets reply->more to NULL
 * after the last chunk.
 * @param pool of the chunk.
 * @return 0 on failure.
 */
typedef int reg_more_t(reg_reply_t *reply, apr_pool_t *pool);

/** The answer to the client. */
struct reg_reply_t {
    int status;
    const char *body;         /* or NULL for none */
    const char *content_type; /* of the body */
    apr_table_t *headers;     /* without Content-Type and Content-Length */
    reg_more_t *more; /* reads the next chunk of the body; NULL: no chunk follows */
    void *more_data;  /* for `more` */
};

/** Handles a route: checks the fields, calls an operation and makes the reply. */
typedef reg_reply_t *reg_handler_t(reg_request_t *request);

/* The handlers of the routes, in src/api. */
reg_handler_t reg_live_register;
reg_handler_t reg_groups_register, reg_groups_get_group, reg_groups_get_plan,
    reg_groups_get_member;
reg_handler_t reg_families_register;
reg_handler_t reg_events_create, reg_events_get, reg_events_update, reg_events_delete,
    reg_events_search;
reg_handler_t reg_openapi_get;
reg_handler_t reg_monitoring_metrics, reg_monitoring_live, reg_monitoring_ready,
    reg_monitoring_status, reg_monitoring_status_data;

#endif
