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
#define LONGEST_BUCKETS 13

/* Classes of SQLSTATE, two of 0-9 and A-Z, and one for no answer. */
#define CLASSES (36 * 36 + 1)
#define NO_ANSWER (CLASSES - 1)

typedef apr_uint64_t count_t;

/* Upper bounds of the buckets, and how they are told. */
typedef struct {
    double unit; /* of what is told, in units of what is counted */
    int count;
    struct {
        apr_int64_t most;
        const char *told;
    } bounds[LONGEST_BUCKETS];
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

/* How many fell into each bucket; the last has no bound. */
typedef struct {
    count_t counts[LONGEST_BUCKETS + 1];
    count_t sum;
} histogram_t;

/* What one process has now. Processes do not share a line of the processors' caches. */
typedef struct {
    _Alignas(64) apr_int64_t pid; /* 0: free */
    apr_int64_t gauges[REG_GAUGES];
    apr_time_t breaker; /* open until then */
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

static void add(count_t *count, count_t number)
{
    __atomic_fetch_add(count, number, __ATOMIC_RELAXED);
}

static count_t value(const count_t *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static void observe(histogram_t *histogram, const buckets_t *buckets, apr_int64_t number)
{
    int i = 0;

    while (i < buckets->count && number > buckets->bounds[i].most) {
        i++;
    }
    add(&histogram->counts[i], 1);
    add(&histogram->sum, number > 0 ? (count_t)number : 0); /* a clock was set back */
}

static int is_running(apr_int64_t pid)
{
    return pid && (kill((pid_t)pid, 0) == 0 || errno != ESRCH);
}

/* Takes a slot that is free or whose process has ended without leaving it. */
static slot_t *take_slot(block_t *block)
{
    for (slot_t *slot = block->slots; slot < block->slots + SLOTS; slot++) {
        apr_int64_t owner = __atomic_load_n(&slot->pid, __ATOMIC_RELAXED);

        if (!is_running(owner)
            && __atomic_compare_exchange_n(&slot->pid, &owner, (apr_int64_t)getpid(), 0,
                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            for (int i = 0; i < REG_GAUGES; i++) {
                __atomic_store_n(&slot->gauges[i], 0, __ATOMIC_RELAXED);
            }
            __atomic_store_n(&slot->breaker, 0, __ATOMIC_RELAXED);
            return slot;
        }
    }
    return NULL;
}

static apr_status_t leave_slot(void *data)
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
        apr_pool_cleanup_register(pool, metrics->slot, leave_slot, apr_pool_cleanup_null);
    }
    return metrics;
}

void reg_metrics_request(reg_metrics_t *metrics, int operation, int status,
                         apr_interval_time_t took)
{
    if (metrics && status >= 0 && status < STATUSES) {
        add(&metrics->block->requests[operation][status], 1);
        observe(&metrics->block->took[operation], &durations, took);
    }
}

void reg_metrics_batch(reg_metrics_t *metrics, int size)
{
    if (metrics) {
        observe(&metrics->block->batches, &sizes, size);
    }
}

void reg_metrics_call(reg_metrics_t *metrics, apr_interval_time_t took)
{
    if (metrics) {
        observe(&metrics->block->calls, &durations, took);
    }
}

/* 0 to 35 for 0-9 and A-Z, or -1. */
static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'Z' ? c - 'A' + 10 : -1;
}

void reg_metrics_error(reg_metrics_t *metrics, const char *state)
{
    int class = NO_ANSWER;

    if (state && digit(state[0]) >= 0 && digit(state[1]) >= 0) {
        class = 36 * digit(state[0]) + digit(state[1]);
    }
    if (metrics) {
        add(&metrics->block->errors[class], 1);
    }
}

void reg_metrics_refused(reg_metrics_t *metrics, reg_refusal_t reason)
{
    if (metrics) {
        add(&metrics->block->refusals[reason], 1);
    }
}

void reg_metrics_code_refused(reg_metrics_t *metrics, reg_code_refusal_t reason)
{
    if (metrics) {
        add(&metrics->block->code_refusals[reason], 1);
    }
}

void reg_metrics_breaker(reg_metrics_t *metrics, apr_time_t until)
{
    if (metrics && metrics->slot) {
        __atomic_store_n(&metrics->slot->breaker, until, __ATOMIC_RELAXED);
    }
}

void reg_metrics_change(reg_metrics_t *metrics, reg_gauge_t gauge, int change)
{
    if (metrics && metrics->slot) {
        __atomic_fetch_add(&metrics->slot->gauges[gauge], change, __ATOMIC_RELAXED);
    }
}

/*
 * Telling
 */

/* What all processes have now. */
typedef struct {
    int processes, breakers;
    apr_int64_t gauges[REG_GAUGES];
} present_t;

static present_t look_around(const block_t *block)
{
    present_t all = {0, 0, {0}};
    apr_time_t now = apr_time_now();

    for (const slot_t *slot = block->slots; slot < block->slots + SLOTS; slot++) {
        if (!is_running(__atomic_load_n(&slot->pid, __ATOMIC_RELAXED))) {
            continue;
        }
        all.processes++;
        all.breakers += __atomic_load_n(&slot->breaker, __ATOMIC_RELAXED) > now;
        for (int i = 0; i < REG_GAUGES; i++) {
            all.gauges[i] += __atomic_load_n(&slot->gauges[i], __ATOMIC_RELAXED);
        }
    }
    return all;
}

/* Text that grows, part by part. */
typedef apr_array_header_t text_t;

static void put(text_t *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void put(text_t *text, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    APR_ARRAY_PUSH(text, const char *) = apr_pvsprintf(text->pool, format, arguments);
    va_end(arguments);
}

static void put_head(text_t *text, const char *name, const char *type, const char *help)
{
    put(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* @param label one with its value, or "". */
static void put_histogram(text_t *text, const char *name, const char *label,
                          const histogram_t *histogram, const buckets_t *buckets)
{
    count_t count = 0;

    for (int i = 0; i <= buckets->count; i++) {
        const char *bound = i < buckets->count ? buckets->bounds[i].told : "+Inf";

        count += value(&histogram->counts[i]);
        put(text, "%s_bucket{%s%sle=\"%s\"} %" APR_UINT64_T_FMT "\n", name, label,
            *label ? "," : "", bound, count);
    }
    if (*label) {
        label = apr_pstrcat(text->pool, "{", label, "}", NULL);
    }
    put(text, "%s_sum%s %.6f\n", name, label,
        (double)value(&histogram->sum) / buckets->unit);
    put(text, "%s_count%s %" APR_UINT64_T_FMT "\n", name, label, count);
}

static void put_requests(text_t *text, const block_t *block, const char *const *names)
{
    put_head(text, "registration_requests_total", "counter",
             "Requests answered, whoever made the answer.");
    for (int i = 0; names[i]; i++) {
        for (int status = 0; status < STATUSES; status++) {
            count_t count = value(&block->requests[i][status]);

            if (count) {
                put(text,
                    "registration_requests_total{operation=\"%s\",code=\"%d\"} "
                    "%" APR_UINT64_T_FMT "\n",
                    names[i], status, count);
            }
        }
    }
}

static int is_empty(const histogram_t *histogram)
{
    for (int i = 0; i <= LONGEST_BUCKETS; i++) {
        if (value(&histogram->counts[i])) {
            return 0;
        }
    }
    return 1;
}

static void put_durations(text_t *text, const block_t *block, const char *const *names)
{
    put_head(text, "registration_request_duration_seconds", "histogram",
             "From the first byte of a request to the last of its answer.");
    for (int i = 0; names[i]; i++) {
        if (!is_empty(&block->took[i])) {
            put_histogram(text, "registration_request_duration_seconds",
                          apr_psprintf(text->pool, "operation=\"%s\"", names[i]),
                          &block->took[i], &durations);
        }
    }
}

static const char *class_name(apr_pool_t *pool, int class)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    return class == NO_ANSWER
               ? "none"
               : apr_psprintf(pool, "%c%c", digits[class / 36], digits[class % 36]);
}

static void put_errors(text_t *text, const block_t *block)
{
    put_head(text, "registration_database_errors_total", "counter",
             "Calls that failed, by class of SQLSTATE; none: there was no answer.");
    for (int i = 0; i < CLASSES; i++) {
        count_t count = value(&block->errors[i]);

        if (count) {
            put(text,
                "registration_database_errors_total{class=\"%s\"} "
                "%" APR_UINT64_T_FMT "\n",
                class_name(text->pool, i), count);
        }
    }
}

static void put_refusals(text_t *text, const block_t *block)
{
    static const char *const names[REG_REFUSALS] = {"busy", "unreachable", "breaker"};

    put_head(text, "registration_connections_refused_total", "counter",
             "Calls that got no connection to the database.");
    for (int i = 0; i < REG_REFUSALS; i++) {
        put(text,
            "registration_connections_refused_total{reason=\"%s\"} "
            "%" APR_UINT64_T_FMT "\n",
            names[i], value(&block->refusals[i]));
    }
}

static void put_code_refusals(text_t *text, const block_t *block)
{
    static const char *const names[REG_CODE_REFUSALS] = {"unknown", "of_another_group",
                                                         "expired", "used_up"};

    put_head(text, "registration_invite_codes_refused_total", "counter",
             "Group members that were refused for their invite code.");
    for (int i = 0; i < REG_CODE_REFUSALS; i++) {
        put(text,
            "registration_invite_codes_refused_total{reason=\"%s\"} "
            "%" APR_UINT64_T_FMT "\n",
            names[i], value(&block->code_refusals[i]));
    }
}

static void put_gauge(text_t *text, const char *name, const char *help,
                      apr_int64_t number)
{
    put_head(text, name, "gauge", help);
    put(text, "%s %" APR_INT64_T_FMT "\n", name, number);
}

static void put_present(text_t *text, const block_t *block)
{
    present_t now = look_around(block);

    put_gauge(text, "registration_processes", "Child processes of httpd.", now.processes);
    put_gauge(text, "registration_connections_open",
              "Connections to the database, in use or idle.",
              now.gauges[REG_CONNECTIONS_OPEN]);
    put_gauge(text, "registration_connections_in_use",
              "Connections to the database that are in use.",
              now.gauges[REG_CONNECTIONS_IN_USE]);
    put_gauge(text, "registration_queued_requests",
              "Requests that wait to be carried to the database.",
              now.gauges[REG_REQUESTS_QUEUED]);
    put_gauge(text, "registration_breakers_open",
              "Child processes that ask the database for nothing at the moment, as it "
              "could not be reached.",
              now.breakers);
}

const char *reg_metrics_text(apr_pool_t *pool, const reg_metrics_t *metrics,
                             const char *const *names)
{
    text_t *text = apr_array_make(pool, 512, sizeof(const char *));

    if (!metrics) {
        return "";
    }
    put_requests(text, metrics->block, names);
    put_durations(text, metrics->block, names);
    put_head(text, "registration_batch_requests", "histogram",
             "Requests that were carried to the database together; one whose row is "
             "locked each time.");
    put_histogram(text, "registration_batch_requests", "", &metrics->block->batches,
                  &sizes);
    put_head(text, "registration_database_call_duration_seconds", "histogram",
             "Calls of operations at the database.");
    put_histogram(text, "registration_database_call_duration_seconds", "",
                  &metrics->block->calls, &durations);
    put_errors(text, metrics->block);
    put_refusals(text, metrics->block);
    put_code_refusals(text, metrics->block);
    put_present(text, metrics->block);
    put_gauge(text, "registration_start_time_seconds",
              "Since when is counted, in seconds of Unix time.",
              apr_time_sec(metrics->block->since));
    return apr_array_pstrcat(pool, text, 0);
}

/* The counts of a histogram, not added up, as JSON. */
static void put_counts(text_t *text, const histogram_t *histogram)
{
    for (int i = 0; i <= durations.count; i++) {
        put(text, "%s%" APR_UINT64_T_FMT, i ? "," : "[", value(&histogram->counts[i]));
    }
    put(text, "]");
}

static count_t count_of(const histogram_t *histogram)
{
    count_t count = 0;

    for (int i = 0; i <= LONGEST_BUCKETS; i++) {
        count += value(&histogram->counts[i]);
    }
    return count;
}

static void put_operations(text_t *text, const block_t *block, const char *const *names)
{
    const char *separator = "";

    put(text, "\"operations\":[");
    for (int i = 0; names[i]; i++) {
        const char *comma = "";

        if (is_empty(&block->took[i])) {
            continue;
        }
        put(text, "%s{\"name\":\"%s\",\"codes\":{", separator, names[i]);
        for (int status = 0; status < STATUSES; status++) {
            count_t count = value(&block->requests[i][status]);

            if (count) {
                put(text, "%s\"%d\":%" APR_UINT64_T_FMT, comma, status, count);
                comma = ",";
            }
        }
        put(text, "},\"took\":");
        put_counts(text, &block->took[i]);
        put(text, "}");
        separator = ",";
    }
    put(text, "],");
}

const char *reg_metrics_json(apr_pool_t *pool, const reg_metrics_t *metrics,
                             const char *const *names)
{
    text_t *text = apr_array_make(pool, 512, sizeof(const char *));
    const char *comma = "";
    const block_t *block;
    present_t now;

    if (!metrics) {
        return "null";
    }
    block = metrics->block;
    now = look_around(block);
    put(text, "{\"since\":%" APR_TIME_T_FMT ",\"bounds\":[", block->since);
    for (int i = 0; i < durations.count; i++) {
        put(text, "%s%s", i ? "," : "", durations.bounds[i].told);
    }
    put(text, "],");
    put_operations(text, block, names);
    put(text,
        "\"batches\":{\"count\":%" APR_UINT64_T_FMT ",\"sum\":%" APR_UINT64_T_FMT
        "},\"calls\":",
        count_of(&block->batches), value(&block->batches.sum));
    put_counts(text, &block->calls);
    put(text, ",\"errors\":{");
    for (int i = 0; i < CLASSES; i++) {
        count_t count = value(&block->errors[i]);

        if (count) {
            put(text, "%s\"%s\":%" APR_UINT64_T_FMT, comma, class_name(pool, i), count);
            comma = ",";
        }
    }
    put(text,
        "},\"processes\":%d,\"breakers\":%d,\"open\":%" APR_INT64_T_FMT
        ",\"inUse\":%" APR_INT64_T_FMT ",\"queued\":%" APR_INT64_T_FMT "}",
        now.processes, now.breakers, now.gauges[REG_CONNECTIONS_OPEN],
        now.gauges[REG_CONNECTIONS_IN_USE], now.gauges[REG_REQUESTS_QUEUED]);
    return apr_array_pstrcat(pool, text, 0);
}

/* Of all operations: how many requests were answered with a status from..to. */
static count_t answered(const block_t *block, int operation, int from, int to)
{
    count_t count = 0;

    for (int status = from; status < to; status++) {
        count += value(&block->requests[operation][status]);
    }
    return count;
}

reg_metrics_line_t reg_metrics_line(const reg_metrics_t *metrics, int operation)
{
    const block_t *block = metrics->block;
    count_t count = count_of(&block->took[operation]);

    return (reg_metrics_line_t){
        .requests = count,
        .refused = answered(block, operation, 400, 500),
        .failed = answered(block, operation, 500, STATUSES),
        .mean = count ? (apr_interval_time_t)(value(&block->took[operation].sum) / count)
                      : 0};
}

reg_metrics_now_t reg_metrics_now(const reg_metrics_t *metrics)
{
    present_t now = look_around(metrics->block);

    return (reg_metrics_now_t){.processes = now.processes,
                               .breakers = now.breakers,
                               .open = now.gauges[REG_CONNECTIONS_OPEN],
                               .in_use = now.gauges[REG_CONNECTIONS_IN_USE],
                               .queued = now.gauges[REG_REQUESTS_QUEUED],
                               .batches = count_of(&metrics->block->batches),
                               .batched = value(&metrics->block->batches.sum)};
}
