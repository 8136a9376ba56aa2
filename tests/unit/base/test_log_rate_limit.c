// Tests that one line per interval passes, and that the next one reports the number of suppressed lines.
#include <pthread.h>

#include "../unit.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"

#define THREADS 8
#define CALLS   1000

TEST(passes_one_line_and_counts_the_rest)
{
    struct log_rate_limit limit = {0};
    unsigned int suppressed = 4711;

    assert_true(log_rate_limit_allows(&limit, &suppressed));
    assert_int_equal(suppressed, 0);
    for (size_t i = 0; i < 5; i++)
        assert_false(log_rate_limit_allows(&limit, &suppressed));
    limit.quiet_until_ms = clock_monotonic_ms(); // ends the interval
    assert_true(log_rate_limit_allows(&limit, &suppressed));
    assert_int_equal(suppressed, 5);
    assert_false(log_rate_limit_allows(&limit, &suppressed));
    limit.quiet_until_ms = clock_monotonic_ms();
    assert_true(log_rate_limit_allows(&limit, &suppressed));
    assert_int_equal(suppressed, 1);
}

TEST(suppresses_lines_for_the_interval)
{
    struct log_rate_limit limit = {0};
    unsigned int suppressed;
    int64_t before_ms = clock_monotonic_ms();

    assert_true(log_rate_limit_allows(&limit, &suppressed));
    assert_true(limit.quiet_until_ms >= before_ms + LOG_RATE_LIMIT_INTERVAL_MS);
    assert_true(limit.quiet_until_ms <= clock_monotonic_ms() + LOG_RATE_LIMIT_INTERVAL_MS);
}

static atomic_uint passed, reported;

static void *call_often(void *limit)
{
    unsigned int suppressed;

    for (size_t i = 0; i < CALLS; i++) {
        if (log_rate_limit_allows(limit, &suppressed)) {
            passed++;
            reported += suppressed;
        }
    }
    return NULL;
}

TEST(passes_one_line_of_many_threads)
{
    struct log_rate_limit limit = {0};
    pthread_t threads[THREADS];
    unsigned int suppressed;

    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &limit), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(passed, 1);
    limit.quiet_until_ms = 0;
    assert_true(log_rate_limit_allows(&limit, &suppressed));
    assert_int_equal(reported + suppressed, THREADS * CALLS - 1); // each suppressed line is reported once
}

TEST_MAIN(NULL, NULL)
