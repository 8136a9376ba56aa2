// Writes the regular log lines of an outbound service: failures, rate-limited, and a summary once a minute. The thread
// that sends calls these functions.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/outbound/lag.h"

// The caller sets the first group of members and zeroes the rest.
struct service_log {
    const char *failed; // for the line of a failure, such as "shipping failed"
    const char *sent;   // for the summary, such as "shipped"
    const struct lag *lag;
    const struct metric *last_error; // gauge with 3 decimals: time of the last failure

    struct log_rate_limit failure_limit;
    struct error last_failure;
    int64_t summary_due_ms, summary_events;
};

// Logs a failure and pause_ms, the delay before the retry, and sets the gauge last_error. The line is rate-limited as
// long as the message stays the same.
void service_log_failure(struct service_log *log, const struct error *error, int64_t pause_ms);

// Logs a summary once a minute if events were sent since the last summary. `events` is the number of events sent since
// the start of the process.
void service_log_summary(struct service_log *log, int64_t events);
