// The metrics are atomic, because the monitoring thread reads them; the state of the log lines belongs to the thread
// that ships.
#include "progress.h"

#include <assert.h>

#include "imcallbackd/outbound/lag.h"
#include "imcallbackd/outbound/service_log.h"

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

static struct lag lag = {.events = &lag_events, .seconds = &lag_seconds, .last_id = &shipped_id};
static struct service_log service_log = {
    .failed = "shipping failed", .sent = "shipped", .lag = &lag, .last_error = &last_error};

int progress_print_metrics(struct buffer *text)
{
    lag_refresh(&lag);
    return metrics_print(progress_metrics, text);
}

// The newest id is refreshed only once a second, so the shipped id may be larger. The difference is then negative, and
// lag_set counts it as 0.
void progress_set_lag(int64_t newest_id, int64_t last_shipped_id, int64_t oldest_received_at_ms)
{
    lag_set(&lag, newest_id - last_shipped_id, last_shipped_id, oldest_received_at_ms);
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
    metric_add(&retries, 0, 1);
    service_log_failure(&service_log, error, pause_ms);
}

void progress_log_summary(void)
{
    service_log_summary(&service_log, metric_value(&shipped, SHIPPED_EVENTS));
}
