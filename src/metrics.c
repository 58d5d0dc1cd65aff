/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics.h"

#include <apr_strings.h>
#include <apr_tables.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define SLOTS 1024
#define STATUSES 600
#define MAX_BUCKETS 13

/* Classes of SQLSTATE, two characters of 0-9 and A-Z, and one class for no answer. */
#define CLASSES (36 * 36 + 1)
#define NO_ANSWER (CLASSES - 1)

typedef apr_uint64_t count_t;

/* The buckets of a histogram: upper bounds, and their text. */
typedef struct {
    double unit; /* the sum is divided by it */
    int count;
    struct {
        apr_int64_t most;
        const char *text;
    } bounds[MAX_BUCKETS];
} buckets_t;

static const buckets_t durations = {APR_USEC_PER_SEC,
                                    13,
                                    {{1000, "0.001"},
                                     {2500, "0.0025"},
                                     {5000, "0.005"},
                                     {10000, "0.01"},
                                     {25000, "0.025"},
                                     {50000, "0.05"},
                                     {100000, "0.1"},
                                     {250000, "0.25"},
                                     {500000, "0.5"},
                                     {1000000, "1.0"},
                                     {2500000, "2.5"},
                                     {5000000, "5.0"},
                                     {10000000, "10.0"}}};
static const buckets_t sizes = {1,
                                11,
                                {{1, "1.0"},
                                 {2, "2.0"},
                                 {4, "4.0"},
                                 {8, "8.0"},
                                 {16, "16.0"},
                                 {32, "32.0"},
                                 {64, "64.0"},
                                 {128, "128.0"},
                                 {256, "256.0"},
                                 {512, "512.0"},
                                 {1000, "1000.0"}}};

/* The number of values in each bucket; the last bucket has no bound. */
typedef struct {
    count_t counts[MAX_BUCKETS + 1];
    count_t sum;
} histogram_t;

/* The gauges of one process. Processes do not share a cache line. */
typedef struct {
    _Alignas(64) apr_int64_t pid; /* 0: free */
    apr_int64_t gauges[REG_PROCESS_GAUGES];
    apr_time_t breaker_open_until;
} slot_t;

typedef struct {
    apr_time_t since;
    count_t requests[REG_METRICS_OPERATIONS][STATUSES];
    histogram_t took[REG_METRICS_OPERATIONS];
    histogram_t batches;
    histogram_t calls;
    count_t errors[CLASSES];
    count_t refusals[REG_REFUSALS];
    count_t code_refusals[REG_CODE_REFUSALS];
    slot_t slots[SLOTS];
} block_t;

struct reg_metrics_t {
    block_t *block;
    slot_t *slot; /* or NULL */
};

apr_size_t reg_metrics_size(void)
{
    return sizeof(block_t);
}

void reg_metrics_begin(void *block)
{
    ((block_t *)block)->since = apr_time_now();
}

/*
 * Counting
 */

static void add_count(count_t *count, count_t number)
{
    __atomic_fetch_add(count, number, __ATOMIC_RELAXED);
}

static count_t load_count(const count_t *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static void observe_value(histogram_t *histogram, const buckets_t *buckets,
                          apr_int64_t number)
{
    int i = 0;

    while (i < buckets->count && number > buckets->bounds[i].most) {
        i++;
    }
    add_count(&histogram->counts[i], 1);
    add_count(&histogram->sum,
              number > 0 ? (count_t)number : 0); /* the clock was set back */
}

static int is_running(apr_int64_t pid)
{
    return pid && (kill((pid_t)pid, 0) == 0 || errno != ESRCH);
}

/* Takes a slot that is free or whose process has ended without freeing it. */
static slot_t *take_slot(block_t *block)
{
    for (slot_t *slot = block->slots; slot < block->slots + SLOTS; slot++) {
        apr_int64_t owner = __atomic_load_n(&slot->pid, __ATOMIC_RELAXED);

        if (!is_running(owner)
            && __atomic_compare_exchange_n(&slot->pid, &owner, (apr_int64_t)getpid(), 0,
                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            for (int i = 0; i < REG_PROCESS_GAUGES; i++) {
                __atomic_store_n(&slot->gauges[i], 0, __ATOMIC_RELAXED);
            }
            __atomic_store_n(&slot->breaker_open_until, 0, __ATOMIC_RELAXED);
            return slot;
        }
    }
    return NULL;
}

static apr_status_t free_slot(void *data)
{
    slot_t *slot = data;

    __atomic_store_n(&slot->pid, 0, __ATOMIC_RELAXED);
    return APR_SUCCESS;
}

reg_metrics_t *reg_metrics_join(apr_pool_t *pool, void *block)
{
    reg_metrics_t *metrics = apr_palloc(pool, sizeof(*metrics));

    metrics->block = block;
    metrics->slot = take_slot(block);
    if (metrics->slot) {
        apr_pool_cleanup_register(pool, metrics->slot, free_slot, apr_pool_cleanup_null);
    }
    return metrics;
}

void reg_metrics_request(reg_metrics_t *metrics, int operation, int status,
                         apr_interval_time_t took)
{
    if (metrics && status >= 0 && status < STATUSES) {
        add_count(&metrics->block->requests[operation][status], 1);
        observe_value(&metrics->block->took[operation], &durations, took);
    }
}

void reg_metrics_batch(reg_metrics_t *metrics, int size)
{
    if (metrics) {
        observe_value(&metrics->block->batches, &sizes, size);
    }
}

void reg_metrics_call(reg_metrics_t *metrics, apr_interval_time_t took)
{
    if (metrics) {
        observe_value(&metrics->block->calls, &durations, took);
    }
}

/* 0 to 35 for 0-9 and A-Z, else -1. */
static int parse_base36(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'Z' ? c - 'A' + 10 : -1;
}

void reg_metrics_error(reg_metrics_t *metrics, const char *state)
{
    int class = NO_ANSWER;

    if (state && parse_base36(state[0]) >= 0 && parse_base36(state[1]) >= 0) {
        class = 36 * parse_base36(state[0]) + parse_base36(state[1]);
    }
    if (metrics) {
        add_count(&metrics->block->errors[class], 1);
    }
}

void reg_metrics_refused(reg_metrics_t *metrics, reg_refusal_t reason)
{
    if (metrics) {
        add_count(&metrics->block->refusals[reason], 1);
    }
}

void reg_metrics_code_refused(reg_metrics_t *metrics, reg_code_refusal_t reason)
{
    if (metrics) {
        add_count(&metrics->block->code_refusals[reason], 1);
    }
}

void reg_metrics_breaker(reg_metrics_t *metrics, apr_time_t until)
{
    if (metrics && metrics->slot) {
        __atomic_store_n(&metrics->slot->breaker_open_until, until, __ATOMIC_RELAXED);
    }
}

void reg_metrics_change(reg_metrics_t *metrics, reg_gauge_t gauge, int change)
{
    if (metrics && metrics->slot) {
        __atomic_fetch_add(&metrics->slot->gauges[gauge], change, __ATOMIC_RELAXED);
    }
}

/*
 * Reading
 */

static count_t count_values(const histogram_t *histogram)
{
    count_t count = 0;

    for (int i = 0; i <= MAX_BUCKETS; i++) {
        count += load_count(&histogram->counts[i]);
    }
    return count;
}

reg_metrics_now_t reg_metrics_now(const reg_metrics_t *metrics)
{
    const block_t *block = metrics->block;
    reg_metrics_now_t now = {.batches = count_values(&block->batches),
                             .batched = load_count(&block->batches.sum)};

    for (const slot_t *slot = block->slots; slot < block->slots + SLOTS; slot++) {
        if (!is_running(__atomic_load_n(&slot->pid, __ATOMIC_RELAXED))) {
            continue;
        }
        now.gauges[REG_PROCESSES]++;
        now.gauges[REG_BREAKERS_OPEN] +=
            __atomic_load_n(&slot->breaker_open_until, __ATOMIC_RELAXED) > apr_time_now();
        for (int i = 0; i < REG_PROCESS_GAUGES; i++) {
            now.gauges[i] += __atomic_load_n(&slot->gauges[i], __ATOMIC_RELAXED);
        }
    }
    return now;
}

/* The number of requests of an operation with a status from `from` to below `to`. */
static count_t count_statuses(const block_t *block, int operation, int from, int to)
{
    count_t count = 0;

    for (int status = from; status < to; status++) {
        count += load_count(&block->requests[operation][status]);
    }
    return count;
}

reg_metrics_line_t reg_metrics_line(const reg_metrics_t *metrics, int operation)
{
    const block_t *block = metrics->block;
    const histogram_t *took = &block->took[operation];
    count_t count = count_values(took);

    return (reg_metrics_line_t){
        .requests = count,
        .refused = count_statuses(block, operation, 400, 500),
        .failed = count_statuses(block, operation, 500, STATUSES),
        .mean = count ? (apr_interval_time_t)(load_count(&took->sum) / count) : 0};
}

/*
 * What both renderings have in common: counters by label, and gauges
 */

/* A text that grows, part by part. */
typedef apr_array_header_t text_t;

static void append_format(text_t *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append_format(text_t *text, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    APR_ARRAY_PUSH(text, const char *) = apr_pvsprintf(text->pool, format, arguments);
    va_end(arguments);
}

/* An array of counters that differ in one label. */
typedef struct {
    int count;
    const char *const
        *labels; /* then counters that are 0 are rendered too; or NULL and */
    const char *(*format_label)(apr_pool_t *pool, int i);
} counters_t;

static const char *format_status(apr_pool_t *pool, int status)
{
    return apr_itoa(pool, status);
}

static const char *format_class(apr_pool_t *pool, int class)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return class == NO_ANSWER
               ? "none"
               : apr_psprintf(pool, "%c%c", digits[class / 36], digits[class % 36]);
}

static const counters_t by_status = {STATUSES, NULL, format_status};
static const counters_t by_class = {CLASSES, NULL, format_class};
static const counters_t by_refusal = {
    REG_REFUSALS, (const char *const[]){"busy", "unreachable", "breaker"}, NULL};
static const counters_t by_code_refusal = {
    REG_CODE_REFUSALS,
    (const char *const[]){"unknown", "of_another_group", "expired", "used_up"}, NULL};

/* Appends each counter: `before`, its label, `between`, its number, `after`. */
static void append_counters(text_t *text, const counters_t *counters,
                            const count_t *counts, const char *separator,
                            const char *before, const char *between, const char *after)
{
    int is_first = 1;

    for (int i = 0; i < counters->count; i++) {
        count_t count = load_count(&counts[i]);

        if (count || counters->labels) {
            append_format(text, "%s%s%s%s%" APR_UINT64_T_FMT "%s",
                          is_first ? "" : separator, before,
                          counters->labels ? counters->labels[i]
                                           : counters->format_label(text->pool, i),
                          between, count, after);
            is_first = 0;
        }
    }
}

/* The gauges, with their names in the text and in the JSON. */
static const struct {
    reg_gauge_t gauge;
    const char *name, *member, *help;
} all_gauges[] = {
    {REG_PROCESSES, "registration_processes", "processes", "Child processes of httpd."},
    {REG_CONNECTIONS_OPEN, "registration_connections_open", "open",
     "Connections to the database, in use or idle."},
    {REG_CONNECTIONS_IN_USE, "registration_connections_in_use", "inUse",
     "Connections to the database that are in use."},
    {REG_REQUESTS_QUEUED, "registration_queued_requests", "queued",
     "Requests that wait to be carried to the database."},
    {REG_BREAKERS_OPEN, "registration_breakers_open", "breakers",
     "Child processes that ask the database for nothing at the moment, as it could not "
     "be "
     "reached."}};

/*
 * Prometheus' text format
 */

static void append_head(text_t *text, const char *name, const char *type,
                        const char *help)
{
    append_format(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void append_counter(text_t *text, const char *name, const char *label,
                           const char *help, const counters_t *counters,
                           const count_t *counts)
{
    append_head(text, name, "counter", help);
    append_counters(text, counters, counts, "",
                    apr_psprintf(text->pool, "%s{%s=\"", name, label), "\"} ", "\n");
}

static void append_requests(text_t *text, const block_t *block, const char *const *names)
{
    append_head(text, "registration_requests_total", "counter",
                "Requests answered, whoever made the answer.");
    for (int i = 0; names[i]; i++) {
        append_counters(text, &by_status, block->requests[i], "",
                        apr_psprintf(text->pool,
                                     "registration_requests_total{operation=\"%s\","
                                     "code=\"",
                                     names[i]),
                        "\"} ", "\n");
    }
}

/* @param label with its value, or "". */
static void append_histogram(text_t *text, const char *name, const char *label,
                             const histogram_t *histogram, const buckets_t *buckets)
{
    count_t count = 0;

    for (int i = 0; i <= buckets->count; i++) {
        const char *bound = i < buckets->count ? buckets->bounds[i].text : "+Inf";

        count += load_count(&histogram->counts[i]);
        append_format(text, "%s_bucket{%s%sle=\"%s\"} %" APR_UINT64_T_FMT "\n", name,
                      label, *label ? "," : "", bound, count);
    }
    if (*label) {
        label = apr_pstrcat(text->pool, "{", label, "}", NULL);
    }
    append_format(text, "%s_sum%s %.6f\n", name, label,
                  (double)load_count(&histogram->sum) / buckets->unit);
    append_format(text, "%s_count%s %" APR_UINT64_T_FMT "\n", name, label, count);
}

static void append_durations(text_t *text, const block_t *block, const char *const *names)
{
    append_head(text, "registration_request_duration_seconds", "histogram",
                "From the first byte of a request to the last of its answer.");
    for (int i = 0; names[i]; i++) {
        if (count_values(&block->took[i])) {
            append_histogram(text, "registration_request_duration_seconds",
                             apr_psprintf(text->pool, "operation=\"%s\"", names[i]),
                             &block->took[i], &durations);
        }
    }
}

static void append_gauge(text_t *text, const char *name, const char *help,
                         apr_int64_t number)
{
    append_head(text, name, "gauge", help);
    append_format(text, "%s %" APR_INT64_T_FMT "\n", name, number);
}

const char *reg_metrics_text(apr_pool_t *pool, const reg_metrics_t *metrics,
                             const char *const *names)
{
    text_t *text = apr_array_make(pool, 512, sizeof(const char *));
    const block_t *block;
    reg_metrics_now_t now;

    if (!metrics) {
        return "";
    }
    block = metrics->block;
    now = reg_metrics_now(metrics);
    append_requests(text, block, names);
    append_durations(text, block, names);
    append_head(text, "registration_batch_requests", "histogram",
                "Requests that were carried to the database together; one whose row is "
                "locked each time.");
    append_histogram(text, "registration_batch_requests", "", &block->batches, &sizes);
    append_head(text, "registration_database_call_duration_seconds", "histogram",
                "Calls of operations at the database.");
    append_histogram(text, "registration_database_call_duration_seconds", "",
                     &block->calls, &durations);
    append_counter(text, "registration_database_errors_total", "class",
                   "Calls that failed, by class of SQLSTATE; none: there was no answer.",
                   &by_class, block->errors);
    append_counter(text, "registration_connections_refused_total", "reason",
                   "Calls that got no connection to the database.", &by_refusal,
                   block->refusals);
    append_counter(text, "registration_invite_codes_refused_total", "reason",
                   "Group members that were refused for their invite code.",
                   &by_code_refusal, block->code_refusals);
    for (size_t i = 0; i < sizeof(all_gauges) / sizeof(all_gauges[0]); i++) {
        append_gauge(text, all_gauges[i].name, all_gauges[i].help,
                     now.gauges[all_gauges[i].gauge]);
    }
    append_gauge(text, "registration_start_time_seconds",
                 "Since when is counted, in seconds of Unix time.",
                 apr_time_sec(block->since));
    return apr_array_pstrcat(pool, text, 0);
}

/*
 * JSON
 */

static void append_object(text_t *text, const counters_t *counters, const count_t *counts)
{
    append_format(text, "{");
    append_counters(text, counters, counts, ",", "\"", "\":", "");
    append_format(text, "}");
}

/* The counts of the buckets of a histogram, not cumulative. */
static void append_buckets(text_t *text, const histogram_t *histogram)
{
    for (int i = 0; i <= durations.count; i++) {
        append_format(text, "%s%" APR_UINT64_T_FMT, i ? "," : "[",
                      load_count(&histogram->counts[i]));
    }
    append_format(text, "]");
}

static void append_operations(text_t *text, const block_t *block,
                              const char *const *names)
{
    const char *separator = "";

    for (int i = 0; names[i]; i++) {
        if (count_values(&block->took[i])) {
            append_format(text, "%s{\"name\":\"%s\",\"codes\":", separator, names[i]);
            append_object(text, &by_status, block->requests[i]);
            append_format(text, ",\"took\":");
            append_buckets(text, &block->took[i]);
            append_format(text, "}");
            separator = ",";
        }
    }
}

const char *reg_metrics_json(apr_pool_t *pool, const reg_metrics_t *metrics,
                             const char *const *names)
{
    text_t *text = apr_array_make(pool, 512, sizeof(const char *));
    const block_t *block;
    reg_metrics_now_t now;

    if (!metrics) {
        return "null";
    }
    block = metrics->block;
    now = reg_metrics_now(metrics);
    append_format(text, "{\"since\":%" APR_TIME_T_FMT ",\"bounds\":[", block->since);
    for (int i = 0; i < durations.count; i++) {
        append_format(text, "%s%s", i ? "," : "", durations.bounds[i].text);
    }
    append_format(text, "],\"operations\":[");
    append_operations(text, block, names);
    append_format(text,
                  "],\"batches\":{\"count\":%" APR_UINT64_T_FMT
                  ",\"sum\":%" APR_UINT64_T_FMT "},\"calls\":",
                  now.batches, now.batched);
    append_buckets(text, &block->calls);
    append_format(text, ",\"errors\":");
    append_object(text, &by_class, block->errors);
    for (size_t i = 0; i < sizeof(all_gauges) / sizeof(all_gauges[0]); i++) {
        append_format(text, ",\"%s\":%" APR_INT64_T_FMT, all_gauges[i].member,
                      now.gauges[all_gauges[i].gauge]);
    }
    append_format(text, "}");
    return apr_array_pstrcat(pool, text, 0);
}
