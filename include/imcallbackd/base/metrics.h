// What the daemon counts for monitoring, and how it is printed for Prometheus. A metric is defined where it is counted,
// with its name and its help beside its values; each room has a list of its metrics that ends with NULL.
//
// Any thread may count at any time, without a lock and without memory being taken. Values are whole numbers: a metric
// with `decimals` counts in powers of ten of its unit, such as microseconds for seconds with 6.
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

enum metric_type {
    METRIC_TYPE_COUNTER,
    METRIC_TYPE_GAUGE,
    METRIC_TYPE_HISTOGRAM,
};

struct metric {
    const char *name; // the whole one, as it is printed
    const char *help; // a sentence without backslashes and line ends
    enum metric_type type;
    unsigned int decimals;
    const char *label;              // what tells the values of a counter or gauge apart; NULL: there is one, without
    const char *const *label_texts; // of the label, one for each value; a value whose text is NULL is not printed
    const int64_t *bounds;          // of a histogram: the largest value of each bucket, rising
    size_t count;                   // of values, or of bounds
    _Atomic int64_t *values;        // of a histogram: one a bucket, what is above the last bound, the sum of all
};

// What stands between the braces of a metric's definition:
//   const struct metric calls = {METRIC_COUNTER("imcallbackd_calls_total", "Calls that came.")};
#define METRIC_COUNTER(name_, help_) METRIC_VALUES(METRIC_TYPE_COUNTER, name_, help_, 1)
#define METRIC_GAUGE(name_, help_)   METRIC_VALUES(METRIC_TYPE_GAUGE, name_, help_, 1)

// The same with a label; behind it stand the texts that it takes.
#define METRIC_COUNTERS(name_, help_, label_, ...)                                                                     \
    METRIC_LABELLED(METRIC_TYPE_COUNTER, name_, help_, label_, __VA_ARGS__)
#define METRIC_GAUGES(name_, help_, label_, ...) METRIC_LABELLED(METRIC_TYPE_GAUGE, name_, help_, label_, __VA_ARGS__)

// The bounds of the buckets stand behind.
#define METRIC_HISTOGRAM(name_, help_, decimals_, ...)                                                                 \
    .values = (_Atomic int64_t[METRIC_LENGTH(int64_t, __VA_ARGS__) + 2]){0}, .bounds = (const int64_t[]){__VA_ARGS__}, \
    .count = METRIC_LENGTH(int64_t, __VA_ARGS__), .name = (name_), .help = (help_), .decimals = (decimals_),           \
    .type = METRIC_TYPE_HISTOGRAM

#define METRIC_LABELLED(type_, name_, help_, label_, ...)                                                              \
    METRIC_VALUES(type_, name_, help_, METRIC_LENGTH(const char *, __VA_ARGS__)),                                      \
        .label_texts = (const char *const[]){__VA_ARGS__}, .label = (label_)
#define METRIC_VALUES(type_, name_, help_, count_)                                                                     \
    .values = (_Atomic int64_t[count_]){0}, .count = (count_), .name = (name_), .help = (help_), .type = (type_)
#define METRIC_LENGTH(type_, ...) (sizeof((type_[]){__VA_ARGS__}) / sizeof(type_))

// Of a counter or gauge. index: which of its values; 0 without a label.
static inline void metric_add(const struct metric *metric, size_t index, int64_t amount)
{
    (void)atomic_fetch_add_explicit(&metric->values[index], amount, memory_order_relaxed);
}

static inline void metric_set(const struct metric *metric, size_t index, int64_t value)
{
    atomic_store_explicit(&metric->values[index], value, memory_order_relaxed);
}

static inline int64_t metric_value(const struct metric *metric, size_t index)
{
    return atomic_load_explicit(&metric->values[index], memory_order_relaxed);
}

void metric_observe(const struct metric *histogram, int64_t value);

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

// Appends the metrics of a list in Prometheus' text format 0.0.4. Returns 0 or -ENOMEM.
int metrics_print(const struct metric *const *metrics, struct buffer *text) MUST_CHECK;
