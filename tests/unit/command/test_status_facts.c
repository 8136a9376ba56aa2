// The main thread and the thread of the admin listener sample the history at the same time, while other threads count.
#include <pthread.h>
#include <stdatomic.h>

#include "../unit.h"
#include "command/receiver.h"
#include "command/status_facts.h"

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

TEST_MAIN(NULL, NULL)
