// The two clocks.
#pragma once

#include <stdint.h>
#include <time.h>

int64_t clock_realtime_ms(void);  // since 1970 in UTC; may jump
int64_t clock_monotonic_ms(void); // for durations and deadlines; never goes back
int64_t clock_monotonic_us(void); // the same clock, for short durations

// So many ms (0 or more) as the system's calls take them: a time to wait, or one of the clocks.
struct timespec clock_timespec(int64_t ms);

// The shorter one of two times to wait; a negative one is for ever.
int64_t clock_min_timeout_ms(int64_t one_ms, int64_t other_ms);
