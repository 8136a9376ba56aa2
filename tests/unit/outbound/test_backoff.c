// Tests how the delays grow and vary, and that a pause can be interrupted.
#include "../unit.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/outbound/backoff.h"

static size_t asked;

static bool stopped_at_once(void)
{
    asked++;
    return true;
}

static bool never_stopped(void)
{
    return false;
}

TEST(doubles_up_to_the_maximum_and_starts_again)
{
    struct backoff backoff = {.min_ms = 100, .max_ms = 350};
    static const int64_t nominal_ms[] = {100, 200, 350, 350};

    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT(nominal_ms); i++) {
            int64_t delay_ms = backoff_next_ms(&backoff);

            assert_true(delay_ms >= nominal_ms[i] / 2 && delay_ms <= nominal_ms[i] * 3 / 2);
        }
        backoff_reset(&backoff);
    }
}

TEST(varies_a_delay_over_its_whole_range)
{
    int64_t lowest_ms = INT64_MAX, highest_ms = 0;

    for (size_t i = 0; i < 1000; i++) {
        int64_t delay_ms = backoff_add_jitter(1000);

        lowest_ms = delay_ms < lowest_ms ? delay_ms : lowest_ms;
        highest_ms = delay_ms > highest_ms ? delay_ms : highest_ms;
    }
    assert_true(lowest_ms >= 500 && lowest_ms < 550);
    assert_true(highest_ms > 1450 && highest_ms <= 1500);
}

TEST(pauses_for_the_time_unless_it_is_stopped)
{
    int64_t start_ms = clock_monotonic_ms();

    backoff_pause(1000000, stopped_at_once);
    assert_int_equal(asked, 1);
    assert_true(clock_monotonic_ms() - start_ms < 100000);
    start_ms = clock_monotonic_ms();
    backoff_pause(20, never_stopped);
    assert_true(clock_monotonic_ms() - start_ms >= 20);
}

TEST_MAIN(NULL, NULL)
