// Tests the samples of the history: the main thread and the thread of the admin listener take them at the same time,
// while other threads count.
#include <pthread.h>
#include <stdatomic.h>

#include "../unit.h"
#include "command/receiver.h"
#include "command/status_facts.h"
#include "imcallbackd/http/http_metrics.h"
#include "imcallbackd/store/store.h"

#define SAMPLE_COUNT 20000

static struct status_sources sources; // too large for a stack
static atomic_bool stopped;

static void *count(void *unused)
{
    (void)unused;
    while (!stopped)
        metric_add(&receiver_results, RESULT_RECORDED, 1);
    return NULL;
}

static void *sample(void *unused)
{
    (void)unused;
    for (int i = 0; i < SAMPLE_COUNT; i++)
        assert_in_range(status_sources_sample(&sources), 1, HISTORY_MINUTE_MS);
    return NULL;
}

TEST(samples_of_two_threads_lose_nothing)
{
    struct history_counts sums;
    pthread_t counter, sampler;

    status_sources_init(&sources);
    assert_int_equal(pthread_create(&counter, NULL, count, NULL), 0);
    assert_int_equal(pthread_create(&sampler, NULL, sample, NULL), 0);
    (void)sample(NULL);
    pthread_join(sampler, NULL);
    stopped = true;
    pthread_join(counter, NULL);
    (void)status_sources_sample(&sources);
    history_sum(&sources.history, HISTORY_MINUTES, &sums);
    assert_int_equal(sums.values[HISTORY_RECORDED], metric_value(&receiver_results, RESULT_RECORDED));
    status_sources_finish(&sources);
}

TEST(counts_commits_and_answers_of_any_duration)
{
    static const int64_t durations_us[] = {0, 3000, INT64_C(3600000000)};
    struct history_counts sums;

    status_sources_init(&sources);
    for (size_t i = 0; i < COUNT(durations_us); i++) {
        metric_observe(&store_commit_seconds, durations_us[i]);
        metric_observe(&http_answer_seconds, durations_us[i]);
    }
    (void)status_sources_sample(&sources);
    history_sum(&sources.history, HISTORY_MINUTES, &sums);
    assert_int_equal(sums.values[HISTORY_COMMITS], 3);
    assert_int_equal(sums.values[HISTORY_ANSWERS], 1);
    assert_int_equal(sums.values[HISTORY_ANSWERS + HISTORY_BUCKETS - 1], 1);
    status_sources_finish(&sources);
}

TEST_MAIN(NULL, NULL)
