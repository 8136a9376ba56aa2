// All facts that the status page and /status.json show, as plain data, and the judgement on them: the one sentence that
// says whether callbacks arrive and, if not, why and what to do. Nothing here has a group's id or name, a member, a
// body, a Sign or a token.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/metrics.h"
#include "imcallbackd/status/history.h"
#include "imcallbackd/status/refusals.h"

#define STATUS_HOUR_BARS              60
#define STATUS_DAY_BARS               96
#define STATUS_MINUTES_PER_HOUR       60
#define STATUS_MINUTES_PER_BAR_OF_DAY 15

struct status_app {
    int64_t sdk_appid;
    size_t token_count; // 0: anyone may call
    int64_t request_time_window_s;
};

// How the service calls this daemon.
struct status_endpoint {
    const char *host;  // first DNS name of the certificate; NULL: the certificate has none
    unsigned int port; // 0: unknown
    const char *path;
    bool has_trusted_proxies; // the URL in the console may be that of a proxy
    bool has_allow_from;
    bool has_client_ca;
    const struct status_app *apps;
    size_t app_count;
};

struct status_certificate {
    const char *names; // DNS names, separated by commas and spaces; "" if there are none
    int64_t valid_from_ms, expires_ms;
};

struct status_store {
    int64_t database_bytes, log_bytes, free_bytes, total_bytes; // -1: unknown
};

// A service that sends recorded events on: `forward` or `deliver`.
struct status_outbound {
    const char *name;       // NULL: the service is not configured
    bool has_reported;      // the service has left a valid note
    int64_t waiting_events; // at most, because ids have gaps
    int64_t reported_ms;    // Unix time of the note
};

struct status_library {
    const char *name, *version;
};

// Connections and callbacks since the start.
struct status_totals {
    int64_t recorded, repeated, conflicts, set_aside, acknowledged, url_checks, refused, failed;
    int64_t handshakes, failed_handshakes;
    int64_t open_connections, waiting_requests;
    int64_t rejected[ANSWER_CODE_COUNT];
    int64_t commits;
    int64_t batch_callbacks; // callbacks in all commits
};

struct status_answers {
    const int64_t *bounds; // of the histogram in the history, in microseconds
    struct history_counts hour, day;
};

#define STATUS_OUTBOUNDS     2
#define STATUS_MAX_LIBRARIES 4

struct status {
    int64_t now_ms, started_ms; // Unix time
    int64_t history_offset_ms;  // Unix time minus the clock of the history
    const char *version;
    struct status_library libraries[STATUS_MAX_LIBRARIES]; // the first without a name ends the list
    bool ready;
    const char *why_not_ready; // the text of /readyz
    struct status_endpoint endpoint;
    struct status_totals totals;
    int64_t connection_limit;
    int64_t newest_event_id; // 0: the store has never recorded an event
    int64_t recorded_ms;     // Unix time of the last recorded callback; 0: none since the start
    bool clock_skew_known;   // a call had a valid signature
    int64_t clock_skew_s;    // this machine's clock minus RequestTime of the last such call
    int64_t clock_window_s;  // request_time_window of that call's app
    struct status_answers answers;
    struct history_bar hour[STATUS_HOUR_BARS], day[STATUS_DAY_BARS];
    struct refusals_view refusals;
    struct status_certificate certificate;
    struct status_store store;
    struct status_outbound outbound[STATUS_OUTBOUNDS];
    const struct metric *const *const *metric_lists; // the lists of /metrics
    size_t metric_list_count;
};

enum status_level {
    STATUS_OK,
    STATUS_WARNING, // callbacks may be lost, or the operator should look
    STATUS_ERROR,   // no callback can be recorded, or each is refused
};

struct status_judgement {
    enum status_level level;
    char sentence[512]; // what the state is
    char remedy[512];   // what to do; "" if there is nothing to do
};

// Picks the most important fact.
void status_judge(const struct status *status, struct status_judgement *ret_judgement);

#define STATUS_URL_BYTES 512

// Prints the URL to enter in the console, with HOST in the place of an unknown host name. Cuts a URL that is too long.
void status_print_url(const struct status_endpoint *endpoint, char url[STATUS_URL_BYTES]);

// Returns "ok", "warning" or "error".
const char *status_level_name(enum status_level level);

// Returns the number of answers of a histogram's sums.
int64_t status_answer_count(const struct history_counts *sums);

// Returns the time of a bar or of a minute in Unix time.
static inline int64_t status_bar_time_ms(const struct status *status, const struct history_bar *bar)
{
    return bar->start_ms + status->history_offset_ms;
}
