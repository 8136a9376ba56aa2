// Tracks the lag of an outbound service, which is the number and the age of the recorded events that still wait to be
// sent. One thread sets the lag; any thread may read the lag.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "imcallbackd/base/metrics.h"

struct lag {
    const struct metric *events;  // gauge: number of waiting events
    const struct metric *seconds; // gauge with 3 decimals: age of the oldest waiting event
    const struct metric *last_id; // gauge: every event up to this id was taken
    atomic_int_fast64_t oldest_waiting_ms;
};

// Sets the number of waiting events, where a negative number counts as 0, the id up to which every event was taken, and
// the time when the oldest waiting event was received. If this time is 0, no event waits, and the number counts as 0,
// too.
void lag_set(struct lag *lag, int64_t events, int64_t last_id, int64_t oldest_received_at_ms);

// Returns the age of the oldest waiting event, or 0 if no event waits.
int64_t lag_ms(const struct lag *lag);

// Updates the gauge `seconds`. The caller calls this before it prints the metrics, because the age grows even while
// lag_set is not called.
void lag_refresh(const struct lag *lag);
