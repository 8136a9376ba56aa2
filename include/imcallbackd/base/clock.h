// The two clocks.
#pragma once

#include <stdint.h>

int64_t clock_realtime_ms(void);  // since 1970 in UTC; may jump
int64_t clock_monotonic_ms(void); // for durations and deadlines; never goes back
int64_t clock_monotonic_us(void); // the same clock, for short durations

// The shorter one of two times to wait; a negative one is for ever.
int64_t clock_earlier_ms(int64_t one_ms, int64_t other_ms);
