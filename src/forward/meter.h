// What the forwarder tells of itself: metrics, and lines in the log. All of it is called by the thread that ships; the
// metrics are read by others.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "batch.h"

// How far the destination is behind.
struct meter_lag {
    int64_t newest_id;             // of destroyed_group here
    int64_t shipped_id;            // and of what is there
    int64_t oldest_received_at_ms; // of what is not there yet; 0: all is there
};

void meter_set_lag(const struct meter_lag *lag);
void meter_set_connected(bool connected);

// One batch is there.
void meter_add_shipped(enum stream stream, size_t rows, size_t members, int64_t duration_us);

void meter_add_retry(void);

// Something is to be tried again.
void meter_log_failure(const struct error *error, int64_t pause_ms);

// From time to time, when something was shipped since the last time.
void meter_log_summary(void);
