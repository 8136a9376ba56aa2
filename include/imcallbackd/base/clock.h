// The two clocks.
#pragma once

#include <stdint.h>

int64_t clock_realtime_ms(void);  // since 1970 in UTC; may jump
int64_t clock_monotonic_ms(void); // for durations and deadlines; never goes back
