// The metrics are atomic, because the monitoring thread reads them; the state of the log lines belongs to the thread
// that ships.
#include "progress.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"

#define SUMMARY_INTERVAL_MS 60000

enum shipped_kind { SHIPPED_EVENTS, SHIPPED_MEMBERS, SHIPPED_REJECTED };

static const struct metric shipped = {METRIC_COUNTERS("imcallbackd_forward_shipped_total",
                                                      "Rows committed in the destination, by kind.", "kind", "event",
                                                      "member", "rejected")};
static const struct metric batch_seconds = {METRIC_HISTOGRAM(
    "imcallbackd_forward_batch_seconds", "Time from sending a batch to its commit in the destination.", 6, 1000, 2500,
    5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000)};
static const struct metric retries = {METRIC_COUNTER("imcallbackd_forward_retries_total",
                                                     "Number of times that shipping was restarted after a failure.")};
static const struct metric last_error = {
    METRIC_GAUGE("imcallbackd_forward_last_error_timestamp_seconds",
                 "Time of the last failure in seconds since 1970; 0: no failure yet. The log has its message."),
    .decimals = 3};
static const struct metric connected = {
    METRIC_GAUGE("imcallbackd_forward_connected", "1 while a connection to the destination is open; otherwise 0.")};
static const struct metric lag_events = {
    METRIC_GAUGE("imcallbackd_forward_lag_events",
                 "Recorded events that are not in the destination yet, counted by id; a repeat may use an id, too.")};
static const struct metric lag_seconds = {
    METRIC_GAUGE("imcallbackd_forward_lag_seconds",
                 "Age of the oldest recorded event that is not in the destination yet; 0: every event is there."),
    .decimals = 3};
static const struct metric shipped_id = {
    METRIC_GAUGE("imcallbackd_forward_shipped_id", "Every event up to this id is in the destination.")};

const struct metric *const progress_metrics[] = {
    &shipped, &batch_seconds, &retries, &last_error, &connected, &lag_events, &lag_seconds, &shipped_id, NULL,
};

static atomic_int_fast64_t oldest_waiting_ms; // see progress_set_lag
static struct log_rate_limit failure_limit;
static struct error last_logged;
static int64_t summary_due_ms, summary_events;

static int64_t lag_ms(void)
{
    int64_t oldest_ms = oldest_waiting_ms, now_ms = clock_realtime_ms();

    return oldest_ms > 0 && now_ms > oldest_ms ? now_ms - oldest_ms : 0;
}

int progress_print_metrics(struct buffer *text)
{
    metric_set(&lag_seconds, 0, lag_ms());
    return metrics_print(progress_metrics, text);
}

// The newest id is refreshed only once a second, so the shipped id may be ahead of it.
void progress_set_lag(int64_t newest_id, int64_t last_shipped_id, int64_t oldest_received_at_ms)
{
    int64_t ids = newest_id - last_shipped_id;

    oldest_waiting_ms = oldest_received_at_ms;
    metric_set(&lag_events, 0, oldest_received_at_ms > 0 && ids > 0 ? ids : 0);
    metric_set(&shipped_id, 0, last_shipped_id);
}

void progress_set_connected(bool is_connected)
{
    metric_set(&connected, 0, is_connected);
}

void progress_add_shipped(enum stream stream, size_t rows, size_t members, int64_t duration_us)
{
    assert(rows > 0);
    assert(stream == STREAM_GROUPS || members == 0);
    metric_add(&shipped, stream == STREAM_GROUPS ? SHIPPED_EVENTS : SHIPPED_REJECTED, (int64_t)rows);
    metric_add(&shipped, SHIPPED_MEMBERS, (int64_t)members);
    metric_observe(&batch_seconds, duration_us);
}

void progress_add_failure(const struct error *error, int64_t pause_ms)
{
    bool is_new = strcmp(error->text, last_logged.text) != 0;
    unsigned int suppressed = 0;

    metric_add(&retries, 0, 1);
    metric_set(&last_error, 0, clock_realtime_ms());
    if (!log_rate_limit_allows(&failure_limit, &suppressed) && !is_new)
        return;
    last_logged = *error;
    log_error("shipping failed: %s; the next attempt is in %" PRId64 ".%" PRId64 " s%s", error->text, pause_ms / 1000,
              pause_ms / 100 % 10,
              suppressed > 0 ? "; more failures since the previous such line were not logged" : "");
}

void progress_log_summary(void)
{
    int64_t now_ms = clock_monotonic_ms(), events = metric_value(&shipped, SHIPPED_EVENTS);

    if (now_ms < summary_due_ms)
        return;
    if (summary_due_ms > 0 && events > summary_events)
        log_info("shipped %" PRId64 " events up to id %" PRId64 "; %" PRId64
                 " events are waiting, the oldest for %" PRId64 " s",
                 events - summary_events, metric_value(&shipped_id, 0), metric_value(&lag_events, 0), lag_ms() / 1000);
    summary_due_ms = now_ms + SUMMARY_INTERVAL_MS;
    summary_events = events;
}
