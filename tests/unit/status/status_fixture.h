// A complete struct status of a healthy daemon, which each test then changes.
#pragma once

#include <string.h>

#include "imcallbackd/status/page.h"

#define NOW_MS INT64_C(1800000000000)
#define DAY_MS INT64_C(86400000)

static const struct status_app fixture_apps[] = {{1400000001, 1, 60}, {1400000002, 2, 90}, {1400000003, 0, 60}};

static const int64_t fixture_bounds[HISTORY_BUCKETS - 1] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2000000, 5000000, 10000000};

static const struct metric fixture_counter = {
    METRIC_COUNTERS("fixture_total", "A counter with a label.", "result", "good", "bad")};
static const struct metric fixture_gauge = {METRIC_GAUGE("fixture_seconds", "A gauge."), .decimals = 3};
static const struct metric fixture_histogram = {METRIC_HISTOGRAM("fixture_histogram", "A histogram.", 0, 1, 2)};
static const struct metric *const fixture_list[] = {&fixture_counter, &fixture_gauge, &fixture_histogram, NULL};
static const struct metric *const *const fixture_lists[] = {fixture_list};

// Returns the status of a daemon that has been ready for an hour and to which nothing has connected.
static inline struct status fixture_status(void)
{
    struct status facts = {
        .now_ms = NOW_MS,
        .started_ms = NOW_MS - 3600000,
        .version = "1.2.3",
        .libraries = {{"library", "4.5"}},
        .ready = true,
        .why_not_ready = "",
        .endpoint = {.host = "im.example.org", .port = 8443, .path = "/cb", .apps = fixture_apps, .app_count = 3},
        .connection_limit = 4096,
        .answers = {.bounds = fixture_bounds},
        .certificate = {"im.example.org, www.example.org", NOW_MS - DAY_MS, NOW_MS + 90 * DAY_MS},
        .store = {4096, 8192, 1 << 30, INT64_C(1) << 32},
        .metric_lists = fixture_lists,
        .metric_list_count = 1,
    };

    for (size_t i = 0; i < STATUS_HOUR_BARS; i++)
        facts.hour[i] = (struct history_bar){.start_ms = NOW_MS + ((int64_t)i - 59) * 60000, .measured = true};
    for (size_t i = 0; i < STATUS_DAY_BARS; i++)
        facts.day[i] = (struct history_bar){.start_ms = NOW_MS + ((int64_t)i - 95) * 900000, .measured = i >= 90};
    return facts;
}

static inline void fixture_refuse(struct status *status, enum answer_code code, uint64_t times)
{
    struct refusals_view *refusals = &status->refusals;
    struct refusal *entry = &refusals->entries[refusals->count++];

    refusals->in_a_row[code] += times;
    *entry = (struct refusal){.code = code, .address = "192.0.2.1", .last_ms = NOW_MS - 1000, .count = times};
    status->totals.rejected[code] += (int64_t)times;
    status->totals.refused += (int64_t)times;
}
