#include <pthread.h>

#include "../unit.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"

#define THREADS 8
#define CALLS   1000

static void first_line_passes_and_the_rest_is_counted(void **state)
{
    struct log_rate_limit limit = {0};
    unsigned int left_out = 4711;

    (void)state;
    assert_true(log_rate_limit_allows(&limit, &left_out));
    assert_int_equal(left_out, 0);
    for (size_t i = 0; i < 5; i++)
        assert_false(log_rate_limit_allows(&limit, &left_out));
    limit.quiet_until_ms = clock_monotonic_ms(); // as if the interval were over
    assert_true(log_rate_limit_allows(&limit, &left_out));
    assert_int_equal(left_out, 5);
    assert_false(log_rate_limit_allows(&limit, &left_out));
    limit.quiet_until_ms = clock_monotonic_ms();
    assert_true(log_rate_limit_allows(&limit, &left_out));
    assert_int_equal(left_out, 1);
}

static void stays_quiet_for_the_interval(void **state)
{
    struct log_rate_limit limit = {0};
    unsigned int left_out;
    int64_t before_ms = clock_monotonic_ms();

    (void)state;
    assert_true(log_rate_limit_allows(&limit, &left_out));
    assert_true(limit.quiet_until_ms >= before_ms + LOG_RATE_LIMIT_INTERVAL_MS);
    assert_true(limit.quiet_until_ms <= clock_monotonic_ms() + LOG_RATE_LIMIT_INTERVAL_MS);
}

static atomic_uint passed, told;

static void *call_often(void *limit)
{
    unsigned int left_out;

    for (size_t i = 0; i < CALLS; i++) {
        if (log_rate_limit_allows(limit, &left_out)) {
            passed++;
            told += left_out;
        }
    }
    return NULL;
}

static void one_of_many_threads_passes(void **state)
{
    struct log_rate_limit limit = {0};
    pthread_t threads[THREADS];
    unsigned int left_out;

    (void)state;
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &limit), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(passed, 1);
    limit.quiet_until_ms = 0;
    assert_true(log_rate_limit_allows(&limit, &left_out));
    assert_int_equal(told + left_out, THREADS * CALLS - 1); // none is forgotten, none is told twice
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_line_passes_and_the_rest_is_counted),
        cmocka_unit_test(stays_quiet_for_the_interval),
        cmocka_unit_test(one_of_many_threads_passes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
