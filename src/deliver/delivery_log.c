// The metrics are atomic, because the monitoring thread reads them; the state of the log lines belongs to the thread
// that sends. Every event that is set aside has a line of its own. Other failures of single events share a rate limit,
// because each of many events can fail many times.
#include "delivery_log.h"

#include <inttypes.h>

#include "catch_up.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/outbound/lag.h"
#include "imcallbackd/outbound/service_log.h"

static const struct metric accepted = {
    METRIC_COUNTER("imcallbackd_deliver_accepted_total", "Events that the endpoint has accepted.")};
static const struct metric retries = {
    METRIC_COUNTERS("imcallbackd_deliver_retries_total", "Failed attempts to deliver an event, by cause.", "cause",
                    NULL, "refused", "fail", "throttled", "server_error", "connect", "tls", "timeout", "broken")};
static const struct metric set_aside = {METRIC_COUNTER("imcallbackd_deliver_set_aside_total",
                                                       "Events that were set aside since the state file was created.")};
static const struct metric in_flight = {
    METRIC_GAUGE("imcallbackd_deliver_in_flight", "Requests that wait for an answer of the endpoint.")};
static const struct metric waiting = {
    METRIC_GAUGE("imcallbackd_deliver_waiting",
                 "Events that the sender has taken over and that the endpoint has not accepted; 10000 at most.")};
static const struct metric last_accepted = {
    METRIC_GAUGE("imcallbackd_deliver_last_accepted_timestamp_seconds",
                 "Time of the last acceptance in seconds since 1970; 0: none since the start."),
    .decimals = 3};
static const struct metric last_error = {
    METRIC_GAUGE("imcallbackd_deliver_last_error_timestamp_seconds",
                 "Time of the last failure in seconds since 1970; 0: no failure yet. The log has its message."),
    .decimals = 3};
static const struct metric lag_events = {METRIC_GAUGE(
    "imcallbackd_deliver_lag_events",
    "Recorded events that are neither accepted nor set aside, counted by id; a repeat may use an id, too.")};
static const struct metric lag_seconds = {
    METRIC_GAUGE("imcallbackd_deliver_lag_seconds",
                 "Age of the oldest recorded event that is neither accepted nor set aside; 0: there is none."),
    .decimals = 3};
static const struct metric cursor_id = {
    METRIC_GAUGE("imcallbackd_deliver_cursor_id", "Every event up to this id is accepted or set aside.")};

const struct metric *const delivery_metrics[] = {
    &accepted,   &retries,    &set_aside,   &in_flight, &waiting, &last_accepted,
    &last_error, &lag_events, &lag_seconds, &cursor_id, NULL,
};

static struct lag lag = {.events = &lag_events, .seconds = &lag_seconds, .last_id = &cursor_id};
static struct service_log service_log = {
    .failed = "delivery is interrupted", .sent = "delivered", .lag = &lag, .last_error = &last_error};
static struct log_rate_limit event_limit;
static int64_t probing_since_ms; // on the monotonic clock; 0: the endpoint is not at fault

int delivery_log_print_metrics(struct buffer *text)
{
    lag_refresh(&lag);
    return metrics_print(delivery_metrics, text);
}

void delivery_log_set_lag(int64_t events, int64_t cursor, size_t waiting_events, int64_t oldest_received_at_ms)
{
    metric_set(&waiting, 0, (int64_t)waiting_events);
    lag_set(&lag, events, cursor, oldest_received_at_ms);
}

void delivery_log_set_in_flight(size_t count)
{
    metric_set(&in_flight, 0, (int64_t)count);
}

void delivery_log_set_aside_total(int64_t count)
{
    metric_set(&set_aside, 0, count);
}

void delivery_log_accepted(void)
{
    metric_add(&accepted, 0, 1);
    metric_set(&last_accepted, 0, clock_realtime_ms());
    if (probing_since_ms > 0)
        log_info("the endpoint accepts events again after %" PRId64 " s",
                 (clock_monotonic_ms() - probing_since_ms) / 1000);
    probing_since_ms = 0;
}

void delivery_log_failed(int64_t id, enum outcome outcome, const struct error *why, bool is_probing)
{
    unsigned int suppressed = 0;

    metric_add(&retries, outcome, 1);
    metric_set(&last_error, 0, clock_realtime_ms());
    if (is_probing && probing_since_ms == 0) {
        probing_since_ms = clock_monotonic_ms();
        log_error("%s; the endpoint accepts no event now, so single events are sent as probes, up to 1 min apart, and "
                  "nothing is set aside",
                  why->text);
    } else if (log_rate_limit_allows(&event_limit, &suppressed)) {
        log_warning("%s; event %" PRId64 " is sent again later%s", why->text, id,
                    suppressed > 0 ? "; more failures since the previous such line were not logged" : "");
    }
}

void delivery_log_set_aside(const struct waiting_event *event, const struct error *why)
{
    metric_add(&set_aside, 0, 1);
    log_error("event %" PRId64 " is set aside after %d failed attempts: %s; correct the endpoint, then run imcallbackd "
              "deliver -c FILE --replay %" PRId64,
              event->id, event->tries, why->text, event->id);
}

void delivery_log_missing(int64_t id, const char *database)
{
    metric_add(&set_aside, 0, 1);
    log_error("event %" PRId64
              " is set aside: the database %s does not have the event any more, so no replay is possible; "
              "set [deliver] url in the configuration of the receiver, too, so that retention keeps such events",
              id, database);
}

void delivery_log_trouble(const struct error *error, int64_t pause_ms)
{
    service_log_failure(&service_log, error, pause_ms);
}

void delivery_log_tick(void)
{
    service_log_summary(&service_log, metric_value(&accepted, 0));
    catch_up_show(metric_value(&accepted, 0), metric_value(&lag_events, 0));
}
