// Reports the progress of the delivery to operators, in metrics and in the log. Any thread may call
// delivery_log_print_metrics; only the thread that sends calls the other functions.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "acceptance.h"
#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/store/delivery_state.h"

extern const struct metric *const delivery_metrics[]; // ends with NULL

// Updates the age of the oldest waiting event and appends all metrics. Returns 0 or -ENOMEM.
int delivery_log_print_metrics(struct buffer *text) MUST_CHECK;

// Sets the metrics of the lag. `events` is the number of recorded events that are neither accepted nor set aside. Every
// event up to the id `cursor` is accepted or set aside. `waiting` is the number of events that the sender has taken
// over and that are neither accepted nor set aside. oldest_received_at_ms is the time when the oldest of the latter was
// received, or 0 if there is none.
void delivery_log_set_lag(int64_t events, int64_t cursor, size_t waiting, int64_t oldest_received_at_ms);

void delivery_log_set_in_flight(size_t count);
void delivery_log_set_aside_total(int64_t count);

void delivery_log_accepted(void);

// Counts a failed attempt. Logs one line when is_probing becomes true, and otherwise at most one line every 10 s about
// a single event. `is_probing` says whether the endpoint is at fault after this failure; see schedule_is_probing.
void delivery_log_failed(int64_t id, enum outcome outcome, const struct error *why, bool is_probing);

void delivery_log_set_aside(const struct waiting_event *event, const struct error *why);

// Logs that an event was set aside because the store does not have it any more.
void delivery_log_missing(int64_t id, const char *database);

// Logs a failure to read the store, write the state file or start a request, rate-limited as long as the message stays
// the same. `pause_ms` is the delay before the next attempt.
void delivery_log_trouble(const struct error *error, int64_t pause_ms);

// Logs a summary once a minute unless no event was accepted in that minute, and shows the progress on a terminal. The
// caller calls this once a second.
void delivery_log_tick(void);
