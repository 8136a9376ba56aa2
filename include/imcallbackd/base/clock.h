// Reads three of the system's clocks: the realtime clock is for timestamps, the monotonic clock is for durations and
// deadlines, and the boottime clock is for a history that must show how long the machine was suspended.
#pragma once

#include <stdint.h>
#include <time.h>

int64_t clock_realtime_ms(void);  // Unix time; may jump forwards and backwards
int64_t clock_monotonic_ms(void); // never goes backwards
int64_t clock_monotonic_us(void); // the same clock
int64_t clock_boottime_ms(void);  // like clock_monotonic_ms, but goes on while the machine is suspended

// Converts a duration or a time of one of the clocks to a timespec. ms must be 0 or more.
struct timespec clock_timespec(int64_t ms);

// Returns the shorter of two timeouts. A negative timeout means no limit.
int64_t clock_min_timeout_ms(int64_t one_ms, int64_t other_ms);
