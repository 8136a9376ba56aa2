// How far an outbound service is behind the store. One thread sets the lag; any thread may read it.
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

// events: the number of waiting events; a negative number counts as 0. oldest_received_at_ms: the time when the oldest
// waiting event was received; 0 means that no event waits.
void lag_set(struct lag *lag, int64_t events, int64_t last_id, int64_t oldest_received_at_ms);

// Returns the age of the oldest waiting event; 0: no event waits.
int64_t lag_ms(const struct lag *lag);

// Updates the gauge of the age, which grows while nothing happens.
void lag_refresh(const struct lag *lag);
