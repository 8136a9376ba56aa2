// Provides counters, gauges and histograms for monitoring, and prints them for Prometheus. A metric is defined as a
// constant at file scope. Arrays of pointers that end with NULL list the metrics to print.

// Any thread may change a metric at any time; no function takes a lock, and only metrics_print() allocates memory.
// Values are integers. A metric with `decimals` counts in decimal fractions of its unit: if the unit is a second and
// decimals is 6, the metric counts microseconds.
#pragma once

#include <assert.h>
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
    const char *name; // complete, as printed
    const char *help; // one sentence without a backslash and without a newline
    enum metric_type type;
    unsigned int decimals;
    const char *label;              // name of the label of a counter or gauge; NULL: one value without a label
    const char *const *label_texts; // text of the label for each value; a value whose text is NULL is not printed
    const int64_t *bounds;          // largest value of each bucket of a histogram, in ascending order
    size_t count;                   // number of values; for a histogram, the number of bounds
    _Atomic int64_t *values;        // for a histogram: one per bucket, one for values above all bounds, and the sum
};

// Initializers of a metric:
//   const struct metric calls = {METRIC_COUNTER("imcallbackd_calls_total", "Calls received.")};
#define METRIC_COUNTER(name_, help_) METRIC_VALUES(METRIC_TYPE_COUNTER, name_, help_, 1)
#define METRIC_GAUGE(name_, help_)   METRIC_VALUES(METRIC_TYPE_GAUGE, name_, help_, 1)

// These two initialize a metric with a label. The last arguments are the texts of the label.
#define METRIC_COUNTERS(name_, help_, label_, ...)                                                                     \
    METRIC_LABELLED(METRIC_TYPE_COUNTER, name_, help_, label_, __VA_ARGS__)
#define METRIC_GAUGES(name_, help_, label_, ...) METRIC_LABELLED(METRIC_TYPE_GAUGE, name_, help_, label_, __VA_ARGS__)

// The last arguments are the bounds of the buckets.
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

// A histogram has two more values than bounds: the count of values above all bounds, and the sum.
static inline size_t metric_value_count(const struct metric *metric)
{
    return metric->type == METRIC_TYPE_HISTOGRAM ? metric->count + 2 : metric->count;
}

// The next three functions are for counters and gauges; only metrics.c also applies them to histograms. index selects
// the value of a metric with a label, and is 0 for a metric without a label.
static inline void metric_add(const struct metric *metric, size_t index, int64_t amount)
{
    assert(index < metric_value_count(metric));
    (void)atomic_fetch_add_explicit(&metric->values[index], amount, memory_order_relaxed);
}

static inline void metric_set(const struct metric *metric, size_t index, int64_t value)
{
    assert(index < metric_value_count(metric));
    atomic_store_explicit(&metric->values[index], value, memory_order_relaxed);
}

static inline int64_t metric_value(const struct metric *metric, size_t index)
{
    assert(index < metric_value_count(metric));
    return atomic_load_explicit(&metric->values[index], memory_order_relaxed);
}

// Counts one value in a histogram.
void metric_observe(const struct metric *histogram, int64_t value);

// Appends a value of the metric, or a bound of the histogram, in the unit of the metric and without trailing zeros.
// Returns 0 or -ENOMEM.
int metric_print_value(struct buffer *text, const struct metric *metric, int64_t value) MUST_CHECK;

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

// Appends the metrics of an array that ends with NULL, in the text format 0.0.4 of Prometheus. Returns 0 or -ENOMEM.
// After -ENOMEM, part of the text may have been appended.
int metrics_print(const struct metric *const *metrics, struct buffer *text) MUST_CHECK;
