// Time in these tests is a number of milliseconds; minute M starts at M * MINUTE.
#include <string.h>

#include "../unit.h"
#include "imcallbackd/status/history.h"

#define MINUTE HISTORY_MINUTE_MS
#define HOUR   (60 * MINUTE)

static struct history history; // too large for a stack with a guard
static struct history_counts totals;

static void start(int64_t now_ms)
{
    totals = (struct history_counts){0};
    history_init(&history, &(struct history_time){now_ms, now_ms});
}

// Samples after the given number of recorded callbacks since the last sample.
static void sample_at(int64_t now_ms, int64_t awake_ms, int64_t recorded)
{
    totals.values[HISTORY_RECORDED] += recorded;
    history_sample(&history, &(struct history_time){now_ms, awake_ms}, &totals);
}

static void sample(int64_t now_ms, int64_t recorded)
{
    sample_at(now_ms, now_ms, recorded);
}

// Returns the number of recorded callbacks in the minute `ago` minutes before the newest one, or -1 if that minute was
// not measured.
static int64_t recorded(size_t ago)
{
    struct history_bar bars[60];

    history_bars(&history, 1, bars, 60);
    return bars[59 - ago].measured ? bars[59 - ago].values[HISTORY_RECORDED] : -1;
}

static int64_t recorded_in_a_day(void)
{
    struct history_counts sums;

    history_sum(&history, HISTORY_MINUTES, &sums);
    return sums.values[HISTORY_RECORDED];
}

TEST(fits_into_the_stated_memory)
{
    assert_true(sizeof history <= (size_t)125 * 1024);
}

TEST(counts_in_the_minute_in_progress)
{
    start(10 * MINUTE);
    sample(10 * MINUTE + 20000, 3);
    sample(10 * MINUTE + 40000, 4);
    assert_int_equal(recorded(0), 7);
    assert_int_equal(recorded(1), -1);
}

TEST(a_sample_at_the_start_of_a_minute_belongs_to_the_minute_before)
{
    start(10 * MINUTE);
    sample(11 * MINUTE, 5);
    assert_int_equal(recorded(1), 5);
    assert_int_equal(recorded(0), 0);
    sample(12 * MINUTE + 3, 10); // the sampler is late by 3 ms
    assert_int_equal(recorded(1), 10);
    assert_int_equal(recorded(0), 0);
}

TEST(a_late_sample_makes_no_spike)
{
    start(10 * MINUTE);
    sample(20 * MINUTE, 1000);
    for (size_t ago = 1; ago <= 10; ago++)
        assert_int_equal(recorded(ago), 100);
    assert_int_equal(recorded(11), -1);
    assert_int_equal(recorded_in_a_day(), 1000);
}

TEST(the_parts_of_a_late_sample_add_up)
{
    start(10 * MINUTE + 12345);
    sample(17 * MINUTE + 54321, 1);
    sample(31 * MINUTE + 1, 7919);
    sample(31 * MINUTE + 1, 11);
    assert_int_equal(recorded_in_a_day(), 1 + 7919 + 11);
}

TEST(a_suspended_machine_leaves_a_gap_and_no_spike)
{
    start(10 * MINUTE);
    sample_at(12 * MINUTE, 12 * MINUTE, 20);
    // Suspended for 30 minutes; two callbacks in the 30 s before and after.
    sample_at(42 * MINUTE + 30000, 12 * MINUTE + 30000, 2);
    assert_int_equal(recorded(0), 2);
    for (size_t ago = 1; ago < 30; ago++)
        assert_int_equal(recorded(ago), -1);
    assert_int_equal(recorded(31), 10);
}

TEST(a_minute_without_callbacks_is_measured)
{
    start(10 * MINUTE);
    sample(11 * MINUTE, 0);
    sample(12 * MINUTE, 0);
    assert_int_equal(recorded(1), 0);
    assert_int_equal(recorded(3), -1);
}

TEST(forgets_after_a_day)
{
    start(0);
    sample(30000, 5);
    sample(24 * HOUR - 1, 0);
    assert_int_equal(recorded_in_a_day(), 5);
    sample(24 * HOUR, 0);
    assert_int_equal(recorded_in_a_day(), 0);
}

TEST(survives_a_pause_of_more_than_a_day)
{
    start(10 * MINUTE);
    sample(10 * MINUTE + 30000, 5);
    sample_at(100 * HOUR, 10 * MINUTE + 40000, 3);
    assert_int_equal(recorded_in_a_day(), 3);
    sample_at(300 * HOUR, 200 * HOUR, 2000); // the sampler stood still for 200 hours; one day of it is in the ring
    assert_in_range(recorded_in_a_day(), 235, 245);
}

TEST(a_sample_longer_than_a_day_counts_no_minute_twice)
{
    start(0);
    sample(INT64_C(3) * 24 * HOUR - 1, INT64_C(30) * HISTORY_MINUTES);
    assert_int_equal(recorded(0), 10);
}

TEST(two_samples_at_the_same_time_lose_nothing)
{
    start(10 * MINUTE + 1);
    sample(10 * MINUTE + 1, 3);
    sample(10 * MINUTE + 1, 4);
    assert_int_equal(recorded_in_a_day(), 7);
}

TEST(a_quarter_sums_fifteen_minutes)
{
    struct history_bar bars[96];

    start(30 * MINUTE);
    for (int64_t minute = 30; minute < 50; minute++)
        sample((minute + 1) * MINUTE - 1, 1);
    history_bars(&history, 15, bars, 96);
    assert_int_equal(bars[95].start_ms, 45 * MINUTE);
    assert_int_equal(bars[95].values[HISTORY_RECORDED], 5);
    assert_int_equal(bars[94].values[HISTORY_RECORDED], 15);
    assert_false(bars[93].measured);
}

TEST(tells_the_time_to_the_next_minute)
{
    assert_int_equal(history_until_next_minute_ms(5 * MINUTE), MINUTE);
    assert_int_equal(history_until_next_minute_ms(5 * MINUTE + 1), MINUTE - 1);
    assert_int_equal(history_until_next_minute_ms(6 * MINUTE - 1), 1);
}

static const int64_t bounds[HISTORY_BUCKETS - 1] = {100,   250,    500,    1000,   2500,    5000,    10000,   25000,
                                                    50000, 100000, 250000, 500000, 1000000, 2000000, 5000000, 10000000};

TEST(estimates_percentiles_within_a_bucket)
{
    struct history_counts sums = {0};

    assert_int_equal(history_percentile(&sums, bounds, 50), -1);
    sums.values[HISTORY_ANSWERS + 3] = 100; // 500 to 1,000
    assert_int_equal(history_percentile(&sums, bounds, 50), 750);
    assert_int_equal(history_percentile(&sums, bounds, 99), 995);
    sums.values[HISTORY_ANSWERS] = 300;
    assert_in_range(history_percentile(&sums, bounds, 50), 60, 70);
    assert_int_equal(history_percentile(&sums, bounds, 100), 1000);
}

TEST(a_percentile_above_all_bounds_is_the_last_bound)
{
    struct history_counts sums = {0};

    sums.values[HISTORY_ANSWERS + HISTORY_BUCKETS - 1] = 1;
    assert_int_equal(history_percentile(&sums, bounds, 50), 10000000);
}

TEST_MAIN(NULL, NULL)
