// Reports the progress of shipping to operators, in metrics and in the log. Only the thread that ships calls these
// functions, except that any thread may call progress_print_metrics.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/store/columns.h"

extern const struct metric *const progress_metrics[]; // ends with NULL

// Updates the age of the oldest waiting event and appends all metrics. Returns 0 or -ENOMEM.
int progress_print_metrics(struct buffer *text) MUST_CHECK;

// newest_id is the largest id of an event in the store, and every event up to shipped_id is in the destination.
// oldest_received_at_ms is the time at which the oldest event that is not in the destination yet was received, or 0 if
// every event is there.
void progress_set_lag(int64_t newest_id, int64_t shipped_id, int64_t oldest_received_at_ms);

void progress_set_connected(bool connected);

// Counts one batch that the destination has committed. `members` is 0 for rejected callbacks. duration_us is the time
// from sending the batch to its commit.
void progress_add_shipped(enum stream stream, size_t rows, size_t members, int64_t duration_us);

// Counts a failure and logs it, rate-limited as long as the message stays the same. pause_ms is the delay before the
// retry.
void progress_add_failure(const struct error *error, int64_t pause_ms);

// Logs a summary once a minute, unless no event was shipped in that minute. The caller calls this once a second.
void progress_log_summary(void);
