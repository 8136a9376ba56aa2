// Computes the delays between attempts: each delay is nominally twice the previous one, up to a maximum, and varies at
// random, so that several receivers do not all retry at the same time. The random numbers are those of random(3).
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct backoff {
    int64_t min_ms, max_ms; // the caller sets these two and zeroes the rest
    int64_t last_ms;        // the previous delay without its random part; 0: there was none
};

// Returns the next delay: 50 to 150 percent of its nominal value.
int64_t backoff_next_ms(struct backoff *backoff);

// Makes the next delay the shortest one again.
void backoff_reset(struct backoff *backoff);

// Returns a random time between 50 and 150 percent of ms.
int64_t backoff_add_jitter(int64_t ms);

// Seeds random(3), so that two processes have different delays.
void backoff_seed(void);

// Sleeps for this time. Returns early, within 200 ms, once stopped() returns true.
void backoff_pause(int64_t ms, bool (*stopped)(void));
