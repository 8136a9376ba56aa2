// Limits the rate of failure lines. A message that differs from the previous one always passes the limit, because it
// may call for another remedy.
#include "imcallbackd/outbound/service_log.h"

#include <inttypes.h>
#include <string.h>

#include "imcallbackd/base/clock.h"

#define SUMMARY_INTERVAL_MS 60000

void service_log_failure(struct service_log *log, const struct error *error, int64_t pause_ms)
{
    bool is_new = strcmp(error->text, log->last_failure.text) != 0;
    unsigned int suppressed = 0;

    metric_set(log->last_error, 0, clock_realtime_ms());
    if (!log_rate_limit_allows(&log->failure_limit, &suppressed) && !is_new)
        return;
    log->last_failure = *error;
    log_error("%s: %s; the next attempt is in %" PRId64 ".%" PRId64 " s%s", log->failed, error->text, pause_ms / 1000,
              pause_ms / 100 % 10,
              suppressed > 0 ? "; more failures since the previous such line were not logged" : "");
}

void service_log_summary(struct service_log *log, int64_t events)
{
    int64_t now_ms = clock_monotonic_ms();

    if (now_ms < log->summary_due_ms)
        return;
    if (log->summary_due_ms > 0 && events > log->summary_events)
        log_info("%s %" PRId64 " events up to id %" PRId64 "; %" PRId64 " events are waiting, the oldest for %" PRId64
                 " s",
                 log->sent, events - log->summary_events, metric_value(log->lag->last_id, 0),
                 metric_value(log->lag->events, 0), lag_ms(log->lag) / 1000);
    log->summary_due_ms = now_ms + SUMMARY_INTERVAL_MS;
    log->summary_events = events;
}
