/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_H
#define REGISTRATION_H

/**
 * The vocabulary that the whole module shares: request, operation, answer, reply.
 *
 * docs/architecture.md names the files in the order in which a request passes them.
 * The SQL speaks outcomes and knows no HTTP; the C speaks HTTP and knows no table. A
 * folder includes only what its layer may use, which the Makefile enforces: src/httpd all
 * of it and httpd's headers, src/api src/http and src/database, these two nothing else.
 *
 * Memory: all that is reachable from a request or its reply lives in the request's pool.
 */

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

/** Most captured path segments a route has, most parameters an operation takes. */
#define REG_MAX_CAPTURES 2
#define REG_MAX_PARAMETERS 22

/** A parsed JSON value; only json.c looks inside. */
typedef struct json_t reg_json_t;

typedef enum {
    REG_METHOD_GET, /* HEAD is a GET whose body httpd drops */
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
    REG_API_USERS, /* the group API's second address: the group comes from the code */
    REG_API_FAMILIES,
    REG_API_EVENTS,
    REG_API_OPENAPI, /* the description of the others */
    REG_API_METRICS,
    REG_API_HEALTH,
    REG_API_STATUS, /* a page for a person */
    REG_API_COUNT
} reg_api_t;

/** The value of `RegistrationAPI` for each API. */
extern const char *const reg_api_names[REG_API_COUNT];

/** What an operation says of one request. The names the SQL uses are in outcomes.c. */
typedef enum {
    REG_CREATED,
    REG_FOUND,
    REG_MORE, /* found, and another page follows */
    REG_UPDATED,
    REG_DELETED,
    REG_NOT_FOUND,
    REG_NOT_JOINABLE,
    REG_DUPLICATE,
    REG_FULL,
    REG_NO_WAITING_LIST,
    REG_CHANGED,   /* If-Match or If-None-Match does not hold */
    REG_TOO_LARGE, /* detail names the field that would be more than max_fields */
    REG_INVALID,   /* detail says what is wrong */
    REG_CHILDREN_UNKNOWN,
    REG_INSTITUTION_UNKNOWN,
    REG_ACCEPTABLE,  /* it was only checked, and could be done */
    REG_KEY_REUSED,  /* the Idempotency-Key belongs to another request */
    REG_KEY_INVALID, /* it is none; no operation was called */
    /* Not from the SQL: */
    REG_BAD_DATA,    /* the database refuses a value of this request */
    REG_LOCKED,      /* lock timeout; nothing was done, retry */
    REG_SLOW,        /* it takes too long for a batch; nothing was done */
    REG_UNAVAILABLE, /* not known to be done; the client may retry */
    REG_FAULT        /* a bug, here or in the SQL; logged */
} reg_outcome_t;

/**
 * An operation: the function registration.<name>, which takes that many arrays, one
 * element a request, and returns one row a request: item, outcome, detail, body.
 */
typedef struct reg_operation_t {
    const char *name;
    int parameters; /* all of them */
    int key;        /* index of the parameter that requests compete for */
    int alone;      /* it takes long: it is not batched */
    int audited;    /* it writes; it has the parameters of audit.h */
    int later;      /* parameters that later versions added, the last ones; not part of a
                       fingerprint */
    apr_interval_time_t cache_ttl; /* see cache.h; 0: not cached */
    unsigned skipped; /* bits of values outside the fingerprint; see idempotency.h */
    const struct reg_operation_t *keyed; /* the same under an Idempotency-Key, or NULL */
    const char *wrapped; /* of a keyed operation: the operation that it calls */
} reg_operation_t;

/** What an operation answered to one request. */
typedef struct reg_answer_t {
    reg_outcome_t outcome;
    const char *detail; /* what the operation's page in sql/operations says, or NULL */
    const char *body;   /* JSON for the client, passed on as it is, or NULL */
} reg_answer_t;

/** What the logs tell of a request's calls of the database; times are in microseconds. */
typedef struct reg_call_stats_t {
    int batch;                      /* requests of the last call; 0: none */
    int backend;                    /* process id of the last call's session; 0: none */
    int retries;                    /* calls that were made again */
    unsigned retry_reasons;         /* why; bits 1 << reg_verdict_t */
    apr_interval_time_t queued;     /* in the queues, a connection already being free */
    apr_interval_time_t connecting; /* waiting for a connection */
    apr_interval_time_t executing;  /* at the database */
    apr_interval_time_t took;       /* from the beginning of its batches to their end */
} reg_call_stats_t;

/** What the directives of a mount say, defaults filled in. */
typedef struct reg_settings_t {
    apr_size_t max_body;     /* bytes */
    int max_fields;          /* bytes of stored JSON: fields, attributes, tags */
    int max_page_size;       /* registrations */
    int password_cost;       /* bcrypt's, log2 of its rounds */
    const char *groups_path; /* where the groups API is mounted, as in a URI */
    int idempotency_ttl;     /* seconds */
} reg_settings_t;

typedef struct reg_request_t reg_request_t;

/** What a request needs from whoever runs it: httpd, or a test. */
typedef struct reg_host_t {
    /**
     * Reads the body into request->body and request->body_length.
     * @return 0, or the status to answer with: 415 for an encoded body; a negative one
     *         means that the answer is already on its way and is to be handed back to
     *         httpd.
     */
    int (*read_body)(reg_request_t *request);
    /**
     * Runs an operation for this request within the deadline.
     * @param values as many as the operation has parameters, in PostgreSQL's text form;
     *        NULL is SQL NULL.
     * @param answer always filled in; a failure is an outcome like any other.
     */
    void (*run_operation)(reg_request_t *request, const reg_operation_t *operation,
                          const char *const *values, reg_answer_t *answer);
    /** Whether the reply may be a whole list, which may keep a thread for long; it is one
     *  of few then until it has been sent. A long reply to a GET becomes one by itself.
     */
    int (*enter_list)(reg_request_t *request);
    /**
     * Waits until this request may use a processor for long, to hash a password: the host
     * bounds how many do so at the same time.
     * @return 0 when it may not in time for another call, which is logged; 2 when it had
     *         to wait, so that what was looked up before may be out of date; else 1.
     * Unless it is 0, end_hashing has to follow, with the time that the hash itself took;
     * 0: none was made.
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
    const char *mount; /* path of the <Location>, no slash at its end, as in a URI */
    const char *path;  /* what follows it: "" or "/…", decoded */
    const char *query; /* undecoded, or NULL */
    const char *content_type;    /* or NULL */
    int has_body;                /* the client announced one */
    int has_bearer_token;        /* Authorization: Bearer … was sent */
    const char *user;            /* authenticated caller, or NULL */
    const char *request_id;      /* httpd's own for this request, or NULL */
    const char *organization;    /* UUID that limits the events API, its digits in lower
                                  * case, or NULL */
    const char *if_match;        /* or NULL */
    const char *if_none_match;   /* or NULL */
    const char *idempotency_key; /* as it was sent, or NULL */
    const char *prefer;          /* or NULL */
    const char *accept;          /* or NULL */

    const char *captures[REG_MAX_CAPTURES]; /* set by the route: {…} of its pattern */
    const char *body;                       /* set by read_body; ends in a NUL */
    apr_size_t body_length;
    reg_json_t *json; /* the body, an object, on routes that take one */

    const struct reg_route_t *route; /* set by reg_serve; NULL: there is none */

    int is_list; /* set by enter_list */

    /* Set by `call`, for the logs: */
    const char *outcome; /* NULL: it has not been called */
    reg_call_stats_t stats;

    /* The host's own: */
    apr_time_t deadline; /* of all calls for one answer; 0 before the first */

    struct reg_metrics_t *metrics; /* see metrics.h; or NULL */
};

typedef struct reg_reply_t reg_reply_t;

/**
 * Goes on with a body that is too long for one piece: puts the next part in the place of
 * the last one, and NULL in that of `more` when nothing follows.
 * @param pool of the part.
 * @return 0 when it cannot go on.
 */
typedef int reg_more_t(reg_reply_t *reply, apr_pool_t *pool);

/** What the client gets. */
struct reg_reply_t {
    int status;
    const char *body;         /* or NULL for none */
    const char *content_type; /* of the body */
    apr_table_t *headers;     /* besides Content-Type and Content-Length */
    reg_more_t *more;         /* what goes on with the body, or NULL: that is all of it */
    void *more_data;          /* its own */
};

/** Serves one route: checks fields, calls an operation, makes the reply. */
typedef reg_reply_t *reg_handler_t(reg_request_t *request);

/* live.c, groups.c, families.c, events.c, events_list.c, openapi.c, monitoring.c: what
 * routes.c dispatches to. */
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
