// Prints metrics while other threads count, so the values of one page may come from slightly different times.
#include "imcallbackd/base/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void metric_observe(const struct metric *histogram, int64_t value)
{
    size_t bucket = 0;

    assert(histogram->type == METRIC_TYPE_HISTOGRAM);
    while (bucket < histogram->count && value > histogram->bounds[bucket])
        bucket++;
    metric_add(histogram, bucket, 1);
    metric_add(histogram, histogram->count + 1, value);
}

int metric_print_value(struct buffer *text, const struct metric *metric, int64_t value)
{
    const unsigned int decimals = metric->decimals;
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value, unit = 1;
    char number[64];
    int length;

    for (unsigned int i = 0; i < decimals; i++)
        unit *= 10;
    length = snprintf(number, sizeof number, "%s%" PRIu64 ".%0*" PRIu64, value < 0 ? "-" : "", magnitude / unit,
                      (int)decimals, magnitude % unit);
    assert(length > 0 && (size_t)length < sizeof number);
    while (number[length - 1] == '0')
        length--;
    if (number[length - 1] == '.')
        length--;
    return buffer_append(text, number, (size_t)length);
}

// Prints a value followed by the text `end`.
static int print_number(struct buffer *text, const struct metric *metric, int64_t value, const char *end)
{
    int r = metric_print_value(text, metric, value);

    return r < 0 ? r : buffer_append(text, end, strlen(end));
}

static int print_values(struct buffer *text, const struct metric *metric)
{
    int r = 0;

    for (size_t i = 0; i < metric->count && r == 0; i++) {
        if (!metric->label)
            r = buffer_print(text, "%s ", metric->name);
        else if (metric->label_texts[i])
            r = buffer_print(text, "%s{%s=\"%s\"} ", metric->name, metric->label, metric->label_texts[i]);
        else
            continue;
        if (r == 0)
            r = print_number(text, metric, metric_value(metric, i), "\n");
    }
    return r;
}

// Prometheus expects cumulative buckets. The printed count repeats the +Inf bucket, so that the two agree even while
// other threads count.
static int print_histogram(struct buffer *text, const struct metric *metric)
{
    int64_t count = 0;
    int r = 0;

    for (size_t i = 0; i < metric->count && r == 0; i++) {
        count += metric_value(metric, i);
        r = buffer_print(text, "%s_bucket{le=\"", metric->name);
        if (r == 0)
            r = print_number(text, metric, metric->bounds[i], "\"} ");
        if (r == 0)
            r = buffer_print(text, "%" PRId64 "\n", count);
    }
    count += metric_value(metric, metric->count);
    if (r == 0)
        r = buffer_print(text, "%s_bucket{le=\"+Inf\"} %" PRId64 "\n%s_count %" PRId64 "\n%s_sum ", metric->name, count,
                         metric->name, count, metric->name);
    return r < 0 ? r : print_number(text, metric, metric_value(metric, metric->count + 1), "\n");
}

int metrics_print(const struct metric *const *metrics, struct buffer *text)
{
    static const char *const types[] = {
        [METRIC_TYPE_COUNTER] = "counter", [METRIC_TYPE_GAUGE] = "gauge", [METRIC_TYPE_HISTOGRAM] = "histogram"};
    int r = 0;

    for (; *metrics && r == 0; metrics++) {
        const struct metric *metric = *metrics;

        r = buffer_print(text, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name,
                         types[metric->type]);
        if (r == 0)
            r = metric->type == METRIC_TYPE_HISTOGRAM ? print_histogram(text, metric) : print_values(text, metric);
    }
    return r;
}
