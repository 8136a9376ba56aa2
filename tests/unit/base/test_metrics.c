// Tests the text that metrics_print() appends, and counting in several threads.
#include <pthread.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/base/metrics.h"

#define THREADS 8
#define CALLS   10000

static const struct metric plain = {METRIC_COUNTER("plain_total", "A counter.")};
static const struct metric labelled = {
    METRIC_COUNTERS("labelled_total", "Counters with a label.", "result", "one", NULL, "three")};
static const struct metric gauges = {METRIC_GAUGES("gauges", "Gauges.", "file", "database", "log"), .decimals = 3};
static const struct metric histogram = {METRIC_HISTOGRAM("seconds", "A histogram.", 6, 100, 2500, 1000000)};

// Prints one metric; the text is valid until the next call.
static const char *print(const struct metric *metric, struct buffer *text)
{
    const struct metric *const list[] = {metric, NULL};

    buffer_finish(text);
    assert_int_equal(metrics_print(list, text), 0);
    return buffer_text(text);
}

TEST(prints_counters)
{
    struct buffer text = {0};

    assert_string_equal(print(&plain, &text), "# HELP plain_total A counter.\n# TYPE plain_total counter\n"
                                              "plain_total 0\n");
    metric_add(&plain, 0, 1);
    metric_add(&plain, 0, 41);
    assert_string_equal(print(&plain, &text), "# HELP plain_total A counter.\n# TYPE plain_total counter\n"
                                              "plain_total 42\n");
    metric_add(&labelled, 0, 1);
    metric_add(&labelled, 1, 2);
    metric_add(&labelled, 2, 3);
    assert_string_equal(print(&labelled, &text),
                        "# HELP labelled_total Counters with a label.\n# TYPE labelled_total counter\n"
                        "labelled_total{result=\"one\"} 1\nlabelled_total{result=\"three\"} 3\n");
    buffer_finish(&text);
}

TEST(prints_decimals_without_trailing_zeros)
{
    static const struct {
        int64_t value;
        const char *printed;
    } rows[] = {
        {0, "0"},
        {1, "0.001"},
        {10, "0.01"},
        {999, "0.999"},
        {1000, "1"},
        {1001, "1.001"},
        {1010, "1.01"},
        {123000, "123"},
        {-1, "-0.001"},
        {-1000, "-1"},
        {-2500, "-2.5"},
        {INT64_MAX, "9223372036854775.807"},
        {INT64_MIN, "-9223372036854775.808"},
    };
    struct buffer text = {0}, expected = {0};

    for (size_t i = 0; i < COUNT(rows); i++) {
        metric_set(&gauges, 0, rows[i].value);
        metric_set(&gauges, 1, 2500);
        assert_int_equal(buffer_print(&expected,
                                      "# HELP gauges Gauges.\n# TYPE gauges gauge\n"
                                      "gauges{file=\"database\"} %s\ngauges{file=\"log\"} 2.5\n",
                                      rows[i].printed),
                         0);
        assert_string_equal(print(&gauges, &text), expected.data);
        buffer_finish(&expected);
    }
    buffer_finish(&text);
}

// A value belongs to the first bucket whose bound is not smaller than the value. Each printed bucket includes all
// earlier ones.
TEST(prints_cumulative_histograms)
{
    static const int64_t values[] = {0, 99, 100, 101, 2500, 2501, 1000000, 1000001, 30000000};
    struct buffer text = {0};

    for (size_t i = 0; i < COUNT(values); i++)
        metric_observe(&histogram, values[i]);
    assert_string_equal(print(&histogram, &text), "# HELP seconds A histogram.\n# TYPE seconds histogram\n"
                                                  "seconds_bucket{le=\"0.0001\"} 3\n"
                                                  "seconds_bucket{le=\"0.0025\"} 5\n"
                                                  "seconds_bucket{le=\"1\"} 7\n"
                                                  "seconds_bucket{le=\"+Inf\"} 9\n"
                                                  "seconds_count 9\n"
                                                  "seconds_sum 32.005302\n");
    buffer_finish(&text);
}

TEST(prints_metrics_in_the_order_of_the_array)
{
    const struct metric *const list[] = {&histogram, &plain, &gauges, NULL};
    const struct metric *const none[] = {NULL};
    struct buffer text = {0};
    const char *first, *second, *third;

    assert_int_equal(metrics_print(none, &text), 0);
    assert_string_equal(buffer_text(&text), "");
    assert_int_equal(metrics_print(list, &text), 0);
    first = strstr(text.data, "# HELP seconds ");
    second = strstr(text.data, "# HELP plain_total ");
    third = strstr(text.data, "# HELP gauges ");
    assert_true(first == text.data && second > first && third > second);
    assert_true(text.data[text.length - 1] == '\n');
    buffer_finish(&text);
}

static const struct metric shared = {METRIC_COUNTERS("shared_total", "Shared.", "which", "a", "b")};
static const struct metric shared_sizes = {METRIC_HISTOGRAM("sizes", "Shared.", 0, 1, 2)};

static void *count_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < CALLS; i++) {
        metric_add(&shared, (size_t)i % 2, 1);
        metric_observe(&shared_sizes, i % 4);
    }
    return NULL;
}

TEST(counts_in_all_threads)
{
    pthread_t threads[THREADS];

    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_often, NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(metric_value(&shared, i), THREADS * CALLS / 2);
    assert_int_equal(metric_value(&shared_sizes, 0), THREADS * CALLS / 2); // 0 and 1
    assert_int_equal(metric_value(&shared_sizes, 1), THREADS * CALLS / 4); // 2
    assert_int_equal(metric_value(&shared_sizes, 2), THREADS * CALLS / 4); // 3
    assert_int_equal(metric_value(&shared_sizes, 3), THREADS * CALLS / 4 * (0 + 1 + 2 + 3));
}

TEST_MAIN(NULL, NULL)
